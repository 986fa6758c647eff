"""Who may open what: every URL of the URLconf, by everybody, against tests/strangers_table.py.

All objects of the acme tenant are asked for; the stranger is the owner of another one. What `stranger` gets
of acme's objects acme's owner must get of theirs.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from typing import Any

import pytest
from auditlog.models import LogEntry
from django.conf import settings as configured
from django.contrib.auth.models import Group, User
from django.template.response import SimpleTemplateResponse
from django.test import Client
from django.urls import get_resolver

from analytics.models import RequestLog, ReRating, VendorImport
from config.models import JobRun
from gatewaysite.api.tokens import give_secret
from gatewaysite.models import ApiToken
from gatewaysite.roles import BILLING, OPERATOR, READ_ONLY, make_roles
from keys.models import (
    ApiKey,
    Budget,
    BudgetAlert,
    BudgetWindow,
    LedgerEntry,
    Member,
    RateLimit,
    Tenant,
)
from providers.models import Price, Provider, ProviderModel
from proxy.models import CacheExclusion, GatewaySettings, Route, UpstreamState
from tests.strangers_table import PEOPLE, TABLE, Row

pytestmark = [pytest.mark.timeout(300), pytest.mark.django_db]

BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)
_ADMIN_ROW = re.compile(r"^admin/(\w+)/(\w+)/<(?:path:object_id|id)>")
_PARAMETER = re.compile(r"([\w-]+/)?(?:<(?:\w+:)?(\w+)>|\(\?P<(\w+)>[^)]*\))")


def routes() -> list[str]:
    """Return every path of the URLconf, parameters as they are written there."""
    return sorted(dict.fromkeys(_walk(get_resolver().url_patterns, "")))


def _walk(patterns: Any, prefix: str) -> Iterator[str]:
    for pattern in patterns:
        route = prefix + str(pattern.pattern).removeprefix("^").removesuffix("$")
        if hasattr(pattern, "url_patterns"):
            yield from _walk(pattern.url_patterns, route)
        else:
            yield route


def rows_of(route: str) -> list[Row]:
    return [row for row in TABLE if re.fullmatch(row.route, route)]


def belongings(tenant: Tenant) -> dict[str, Any]:
    """Make one of each thing that a tenant owns.

    Names are those of the admin's URLs, of parameters, and of parameters below a segment: "keys/ref".
    """
    key, _ = ApiKey.issue(tenant=tenant, name=f"{tenant.name}-ci")
    key.save()
    budget = Budget.objects.create(tenant=tenant, amount_nanousd=10**9)
    window = BudgetWindow.objects.create(budget=budget, starts_at=BEGINNING)
    alert = BudgetAlert.objects.create(window=window, percent=80, spent_nanousd=1, limit_nanousd=10**9)
    refs = {"completion_id": tenant.name, "at": BEGINNING, "tenant_ref": tenant.pk, "key_ref": key.pk}
    request = RequestLog.objects.create(
        **refs, request_id="r", endpoint="/v1/chat/completions", requested_model="m", status=200, outcome="ok"
    )
    limit = RateLimit.objects.create(tenant=tenant, amount=5, per="minute")
    founder = User.objects.create_user(f"{tenant.name}-founder")
    member = Member.objects.create(tenant=tenant, user=founder, role=Member.Role.OWNER)
    return {
        "tenant": tenant.pk,
        "dashboard/tenant": tenant.name,
        "tenants/tenant": tenant.name,
        "tenants/name": tenant.name,
        "apikey": key.pk,
        "keys/ref": key.pk,
        "keys/name": key.name,
        "budget": budget.pk,
        "budgets/id": budget.pk,
        "budgetalert": alert.pk,
        "ratelimit": limit.pk,
        "rate-limits/id": limit.pk,
        "member": member.pk,
        "members/ref": member.pk,
        "members/username": founder.username,
        "ledgerentry": LedgerEntry.objects.create(**refs, provider="p", model="m").pk,
        "requestlog": request.pk,
        "requests/ref": request.pk,
        "completion_id": request.completion_id,
    }


def common() -> dict[str, Any]:
    """Make one of each thing that is nobody's."""
    provider = Provider.objects.create(name="acme", dialect="openai", base_url="http://127.0.0.1:9")
    price = Price.objects.create(
        provider=provider,
        model="m",
        input_nanousd_per_mtok=1,
        output_nanousd_per_mtok=1,
        effective_from=BEGINNING,
    )
    run = ReRating.objects.create(since=BEGINNING, until=BEGINNING, prices="0", ledger_through=0)
    bill = VendorImport.objects.create(
        provider="acme",
        sha256="0" * 64,
        layout="x",
        first_day=date(2026, 1, 1),
        last_day=date(2026, 1, 1),
        lines=0,
        cost_nanousd=0,
    )
    user = User.objects.create_user("somebody")
    token = ApiToken(name="portal", user=user)
    give_secret(token)
    token.save()
    return {
        "provider": provider.pk,
        "providers/name": provider.name,
        "prices/provider": provider.name,
        "effective_from": "2026-01-01",
        "model": "m",
        "kind": "exact",
        "match": "m",
        "pattern": "m",
        "by": "day",
        "providermodel": ProviderModel.objects.create(provider=provider, name="m").pk,
        "price": price.pk,
        "route": Route.objects.create(match="m", kind="exact").pk,
        "cacheexclusion": CacheExclusion.objects.create(kind="exact", pattern="m").pk,
        "gatewaysettings": GatewaySettings.load().pk or 1,
        "upstreamstate": UpstreamState.objects.create(upstream="acme/m", reported_at=BEGINNING).pk,
        "rerating": run.pk,
        "vendorimport": bill.pk,
        "user": user.pk,
        "apitoken": token.pk,
        "jobrun": JobRun.objects.create(
            name=next(iter(configured.CELERY_BEAT_SCHEDULE)), started_at=BEGINNING
        ).pk,
        "group": Group.objects.create(name="some role").pk,
        "logentry": LogEntry.objects.latest("pk").pk,
        "provider_id": "sso",
        "content_type_id": 1,
        "object_id": 999_999,
        "app_label": "keys",
        "url": "no-such-page",
    }


def people(acme: Tenant, other: Tenant) -> dict[str, Client]:
    make_roles()
    clients = {"anonymous": Client(raise_request_exception=False)}
    for name in PEOPLE[1:]:
        user = User.objects.create_user(name, is_superuser=name == "superuser", is_staff=name == "superuser")
        if name in {READ_ONLY, BILLING, OPERATOR}:
            user.groups.add(Group.objects.get(name=name))
        if name in Member.Role.values:
            Member.objects.create(tenant=acme, user=user, role=name)
        if name == "stranger":
            Member.objects.create(tenant=other, user=user, role=Member.Role.OWNER)
        clients[name] = Client(raise_request_exception=False)
        clients[name].force_login(user)
    return clients


def path_of(route: str, ids: Mapping[str, Any]) -> str:
    """Fill the parameters of a route."""
    inside = _ADMIN_ROW.match(route)
    if inside:
        route = route.replace("<path:object_id>", str(ids[inside[2]])).replace("<id>", str(ids[inside[2]]))
    return "/" + _PARAMETER.sub(lambda found: _filled(found, ids), route)


def _filled(found: re.Match[str], ids: Mapping[str, Any]) -> str:
    segment, name = found[1] or "", found[2] or found[3]
    return segment + str(ids.get(segment + name, ids.get(name)))


def everything() -> list[Any]:
    """Return the rows that the walk must leave as they are."""
    models = (Tenant, ApiKey, Budget, RateLimit, Provider, Price, Route, CacheExclusion, ApiToken, Member)
    return [list(model.objects.order_by("pk").values()) for model in models]


def letter(response: Any) -> str:
    """Return what an answer means: see the table."""
    status = response.status_code
    if status in {301, 302}:
        return "i" if re.match(r"/(admin|accounts)/login/", response.headers["Location"]) else "r"
    named = {401: "n", 403: "n", 404: "m", 405: "x", 429: "t"}
    return named.get(status, "y" if status < 300 else "b" if status < 500 else "!")


def test_every_url_is_in_the_table_once():
    counts = {route: len(rows_of(route)) for route in routes()}
    assert [route for route, count in counts.items() if count != 1] == [], "see tests/strangers_table.py"


def test_the_table_names_no_url_that_is_gone():
    existing = routes()
    gone = [row.route for row in TABLE if not any(re.fullmatch(row.route, route) for route in existing)]
    assert gone == []


def test_everybody_gets_what_the_table_says(settings, monkeypatch):
    settings.ACCOUNT_RATE_LIMITS = False
    # Views decide before they draw; that each page can be drawn is shown elsewhere, and takes a minute.
    monkeypatch.setattr(SimpleTemplateResponse, "rendered_content", "a page")
    acme, other = Tenant.objects.create(name="acme"), Tenant.objects.create(name="other")
    shared = common()
    mine, theirs = shared | belongings(acme), shared | belongings(other)
    # Others' ids at the own tenant's address.
    mixed = theirs | {name: mine[name] for name in ("dashboard/tenant", "tenants/tenant")}
    clients = people(acme, other)
    before = everything()
    wrong = []

    def check(route: str, method: str, who: str, *, ids: Mapping[str, Any], expected: str) -> None:
        path = path_of(route, ids)
        # Where somebody is let in, a condition that never holds keeps the API from doing it.
        headers = {"If-Match": '"never"'} if expected == "b" else {}
        answer = clients[who].generic(method, path, headers=headers)
        got = letter(answer)
        if got != expected:
            wrong.append(f"{method} {path}: {who} gets {got}, the table says {expected}")
        elif got == "y" and who == "stranger" and route.startswith("api/v1/") and b"acme" in answer.content:
            wrong.append(f"{method} {path}: the stranger is told of acme")

    for route in routes():
        for method, letters in rows_of(route)[0].methods.items():
            for who, expected in zip(PEOPLE, letters, strict=True):
                if expected != ".":
                    check(route, method, who, ids=mine, expected=expected)
            if path_of(route, mine) != path_of(route, theirs):
                as_strangers = letters[PEOPLE.index("stranger")]
                check(route, method, "owner", ids=theirs, expected=as_strangers)
                if path_of(route, mixed) not in {path_of(route, mine), path_of(route, theirs)}:
                    check(route, method, "owner", ids=mixed, expected=as_strangers)
    assert not wrong, "\n".join(wrong)
    assert everything() == before  # nobody's request has changed or deleted anything
