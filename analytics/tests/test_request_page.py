"""The page of one request, in words."""

from types import SimpleNamespace

import pytest
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone

from analytics.models import RequestLog
from analytics.request_page.timeline import timeline
from analytics.request_page.words import moved_on_in_words, outcome_in_words
from config.tests.admin_kit import messages_in, operator, page, signed_in, statements
from gatewaysite.tests.home_rows import fill
from keys.models import LedgerEntry


def shown(row, client=None):
    url = reverse("admin:analytics_requestlog_change", args=[row.pk])
    return messages_in(page(client or operator(), url)).replace("\xa0", " ")


@pytest.mark.django_db
def test_it_tells_the_whole_story():
    row = fill()
    text = shown(row)
    for words in (
        "200, Answered",
        "team=search",
        "1. mistral/mistral-small overloaded status 503; began after 4.0 ms, took 830.5 ms",
        "The vendor could not answer. This counts against its circuit breaker; the next one was tried.",
        "2. openai/gpt-4o-mini ok status 200; began after 980.0 ms, took 410.0 ms It answered.",
        "Spent attempt 2, openai/gpt-4o-mini 1,043 prompt, 262 completion",
        "input $0.15, output $0.60 per million tokens $0.00031365",
        "In all: $0.00031365",
        "60 requests per minute for the key",
        "In line 40.0 ms",
        "First content after 1.39 s",
    ):
        assert words in text, words


@pytest.mark.django_db
def test_corrections_add_up():
    row = fill()
    first = LedgerEntry.objects.get()
    LedgerEntry.objects.create(
        completion_id=row.completion_id,
        attempt=1,
        at=first.at,
        kind="adjusted",
        revision=1,
        provider="openai",
        model="gpt-4o-mini",
        cost_nanousd=-13_650,
        rerating_ref=4,
    )
    text = shown(row)
    assert (
        "Adjusted (price corrected) attempt 2, openai/gpt-4o-mini; by re-rating 4 - none known -$0.00001365"
        in text
    )
    assert "In all: $0.0003" in text


@pytest.mark.django_db
def test_money_and_rows_are_linked_for_those_who_may_see_them():
    row = fill()
    looker = signed_in("analytics.view_requestlog")
    html = page(looker, reverse("admin:analytics_requestlog_change", args=[row.pk]))
    assert "/admin/keys/" not in html
    assert "/admin/providers/" not in html
    assert "Price used" not in html
    assert signed_in().get(reverse("admin:analytics_requestlog_change", args=[row.pk])).status_code == 403
    assert len(statements(looker, reverse("admin:analytics_requestlog_change", args=[row.pk]))) <= 12


@pytest.mark.django_db
def test_it_is_found_by_its_completion_id():
    row, client = fill(), operator()
    answer = client.get("/admin/analytics/requestlog/of/boot-0-1f/")
    assert answer["location"] == reverse("admin:analytics_requestlog_change", args=[row.pk])
    answer = client.get("/admin/analytics/requestlog/of/nowhere/", follow=True)
    assert "This request is not in the log." in messages_in(answer.content.decode())


@pytest.mark.django_db
def test_it_shows_a_payload_that_it_is_given():
    payload = SimpleNamespace(
        request="<b>asked</b>",
        answer="told",
        request_bytes=12,
        answer_bytes=4,
        redactions=2,
        expires_at=timezone.now(),
    )
    html = render_to_string(
        "admin/analytics/requestlog/request.html", {"payload": payload, "row": RequestLog()}
    )
    assert "&lt;b&gt;asked" in html
    assert "2 places are blacked out" in messages_in(html)


def test_bars_stand_where_their_time_was():
    row = RequestLog(
        latency_ms=1000.0,
        stream=True,
        outcome="ok",
        attempts=[
            {"outcome": "upstream_timeout", "started_ms": 0, "latency_ms": 400},
            {"outcome": "ok", "started_ms": 500, "latency_ms": 100},
            "nonsense",
        ],
    )
    first, second = timeline(row)
    assert [(bar.x, bar.width, bar.tone) for bar in first.bars] == [(0.0, 400.0, "bad")]
    assert [(bar.x, bar.width, bar.tone) for bar in second.bars] == [
        (500.0, 100.0, "good"),
        (600.0, 400.0, "stream"),
    ]


@pytest.mark.parametrize(
    ("attempt", "words", "after"),
    [
        ({"outcome": "health", "status": None}, "could not answer", "counts against its circuit"),
        (
            {"outcome": "server_error", "status": 500},
            "The vendor could not answer.",
            "counts against its circuit",
        ),
        ({"outcome": "odd", "status": None}, "No answer came", "counts against"),
        (
            {"outcome": "rate_limit_exceeded", "status": 429},
            "limits the rate",
            "for as long as the vendor asks",
        ),
        ({"outcome": "upstream_auth_failed", "status": 401}, "refused the credential", "Another credential"),
        ({"outcome": "invalid_value", "status": 400}, "refused the request itself", "counts"),
        ({"outcome": "context_length_exceeded", "status": 400}, "longer than the model", "longer prompts"),
        ({"outcome": "cancelled", "status": None}, "The client left", ""),
    ],
)
def test_outcomes_are_told_as_the_table_of_failures_has_them(attempt, words, after):
    assert words in outcome_in_words(attempt)
    said = moved_on_in_words(attempt, is_last=False, answered=True)
    assert after in said
    assert bool(said) is bool(after)


def test_the_last_one_says_why_nothing_followed():
    refused = moved_on_in_words({"outcome": "bad", "status": 400}, is_last=True, answered=False)
    assert refused.startswith("No other target would take this request")
    down = moved_on_in_words({"outcome": "bad", "status": 503}, is_last=True, answered=False)
    assert down.startswith("No target, attempt or time was left")
