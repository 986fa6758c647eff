"""`POST /api/v1/explain`: who may ask, what a mistake is answered with, and what each may see."""

from datetime import timedelta

import pytest
from django.conf import settings
from django.test import Client
from django.utils import timezone

from config.tests.admin_kit import operator, signed_in
from keys.caller import ANONYMOUS
from keys.models import ApiKey, Tenant
from providers.models import Provider
from proxy import lifecycle
from proxy.explaining import sources
from proxy.models import Route, Target
from proxy.tests.fakes import environment
from proxy.upstream_state import UpstreamState

pytestmark = pytest.mark.django_db

URL = "/api/v1/explain"
SECRET = "a-key-of-the-explaining-test"
BODY = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    """No gateway of another test serves in this process."""
    monkeypatch.setattr(lifecycle, "_gateway", None)


@pytest.fixture
def key():
    key = ApiKey(tenant=Tenant.objects.create(name="acme"), name="acme-ci", allowed_models=["gpt-*"])
    key.set_secret(SECRET)
    key.save()
    return key


@pytest.fixture
def route():
    openai = Provider.objects.create(name="openai", dialect="openai", base_url="https://hidden.example/v1")
    spare = Provider.objects.create(name="spare", dialect="openai", base_url="https://spare.example/v1")
    route = Route.objects.create(match="gpt-4o", kind="exact")
    for position, provider in enumerate((openai, spare)):
        Target.objects.create(route=route, provider=provider, position=position)
    return route


def ask(client, *, secret="", **fields):
    headers = {"authorization": f"Bearer {secret}"} if secret else {}
    return client.post(URL, {"body": BODY, **fields}, content_type="application/json", headers=headers)


def problem(response):
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return response.status_code, error["type"], error["param"], error["code"]


def test_it_explains_to_an_operator(route):
    told = ask(operator())
    assert told.status_code == 200
    found = told.json()
    assert found["verdict"]["provider"] == "openai"
    assert found["route"]["also_match"] == [{"id": "builtin:openai", "priority": None}]
    assert found["health"] == "reported"
    assert "hidden.example" not in told.content.decode()


def test_it_explains_to_a_caller_what_concerns_it(route, key):
    for headers in ({"authorization": f"Bearer {SECRET}"}, {"x-api-key": SECRET}):
        told = Client(enforce_csrf_checks=True).post(
            URL, {"body": BODY}, content_type="application/json", headers=headers
        )
        assert told.status_code == 200
        assert told.json()["allowed"]["by"] == "pattern gpt-*"
        assert "also_match" not in told.json()["route"]
        assert SECRET not in told.content.decode()


@pytest.mark.parametrize("named", ["acme-ci", "a-key"])
def test_an_operator_asks_for_any_key(route, key, named):
    chosen = key.prefix if named == "a-key" else named
    told = ask(operator(), key=chosen).json()
    assert (told["caller"]["key"], told["allowed"]["patterns"]) == ("acme-ci", ["gpt-*"])


def test_it_knows_a_key_by_its_secret_from_before_a_rotation_until_the_overlap_ends(route, key):
    later = timezone.now() + timedelta(days=1)
    key.rotate(until=later, secret="another-secret-of-the-explaining-test")
    key.save()
    assert ask(Client(), secret=SECRET).status_code == 200
    assert ask(Client(), secret="another-secret-of-the-explaining-test").status_code == 200
    key.previous_until = timezone.now()
    key.save()
    assert problem(ask(Client(), secret=SECRET))[3] == "api_key_expired"
    key.previous_until = None  # it says until when, or does not work
    key.save()
    assert problem(ask(Client(), secret=SECRET))[3] == "invalid_api_key"


def test_who_is_not_known_is_told_how_to_be(client):
    response = ask(client)
    assert problem(response) == (401, "authentication_error", None, "missing_api_key")
    assert response.headers["www-authenticate"] == "Bearer"
    assert "create_key" in response.json()["error"]["message"]
    assert problem(ask(client, secret="nobody")) == (401, "authentication_error", None, "invalid_api_key")


@pytest.mark.parametrize(
    ("fields", "code"),
    [({"enabled": False}, "api_key_disabled"), ({"expires_at": timezone.now()}, "api_key_expired")],
)
def test_a_key_that_is_not_accepted_may_not_ask(client, key, fields, code):
    ApiKey.objects.filter(pk=key.pk).update(**fields)
    assert problem(ask(client, secret=SECRET)) == (401, "authentication_error", None, code)


def test_it_is_for_operators_who_may_see_routes_and_keys(key):
    assert problem(ask(signed_in()))[:2] == (403, "permission_error")
    may_see_routes = signed_in("proxy.view_route")
    assert ask(may_see_routes).status_code == 200
    refused = problem(ask(may_see_routes, key="acme-ci"))
    assert refused == (403, "permission_error", "key", "permission_denied")


def test_a_session_needs_its_token():
    client = operator()
    client.handler.enforce_csrf_checks = True
    assert problem(ask(client))[:2] == (403, "permission_error")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"body": None}, "body"),
        ({"body": [1]}, "body"),
        ({"body": "text"}, "body"),
        ({"endpoint": "/v1/nothing"}, "endpoint"),
        ({"headers": {"x-session": "\u20ac"}}, "headers"),
        ({"headers": "none"}, "headers"),
        ({"key": "nobody"}, "key"),
        ({"boddy": 1}, "boddy"),
    ],
)
def test_a_mistake_is_named(route, fields, param):
    status, kind, named, _ = problem(ask(operator(), **fields))
    assert (status, kind, named) == (400, "invalid_request_error", param)


def test_a_caller_may_not_ask_for_another(client, key):
    assert problem(ask(client, secret=SECRET, key="acme-ci"))[::2] == (400, "key")


def test_all_errors_have_the_envelope(client, key):
    headers = {"authorization": f"Bearer {SECRET}"}
    broken = client.post(URL, b"{", content_type="application/json", headers=headers)
    assert problem(broken)[:2] == (400, "invalid_request_error")
    form = client.post(URL, {"body": "x"}, headers=headers)
    assert problem(form)[0] == 415
    assert problem(client.get(URL, headers=headers))[0] == 405
    for method in ("get", "post", "delete"):
        missing = getattr(client, method)("/api/v1/nothing")
        assert problem(missing) == (404, "not_found_error", None, "unknown_path")


def test_a_body_that_no_endpoint_would_take_is_not_read(client, key, monkeypatch):
    monkeypatch.setattr(settings, "GATEWAY", environment(max_body_bytes=10))
    assert problem(ask(client, secret=SECRET)) == (413, "invalid_request_error", None, "body_too_large")


def test_a_fault_of_ours_has_the_envelope_too(client, key, monkeypatch):
    monkeypatch.setattr("proxy.api.explain.explain", lambda *_, **__: 1 / 0)
    assert problem(ask(client, secret=SECRET)) == (500, "api_error", None, "internal_error")


def test_rows_that_make_no_configuration_are_said_so(client, key, route):
    Route.objects.filter(pk=route.pk).update(kind="regex", match="(")
    status, _, _, code = problem(ask(client, secret=SECRET))
    assert (status, code) == (503, "service_unavailable")


def test_a_request_that_would_be_refused_is_explained_not_refused(client, key, route):
    told = ask(client, secret=SECRET, body={"model": "claude-x", "messages": BODY["messages"]})
    assert told.status_code == 200
    assert told.json()["verdict"]["status"] == 404


def test_health_is_as_reported_where_nobody_serves(client, key, route):
    soon = timezone.now() + timezone.timedelta(seconds=20)
    report = {"upstream": "openai/gpt-4o", "reason": "upstream_timeout"}
    row = UpstreamState.objects.create(**report, state="open", open_until=soon)
    told = ask(client, secret=SECRET).json()
    assert told["verdict"]["provider"] == "spare"
    assert "reported open for" in told["targets"][0]["reasons"][0]
    assert "upstream_timeout" in told["targets"][0]["reasons"][0]
    UpstreamState.objects.filter(pk=row.pk).update(state="closed", cooling_until=soon)
    assert "asked us to wait" in ask(client, secret=SECRET).json()["targets"][0]["reasons"][0]
    UpstreamState.objects.filter(pk=row.pk).update(cooling_until=None, held_open=True)
    assert "holds" in ask(client, secret=SECRET).json()["targets"][0]["reasons"][0]
    UpstreamState.objects.filter(pk=row.pk).update(held_open=False)
    assert ask(client, secret=SECRET).json()["verdict"]["provider"] == "openai"


async def test_a_control_plane_asks_no_fleet_of_its_own(serving, monkeypatch):
    gateway = serving()
    assert sources.serving_here() is gateway
    monkeypatch.setenv("GATEWAY_PLANE", "control")
    assert sources.serving_here() is None


async def test_a_loop_that_does_not_answer_is_not_waited_for(serving, monkeypatch):
    """This thread is the loop's: it cannot answer itself."""
    serving()
    monkeypatch.setattr(sources, "LOOP_WAIT_S", 0.01)
    question = sources.Question("/v1/chat/completions", b"{}", ANONYMOUS, {})
    with pytest.raises(sources.Unavailable):
        sources.explain(question, now=1.0)
