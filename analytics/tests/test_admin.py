import re
from datetime import timedelta

import pytest
from django.db import connection
from django.urls import reverse
from django.utils import timezone

from analytics.models import RequestLog
from config.tests.admin_kit import messages_in, operator, page, signed_in, statements
from keys.models import ApiKey, Tenant

pytestmark = pytest.mark.django_db

LOG = "/admin/analytics/requestlog/"


@pytest.fixture
def client():
    return operator()


def log(number=0, **fields):
    return RequestLog(
        **{
            "completion_id": f"c{number:04d}",
            "request_id": f"r{number:04d}",
            "at": timezone.now() - timedelta(minutes=number),
            "endpoint": "/v1/chat/completions",
            "requested_model": "gpt-4o",
            "provider": "openai",
            "model": "gpt-4o-2024",
            "status": 200,
            "outcome": "ok",
            **fields,
        }
    )


def test_it_never_counts_and_costs_the_same_for_many_rows(client):
    RequestLog.objects.bulk_create([log(number) for number in range(3)])
    few = statements(client, LOG)
    RequestLog.objects.bulk_create([log(number) for number in range(3, 400)])
    many = statements(client, LOG)
    assert len(many) == len(few)
    assert not [each for each in many if "COUNT(" in each.upper()]


@pytest.mark.optional("other databases plan in other words")
@pytest.mark.skipif(connection.vendor != "sqlite", reason="reads SQLite's plan")
@pytest.mark.parametrize("query", ["", "?q=r0001"])
def test_it_reads_a_page_by_an_index_and_sorts_nothing(client, query):
    RequestLog.objects.bulk_create([log(number) for number in range(200)])
    sql = next(each for each in statements(client, LOG + query) if 'FROM "analytics_requestlog"' in each)
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN QUERY PLAN {sql}")
        plan = " ".join(str(row[3]) for row in cursor.fetchall())
    assert "INDEX" in plan
    assert ("TEMP B-TREE" in plan) is bool(query)  # two rows of one id may be sorted


def beside(html: str, rel: str) -> str:
    """Return where a link of the pager leads."""
    found = re.search(rf'rel="{rel}" href="([^"]+)"', html)
    return LOG + found[1].replace("&amp;", "&") if found else ""


def numbers(html: str) -> list[int]:
    return [int(number) for number in re.findall(r"gw-clip\">r(\d+)<", html)]


def test_it_pages_without_knowing_the_end(client):
    moment = timezone.now()
    # Of one moment are many: pages part them by their numbers.
    RequestLog.objects.bulk_create(
        [log(number, at=moment - timedelta(hours=number // 70)) for number in range(130)]
    )
    newest_first = [int(row[1:]) for row in RequestLog.objects.values_list("request_id", flat=True)]
    pages = [page(client, LOG)]
    while following := beside(pages[-1], "next"):
        RequestLog.objects.bulk_create([log(1000 + len(pages), at=moment + timedelta(seconds=len(pages)))])
        pages.append(page(client, following))
    assert [number for html in pages for number in numbers(html)] == newest_first
    assert [len(numbers(html)) for html in pages] == [50, 50, 30]
    assert not beside(pages[0], "prev")
    second = page(client, beside(pages[2], "prev"))
    assert numbers(second) == numbers(pages[1])
    first = page(client, beside(second, "prev"))
    assert numbers(first) == numbers(pages[0])
    # What is newer still does not make a page of its own.
    assert numbers(page(client, beside(first, "prev")))[:3] == [1002, 1001, 69]


@pytest.mark.parametrize("cursor", ["2", "o1", "x5.5", "o99999999999999999.1", "", "o1.-1"])
def test_a_cursor_that_is_none_is_the_first_page(client, cursor):
    RequestLog.objects.bulk_create([log()])
    assert numbers(page(client, LOG, p=cursor)) == [0]


def test_a_filter_without_an_index_looks_through_so_many_rows_and_goes_on_from_there(client, monkeypatch):
    monkeypatch.setattr("config.keyset.LOOKED_THROUGH", 20)
    RequestLog.objects.bulk_create([log(number, cost_nanousd=number * 10**6) for number in range(55)])
    RequestLog.objects.filter(request_id__in=("r0003", "r0047")).update(provider="rare")
    query = f"{LOG}?cost_nanousd_from=0.003&latency_ms_to=5&model=gpt-4o"
    RequestLog.objects.exclude(provider="rare").update(cost_nanousd=None)
    html, found, looked = page(client, query), [], []
    for _ in range(3):
        found.append(numbers(html))
        looked.append("Looked through 20 rows" in html)
        html = page(client, beside(html, "next")) if beside(html, "next") else html
    assert found == [[3], [], [47]]
    assert looked == [True, True, False]
    back = page(client, beside(html, "prev"))
    assert numbers(back) == []
    assert numbers(page(client, beside(back, "prev"))) == [3]
    # With a time, it is looked through from there.
    old = f"at_to_0={timezone.now():%Y-%m-%d}&at_to_1={timezone.now() - timedelta(minutes=46):%H:%M:%S}"
    assert numbers(page(client, f"{query}&{old}")) in ([47], [])  # the minute of midnight


def test_an_index_serves_tenant_and_key(client):
    tenant = Tenant.objects.create(name="acme")
    RequestLog.objects.bulk_create(
        [log(number, tenant_ref=tenant.pk * (number % 2)) for number in range(120)]
    )
    html = page(client, LOG, tenant="acme")
    assert len(numbers(html)) == 50
    assert "Looked through" not in html
    assert not numbers(page(client, LOG, tenant="nobody"))


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"cost_nanousd_from": "0.5"}, {2, 3}),
        ({"cost_nanousd_from": "0.5", "cost_nanousd_to": "0.5"}, {2}),
        ({"cost_nanousd_to": "lots"}, {1, 2, 3}),
        ({"latency_ms_from": "100.5"}, {3}),
        ({"latency_ms_to": "inf"}, {1, 2, 3}),
    ],
)
def test_it_filters_by_cost_and_latency(client, query, found):
    amounts = ((1, None, 5), (2, 500_000_000, 100), (3, 2_000_000_000, 2_000))
    RequestLog.objects.bulk_create(
        [log(number, cost_nanousd=cost, latency_ms=took) for number, cost, took in amounts]
    )
    assert set(numbers(page(client, LOG, **query))) == found


def test_it_offers_no_counts_beside_the_filters(client):
    RequestLog.objects.bulk_create([log()])
    sql = statements(client, LOG + "?_facets=True")
    assert not [each for each in sql if "COUNT(" in each.upper()]


def test_it_finds_a_request_by_either_of_its_whole_ids(client):
    RequestLog.objects.bulk_create([log(1), log(2), log(3, request_id="r0001")])
    by_request = page(client, LOG, q=" r0001 ")
    assert by_request.count('data-label="Answer"') == 2
    assert page(client, LOG, q="c0002").count('data-label="Answer"') == 1
    assert page(client, LOG, q="r000").count('data-label="Answer"') == 0


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"status": "4"}, {1, 2}),
        ({"status": "429"}, {2}),
        ({"status": "5"}, {3}),
        ({"outcome__exact": "cancelled"}, {1}),
        ({"provider": "local"}, {3}),
        ({"model": "gpt-4o"}, {1, 2, 4}),
        ({"model": "llama"}, {3}),
        ({"cache": "hit"}, {4}),
        ({"stream__exact": "1"}, {2}),
        ({"key": "ci"}, {4}),
        ({"tenant": "acme"}, {4}),
        ({"at_to_0": "2001-01-01"}, set()),
        ({"at_from_0": "2001-01-01", "at_from_1": "10:00"}, {1, 2, 3, 4}),
        ({"at_from_0": "2001-02-31", "at_from_1": "no time"}, {1, 2, 3, 4}),
    ],
)
def test_it_filters_the_log(client, query, found):
    from providers.models import Provider

    Provider.objects.create(name="local", dialect="openai", base_url="http://llama.example/v1")
    tenant = Tenant.objects.create(name="acme")
    key, _ = ApiKey.issue(tenant=tenant, name="ci")
    key.save()
    RequestLog.objects.bulk_create(
        [
            log(1, status=499, outcome="cancelled"),
            log(2, status=429, outcome="error", stream=True),
            log(3, status=502, outcome="error", provider="local", requested_model="any", model="llama"),
            log(4, cache="hit", key_ref=key.pk, tenant_ref=tenant.pk),
        ]
    )
    html = page(client, LOG, **query)
    assert {number for number in (1, 2, 3, 4) if f"r000{number}" in html} == found


def test_it_shows_a_request_in_words(client):
    attempts = [
        {
            "provider": "openai",
            "model": "gpt-4o",
            "latency_ms": 830.54,
            "status": 503,
            "outcome": "overloaded",
            "error": "<b>Busy</b>",
        },
        {
            "provider": "local",
            "model": "llama",
            "latency_ms": 1240.5,
            "status": None,
            "outcome": "ok",
            "error": "",
        },
    ]
    row = log(
        attempts=attempts,
        cost_nanousd=313_650,
        prompt_tokens=1043,
        completion_tokens=262,
        usage_estimated=True,
        key_ref=77,
        latency_ms=2075.4,
        ttft_ms=12.34,
        stream=True,
    )
    row.save()
    listed = messages_in(page(client, LOG)).replace("\xa0", " ")
    for words in (
        "$0.00031365",
        "≈ 1,043 → 262",
        "deleted key 77",
        "2.08 s",
        "gpt-4o, stream",
        "openai/gpt-4o-2024",
    ):
        assert words in listed
    html = page(client, reverse("admin:analytics_requestlog_change", args=[row.pk]))
    shown = messages_in(html).replace("\xa0", " ")
    for words in (
        "1. openai/gpt-4o overloaded status 503;",
        "took 830.5 ms The vendor could not answer. This counts against its circuit breaker; the next one",
        "2. local/llama ok status no answer;",
        "It answered.",
        "200, Answered",
        "12.3 ms",
    ):
        assert words in shown
    assert "&lt;b&gt;Busy&lt;/b&gt;" in html
    assert "<b>Busy" not in html


def test_it_tells_an_unknown_cost_from_a_free_one(client):
    RequestLog.objects.bulk_create([log(1, cost_nanousd=0), log(2)])
    text = messages_in(page(client, LOG))
    assert text.count("$0.00") == 1


def test_it_shows_ids_that_clients_chose_as_text(client):
    RequestLog.objects.bulk_create([log(request_id="<script>alert(1)</script>")])
    assert "<script>alert(1)" not in page(client, LOG)


def test_it_lets_nobody_write_the_log(client):
    row = log()
    row.save()
    assert client.get(f"{LOG}add/").status_code == 403
    assert client.post(reverse("admin:analytics_requestlog_change", args=[row.pk]), {}).status_code == 403
    assert client.post(reverse("admin:analytics_requestlog_delete", args=[row.pk]), {}).status_code == 403


def test_it_shows_the_log_to_those_who_may_see_it_alone(db):
    assert signed_in("analytics.view_requestlog").get(LOG).status_code == 200
    assert signed_in("keys.view_apikey").get(LOG).status_code == 403
