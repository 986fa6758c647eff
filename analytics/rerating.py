"""Re-rating: what a period would cost by the prices as they are now, and the rows that make it so.

A preview looks at each attempt in the ledger and says what would change. Applying it writes, for each that
costs something else, one row with the difference, in batches; each batch is one transaction, which holds the
run's row, so that two who apply one preview share its batches, and one that was killed is gone on with.

What is compared under the lock is what an attempt has cost *as corrected so far*: nothing is ever corrected
twice, whichever previews are applied. A preview is applied with the prices that it was made with, or not at
all; entries that came in after it are left alone.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from django.db import transaction
from django.db.models import F, Max, QuerySet
from django.utils import timezone

from analytics import ledger_rows, rollup_lock
from analytics.insert import insert
from analytics.ledger_rows import Row
from analytics.models import ReRating
from analytics.prices import PriceBook
from analytics.rerating_sums import Differences
from analytics.rollups import Sums
from config.audit import noted
from keys import ledger, spending
from keys.models import LedgerEntry
from providers.pricing import Rates

BATCH = 1_000


class CannotRerate(ValueError):
    """A preview that cannot be made or applied. The message says why, for people."""


class Change(NamedTuple):
    """An attempt that costs something else now: at which price, and the difference in nano-dollars."""

    booked: ledger.Booked
    price_ref: int
    difference: int


def preview(run: ReRating, *, at_most: int | None = None) -> ReRating:
    """Fill in and save an unsaved run that says its period and whatever else it is limited to.

    Raises CannotRerate if there are more than `at_most` entries.
    """
    if run.since >= run.until:
        raise CannotRerate("The period ends before it begins.")
    entries = _entries(run)
    if at_most is not None and entries.order_by("pk")[at_most : at_most + 1].exists():
        raise CannotRerate(
            f"There are more than {at_most:,} entries in it: choose a shorter period, or manage.py rerate."
        )
    providers = sorted(set(entries.order_by().values_list("provider", flat=True).distinct()))
    prices = PriceBook(providers)
    run.prices = prices.fingerprint()
    run.ledger_through = LedgerEntry.objects.aggregate(last=Max("pk"))["last"] or 0
    differences = Differences()
    for batch in _batches(run):
        _look(run, batch, prices, differences)
    run.sums = {"providers": providers, **differences.as_json()}
    run.save(force_insert=True)
    return run


def apply(run: ReRating, *, by: str) -> ReRating:
    """Write the rows of a preview and return the run as it is then. Applied before, nothing happens.

    Raises CannotRerate if prices have changed since.
    """
    run.refresh_from_db()
    if run.state == ReRating.State.APPLIED:
        return run
    prices = PriceBook(run.sums["providers"])
    if prices.fingerprint() != run.prices:
        raise CannotRerate("Prices have changed since this preview was made: make another one.")
    ReRating.objects.filter(pk=run.pk, state=ReRating.State.PREVIEW).update(
        state=ReRating.State.APPLYING, applied_by=by
    )
    while _apply_some(run, prices):
        pass
    run.refresh_from_db()
    return run


def came_since(run: ReRating) -> int:
    """Return how many entries of its period came into the ledger after the preview."""
    return _entries(run).filter(pk__gt=run.ledger_through).count()


def _entries(run: ReRating) -> QuerySet[LedgerEntry]:
    """Return what is re-rated: entries themselves, not what has corrected them."""
    rows = LedgerEntry.objects.filter(at__gte=run.since, at__lt=run.until)
    rows = rows.exclude(kind__in=LedgerEntry.CORRECTIONS)
    if run.provider:
        rows = rows.filter(provider=run.provider)
    if run.model.endswith("*"):
        rows = rows.filter(model__startswith=run.model[:-1])
    elif run.model:
        rows = rows.filter(model=run.model)
    if run.tenant_ref is not None:
        rows = rows.filter(tenant_ref=run.tenant_ref)
    if run.key_ref is not None:
        rows = rows.filter(key_ref=run.key_ref)
    return rows


def _after(run: ReRating, last: int) -> QuerySet[LedgerEntry]:
    return _entries(run).filter(pk__gt=last, pk__lte=run.ledger_through).order_by("pk")


def _batches(run: ReRating) -> Iterator[Sequence[LedgerEntry]]:
    last = 0
    while batch := list(_after(run, last)[:BATCH]):
        yield batch
        last = batch[-1].pk


def _look(run: ReRating, entries: Sequence[LedgerEntry], prices: PriceBook, differences: Differences) -> None:
    """Add what a batch would change to the run's counts, and to the sums."""
    standing = _standing(entries)
    run.rows += len(standing)
    run.unpriced += sum(_rates(each.entry, prices) is None for each in standing)
    for change in _changes(standing, prices):
        before = change.booked.cost_nanousd
        run.changed += 1
        run.newly_priced += before is None
        run.before_nanousd += before or 0
        run.difference_nanousd += change.difference
        differences.add(change.booked.entry, before=before or 0, difference=change.difference)


def _changes(standing: Iterable[ledger.Booked], prices: PriceBook) -> Iterator[Change]:
    for each in standing:
        rates = _rates(each.entry, prices)
        if rates is None:
            continue
        before = each.cost_nanousd
        difference = ledger_rows.cost(ledger_rows.usage_of(vars(each.entry)), rates) - (before or 0)
        if difference or before is None:
            yield Change(each, rates.price_id, difference)


def _rates(entry: LedgerEntry, prices: PriceBook) -> Rates | None:
    return prices.rates(entry.provider, entry.model, entry.at.timestamp())


# ---------------------------------------------------------------- applying


def _apply_some(run: ReRating, prices: PriceBook) -> bool:
    """Write the next batch; False when there is none."""
    run.refresh_from_db(fields=("applied_through",))
    # Windows are made before anything is added to them: see `spending.Ceilings.ensure`.
    expected = _spends(_adjustments(run, list(_after(run, run.applied_through)[:BATCH]), prices))
    ceilings = spending.Ceilings(expected)
    ceilings.ensure(ceilings.sums(expected))
    with transaction.atomic():
        rollup_lock.share()
        locked = ReRating.objects.select_for_update().get(pk=run.pk)
        if locked.state != ReRating.State.APPLYING:
            return False
        entries = list(_after(locked, locked.applied_through).select_for_update()[:BATCH])
        if not entries:
            _finish(locked)
            return False
        changes = list(_changes(_standing(entries), prices))
        rows = [_adjustment(locked, change) for change in changes]
        insert(LedgerEntry, rows)
        sums = Sums.of((), rows)
        for change, row in zip(changes, rows, strict=True):
            if change.booked.cost_nanousd is None:
                sums.priced(row)
        sums.write()
        ReRating.objects.filter(pk=run.pk).update(
            applied_through=entries[-1].pk,
            applied_rows=F("applied_rows") + len(rows),
            applied_nanousd=F("applied_nanousd") + sum(row["cost_nanousd"] for row in rows),
        )
        spends = _spends(rows)
        spending.add(spending.Ceilings(spends).sums(spends))
    return True


def _adjustments(run: ReRating, entries: Sequence[LedgerEntry], prices: PriceBook) -> list[Row]:
    return [_adjustment(run, change) for change in _changes(_standing(entries), prices)]


def _adjustment(run: ReRating, change: Change) -> Row:
    return ledger_rows.adjusting(
        change.booked, price_ref=change.price_ref, difference=change.difference, rerating=run.pk
    )


def _standing(entries: Sequence[LedgerEntry]) -> list[ledger.Booked]:
    return [each for each in ledger.booked(entries) if not each.retracted]


def _spends(rows: Iterable[Row]) -> list[spending.Spend]:
    return [spend for spend in map(spending.Spend.of, rows) if spend is not None]


def _finish(run: ReRating) -> None:
    """Say that it is done; the audit log takes it up with the totals."""
    ReRating.objects.filter(pk=run.pk).update(state=ReRating.State.APPLIED, applied_at=timezone.now())
    changes = {
        "state": (ReRating.State.PREVIEW.value, ReRating.State.APPLIED.value),
        "applied_by": ("", run.applied_by),
        "applied_rows": (0, run.applied_rows),
        "applied_nanousd": (0, run.applied_nanousd),
    }
    noted(run, changes)
