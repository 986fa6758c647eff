"""Sums of usage as screens read them: by step, by who and what, over borders of days and of summer time."""

import random
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from analytics.models import UsageRollup
from analytics.rollup_models import EDGES_MS, LATENCY_COLUMNS
from analytics.tests.wide_sums import widen
from analytics.usage import Figures, Period, Where, by, by_time, quantile_ms, totals

HOUR, DAY = UsageRollup.Grain.HOUR, UsageRollup.Grain.DAY
BERLIN, KOLKATA, LORD_HOWE = map(ZoneInfo, ("Europe/Berlin", "Asia/Kolkata", "Australia/Lord_Howe"))


def row(starts_at: datetime, **columns: object) -> UsageRollup:
    return UsageRollup(**{"grain": HOUR, "starts_at": starts_at, "requests": 1, **columns})


def by_day(rows: Iterable[UsageRollup]) -> list[UsageRollup]:
    """Return the rows of UTC's days that belong to these."""
    days: dict[tuple[datetime, int], UsageRollup] = {}
    for each in rows:
        midnight = each.starts_at.replace(hour=0, minute=0)
        names = {name: getattr(each, name) for name in ("tenant_ref", "provider", "model", "tags")}
        day = days.setdefault(
            (midnight, each.key_ref),
            row(midnight, grain=DAY, key_ref=each.key_ref, requests=0, cost_nanousd=0, **names),
        )
        day.requests += each.requests
        day.cost_nanousd += each.cost_nanousd
    return list(days.values())


@pytest.mark.parametrize(
    ("day", "hours"),
    [(datetime(2026, 3, 29, 12, tzinfo=UTC), 23), (datetime(2026, 10, 25, 12, tzinfo=UTC), 25)],
)
def test_days_are_as_long_as_clocks_make_them(day, hours):
    period = Period.days(1, now=day, zone=BERLIN)
    assert (period.until - period.since) == timedelta(hours=hours)
    assert len(Period(period.since, period.until, BERLIN, "hour").steps()) == hours
    assert period.before().until == period.since


def test_a_day_begins_where_its_tenant_is():
    period = Period.days(2, now=datetime(2026, 6, 2, 20, tzinfo=UTC), zone=KOLKATA)
    assert [each.isoformat() for each in period.steps()] == [
        "2026-06-01T18:30:00+00:00",
        "2026-06-02T18:30:00+00:00",
    ]
    assert period.grain == HOUR
    assert Period.days(2, now=datetime(2026, 6, 2, 20, tzinfo=UTC)).grain == DAY
    # In winter a day of London is one of UTC, but not all of the period's are.
    mixed = Period.days(120, now=datetime(2026, 6, 2, 20, tzinfo=UTC), zone=ZoneInfo("Europe/London"))
    assert mixed.grain == HOUR


def test_a_period_that_is_none_is_refused():
    at = datetime(2026, 6, 1, tzinfo=UTC)
    with pytest.raises(ValueError, match="must end after it begins"):
        Period(at, at)
    with pytest.raises(ValueError, match="time zone"):
        Period(at.replace(tzinfo=None), at)


@pytest.mark.django_db
@pytest.mark.parametrize("zone", [BERLIN, KOLKATA, LORD_HOWE], ids=str)
def test_steps_and_parts_add_up_to_the_whole(zone):
    """Over the ends of summer time of both hemispheres, whose hours come twice, or by halves."""
    rng = random.Random(5)
    now = datetime(2026, 11, 1, tzinfo=UTC)
    rows = {}
    for _ in range(400):
        at = now - timedelta(minutes=15 * rng.randrange(4 * 24 * 40))
        key = rng.randrange(1, 4)
        rows[at, key] = row(
            at,
            tenant_ref=key % 2,
            key_ref=key,
            provider="openai",
            model=f"m{key}",
            tags='{"team":"search"}' if key == 2 else "",
            requests=rng.randrange(9),
            cost_nanousd=rng.randrange(10**12),
        )
    UsageRollup.objects.bulk_create([*rows.values(), *by_day(rows.values())])
    widen()
    for period in (Period.days(45, now=now, zone=zone), Period.hours(24 * 40, now=now, zone=zone)):
        inside = [each for (at, _), each in rows.items() if period.since <= at < period.until]
        whole = totals(period)
        assert whole.cost_nanousd == sum(each.cost_nanousd for each in inside) > 0
        steps = by_time(period)
        assert sum((figures for _, figures in steps), Figures()) == whole
        for (at, figures), end in zip(steps, [*(at for at, _ in steps[1:]), period.until], strict=True):
            assert figures.requests == sum(each.requests for each in inside if at <= each.starts_at < end)
        for dimension in ("provider", "model", "tenant", "key", "tag:team"):
            parts = by(dimension, period)
            assert sum((figures for _, figures in parts), Figures()) == whole, dimension
        assert dict(by("tag:team", period))["search"] == totals(period, Where(tag=("team", "search")))
        assert dict(by("model", period))["openai/m3"] == totals(period, Where(key_id=3))
        assert dict(by("tenant", period))[1] == totals(period, Where(tenant_id=1))


@pytest.mark.django_db
@pytest.mark.parametrize("zone", [ZoneInfo("UTC"), KOLKATA], ids=str)
def test_a_tenant_models_and_everything_are_read_from_wide_sums(zone):
    now = datetime(2026, 6, 5, 7, tzinfo=UTC)
    rows = [
        row(
            now - timedelta(hours=3 * number),
            tenant_ref=number % 2,
            key_ref=number % 4,
            provider="openai",
            model=f"m{number % 3}",
            cost_nanousd=10**9 + number,
        )
        for number in range(40)
    ]
    UsageRollup.objects.bulk_create([*rows, *by_day(rows)])
    widen()
    period, tenant = Period.days(4, now=now, zone=zone), Where(tenant_id=1)
    asked = [
        lambda: (totals(period), by_time(period), by("model", period), by("provider", period)),
        lambda: (totals(period, tenant), by_time(period, tenant), by("tenant", period)),
        lambda: totals(period, Where(provider="openai", model="m1")),
        lambda: by("model", period, Where(provider="openai")),
    ]
    before = [ask() for ask in asked]
    narrow = (Where(key_id=1), Where(tenant_id=1, model="m1"))
    assert all(totals(period, where).requests for where in narrow)
    UsageRollup.objects.filter(grain__in=(HOUR, DAY)).delete()
    assert [ask() for ask in asked] == before
    assert totals(period).cost_nanousd > 10**9
    assert not any(totals(period, where).requests for where in narrow)


@pytest.mark.django_db
def test_there_is_no_other_dimension():
    period = Period.days(1, now=datetime(2026, 6, 1, tzinfo=UTC))
    for unknown in ("colour", "tag:", ""):
        with pytest.raises(ValueError, match="must be one of provider, model, tenant, key, or tag:NAME"):
            by(unknown, period)


@pytest.mark.django_db
def test_quantiles_are_read_from_the_added_histograms():
    at = datetime(2026, 6, 1, 5, tzinfo=UTC)
    UsageRollup.objects.create(**{"grain": HOUR, "starts_at": at, LATENCY_COLUMNS[3]: 90, "key_ref": 1})
    UsageRollup.objects.create(**{"grain": HOUR, "starts_at": at, LATENCY_COLUMNS[9]: 10, "key_ref": 2})
    widen()
    figures = totals(Period.hours(2, now=at), latency=True)
    assert EDGES_MS[2] < (figures.latency_ms(0.5) or 0) < EDGES_MS[3]
    assert EDGES_MS[8] < (figures.latency_ms(0.95) or 0) < EDGES_MS[9]
    assert figures.ttft_ms(0.5) is None
    assert totals(Period.hours(2, now=at)).latency == ()


def test_a_quantile_is_off_by_less_than_a_fifth():
    rng = random.Random(1)
    times = sorted(rng.lognormvariate(6, 1.2) for _ in range(5000))
    counts = [0] * (len(EDGES_MS) + 1)
    for each in times:
        counts[sum(edge < each for edge in EDGES_MS)] += 1
    for share in (0.5, 0.95, 0.99):
        exact = times[int(share * len(times))]
        assert quantile_ms(counts, share) == pytest.approx(exact, rel=0.2)
    assert quantile_ms([], 0.5) is None
    assert quantile_ms([0] * len(counts), 0.5) is None
    assert quantile_ms([0] * (len(counts) - 1) + [1], 0.5) == EDGES_MS[-1]
