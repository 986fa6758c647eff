"""How the ledger's rows belong together: what has corrected which."""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from keys.models import LedgerEntry


class Booked(NamedTuple):
    """An entry of an attempt with its corrections, in their order, and the revision that the next one has."""

    entry: LedgerEntry
    corrections: Sequence[LedgerEntry]
    next_revision: int

    @property
    def retracted(self) -> bool:
        """Has it been taken back? Then its rows add up to nothing."""
        return any(row.kind == LedgerEntry.Kind.RETRACTED for row in self.corrections)

    @property
    def cost_nanousd(self) -> int | None:
        """What it has cost, as corrected so far; None when no price was known yet."""
        costs = [row.cost_nanousd for row in (self.entry, *self.corrections) if row.cost_nanousd is not None]
        return sum(costs) if costs else None


def booked(entries: Sequence[LedgerEntry]) -> list[Booked]:
    """Return each entry with its corrections.

    An attempt that was interrupted and ended after all has two entries: what takes the first one back, and
    whatever corrected it before that, is the first one's; what came afterwards is the other's.
    """
    rows = LedgerEntry.objects.filter(
        completion_id__in={entry.completion_id for entry in entries}, kind__in=LedgerEntry.CORRECTIONS
    )
    by_attempt: dict[tuple[str, int], list[LedgerEntry]] = defaultdict(list)
    for row in rows.order_by("revision"):
        by_attempt[row.completion_id, row.attempt].append(row)
    return [_booked(entry, by_attempt.get((entry.completion_id, entry.attempt), ())) for entry in entries]


def _booked(entry: LedgerEntry, corrections: Sequence[LedgerEntry]) -> Booked:
    ends = [place for place, row in enumerate(corrections, 1) if row.kind == LedgerEntry.Kind.RETRACTED]
    end = ends[0] if ends else 0
    next_revision = corrections[-1].revision + 1 if corrections else 1
    if entry.kind == LedgerEntry.Kind.INTERRUPTED:
        return Booked(entry, corrections[:end] if end else corrections, next_revision)
    return Booked(entry, corrections[end:], next_revision)
