"""The OpenAPI schema: valid, complete, shown to people, and kept to by every answer (schemathesis)."""

import io
import json
from datetime import UTC, datetime
from itertools import count
from typing import Any

import pytest
import schemathesis
from django.core.cache import cache
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from django.test import Client
from hypothesis import HealthCheck, settings
from schemathesis.checks import CHECKS, load_all_checks

from analytics.models import RequestLog
from gatewaysite.api.schema import METHODS, schema
from gatewaysite.tests.api_client import Api, operator_api, person
from keys.models import ApiKey, Budget, Member, RateLimit, Tenant
from providers.models import Price, Provider
from proxy.models import CacheExclusion, Route
from proxy.tests.fakes import environment

load_all_checks()
# What the schema cannot say makes a body that fits it wrong all the same: a regex that RE2 does not read, the
# name of a provider that there is not. So a refusal (400) of what fits is no fault.
CHECKED = [check for check in CHECKS.get_all() if check.__name__ != "positive_data_acceptance"]


def loaded(*, coverage: bool) -> Any:
    """Return the schema; with `coverage`, each keyword is broken by itself, in some 6,000 requests.

    They take a minute or more, which is why not every run has them.
    """
    found = schemathesis.openapi.from_wsgi("/api/schema/?format=json", get_wsgi_application())
    found.config.generation.update(modes=list(schemathesis.GenerationMode))
    found.config.phases.coverage.enabled = coverage
    # Conditions (412) are looked at before bodies.
    found.config.checks.negative_data_rejection.expected_statuses.append("412")
    return found


OPERATIONS = loaded(coverage=False)
THOROUGH = loaded(coverage=True)
BOUNDED = settings(
    max_examples=5,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
FULL = settings(BOUNDED, max_examples=60, derandomize=False)
TURN = count()
AT = datetime(2026, 1, 31, tzinfo=UTC)


@pytest.fixture
def api(settings) -> Api:
    """An operator in an installation that has one of everything."""
    cache.clear()
    settings.GATEWAY = environment(api_rpm=0)
    provider = Provider.objects.create(name="openai", dialect="openai", base_url="https://openai.test/v1")
    route = Route.objects.create(kind="exact", match="gpt")
    route.targets.create(provider=provider)
    tenant = Tenant.objects.create(name="acme")
    key, _ = ApiKey.issue(tenant=tenant, name="acme-ci")
    key.save()
    Member.objects.create(tenant=tenant, user=person(name="ada", staff=False))
    RateLimit.objects.create(pk=7, key=key, amount=1, per="minute")
    Budget.objects.create(pk=7, tenant=tenant, amount_nanousd=1)
    CacheExclusion.objects.create(kind="exact", pattern="m")
    Price.objects.create(
        provider=provider,
        model="gpt",
        source=Price.Source.OPERATOR,
        effective_from=AT,
        input_nanousd_per_mtok=1,
        output_nanousd_per_mtok=1,
    )
    RequestLog.objects.create(
        completion_id="chatcmpl-1",
        at=AT,
        endpoint="/v1/chat/completions",
        status=200,
        outcome="ok",
        latency_ms=1,
    )
    return operator_api()


KNOWN = {
    "tenant": "acme",
    "username": "ada",
    "id": 7,
    "kind": "exact",
    "match": "gpt",
    "pattern": "m",
    "provider": "openai",
    "model": "gpt",
    "effective_from": f"{AT:%Y-%m-%d}",
    "completion_id": "chatcmpl-1",
}
NAMES = {"providers": "openai", "tenants": "acme", "keys": "acme-ci"}


def judge(case: Any, api: Api) -> None:
    """Send it, every other time for what there is, and hold the answer against the schema."""
    headers = {"Authorization": f"Bearer {api.secret}"}
    negative = _negative(case)
    if negative and "Authorization" in case.headers:
        headers = {}
    if case.path_parameters and "path" not in negative and (negative or next(TURN) % 2):
        known = {**KNOWN, "name": NAMES.get(case.path.split("/")[3], "")}
        case.path_parameters.update({name: known[name] for name in case.path_parameters if known.get(name)})
    if "body" in negative:  # else it is refused for its conditions, and its body never looked at
        for name in ("If-Match", "If-None-Match"):
            case.headers.pop(name, None)
    case.call_and_validate(headers=headers, checks=CHECKED)


def _negative(case: Any) -> set[str]:
    """Return the parts of a request that are not as the schema says."""
    return {part.value for part, made in case.meta.components.items() if made.mode.is_negative}


@pytest.mark.django_db
@OPERATIONS.parametrize()  # type: ignore[untyped-decorator]  # schemathesis
@BOUNDED
def test_every_answer_is_as_the_schema_says(case: Any, api: Api) -> None:
    judge(case, api)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.django_db
@THOROUGH.parametrize()  # type: ignore[untyped-decorator]  # schemathesis
@FULL
def test_every_answer_of_very_many_is_as_the_schema_says(case: Any, api: Api) -> None:
    judge(case, api)


def test_the_schema_is_valid_and_without_warnings() -> None:
    out = io.StringIO()
    call_command("spectacular", validate=True, fail_on_warn=True, stdout=out)
    assert "openapi: 3" in out.getvalue()


def test_each_operation_has_examples_errors_and_a_way_to_sign_in() -> None:
    found = [told for path in schema()["paths"].values() for name, told in path.items() if name in METHODS]
    assert len(found) > 60
    assert len({told["operationId"] for told in found}) == len(found)
    for told in found:
        name = told["operationId"]
        for form in told.get("requestBody", {}).get("content", {}).values():
            assert form.get("examples") or "yaml" in str(told["requestBody"]["content"].keys()), name
        for status, answer in told["responses"].items():
            if status not in {"204", "304"}:
                (form,) = answer["content"].values()
                assert form.get("examples"), (name, status)
            if status >= "400":
                assert form["schema"] == {"$ref": "#/components/schemas/Error"}, (name, status)
        if name != "report_leak":
            assert {"apiToken": []} in told["security"], name
            assert {"cookieAuth": []} in told["security"], name


def test_it_is_served_as_yaml_and_json_and_as_a_page_without_script() -> None:
    client = Client()
    assert client.get("/api/schema/").content.startswith(b"openapi: 3")
    assert json.loads(client.get("/api/schema/?format=json").content) == schema()
    page = client.get("/api/docs/").content.decode()
    assert "PUT" in page
    assert "/api/v1/providers/{name}" in page
    assert "<script" not in page
    assert "style=" not in page
    assert "http://" not in page.replace("http://127.0.0.1", "")
