"""The operators' first page: its numbers, its time, who sees what, and what it costs the database."""

from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth.models import User
from django.test import RequestFactory
from django.utils import timezone

from analytics.models import UsageRollup
from analytics.tests.wide_sums import widen
from config.tests.admin_kit import messages_in, operator, page, signed_in, statements
from gatewaysite.home.health import workers_alive
from gatewaysite.home.nearness import near_limits
from gatewaysite.home.ranges import read_range
from gatewaysite.tests.home_rows import DAY, fill, near_limit, usage_row
from keys.models import ApiKey, RateLimit, Tenant
from proxy.models import WorkerState

HOME, PARTS = "/admin/", "/admin/overview/"
NOW = datetime(2026, 6, 3, 12, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("query", "steps", "over", "first"),
    [
        ({}, 25, 24, "2026-06-02T12:00"),
        ({"range": "1h"}, 2, 1, "2026-06-03T11:00"),
        ({"range": "7d"}, 8, 7, "2026-05-27T00:00"),
        ({"from": "2026-06-01T09:15", "to": "2026-06-01T12:00"}, 3, 3, "2026-06-01T09:00"),
        ({"range": "custom", "from": "2026-05-01", "to": "2026-05-08"}, 7, 7, "2026-05-01T00:00"),
        ({"from": "2026-05-01", "to": "2026-05-08", "step": "hour"}, 168, 168, "2026-05-01T00:00"),
    ],
)
def test_the_time_is_as_asked_for(query, steps, over, first):
    chosen = read_range(query, NOW)
    assert chosen.problem == ""
    assert (len(chosen.period.steps()), chosen.steps_over) == (steps, over)
    assert f"{chosen.period.since:%Y-%m-%dT%H:%M}" == first
    # What still runs is compared with nothing.
    before = chosen.before
    assert before is not None
    assert len(before.steps()) == over
    assert before.until == chosen.period.since


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"range": "9d"}, "range: must be one of 1h,"),
        ({"from": "soon", "to": "2026-05-08"}, "from: must be a moment"),
        ({"from": "2026-05-08"}, "to: must be a moment"),
        ({"from": "2026-05-08", "to": "2026-05-08"}, "to: must be after from."),
        ({"from": "2020-05-08", "to": "2026-05-08"}, "to: must be at most 800 days"),
        ({"from": "2026-05-01", "to": "2026-05-31", "step": "hour"}, "step: by the hour"),
        ({"from": "2026-05-01", "to": "2026-05-02", "step": "week"}, "step: must be hour or day."),
        ({"from": "0001-01-01", "to": "2026-05-02"}, "from: must be between"),
    ],
)
def test_a_time_that_makes_no_sense_is_refused_by_name(query, words):
    chosen = read_range(query, NOW)
    assert chosen.problem.startswith(words)
    assert len(chosen.period.steps()) == 25


@pytest.mark.django_db
def test_it_shows_sums_and_what_has_changed():
    hour = timezone.now().replace(minute=0, second=0, microsecond=0)
    UsageRollup.objects.bulk_create(
        [usage_row(hour - timedelta(hours=back), requests=30) for back in range(25)]
        + [
            usage_row(hour - timedelta(hours=back), requests=15, cost_nanousd=12_345_678)
            for back in range(25, 49)
        ]
    )
    widen()
    text = messages_in(page(operator(), HOME)).replace("\xa0", " ")
    assert "Requests 750 ▲ 100 % more than in the 24 hours before" in text
    assert "Cost $0.31 the same as in the 24 hours before exactly $0.30864195" in text
    assert "Saved by the cache $0.03" in text
    assert "exactly $0.025000025" in text
    assert "Failed 3.3 % ▼ 50 % less than in the 24 hours before" in text


@pytest.mark.django_db
def test_days_come_from_sums_by_day():
    today = timezone.now().replace(hour=0, minute=0, second=0, microsecond=0)
    UsageRollup.objects.create(grain=DAY, starts_at=today - timedelta(days=3), requests=7, errors=0)
    widen()
    assert "Requests 7 " in messages_in(page(operator(), HOME, range="7d"))


@pytest.mark.django_db
def test_its_queries_are_as_many_for_many_rows():
    client = operator()
    fill(keys=2)
    few = statements(client, HOME)
    other = Tenant.objects.create(name="other")
    for number in range(25):
        key, _ = ApiKey.issue(tenant=other, name=f"more-{number}")
        key.save()
        UsageRollup.objects.create(
            grain=60,
            starts_at=timezone.now().replace(minute=0, second=0, microsecond=0),
            key_ref=key.pk,
            tenant_ref=other.pk,
            provider=f"p{number}",
            model="m",
            requests=number,
            cost_nanousd=number,
        )
    widen()
    many = statements(client, HOME)
    assert len(many) == len(few)
    assert len(many) <= 32, len(many)
    assert not [each for each in many if '"analytics_requestlog"' in each and "COUNT(" in each]
    assert len(statements(client, PARTS)) <= len(many)


@pytest.mark.django_db
def test_it_tells_how_the_gateway_does():
    fill()
    text = messages_in(page(operator(), PARTS))
    assert "mistral failing mistral/mistral-small: breaker open, upstream_timeout" in text
    assert "openai well" in text
    assert "gateway-1/0: configuration 1000000 in force" in text
    assert "acme" in text
    assert "87 % spent" in text
    assert "everyone, key acme/service-0 : 1,000 requests per hour 100 % 999 of 1,000 used" in text
    assert "some is free in" in text


@pytest.mark.django_db
def test_of_each_rate_limit_the_fullest_count_is_shown_while_it_holds():
    now = timezone.now()
    tenant = Tenant.objects.create(name="acme")
    limit = RateLimit.objects.create(tenant=tenant, kind="tokens", amount=1000, per="hour")
    gone = RateLimit.objects.create(kind="requests", amount=10, per="minute", enabled=False)
    slots = RateLimit.objects.create(tenant=tenant, kind="concurrent", amount=4)
    setting = {**near_limit(gone, now, used=60), "limit": "RPM_LIMIT", "words": "60 requests", "amount": 60}
    past = {**near_limit(limit, now, who="old", used=1000), "resets_at": now.timestamp() - 1}
    for number, told in enumerate(
        [
            [near_limit(limit, now, used=600), near_limit(gone, now, used=10), past],
            [near_limit(limit, now, used=700), {**near_limit(slots, now, used=3), "resets_at": None}],
            [{**setting, "key": "RPM_LIMIT//100000"}],
        ]
    ):
        WorkerState.objects.create(
            name=f"w-{number}",
            host="h",
            worker=number,
            plane="data",
            near_limits=told,
            started_at=now,
            reported_at=now,
        )
    request = RequestFactory().get(HOME)
    request.user = User.objects.create_superuser("root")
    found = near_limits(request, workers_alive(now), now)
    assert [(each["owner"], each["name"], each["used"], each["resets"]) for each in found] == [
        (
            "everyone",
            "60 requests",
            "60 of 60",
            "some is free in 12 min 0 s, all of it in 1 h 0 min at the latest",
        ),
        ("tenant acme", "4 requests at once", "3 of 4", "one is free when a request ends"),
        (
            *("tenant acme", "1,000 tokens per hour", "700 of 1,000"),
            "some is free in 12 min 0 s, all of it in 1 h 0 min at the latest",
        ),
    ]
    later = now + timedelta(seconds=36)
    assert near_limits(request, workers_alive(later), later) == []


@pytest.mark.django_db
def test_each_part_is_for_those_who_may_open_its_screens():
    fill()
    nobody = messages_in(page(signed_in(), HOME))
    for words in ("Last 24 hours", "Workers", "Closest to", "Latest requests", "mistral"):
        assert words not in nobody
    billing = messages_in(page(signed_in("analytics.view_usagerollup", "keys.view_budget"), HOME))
    assert "By model" in billing
    assert "By key" not in billing
    assert "service-" not in billing
    assert "Closest to their budget" in billing
    assert "Closest to a rate limit" not in billing
    counting = messages_in(page(signed_in("keys.view_ratelimit"), HOME))
    assert "everyone, key number" in counting
    assert "service-" not in counting
    assert "Latest requests" not in billing


@pytest.mark.django_db
def test_an_empty_page_says_what_to_do_next(client):
    text = messages_in(page(operator(), HOME))
    assert "No requests in this time. Choose a longer one above, or send a request" in text
    assert "None is in use. Add a provider" in text
    assert "None has reported within half a minute." in text
    assert "No budget is half spent." in text
    assert "No rate limit is half used at the moment." in text
    assert client.get(PARTS).status_code == 302
