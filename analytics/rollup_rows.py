"""Reads and writes UsageRollup's rows as plain lists of numbers, many at once."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import NamedTuple

import structlog
from django.db import DataError, connection, transaction

from analytics.fields import MAX_BIGINT
from analytics.models import UsageRollup
from analytics.rollup_models import LATENCY_COLUMNS, TTFT_COLUMNS

log = structlog.get_logger()

HOUR_S, DAY_S = 3600, 86_400
# From rows of the log, and from rows of the ledger.
LOGGED = (
    *("requests", "errors", "refused", "limited", "cancelled", "streams", "hits", "misses", "attempts"),
    *("prompt_tokens", "completion_tokens", "cached_tokens", "cache_write_tokens", "reasoning_tokens"),
    *("saved_nanousd", *LATENCY_COLUMNS, *TTFT_COLUMNS),
)
BOOKED = ("cost_nanousd", "unbilled_nanousd", "unpriced")
COLUMNS = (*LOGGED, *BOOKED)
LATENCY, TTFT = COLUMNS.index(LATENCY_COLUMNS[0]), COLUMNS.index(TTFT_COLUMNS[0])
KEY = ("starts_at", "tenant_ref", "key_ref", "provider", "model", "tags")

# One statement has at most this many rows.
WRITTEN_AT_ONCE = 2_000

Totals = list[int]


class Slot(NamedTuple):
    """What names a row of one grain. `starts_at` is in epoch seconds."""

    starts_at: int
    tenant_ref: int
    key_ref: int
    provider: str
    model: str
    tags: str


def add(grain: UsageRollup.Grain, sums: Mapping[Slot, Sequence[int]]) -> None:
    """Add to rows, or make them, in the current transaction.

    In the order of their keys, so that two who add to the same rows wait for each other, but never in a ring.
    Sums that no column can hold are logged and let go: a number must not block the records behind it.
    """
    slots = sorted(slot for slot, totals in sums.items() if any(totals))
    for start in range(0, len(slots), WRITTEN_AT_ONCE):
        chunk = slots[start : start + WRITTEN_AT_ONCE]
        try:
            with transaction.atomic():
                _add(grain, {slot: sums[slot] for slot in chunk})
        except DataError as problem:
            if len(chunk) == 1:
                log.error("rollup_refused", slot=chunk[0], error=str(problem))
                continue
            for slot in chunk:
                add(grain, {slot: sums[slot]})


def read(grain: UsageRollup.Grain, since: int, until: int) -> dict[Slot, Totals]:
    """Return the rows of slots that begin from one epoch second up to another."""
    rows = UsageRollup.objects.filter(grain=grain, starts_at__gte=moment(since), starts_at__lt=moment(until))
    found: dict[Slot, Totals] = {}
    for starts_at, *values in rows.values_list(*KEY, *COLUMNS).iterator(chunk_size=2000):
        slot = Slot(int(starts_at.timestamp()), *values[: len(KEY) - 1])
        found[slot] = values[len(KEY) - 1 :]
    return found


def replace(grain: UsageRollup.Grain, slots: Iterable[Slot], sums: Mapping[Slot, Sequence[int]]) -> None:
    """Make rows of `slots` what `sums` says, none where it says nothing; in the current transaction."""
    for slot in slots:
        named = {**slot._asdict(), "starts_at": moment(slot.starts_at)}
        UsageRollup.objects.filter(grain=grain, **named).delete()
    add(grain, {slot: sums[slot] for slot in slots if slot in sums})


def moment(second: int) -> datetime:
    """Return an epoch second as a moment (UTC)."""
    return datetime.fromtimestamp(second, UTC)


def _add(grain: UsageRollup.Grain, sums: Mapping[Slot, Sequence[int]]) -> None:
    statement = _statement(connection.vendor)
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            # An array for each column: the statement is the same for any number of rows.
            keys = list(zip(*sums, strict=True))
            starts_at = [moment(second) for second in keys[0]]
            columns = [_array(column) for column in zip(*sums.values(), strict=True)]
            cursor.execute(statement, [grain.value, starts_at, *map(list, keys[1:]), *columns])
        else:
            cursor.executemany(
                statement,
                [
                    (
                        grain.value,
                        connection.ops.adapt_datetimefield_value(moment(slot[0])),
                        *slot[1:],
                        *map(_held, totals),
                    )
                    for slot, totals in sums.items()
                ],
            )


def _array(numbers: Sequence[int]) -> str:
    """Return an array as PostgreSQL writes it; most columns of a histogram are nothing but zeros."""
    return "{" + ",".join(map(str, map(_held, numbers))) + "}"


def _held(number: int) -> int:
    return min(max(number, -MAX_BIGINT), MAX_BIGINT)


@cache
def _statement(vendor: str) -> str:
    table = UsageRollup._meta.db_table
    names = ("grain", *KEY, *COLUMNS)
    sums = ", ".join(f"{name} = {table}.{name} + excluded.{name}" for name in COLUMNS)
    if vendor == "postgresql":
        types = ("timestamptz", "bigint", "bigint", "text", "text", "text", *["bigint"] * len(COLUMNS))
        arrays = ", ".join(f"%s::{name}[]" for name in types)
        values = f"SELECT %s, * FROM unnest({arrays})"  # noqa: S608 - names of types
    else:
        values = f"VALUES ({', '.join(['%s'] * len(names))})"
    return (
        f"INSERT INTO {table} ({', '.join(names)}) {values} "
        f"ON CONFLICT (grain, {', '.join(KEY)}) DO UPDATE SET {sums}"
    )
