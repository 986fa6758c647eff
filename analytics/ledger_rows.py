"""Spool records to ledger rows: one for each attempt that has cost something.

Rows are plain mappings of column to value, as in `analytics.records`.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from analytics.fields import MAX_BIGINT, MAX_SMALLINT, count, tags, text
from keys.ledger import Booked
from keys.models import LedgerEntry
from providers.pricing import Rates, cost_nanousd
from providers.usage import Usage
from proxy.completion import SHADOW_ROUTE

Record = Mapping[str, Any]
Row = dict[str, Any]

CACHE_HIT = "hit"
# A Usage's counts -> the columns that hold them.
COUNTS: Mapping[str, str] = {name: f"{name}_tokens" for name in Usage._fields if name != "estimated"}


def spent_entries(record: Record) -> list[Row]:
    """Return the ledger rows of a `done` line; none when it cost nothing (no usage, or a cache hit).

    Where several attempts have cost something each says what, and has a row of its own.
    """
    usage = record.get("usage")
    if not isinstance(usage, dict) or record.get("cache") == CACHE_HIT:
        return []
    attempts = record.get("attempts")
    attempts = attempts if isinstance(attempts, list) else []
    charged = [
        (position, attempt)
        for position, attempt in enumerate(attempts[:MAX_SMALLINT])
        if isinstance(attempt, dict) and isinstance(attempt.get("usage"), dict)
    ]
    if not charged:
        return [_spent(record, usage, record, attempt=_answering(attempts))]
    return [_spent(record, attempt["usage"], attempt, attempt=position) for position, attempt in charged]


def interrupted_entry(record: Record) -> Row:
    """Return the ledger row of an `open` line whose process died: its estimate, not yet priced."""
    estimate = record.get("estimate")
    return {
        **_whose(record, record),
        **counts(estimate if isinstance(estimate, dict) else {}),
        "attempt": 0,
        "kind": LedgerEntry.Kind.INTERRUPTED.value,
        "estimated": True,
        "price_ref": None,
        "cost_nanousd": None,
    }


def price(entry: Row, rates: Rates | None) -> None:
    """Set what `entry` costs at `rates`; without rates it stays unknown, which is not 0."""
    if rates is not None:
        entry["price_ref"] = rates.price_id
        entry["cost_nanousd"] = cost(usage_of(entry), rates)


def cost(usage: Usage, rates: Rates) -> int:
    """Return what `usage` costs, or the most that a column can hold."""
    return min(cost_nanousd(usage, rates), MAX_BIGINT)


def usage_of(entry: Mapping[str, Any]) -> Usage:
    """Return the token counts of a ledger row (column to value)."""
    return Usage(**{name: entry[column] for name, column in COUNTS.items()})


def retracting(found: Booked) -> Row:
    """Return the row that takes an estimate back, and whatever has corrected it since.

    Its tokens and its cost are the negative of theirs, so that every sum is as if they had never been.
    """
    rows, cost_so_far = (found.entry, *found.corrections), found.cost_nanousd
    return {
        **_correcting(found),
        **{column: -sum(getattr(row, column) for row in rows) for column in COUNTS.values()},
        "kind": LedgerEntry.Kind.RETRACTED.value,
        "price_ref": rows[-1].price_ref,
        "cost_nanousd": None if cost_so_far is None else -cost_so_far,
        "rerating_ref": None,
    }


def adjusting(found: Booked, *, price_ref: int, difference: int, rerating: int) -> Row:
    """Return the row that adds `difference` to an entry's cost. It has no tokens: the entry has them."""
    return {
        **_correcting(found),
        **dict.fromkeys(COUNTS.values(), 0),
        "kind": LedgerEntry.Kind.ADJUSTED.value,
        "price_ref": price_ref,
        "cost_nanousd": difference,
        "rerating_ref": rerating,
    }


def _correcting(found: Booked) -> Row:
    entry = found.entry
    copied = (
        *("completion_id", "attempt", "at", "tenant_ref", "key_ref", "provider", "model", "requested_model"),
        *("estimated", "own_credential", "shadow"),
    )
    return {
        **{column: getattr(entry, column) for column in copied},
        "tags": tags({"tags": entry.tags}),
        "revision": found.next_revision,
    }


def is_shadow(record: Mapping[str, Any]) -> bool:
    """Is it the record of what nobody asked for? It is in nobody's budget."""
    return text(record.get("route"), 210).startswith(SHADOW_ROUTE)


def _spent(record: Record, usage: Mapping[str, Any], charged: Record, *, attempt: int) -> Row:
    """Return the row of what an attempt has cost. `charged` says of which model, at what price, how much."""
    return {
        **_whose(record, charged),
        **counts(usage),
        "attempt": attempt,
        "kind": (LedgerEntry.Kind.SHADOW if is_shadow(record) else LedgerEntry.Kind.SPENT).value,
        "estimated": usage.get("estimated") is True,
        "price_ref": count(charged.get("price_id")),
        "cost_nanousd": count(charged.get("cost_nanousd")),
    }


def _whose(record: Record, charged: Record) -> Row:
    return {
        "completion_id": record["id"],
        "at": datetime.fromtimestamp(record["at"], UTC),
        "revision": 0,
        "tenant_ref": count(record.get("tenant_id")),
        "key_ref": count(record.get("key_id")),
        "provider": text(charged.get("provider"), 60),
        "model": text(charged.get("model"), 200),
        # What its key makes of a request is what budgets hold it for.
        "requested_model": text(record.get("forced_model") or record.get("requested_model"), 200),
        "tags": tags(record),
        # Of one attempt the caller's own key may have paid, of the next one ours.
        "own_credential": charged.get("own_credential", record.get("own_credential")) is True,
        "shadow": is_shadow(record),
        "rerating_ref": None,
    }


def counts(usage: Mapping[str, Any]) -> Row:
    """Return the columns of a usage as a spool line has it."""
    return {column: count(usage.get(name)) or 0 for name, column in COUNTS.items()}


def _answering(attempts: Sequence[Any]) -> int:
    """Return the position of the attempt that answered: the last that went well, else the last."""
    for position in range(len(attempts) - 1, -1, -1):
        attempt = attempts[position]
        if isinstance(attempt, dict) and attempt.get("outcome") == "ok":
            return min(position, MAX_SMALLINT)
    return min(max(len(attempts) - 1, 0), MAX_SMALLINT)
