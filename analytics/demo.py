"""Fills an installation with a believable history, so that its screens can be looked at, and measured.

Log, ledger, sums and windows of budgets say the same, as if all of it had happened.
"""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from django.db import connection, transaction
from django.utils import timezone

from analytics import demo_cast, demo_payloads, partitions, rollup_lock
from analytics.demo_cast import Cast
from analytics.demo_traffic import Made, Row, Traffic
from analytics.insert import insert
from analytics.models import RequestLog
from analytics.rollups import Sums
from keys import spending
from keys.models import ApiKey, BudgetWindow, LedgerEntry

WRITTEN_AT_ONCE = 5_000
DELETED_AT_ONCE = 5_000
MOST_DAYS = 1_000
# How much of their newest windows budgets have spent: some are near their ends, one is over.
_FILLED = (0.97, 0.62, 0.81, 0.35, 1.04, 0.9, 0.74, 0.55, 0.93)


def seed(*, now: datetime, days: int, requests: int, seed: int, tell: Callable[[int], None]) -> Cast:
    """Make tenants, keys, people, and a history that ends `now`; `tell` hears how many requests there are."""
    with transaction.atomic():
        cast = demo_cast.make()
    since = now - timedelta(days=days)
    if connection.vendor == "postgresql":
        partitions.make_days(since, now)
    traffic = Traffic(cast.callers, since=since, until=now, requests=requests, seed=seed)
    ceilings = _ceilings(cast)
    windows: dict[spending.Window, spending.Sums] = {}
    done = 0
    for made in _together(traffic.hours()):
        with transaction.atomic():
            rollup_lock.share()
            insert(RequestLog, made.logs)
            insert(LedgerEntry, made.entries)
            Sums.of(made.logs, made.entries).write()
        spends = [spend for spend in map(spending.Spend.of, made.entries) if spend is not None]
        for window, sums in ceilings.sums(spends).items():
            known = windows.get(window, spending.Sums())
            windows[window] = spending.Sums(known.spent + sums.spent, known.corrected + sums.corrected)
        done += len(made.logs)
        tell(done)
    with transaction.atomic():
        _write_windows(cast, windows)
    _say_when_used(cast, now)
    demo_payloads.write(now, seed=seed)
    return cast


def remove() -> tuple[int, int]:
    """Remove what can be removed; return how many requests that were, and how many ledger entries stay."""
    numbers = demo_cast.remove()
    deleted = 0
    rows = RequestLog.objects.filter(tenant_ref__in=numbers).order_by()
    while chunk := list(rows.values_list("pk", flat=True)[:DELETED_AT_ONCE]):
        with transaction.atomic():
            found = RequestLog.objects.filter(pk__in=chunk)
            deleted += found._raw_delete(found.db)  # noqa: SLF001 - no signals, no copies
    demo_payloads.remove(numbers)
    return deleted, LedgerEntry.objects.filter(tenant_ref__in=numbers).count()


def _together(hours: Iterator[Made]) -> Iterator[Made]:
    """Yield rows of some hours or of a part of one: as many as are written at once."""
    logs: list[Row] = []
    entries: list[Row] = []
    for made in hours:
        logs += made.logs
        entries += made.entries
        while len(logs) >= WRITTEN_AT_ONCE:
            some, logs = logs[:WRITTEN_AT_ONCE], logs[WRITTEN_AT_ONCE:]
            own = {row["completion_id"] for row in some}
            yield Made(some, [row for row in entries if row["completion_id"] in own])
            entries = [row for row in entries if row["completion_id"] not in own]
    if logs:
        yield Made(logs, entries)


def _ceilings(cast: Cast) -> spending.Ceilings:
    """Return what the demo's budgets count: those of everybody stay as they are until somebody spends."""
    now = timezone.now()
    return spending.Ceilings(
        [spending.Spend(caller.key.pk, caller.key.tenant_id, now, (), 1) for caller in cast.callers]
    )


def _write_windows(cast: Cast, windows: dict[spending.Window, spending.Sums]) -> None:
    """Write what each window has spent, and give each budget an amount that its newest one is near to."""
    own = {budget.pk for budget in cast.budgets}
    BudgetWindow.objects.bulk_create(
        [
            BudgetWindow(budget_id=budget, starts_at=starts_at, spent_nanousd=sums.spent)
            for (budget, starts_at), sums in sorted(windows.items())
            if budget in own
        ],
        batch_size=500,
    )
    # Everyone's budgets had windows before, perhaps.
    spending.add({window: sums for window, sums in windows.items() if window[0] not in own})
    for budget, filled in zip(cast.budgets, _FILLED, strict=True):
        newest = BudgetWindow.objects.filter(budget=budget).order_by("-starts_at").first()
        if newest is not None and newest.spent_nanousd:
            cents = max(round(newest.spent_nanousd / filled / 10**7), 1)
            budget.amount_nanousd = cents * 10**7
            budget.save(update_fields=["amount_nanousd"])


def _say_when_used(cast: Cast, now: datetime) -> None:
    for caller in cast.callers:
        caller.key.last_used_at = now
    ApiKey.objects.bulk_update([caller.key for caller in cast.callers], ["last_used_at"])
