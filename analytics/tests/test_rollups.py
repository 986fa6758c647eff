"""What dashboards show is what the ledger and the log hold, to the nano-dollar, wherever a day begins."""

import random
from datetime import UTC, date, datetime, timedelta
from importlib import import_module
from io import StringIO
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import orjson
import pytest
from django.apps import apps
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection
from django.db.models import Q, Sum

from analytics import retention, rollup_check, rollup_rows, usage
from analytics.booking import book
from analytics.models import RequestLog, ReRating, UsageRollup
from analytics.rerating import apply, preview
from analytics.rollups import width_s
from analytics.tests.spool_files import done, opened, text
from analytics.usage import Period, Where
from keys.models import ApiKey, LedgerEntry, LedgerRetention, Tenant
from providers.models import Price, Provider
from providers.usage import Usage
from proxy.completion import Attempt

pytestmark = pytest.mark.django_db

ZONES = ("UTC", "Europe/Berlin", "Asia/Kolkata", "Australia/Lord_Howe", "America/St_Johns")
TARGETS = (("openai", "gpt-4o"), ("openai", "gpt-4o-mini"), ("azure", "gpt-4o"))
# Clocks change in Lord Howe, by half an hour, on the 4th of October, in Berlin on the 25th, and in
# Newfoundland on the 1st of November.
FIRST, DAYS = date(2026, 10, 2), 34
BEGIN = datetime(2026, 10, 2, tzinfo=UTC)
NOW = datetime(2026, 11, 6, 12, tzinfo=UTC)


class Traffic:
    """Random requests of several tenants, booked in segments: late, twice, interrupted and done after all."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.keys = []
        for number, zone in enumerate(ZONES):
            tenant = Tenant.objects.create(name=f"t{number}", timezone=zone)
            for tags in ({}, {"team": "search", "env": "live"}):
                key, _ = ApiKey.issue(tenant=tenant, name=f"k{number}{len(tags)}", tags=tags)
                key.save()
                self.keys.append(key)
        self.open: list[tuple[str, dict[str, Any]]] = []
        self.written: list[bytes] = []
        for name in ("openai", "azure"):
            provider = Provider.objects.create(name=name, dialect="openai", base_url=f"http://{name}.test")
            if name == "openai":
                Price.objects.create(
                    provider=provider,
                    model="gpt-4o",
                    input_nanousd_per_mtok=2_500_000_001,
                    output_nanousd_per_mtok=10_000_000_003,
                    effective_from=datetime(2026, 1, 1, tzinfo=UTC),
                )

    def at(self) -> float:
        """Any moment, or one at the border of a quarter of an hour or of a day around a change of clocks."""
        if self.rng.random() < 0.4:
            zone = ZoneInfo(self.rng.choice(ZONES))
            day = self.rng.choice(
                (date(2026, 10, 4), date(2026, 10, 25), date(2026, 10, 26), date(2026, 11, 1))
            )
            border = datetime.combine(day, datetime.min.time(), zone).timestamp()
            return border + self.rng.choice((0, -0.25, 3600, 3599.75, 900, 5400, 7200 - 0.5))
        return BEGIN.timestamp() + self.rng.randrange(DAYS * 86_400 * 4) / 4

    def fields(self) -> dict[str, Any]:
        key = self.rng.choice([*self.keys, None])
        whose = (
            {"key_id": None, "tenant_id": None}
            if key is None
            else {"key_id": key.pk, "tenant_id": key.tenant_id}
        )
        tags = dict(self.rng.sample(sorted(key.tags.items()), len(key.tags))) if key else {}
        return {"at": self.at(), **whose, "tags": tags}

    def line(self, name: str, fields: dict[str, Any]) -> bytes:
        rng = self.rng
        chosen = rng.sample(TARGETS, rng.choice((1, 1, 2)))
        spent = [Usage(prompt=rng.randrange(9000), completion=rng.randrange(900)) for _ in chosen]
        costs = [rng.choice((None, rng.randrange(10**9))) for _ in chosen]
        attempts = [
            Attempt(*target, 0, 1, 200, "ok", usage=each, price_id=1, cost_nanousd=cost)
            for target, each, cost in zip(chosen, spent, costs, strict=True)
        ]
        end = rng.choice(("ok", "ok", "ok", "error", "cancelled", "hit", "shadow", "own"))
        return done(
            name,
            **fields,
            provider=chosen[-1][0],
            model=chosen[-1][1],
            attempts=attempts,
            usage=None if end == "error" else spent[-1],
            cost_nanousd=None if None in costs else sum(filter(None, costs)),
            outcome=end if end in {"error", "cancelled"} else "ok",
            status=rng.choice((429, 404, 502)) if end == "error" else 200,
            cache="hit" if end == "hit" else rng.choice(("miss", "bypass", "")),
            stream=rng.random() < 0.5,
            latency_ms=rng.choice((0.2, 5.0, 5.1, 800.0, 500_000.0)),
            ttft_ms=rng.choice((None, 90.0)),
            **({"route": "shadow:fast"} if end == "shadow" else {}),
            **({"own_credential": True} if end == "own" else {}),
        )

    def book(self, segment: str, count: int) -> None:
        finished, cut = [], []
        for number in range(count):
            name, fields = f"{segment}-{number}", self.fields()
            if self.rng.random() < 0.15:
                self.open.append((name, fields))
                estimate = Usage(prompt=self.rng.randrange(1, 900), completion=7, estimated=True)
                cut.append(opened(name, estimate=estimate, **fields))
            else:
                finished.append(self.line(name, fields))
        # Some that were cut off end after all; some lines come again.
        while self.open and self.rng.random() < 0.4:
            finished.append(self.line(*self.open.pop(0)))
        if self.written:
            finished += self.rng.sample(self.written, min(3, len(self.written)))
        self.written += finished
        book(segment, 1, done=text(*finished), interrupted=text(*cut))

    def rerate(self) -> None:
        Price.objects.update_or_create(
            provider=Provider.objects.get(name=self.rng.choice(("openai", "azure"))),
            model=self.rng.choice(("gpt-4o", "gpt-4o-mini", "gpt-4*")),
            effective_from=datetime(2026, 1, 1, tzinfo=UTC),
            defaults={
                "input_nanousd_per_mtok": self.rng.randrange(10**10),
                "output_nanousd_per_mtok": self.rng.randrange(10**10),
            },
        )
        apply(preview(ReRating(since=BEGIN - timedelta(days=9), until=NOW + timedelta(days=9))), by="me")


@pytest.fixture
def traffic() -> Traffic:
    made = Traffic(7)
    for number in range(12):
        made.book(f"s{number}", 60)
        if number % 4 == 3:
            made.rerate()
    return made


def assert_same(figures: usage.Figures, period: Period, **where) -> None:
    """Compare what usage says with the ledger and the log, which are asked by the very same borders."""
    span = {"at__gte": period.since, "at__lt": period.until}
    entries = LedgerEntry.objects.filter(**span, **where)
    money = entries.aggregate(
        cost=Sum("cost_nanousd"),
        unbilled=Sum("cost_nanousd", filter=Q(shadow=True) | Q(own_credential=True)),
    )
    assert figures.cost_nanousd == (money["cost"] or 0)
    assert figures.unbilled_nanousd == (money["unbilled"] or 0)
    logs = RequestLog.objects.filter(**span, **where)
    assert figures.requests == logs.count()
    assert figures.errors == logs.filter(outcome__in=("error", "interrupted")).count()
    assert figures.limited == logs.filter(outcome="error", status=429).count()
    assert figures.hits == logs.filter(cache="hit").count()
    assert figures.prompt_tokens == (logs.aggregate(sum=Sum("prompt_tokens"))["sum"] or 0)


def assert_all_the_same() -> None:
    for tenant in Tenant.objects.all():
        zone, where = ZoneInfo(tenant.timezone), Where(tenant_id=tenant.pk)
        days = Period.dates(FIRST, DAYS, zone)
        hours = Period.hours(26, now=datetime(2026, 10, 25, 12, 20, tzinfo=UTC), zone=zone)
        halves = Period.hours(40, now=datetime(2026, 10, 4, 16, 20, tzinfo=UTC), zone=zone)
        for period in (days, hours, halves):
            assert_same(usage.totals(period, where), period, tenant_ref=tenant.pk)
            steps = usage.by_time(period, where)
            ends = [*(at for at, _ in steps[1:]), period.until]
            for (at, figures), end in zip(steps, ends, strict=True):
                assert_same(figures, Period(at, end, zone), tenant_ref=tenant.pk)
        for key_id, figures in usage.by("key", days, where):
            assert_same(figures, days, tenant_ref=tenant.pk, key_ref=key_id)
    for zone in map(ZoneInfo, ZONES):
        everybody = Period.dates(FIRST, DAYS, zone)
        if zone.key in {"UTC", "Europe/Berlin"}:  # of others' quarters, slots of hours are no parts
            assert_same(usage.totals(everybody), everybody)
    whole = Period.dates(FIRST, DAYS)
    assert whole.grain == UsageRollup.Grain.DAY
    for pk, figures in usage.by("tenant", whole):
        assert_same(figures, whole, tenant_ref=pk or None)
    assert_same(usage.totals(whole), whole)
    assert_same(sum((figures for _, figures in usage.by("tag:team", whole)), usage.Figures()), whole)
    for name, figures in usage.by("model", whole):
        provider, _, model = name.partition("/")
        assert_same(figures, whole, provider=provider, model=model)
        of_days = [each for _, each in usage.by_time(whole, Where(provider=provider, model=model))]
        assert sum(of_days, usage.Figures()) == figures
    teams = dict(usage.by("tag:team", whole))
    assert teams["search"].requests == RequestLog.objects.filter(tags__team="search").count() > 0


def stored() -> dict[tuple[Any, ...], tuple[Any, ...]]:
    names = len(rollup_rows.KEY)
    rows = UsageRollup.objects.values_list(*rollup_rows.KEY, *rollup_rows.COLUMNS)
    return {row[:names]: row[names:] for row in rows}


def not_zero(sums: dict[tuple[Any, ...], tuple[Any, ...]]) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    return {key: totals for key, totals in sums.items() if any(totals)}


def test_dashboards_show_the_ledgers_numbers_to_the_nanodollar(traffic):
    assert LedgerEntry.objects.filter(kind="retracted").exists()
    assert LedgerEntry.objects.filter(kind="adjusted").exists()
    assert_all_the_same()


def test_nothing_is_different_when_it_is_added_up_anew(traffic):
    before = stored()
    assert rollup_check.rebuild(BEGIN - timedelta(days=3), NOW, now=NOW) == 0
    assert stored() == before
    UsageRollup.objects.all().delete()
    rollup_check.check_rollups(NOW)
    assert not_zero(before) == stored()


def test_the_migration_makes_wide_sums_of_those_that_are_there(traffic):
    before = stored()
    assert {61, 62, 1441, 1442} < {key[0] for key in before}
    migration = import_module("analytics.migrations.0005_wide_sums")
    migration.forget(apps, SimpleNamespace(connection=connection))
    assert {grain for grain, *_ in stored()} == {60, 1440}
    migration.add_up(apps, SimpleNamespace(connection=connection))
    assert not_zero(stored()) == not_zero(before)


def test_unknown_prices_are_counted_until_somebody_knows_them(traffic):
    whole = Period.dates(FIRST, DAYS)
    traffic.book("late", 40)
    before = usage.totals(whole).unpriced
    assert before > 0
    for name in ("openai", "azure"):
        Price.objects.update_or_create(
            provider=Provider.objects.get(name=name),
            model="gpt-4*",
            effective_from=datetime(2026, 1, 2, tzinfo=UTC),
            defaults={"input_nanousd_per_mtok": 10**9, "output_nanousd_per_mtok": 10**9},
        )
    apply(preview(ReRating(since=BEGIN - timedelta(days=9), until=NOW)), by="me")
    assert usage.totals(whole).unpriced == 0
    assert rollup_check.rebuild(BEGIN, NOW, now=NOW) == 0


def test_the_check_mends_what_differs_and_says_how_much(traffic):
    now = datetime(2026, 10, 26, 12, 30, tzinfo=UTC)
    assert rollup_check.check_rollups(now) == "48 hours compared, 0 sums mended."
    before = stored()
    recent = UsageRollup.objects.filter(
        grain=60, starts_at__gte=now - timedelta(hours=40), starts_at__lt=now - timedelta(hours=2)
    )
    first, second = recent.order_by("pk")[:2]
    UsageRollup.objects.filter(pk=first.pk).update(cost_nanousd=1, requests=99)
    second.delete()
    UsageRollup.objects.create(
        grain=60, starts_at=now - timedelta(hours=3, minutes=30), provider="odd", requests=1
    )
    for grain in (61, 62, 1441, 1442):
        some = UsageRollup.objects.filter(grain=grain, starts_at__date=now.date()).order_by("pk")
        UsageRollup.objects.filter(pk=some[0].pk).update(attempts=10**6, latency_5=7)
    assert rollup_check.check_rollups(now) == "48 hours compared, 7 sums mended."
    assert stored() == before


def test_what_the_log_has_let_go_is_not_taken_for_nothing(traffic, settings):
    before = stored()
    RequestLog.objects.filter(at__lt=datetime(2026, 10, 20, tzinfo=UTC)).delete()
    LedgerRetention.objects.create(keeps_from=datetime(2026, 10, 10, 5, tzinfo=UTC))
    LedgerEntry.objects.filter(at__lt=datetime(2026, 10, 10, 5, tzinfo=UTC))._raw_delete("default")
    assert rollup_check.rebuild(BEGIN, NOW, now=NOW) == 0
    assert stored() == before


def test_a_row_that_came_late_for_a_day_that_is_gone_makes_no_day(settings):
    settings.GATEWAY = settings.GATEWAY.__class__(
        **{name: getattr(settings.GATEWAY, name) for name in settings.GATEWAY.__slots__}
        | {"log_retention_s": 86_400.0}
    )
    book(
        "s", 1, done=text(done("late", at=BEGIN.timestamp()), done("new", at=NOW.timestamp())), interrupted=""
    )
    assert retention.log_begins(NOW) == datetime(2026, 11, 5, tzinfo=UTC)
    UsageRollup.objects.filter(grain=60).update(requests=5)
    rollup_check.rebuild(BEGIN, NOW + timedelta(hours=1), now=NOW)
    sums = dict(UsageRollup.objects.filter(grain=60).values_list("starts_at", "requests"))
    assert sorted(sums.values()) == [1, 5]


def test_wide_days_are_mended_where_there_are_no_hours_any_more():
    at = NOW - timedelta(days=500)
    book("s", 1, done=text(done("old", at=at.timestamp())), interrupted="")
    retention.apply_rollup_retention(NOW)
    assert sorted(UsageRollup.objects.values_list("grain", flat=True)) == [1440, 1441, 1442]
    UsageRollup.objects.filter(grain__in=(1441, 1442)).update(requests=9)
    assert rollup_check.rebuild(at, at + timedelta(hours=1), now=NOW, dry_run=True) == 2
    assert rollup_check.rebuild(at, at + timedelta(hours=1), now=NOW) == 2
    assert set(UsageRollup.objects.values_list("requests", flat=True)) == {1}


def test_slots_are_quarters_where_clocks_are_off_by_parts_of_an_hour():
    assert [width_s(zone, 2026) for zone in ZONES] == [3600, 3600, 900, 900, 900]
    assert width_s("Nowhere/AtAll", 2026) == 3600


def test_a_change_of_zone_is_followed_when_sums_are_made_anew():
    tenant = Tenant.objects.create(name="acme")
    for number in range(8):
        line = done(str(number), tenant_id=tenant.pk, at=BEGIN.timestamp() + number * 900)
        book(str(number), 1, done=text(line), interrupted="")
    Tenant.objects.filter(pk=tenant.pk).update(timezone="Asia/Kolkata")
    out = StringIO()
    call_command("rebuild_rollups", since="2026-10-02", until="2026-10-02", dry_run=True, stdout=out)
    assert UsageRollup.objects.filter(grain=60).count() == 2
    call_command("rebuild_rollups", since="2026-10-02", until="2026-10-02", stdout=out)
    assert "8 sums are different" in out.getvalue()
    assert "24 sums mended" in out.getvalue()  # of the caller, of its tenant, and of the model
    assert UsageRollup.objects.filter(grain=60).count() == 8
    assert UsageRollup.objects.get(grain=1440).requests == 8


def test_the_command_says_which_moment_is_none():
    with pytest.raises(CommandError, match="--since must be a date"):
        call_command("rebuild_rollups", since="soon")
    with pytest.raises(CommandError, match="--until must be after"):
        call_command("rebuild_rollups", since="2026-10-02", until="2026-10-01")


def test_attempts_are_counted_where_they_were_made():
    attempts = [
        Attempt("openai", "gpt-4o", 0, 1, 500, "upstream_error"),
        Attempt("azure", "gpt-4o", 1, 2, 200, "ok"),
    ]
    book("s", 1, done=text(done("a", provider="azure", attempts=attempts)), interrupted="")
    rows = UsageRollup.objects.filter(grain=60).order_by("provider")
    assert [(row.provider, row.requests, row.attempts) for row in rows] == [("azure", 1, 1), ("openai", 0, 1)]


def test_a_number_that_no_column_holds_stops_no_record(caplog):
    most = 2**63 - 1
    for name in "ab":
        line = done(name, cost_nanousd=most, usage=Usage(prompt=most, completion=most))
        book(name, 1, done=text(line), interrupted="")
    assert RequestLog.objects.count() == 2


def test_tags_are_one_text_whatever_their_order():
    for name, tags in (("a", {"b": "1", "a": "2"}), ("b", {"a": "2", "b": "1"})):
        book(name, 1, done=text(done(name, tags=tags)), interrupted="")
    assert [orjson.loads(row.tags) for row in UsageRollup.objects.filter(grain=60)] == [{"a": "2", "b": "1"}]
