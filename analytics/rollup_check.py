"""Compares rollups with the log and the ledger, and mends what differs.

Hours are added up anew from what the log and the ledger still have; days are made of hours, wide sums of
those of callers. What the log or the ledger no longer has is not taken for nothing: sums of it stay as they
are.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from analytics import retention, rollup_lock, rollup_rows, rollup_sources
from analytics.models import RequestLog, UsageRollup
from analytics.rollup_rows import COLUMNS, DAY_S, HOUR_S, LOGGED, Slot, Totals, moment
from analytics.rollups import Sums, by_day, wide, zones
from keys import ledger
from keys.models import LedgerEntry, LedgerRetention

CHECKED_HOURS = 48
LOOKED_AT_ONCE = 1_000
HOUR, DAY = UsageRollup.Grain.HOUR, UsageRollup.Grain.DAY
WIDE_DAYS = (DAY.of_tenants, DAY.of_models)
# What hours of callers come to.
MADE_OF_HOURS = (DAY, HOUR.of_tenants, HOUR.of_models, *WIDE_DAYS)
# What is stored, and what it should be.
Compared = tuple[dict[Slot, Totals], dict[Slot, Totals]]


def check_rollups(now: datetime | None = None) -> str:
    """Compare the last hours that are over, mend what differs, and say how much that was.

    What was logged before there were rollups is added up first.
    """
    now = now or timezone.now()
    built = sum(rebuild(*days, now=now) for days in _never_added_up(now))
    until = _second(now) // HOUR_S * HOUR_S
    since = until - CHECKED_HOURS * HOUR_S
    mended = sum(_mend(*span, now=now, dry_run=False) for span in _spans(since, until))
    said = f"{CHECKED_HOURS} hours compared, {mended:,} sums mended."
    return f"{said} {built:,} sums of earlier days made." if built else said


def rebuild(
    since: datetime,
    until: datetime,
    *,
    now: datetime | None = None,
    dry_run: bool = False,
    tell: Callable[[datetime, int], None] = lambda _day, _count: None,
) -> int:
    """Make the sums of a period's hours, and of the days they are in, what the log and the ledger say.

    The hours at its ends are taken whole. Returns how many sums were different; with `dry_run` they stay so.
    `tell` hears of each day (UTC) that is done.
    """
    now = now or timezone.now()
    first = _second(since) // HOUR_S * HOUR_S
    last = -(-_second(until) // HOUR_S) * HOUR_S
    different = 0
    # The newest first: what `_never_added_up` asks for is then gone on with, if this ends in its middle.
    for span in reversed(list(_spans(first, last))):
        count = _mend(*span, now=now, dry_run=dry_run)
        different += count
        tell(moment(span[0]), count)
    return different


def _mend(since: int, until: int, *, now: datetime, dry_run: bool) -> int:
    """Mend the hours of a part of one day, and the day; return how many sums were different."""
    day = since - since % DAY_S
    hours_kept_from = retention.rollups_kept_from(HOUR, now)
    if hours_kept_from is not None and moment(day) < hours_kept_from:
        # There are no hours of it any more: it is added up at once.
        different = _made_right(lambda: _both(DAY, day, day + DAY_S, now), dry_run=dry_run)
        return different + _made_right(lambda: _both_wide(day), dry_run=dry_run)
    different = _made_right(lambda: _both(HOUR, since, until, now), dry_run=dry_run)
    return different + _made_right(lambda: _both_of_hours(day), dry_run=dry_run)


def _made_right(look: Callable[[], Compared], *, dry_run: bool) -> int:
    """Make stored sums what they should be, as `look` says; return how many were different."""
    different = _different(*look())
    if dry_run or not different:
        return len(different)
    # Once more, while nobody adds: what was added since was no mistake.
    with transaction.atomic():
        rollup_lock.alone()
        stored, right = look()
        different = _different(stored, right)
        rollup_rows.replace(different, right)
    return len(different)


def _both(grain: UsageRollup.Grain, since: int, until: int, now: datetime) -> Compared:
    """Return the sums that are stored for a span, and what they should be."""
    stored = rollup_rows.read([grain], since, until)
    log_begins, ledger_begins = retention.log_begins(now), _ledger_begins()
    has_log = log_begins is None or moment(since) >= log_begins
    has_ledger = ledger_begins is None or moment(since) >= ledger_begins
    right = _added_up(since, until, log=has_log, booked=has_ledger)
    if grain == DAY:
        right = by_day(right)
    if not has_log:
        _keep(right, stored, slice(0, len(LOGGED)))
    if not has_ledger:
        _keep(right, stored, slice(len(LOGGED), None))
    return stored, right


def _both_of_hours(day: int) -> Compared:
    """Return the same of a day and of wide sums, which are what the stored hours of callers are."""
    hours = rollup_rows.read([HOUR], day, day + DAY_S)
    together = wide(hours)
    right = {**by_day(hours), **together, **by_day(together)}
    return rollup_rows.read(MADE_OF_HOURS, day, day + DAY_S), right


def _both_wide(day: int) -> Compared:
    """Return the same of the wide sums of a day that has no hours any more."""
    callers = rollup_rows.read([DAY], day, day + DAY_S)
    return rollup_rows.read(WIDE_DAYS, day, day + DAY_S), wide(callers)


def _added_up(since: int, until: int, *, log: bool, booked: bool) -> dict[Slot, Totals]:
    sums = Sums(zones())
    span = {"at__gte": moment(since), "at__lt": moment(until)}
    if log:
        for row in rollup_sources.logs(RequestLog.objects.filter(**span)):
            sums.log(row)
    if booked:
        entries = LedgerEntry.objects.filter(**span)
        for row in rollup_sources.entries(entries):
            sums.entry(row)
        unknown = entries.filter(cost_nanousd=None).exclude(kind__in=LedgerEntry.CORRECTIONS)
        for found in _corrected(unknown.order_by("pk")):
            if found.cost_nanousd is not None:
                sums.priced(rollup_sources.entry_row(found.entry))
    return sums.slots


def _corrected(entries: QuerySet[LedgerEntry]) -> Iterator[ledger.Booked]:
    """Yield those entries that have corrections."""
    last = 0
    while chunk := list(entries.filter(pk__gt=last)[:LOOKED_AT_ONCE]):
        yield from (found for found in ledger.booked(chunk) if found.corrections)
        last = chunk[-1].pk


def _keep(right: dict[Slot, Totals], stored: Mapping[Slot, Totals], columns: slice) -> None:
    """Take columns as they are stored."""
    for slot, totals in stored.items():
        right.setdefault(slot, [0] * len(COLUMNS))[columns] = totals[columns]


def _different(stored: Mapping[Slot, Totals], right: Mapping[Slot, Totals]) -> list[Slot]:
    """Return the slots whose sums are not what they should be. A row of zeros is as good as none."""
    nothing = [0] * len(COLUMNS)
    return sorted(slot for slot in {*stored, *right} if stored.get(slot, nothing) != right.get(slot, nothing))


def _never_added_up(now: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Yield the period, if there is one, from the first row of the log or ledger to the first sums."""
    firsts = [
        rows.order_by("at", "id").values_list("at", flat=True).first()
        for rows in (RequestLog.objects.all(), LedgerEntry.objects.all())
    ]
    known = [at for at in firsts if at is not None]
    kept_from = retention.rollups_kept_from(DAY, now)
    if not known:
        return
    begins = min(known) if kept_from is None else max(min(known), kept_from)
    days = UsageRollup.objects.filter(grain=DAY).order_by("starts_at").values_list("starts_at", flat=True)
    first = days.first()
    if first is None:
        yield begins, now
    elif begins < first:
        yield begins, first + timedelta(days=1)


def _ledger_begins() -> datetime | None:
    return LedgerRetention.objects.order_by("pk").values_list("keeps_from", flat=True).first()


def _spans(since: int, until: int) -> Iterator[tuple[int, int]]:
    """Yield a period's parts, none of which is of two days (UTC)."""
    while since < until:
        end = min(since - since % DAY_S + DAY_S, until)
        yield since, end
        since = end


def _second(at: datetime) -> int:
    return int(at.timestamp())
