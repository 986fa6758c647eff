"""Logs, ledger and usage by API: their filters, their pages, and that money adds up."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.cache import cache
from django.db import connection
from django.test.utils import CaptureQueriesContext

from analytics.models import RequestLog, UsageRollup
from analytics.tests.wide_sums import widen
from config.models import JobRun
from gatewaysite.tests.api_client import Api, api_of, member_of, operator_api
from keys.models import ApiKey, LedgerEntry, Tenant

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 3, 29, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def unthrottled():
    cache.clear()


@pytest.fixture
def api() -> Api:
    return operator_api()


@pytest.fixture
def traffic():
    for name in ("acme", "other"):
        tenant = Tenant.objects.create(name=name)
        key, _ = ApiKey.issue(tenant=tenant, name=f"{name}-key")
        key.save()
        for number in range(5):
            at = NOW - timedelta(hours=number // 2)  # two at one moment: the id decides
            RequestLog.objects.create(
                completion_id=f"{name}-{number}",
                request_id=f"req-{number}",
                at=at,
                endpoint="/v1/chat/completions",
                tenant_ref=tenant.pk,
                key_ref=key.pk,
                tags={"team": name},
                requested_model="gpt",
                provider="openai",
                model="gpt-4o",
                status=200 if number else 502,
                outcome="ok" if number else "error",
                cache="miss",
                attempts=[{"provider": "openai", "model": "gpt-4o", "started_ms": 1.0, "outcome": "ok"}],
                cost_nanousd=number * 1_000_000_001,
                latency_ms=100.0 * number,
            )
            LedgerEntry.objects.create(
                completion_id=f"{name}-{number}",
                at=at,
                tenant_ref=tenant.pk,
                key_ref=key.pk,
                provider="openai",
                model="gpt-4o",
                cost_nanousd=number * 1_000_000_001,
            )
            UsageRollup.objects.create(
                grain=60,
                starts_at=at.replace(minute=number * 2),
                tenant_ref=tenant.pk,
                key_ref=key.pk,
                provider="openai",
                model="gpt-4o",
                tags=f'{{"team":"{name}"}}',
                requests=1,
                cost_nanousd=number * 1_000_000_001,
            )
    widen()


def ids(told):
    return [each["completion_id"] for each in told["items"]]


def test_logs_go_newest_first_by_pages_that_meet_without_gap(api, traffic):
    found: list[str] = []
    cursor: Any = ""
    while cursor is not None:
        told = api.read(f"logs?limit=3{cursor and '&cursor=' + cursor}")
        found += ids(told)
        cursor = told["next_cursor"]
    rows = RequestLog.objects.order_by("-at", "-id").values_list("completion_id", flat=True)
    assert found == list(rows)
    assert len(found) == 10


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("tenant=acme", {"acme-0", "acme-1", "acme-2", "acme-3", "acme-4"}),
        ("key=acme-key&status=502", {"acme-0"}),
        ("tenant=nobody", set()),
        ("outcome=error", {"acme-0", "other-0"}),
        ("tag=team%3Dother&cost_min_usd=3.000000003", {"other-3", "other-4"}),
        ("tenant=acme&cost_max_usd=1.000000001", {"acme-0", "acme-1"}),
        ("tenant=acme&latency_min_ms=300", {"acme-3", "acme-4"}),
        ("tenant=acme&since=2026-03-29T11:00:00Z&until=2026-03-29T12:00:00Z", {"acme-2", "acme-3"}),
        ("request_id=req-2", {"acme-2", "other-2"}),
        ("provider=openai&model=gpt-4o&cache=hit", set()),
    ],
)
def test_logs_are_narrowed(api, traffic, query, expected):
    assert set(ids(api.read(f"logs?{query}"))) == expected


@pytest.mark.parametrize(
    "query", ["since=yesterday", "status=abc", "outcome=fine", "cost_min_usd=x", "since=%00"]
)
def test_a_filter_that_does_not_read_is_named(api, query):
    response = api.get(f"logs?{query}")
    assert (response.status_code, response.json()["error"]["param"]) == (400, query.partition("=")[0])


def test_a_page_counts_nothing_and_takes_few_queries(api, traffic):
    api.read("logs")
    with CaptureQueriesContext(connection) as captured:
        api.read("logs?limit=4")
    statements = [query["sql"] for query in captured.captured_queries]
    assert len(statements) <= 6, statements
    assert not [sql for sql in statements if "COUNT(" in sql.upper() or "OFFSET" in sql.upper()]


def test_one_request_shows_its_attempts(api, traffic):
    told = api.read("logs/acme-3")
    assert (told["tenant"], told["key"], told["cost_usd"]) == ("acme", "acme-key", "3.000000003")
    assert told["attempts"][0]["provider"] == "openai"
    assert api.get("logs/nothing").status_code == 404
    member = api_of(member_of(Tenant.objects.get(name="acme"), "viewer"))
    assert member.get("logs/acme-3").status_code == 200
    assert member.get("logs/other-3").status_code == 404


def test_usage_is_the_ledgers_to_the_nano_dollar_by_each_thing(api, traffic):
    span = "since=2026-03-28&until=2026-03-30&zone=Europe/Berlin"
    spent = sum(api_usd(each["cost_usd"]) for each in api.read("ledger")["items"])
    assert spent == 20_000_000_020
    for by in ("hour", "day", "model", "provider", "tenant", "key", "tag:team"):
        told = api.read(f"usage?by={by}&{span}")
        assert told["totals"]["cost_usd"] == "20.00000002", by
        assert sum(api_usd(group["cost_usd"]) for group in told["groups"]) == spent, by
    assert len(api.read(f"usage?by=hour&{span}")["groups"]) == 24 + 23, "clocks were put forward"
    by_tenant = api.read(f"usage?by=tenant&{span}&tenant=acme")
    assert [group["name"] for group in by_tenant["groups"]] == ["acme"]
    member = api_of(member_of(Tenant.objects.get(name="acme"), "viewer"))
    assert member.read(f"usage?by=tenant&{span}")["totals"]["cost_usd"] == "10.00000001"


def api_usd(text):
    from config.money import nanousd

    return nanousd(text)


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("by=colour", "by"),
        ("by=tag:", "by"),
        ("zone=Mars/Base", "zone"),
        ("since=2026-02-01&until=2026-01-01", "until"),
        ("since=1990-01-01&until=2026-01-01", "since"),
        ("since=0001-01-01", "since"),
        ("latency=maybe", "latency"),
        ("tag=team", "tag"),
        ("unknown=1", "unknown"),
    ],
)
def test_a_question_about_usage_that_makes_no_sense_is_refused(api, query, param):
    response = api.get(f"usage?{query}")
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


def test_jobs_show_their_last_run(api):
    JobRun.objects.create(name="purge", started_at=NOW, state="failed", problem="no disk", failures=1)
    (told,) = api.read("jobs")["items"]
    assert (told["name"], told["state"], told["problem"]) == ("purge", "failed", "no disk")
    assert (told["started_at"], told["finished_at"]) == ("2026-03-29T12:00:00Z", None)
