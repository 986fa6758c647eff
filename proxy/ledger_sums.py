"""What the ledger says of budgets' windows, and which segments of the spool it has by then. For threads."""

from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import UTC, datetime, timedelta

from keys import spending
from keys.limits import purse_key
from keys.models import BudgetWindow
from proxy.charges import Owned
from proxy.store.base import Ledgered

CHUNK = 500
LOOKS = 10
# A window's row may be committed so long after its time was taken, by a clock that is as much behind.
OVERLAP = timedelta(seconds=30)
FIRST_LOOK = timedelta(minutes=10)

Receipts = Callable[[Collection[str]], Collection[str]]


def sums_of(windows: Iterable[Owned]) -> dict[str, Ledgered]:
    """Return what the ledger says of these, by the keys of their sums.

    From the rows that are kept with it; where there is none yet, from the ledger itself.
    """
    wanted = {each.purse.key: each for each in windows}
    known = {}
    ids = sorted({each.purse.ceiling.id for each in wanted.values()})
    for start in range(0, len(ids), CHUNK):
        chunk = set(ids[start : start + CHUNK])
        starts = {_start(each) for each in wanted.values() if each.purse.ceiling.id in chunk}
        rows = BudgetWindow.objects.filter(budget_id__in=chunk, starts_at__in=starts)
        known.update({key: sums for key, sums, _ in _read(rows) if key in wanted})
    missing = [each for key, each in wanted.items() if key not in known]
    return {**known, **{each.purse.key: _from_entries(each) for each in missing}}


def consistent(windows: Collection[Owned], segments: Collection[str], receipts: Receipts) -> "Consistent":
    """Return the sums of windows, and which of `segments` are in them."""
    sums = sums_of(windows)
    arrived = set[str]()
    for _ in range(LOOKS):
        arrived = _receipts(segments, receipts)
        again = sums_of(windows)
        if again == sums:  # nothing was booked between the two
            break
        sums = again
    return Consistent(sums, arrived)


class Consistent:
    """Sums of one moment, and the segments that are in them."""

    def __init__(self, sums: Mapping[str, Ledgered], arrived: Collection[str]) -> None:
        """Keep both."""
        self.sums, self.arrived = sums, arrived

    def with_unshipped(self, segments: Mapping[str, Mapping[str, int]]) -> dict[str, Ledgered]:
        """Return the sums with what the other segments add to them."""
        total = dict(self.sums)
        for name, added in segments.items():
            if name not in self.arrived:
                for key, cost in added.items():
                    if key in total:
                        total[key] = total[key]._replace(spent=total[key].spent + cost)
        return total


class Changes:
    """Follows the windows that change."""

    def __init__(self, now: datetime) -> None:
        """Begin a while before `now`."""
        self._seen = now - FIRST_LOOK

    def since_last(self, keys: Collection[str], now: datetime) -> dict[str, Ledgered]:
        """Return the sums, of windows among `keys`, that have changed since the last look: some once more."""
        rows = BudgetWindow.objects.filter(updated_at__gte=self._seen - OVERLAP)
        found = {}
        for key, sums, updated_at in _read(rows):
            self._seen = max(self._seen, min(updated_at, now))  # a clock that is ahead hides nothing
            if key in keys:
                found[key] = sums
        return found


def _read(rows: Iterable[BudgetWindow]) -> Iterable[tuple[str, Ledgered, datetime]]:
    for row in rows:
        sums = Ledgered(row.spent_nanousd, getattr(row, "corrected_nanousd", 0))
        yield purse_key(row.budget_id, int(row.starts_at.timestamp())), sums, row.updated_at


def _from_entries(owned: Owned) -> Ledgered:
    ceiling = owned.purse.ceiling
    row = spending.Ceiling(
        budget_id=ceiling.id,
        key_id=owned.key_id,
        tenant_id=owned.tenant_id,
        model=ceiling.model,
        window=ceiling.window,
        zone=ceiling.zone,
    )
    return Ledgered(*spending.ledger_sums(row, _start(owned)))


def _start(owned: Owned) -> datetime:
    return datetime.fromtimestamp(owned.purse.span.start, UTC)


def _receipts(segments: Collection[str], receipts: Receipts) -> set[str]:
    names, arrived = sorted(segments), set[str]()
    for start in range(0, len(names), CHUNK):
        arrived.update(receipts(names[start : start + CHUNK]))
    return arrived
