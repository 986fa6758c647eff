"""Numbers on pages and in exports are the sums' own; the log pages by place, and failures by their hours."""

import csv
import io
import random
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from analytics import usage
from analytics.dashboard.advice import advice
from analytics.dashboard.exports import safe_cell
from analytics.dashboard.log_rows import PAGE, Place
from analytics.dashboard.period_choice import chosen
from analytics.dashboard.tests.kit import browser, key_of, logged, person, summed
from analytics.models import RequestLog
from analytics.usage import Period, Where
from config.money import nanousd, usd
from config.words import dollars
from keys.models import Budget, BudgetWindow, LedgerEntry, RateLimit, Tenant
from providers.models import Price, Provider, ProviderModel

pytestmark = pytest.mark.django_db
BERLIN = ZoneInfo("Europe/Berlin")


@pytest.fixture
def acme() -> Tenant:
    return Tenant.objects.create(name="acme", timezone="Europe/Berlin")


def rows_of(response) -> list[dict[str, str]]:
    text = b"".join(response.streaming_content).decode()
    return list(csv.DictReader(io.StringIO(text)))


def test_the_overview_and_its_export_show_what_the_sums_say(acme):
    rng = random.Random(3)
    other = Tenant.objects.create(name="other")
    key = key_of(acme, "acme-web")
    now = timezone.now().replace(minute=30)
    for hours in rng.sample(range(24 * 6), 40):
        for tenant in (acme, other):
            summed(
                tenant,
                now - timedelta(hours=hours),
                key_ref=key.pk if tenant == acme else 999,
                provider="demo",
                model=f"m{hours}",
                requests=rng.randrange(1, 99),
                errors=rng.randrange(9),
                cost_nanousd=rng.randrange(10**12),
                prompt_tokens=rng.randrange(10**6),
            )
    client = browser(person("olga", acme, "viewer"))
    whole = usage.totals(Period.days(7, now=timezone.now(), zone=BERLIN), Where(tenant_id=acme.pk))
    html = client.get("/dashboard/acme/?range=7d").content.decode()
    assert whole.requests > 0
    assert f'<dd class="d-number">{whole.requests:,}</dd>' in html
    assert f"exactly {dollars(whole.cost_nanousd)}" in html
    for by in ("day", "model", "key"):
        rows = rows_of(client.get(f"/dashboard/acme/usage-by-{by}.csv?range=7d"))
        assert sum(int(row["requests"]) for row in rows) == whole.requests
        assert sum(nanousd(row["cost_usd"]) for row in rows) == whole.cost_nanousd
        if by == "key":
            assert [(row["key"], row["cost_usd"]) for row in rows] == [("acme-web", usd(whole.cost_nanousd))]
    assert client.get("/dashboard/acme/usage-by-tenant.csv").status_code == 404


def test_a_page_costs_as_many_queries_however_much_there_is(acme):
    client = browser(person("olga", acme))

    def queries() -> list[int]:
        counts = []
        for path in ("", "requests/", "errors/", "keys/", "members/"):
            client.get(f"/dashboard/acme/{path}")
            with CaptureQueriesContext(connection) as captured:
                client.get(f"/dashboard/acme/{path}")
            counts.append(len(captured))
        return counts

    def grow(start: int) -> None:
        for number in range(start, start + 6):
            key = key_of(acme, f"key-{number}")
            RateLimit.objects.create(key=key, kind="concurrent", amount=1)
            budget = Budget.objects.create(key=key, amount_nanousd=10**9, window="total")
            BudgetWindow.objects.create(budget=budget, starts_at=datetime(1970, 1, 1, tzinfo=UTC))
            logged(acme, number, key_ref=key.pk, outcome="error", status=429)
            summed(acme, timezone.now(), key_ref=key.pk, requests=1, errors=1)
            person(f"person-{number}", acme, "viewer")

    grow(0)
    few = queries()
    grow(6)
    assert queries() == few
    assert max(few) <= 20


def test_the_log_pages_by_place_without_counting(acme):
    at = timezone.now().replace(microsecond=0) - timedelta(minutes=5)
    # Many of one moment: a page may end in the middle of them.
    RequestLog.objects.bulk_create(
        RequestLog(
            completion_id=f"c{number}",
            request_id=f"r{number}",
            at=at - timedelta(seconds=number // 40),
            endpoint="chat.completions",
            tenant_ref=acme.pk,
            status=200,
            outcome="ok",
        )
        for number in range(2 * PAGE + 7)
    )
    client = browser(person("olga", acme, "viewer"))
    url, seen = "/dashboard/acme/requests/", list[int]()
    while url:
        with CaptureQueriesContext(connection) as captured:
            html = client.get(url).content.decode()
        assert not any("COUNT(" in each["sql"] and "requestlog" in each["sql"] for each in captured)
        seen += map(int, re.findall(r"/requests/(\d+)/", html))
        following = re.search(r'rel="next" href="(\?[^"]+)"', html)
        url = "/dashboard/acme/requests/" + following[1].replace("&amp;", "&") if following else ""
    assert seen == list(RequestLog.objects.order_by("-at", "-id").values_list("pk", flat=True))
    assert Place.read(Place(at, 7).text()) == Place(at, 7)
    assert [Place.read(text) for text in ("", "x", "-5", "20260101T000000000000-x")] == [None] * 4


def test_it_narrows_the_log(acme):
    key = key_of(acme, "acme-web")
    logged(acme, 1, key_ref=key.pk, cache="hit")
    logged(acme, 2, status=429, outcome="error", error_code="rate_limit_exceeded", model="lorem")
    logged(acme, 3, status=502, outcome="error", error_code="upstream_reset")
    logged(acme, 4, at=timezone.now() - timedelta(days=300))
    logged(Tenant.objects.create(name="other"), 5)
    client = browser(person("olga", acme, "viewer"))
    for query, found in {
        "": {1, 2, 3},
        "status=429": {2},
        "status=failed": {2, 3},
        "status=5xx": {3},
        "status=nonsense": {1, 2, 3},
        f"key={key.pk}": {1},
        "cache=hit": {1},
        "model=demo/lorem": {2},
        f"request_id=request-{acme.pk}-4": {4},
        "request_id=request-2-5": set(),
    }.items():
        html = client.get(f"/dashboard/acme/requests/?{query}").content.decode()
        pks = set(map(int, re.findall(r"/requests/(\d+)/", html)))
        numbers = {int(row.request_id.rpartition("-")[2]) for row in RequestLog.objects.filter(pk__in=pks)}
        assert numbers == found, query
        exported = rows_of(client.get(f"/dashboard/acme/requests.csv?{query}&range=7d"))
        assert {int(row["request_id"].rpartition("-")[2]) for row in exported} == found - {4}


def test_failures_come_with_what_to_do(acme):
    now = timezone.now()
    for number, hours in enumerate((1, 1, 30, 100), start=1):
        at = now - timedelta(hours=hours)
        logged(acme, number, at=at, status=429, outcome="error", error_code="insufficient_quota")
        logged(acme, 100 + number, at=at)
    for hours, errors in ((1, 2), (30, 1), (100, 1), (50, 0)):
        summed(acme, now - timedelta(hours=hours), requests=5, errors=errors)
    html = browser(person("olga", acme, "viewer")).get("/dashboard/acme/errors/").content.decode()
    assert html.count("A budget is used up.") == 4
    assert "4 of 20 requests failed" in html


def test_every_failure_has_advice():
    for status, code in (
        (400, ""),
        (404, "something_new"),
        (429, "something_new"),
        (500, ""),
        (0, "interrupted"),
    ):
        assert advice(RequestLog(status=status, error_code=code)).endswith(".")


def test_a_request_keeps_vendors_words_to_operators(acme):
    attempts = [
        {"provider": "demo", "model": "echo", "status": 500, "outcome": "upstream_error", "error": "SECRET"}
    ]
    row = logged(acme, 1, attempts=attempts, error_code="upstream_error", status=502, outcome="error")
    html = browser(person("olga", acme)).get(f"/dashboard/acme/requests/{row.pk}/").content.decode()
    assert "demo/echo" in html
    assert "SECRET" not in html


def test_it_exports_text_that_no_spreadsheet_runs(acme):
    logged(acme, 1, requested_model="=HYPERLINK(1)", request_id="+1", error_code="-x", cost_nanousd=1)
    logged(acme, 2, cost_nanousd=None, requested_model="@x")
    rows = {
        row["requested_model"]: row
        for row in rows_of(browser(person("o", acme)).get("/dashboard/acme/requests.csv"))
    }
    assert rows["'=HYPERLINK(1)"]["request_id"] == "'+1"
    assert rows["'=HYPERLINK(1)"]["cost_usd"] == "0.000000001"
    assert rows["'@x"]["cost_usd"] == ""
    assert [safe_cell(cell) for cell in ("a", "-1", -1, None, "\tx")] == ["a", "'-1", -1, "", "'\tx"]


def test_budgets_stand_as_booked(acme):
    key = key_of(acme, "acme-web")
    now = timezone.now()
    kept = Budget.objects.create(tenant=acme, amount_nanousd=10 * 10**9, window="total")
    BudgetWindow.objects.create(
        budget=kept, starts_at=datetime(1970, 1, 1, tzinfo=UTC), spent_nanousd=9 * 10**9
    )
    Budget.objects.create(key=key, amount_nanousd=10**9, window="total", model="demo/*")
    Budget.objects.create(amount_nanousd=77 * 10**9, window="total")
    Budget.objects.create(tenant=Tenant.objects.create(name="other"), amount_nanousd=55 * 10**9)
    LedgerEntry.objects.create(
        completion_id="c",
        at=now,
        key_ref=key.pk,
        tenant_ref=acme.pk,
        provider="demo",
        model="echo",
        cost_nanousd=10**9,
    )
    html = browser(person("olga", acme, "viewer")).get("/dashboard/acme/").content.decode()
    assert "$9.00 of $10.00, $1.00 left" in html
    assert "$1.00 of $1.00, $0.00 left" in html  # no window is kept yet: from the ledger
    assert "Used up" in html
    assert "A budget of everyone holds, too." in html
    assert "77.00" not in html
    assert "55.00" not in html


def test_models_are_those_that_a_key_may_use_with_their_prices(acme):
    provider = Provider.objects.create(name="vendor", dialect="openai", base_url="https://vendor.example/v1")
    for name in ("small", "large"):
        ProviderModel.objects.create(provider=provider, name=name)
    Price.objects.create(
        provider=provider,
        model="small",
        input_nanousd_per_mtok=150_000_000,
        output_nanousd_per_mtok=600_000_000,
        effective_from=datetime(2020, 1, 1, tzinfo=UTC),
    )
    key_of(acme, "one", allowed_models=["vendor/small"])
    two = key_of(acme, "two", allowed_models=["vendor/large"])
    client = browser(person("olga", acme, "viewer"))
    html = client.get("/dashboard/acme/models/").content.decode()
    assert re.search(r"vendor/small</code>.*?\$0\.15<.*?\$0\.60<", html, re.DOTALL)
    assert re.search(r"vendor/large</code>.*?>unknown<", html, re.DOTALL)
    html = client.get(f"/dashboard/acme/models/?key={two.pk}").content.decode()
    assert "vendor/small" not in html


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ({"range": "1y"}, "range:"),
        ({"range": "dates", "since": "x", "until": "2026-01-01"}, "since:"),
        ({"range": "dates", "since": "2026-01-02", "until": "2026-01-01"}, "until:"),
        ({"range": "dates", "since": "2020-01-02", "until": "2026-01-01"}, "until:"),
        ({"range": "dates", "since": "0001-01-01", "until": "0001-01-01"}, "since:"),
        ({"range": "dates", "since": "2026-01-01", "until": "2026-01-31"}, ""),
        ({}, ""),
    ],
)
def test_it_names_what_is_wrong_with_a_time(query, problem):
    found = chosen(query, now=datetime(2026, 6, 1, tzinfo=UTC), zone=BERLIN)
    assert found.problem.startswith(problem)
    assert bool(found.problem) == bool(problem)


def test_the_playground_is_told_what_a_request_has_cost(acme):
    row = logged(acme, 1, cost_nanousd=102_000, prompt_tokens=3, completion_tokens=12)
    other = Tenant.objects.create(name="other")
    client = browser(person("max", acme, "member"))
    url = "/dashboard/acme/playground/cost/"
    assert client.get(url, {"request_id": row.request_id}).json() == {
        "found": True,
        "cost": "$0.000102",
        "cost_usd": "0.000102",
        "tokens": "3 in, 12 out",
        "url": f"/dashboard/acme/requests/{row.pk}/",
    }
    assert client.get(url, {"request_id": logged(other, 2).request_id}).json() == {"found": False}
    assert client.get(url).json() == {"found": False}


def test_the_playground_sends_to_where_the_api_is(acme, monkeypatch, settings):
    settings.GATEWAY = replace(settings.GATEWAY, app_base_url="https://api.example/gw/")
    client = browser(person("max", acme, "member"))
    here = client.get("/dashboard/acme/playground/")
    assert here.context["settings"]["calls"] == "http://testserver"
    assert here.context["settings"]["base"] == "https://api.example/gw"
    monkeypatch.setenv("GATEWAY_PLANE", "control")
    there = client.get("/dashboard/acme/playground/")
    assert there.context["settings"]["calls"] == "https://api.example/gw"
    assert there._csp_update == {"connect-src": ["https://api.example"]}
