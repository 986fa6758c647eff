"""Reads and writes UsageRollup's rows as plain lists of numbers, many at once."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
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
KEY = ("grain", "starts_at", "tenant_ref", "key_ref", "provider", "model", "tags")

# One statement has at most this many rows.
WRITTEN_AT_ONCE = 2_000

Totals = list[int]


class Slot(NamedTuple):
    """What names a row. `starts_at` is in epoch seconds."""

    grain: int
    starts_at: int
    tenant_ref: int
    key_ref: int
    provider: str
    model: str
    tags: str


def add(sums: Mapping[Slot, Sequence[int]]) -> None:
    """Add to rows, or make them, in the current transaction.

    In the order of their keys, so that two who add to the same rows wait for each other, but never in a ring.
    Sums that no column can hold are logged and let go: a number must not block the records behind it.
    """
    slots = sorted(slot for slot, totals in sums.items() if any(totals))
    for start in range(0, len(slots), WRITTEN_AT_ONCE):
        chunk = slots[start : start + WRITTEN_AT_ONCE]
        try:
            with transaction.atomic():
                _add({slot: sums[slot] for slot in chunk})
        except DataError as problem:
            if len(chunk) == 1:
                log.error("rollup_refused", slot=chunk[0], error=str(problem))
                continue
            for slot in chunk:
                add({slot: sums[slot]})


def read(grains: Collection[int], since: int, until: int) -> dict[Slot, Totals]:
    """Return the rows of slots that begin from one epoch second up to another."""
    span = {"starts_at__gte": moment(since), "starts_at__lt": moment(until)}
    rows = UsageRollup.objects.filter(grain__in=grains, **span)
    found: dict[Slot, Totals] = {}
    for grain, starts_at, *values in rows.values_list(*KEY, *COLUMNS).iterator(chunk_size=2000):
        slot = Slot(grain, int(starts_at.timestamp()), *values[: len(KEY) - 2])
        found[slot] = values[len(KEY) - 2 :]
    return found


def replace(slots: Iterable[Slot], sums: Mapping[Slot, Sequence[int]]) -> None:
    """Make rows of `slots` what `sums` says, none where it says nothing; in the current transaction."""
    for slot in slots:
        named = {**slot._asdict(), "starts_at": moment(slot.starts_at)}
        UsageRollup.objects.filter(**named).delete()
    add({slot: sums[slot] for slot in slots if slot in sums})


def moment(second: int) -> datetime:
    """Return an epoch second as a moment (UTC)."""
    return datetime.fromtimestamp(second, UTC)


def _add(sums: Mapping[Slot, Sequence[int]]) -> None:
    # Most columns of a histogram are nothing but zeros: they are left out of the statement's work.
    added = [(name, numbers) for name, numbers in zip(COLUMNS, zip(*sums.values(), strict=True), strict=True)]
    kept = [(name, _held(numbers)) for name, numbers in added if any(numbers)]
    statement = _statement(connection.vendor, tuple(name for name, _ in kept))
    keys = list(zip(*sums, strict=True))
    grains, starts_at = list(keys[0]), [moment(second) for second in keys[1]]
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            # An array for each column: the statement is the same for any number of rows.
            columns = ["{" + ",".join(map(str, numbers)) + "}" for _, numbers in kept]
            cursor.execute(statement, [grains, starts_at, *map(list, keys[2:]), *columns])
        else:
            moments = map(connection.ops.adapt_datetimefield_value, starts_at)
            rows = zip(grains, moments, *keys[2:], *(numbers for _, numbers in kept), strict=True)
            cursor.executemany(statement, list(rows))


def _held(numbers: Sequence[int]) -> Sequence[int]:
    """Return numbers that a column can hold."""
    if max(numbers) <= MAX_BIGINT and min(numbers) >= -MAX_BIGINT:
        return numbers
    return [min(max(number, -MAX_BIGINT), MAX_BIGINT) for number in numbers]


@lru_cache(maxsize=512)
def _statement(vendor: str, added: Sequence[str]) -> str:
    """Return the statement that adds to these columns, and gives zeros to the others of a new row."""
    table = UsageRollup._meta.db_table
    others = [name for name in COLUMNS if name not in added]
    names = ", ".join((*KEY, *added, *others))
    zeros = ", 0" * len(others)
    sums = ", ".join(f"{name} = {table}.{name} + excluded.{name}" for name in added)
    if vendor == "postgresql":
        keys = ("smallint", "timestamptz", "bigint", "bigint", "text", "text", "text")
        types = (*keys, *["bigint"] * len(added))
        arrays = ", ".join(f"%s::{name}[]" for name in types)
        values = f"SELECT given.*{zeros} FROM unnest({arrays}) AS given"  # noqa: S608 - names of types
    else:
        values = f"VALUES ({', '.join(['%s'] * (len(KEY) + len(added)))}{zeros})"
    return f"INSERT INTO {table} ({names}) {values} ON CONFLICT ({', '.join(KEY)}) DO UPDATE SET {sums}"
