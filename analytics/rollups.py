"""Adds what is booked to UsageRollup, in the transaction that books it.

    sums = Sums.of(logs, entries)      # one pass over a segment's rows, in Python
    ...
    sums.write()                       # two statements

Requests, tokens and times come from rows of the log, money from rows of the ledger, each by its own upstream,
key and tags. What is taken off the log again is taken off here as well: `log(row, sign=-1)`.
"""

from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from operator import add
from typing import Any

import orjson

from analytics import rollup_rows
from analytics.models import RequestLog, UsageRollup
from analytics.rollup_models import EDGES_MS
from analytics.rollup_rows import COLUMNS, DAY_S, HOUR_S, LATENCY, TTFT, Slot, Totals
from keys.calendar import zone_of
from keys.models import LedgerEntry, Tenant

Row = Mapping[str, Any]

QUARTER_S = 900
HOUR, DAY = UsageRollup.Grain.HOUR.value, UsageRollup.Grain.DAY.value
_FAILED = frozenset({RequestLog.Outcome.ERROR.value, RequestLog.Outcome.INTERRUPTED.value})
_OK, _CANCELLED = RequestLog.Outcome.OK.value, RequestLog.Outcome.CANCELLED.value
_AT = {name: place for place, name in enumerate(COLUMNS)}
# Places in a row of sums.
REQUESTS, ERRORS, REFUSED, LIMITED = (_AT[name] for name in ("requests", "errors", "refused", "limited"))
CANCELLED, STREAMS, HITS, MISSES = (_AT[name] for name in ("cancelled", "streams", "hits", "misses"))
ATTEMPTS, SAVED = _AT["attempts"], _AT["saved_nanousd"]
COST, UNBILLED, UNPRICED = (_AT[name] for name in ("cost_nanousd", "unbilled_nanousd", "unpriced"))
_TOKENS = tuple(
    (name, _AT[name])
    for name in (
        *("prompt_tokens", "completion_tokens", "cached_tokens", "cache_write_tokens"),
        "reasoning_tokens",
    )
)


class Sums:
    """What rows of the log and the ledger add to slots of an hour."""

    def __init__(self, zones: Mapping[int, str]) -> None:
        """Begin with nothing. `zones`: of tenants whose time zone is not UTC; it says how long a slot is."""
        self._zones = zones
        self.slots: dict[Slot, Totals] = {}

    @classmethod
    def of(cls, logs: Iterable[Row], entries: Iterable[Row]) -> "Sums":
        """Return what such rows (column to value) add."""
        logs, entries = list(logs), list(entries)
        sums = cls(zones({row["tenant_ref"] for rows in (logs, entries) for row in rows} - {None}))
        for row in logs:
            sums.log(row)
        for row in entries:
            sums.entry(row)
        return sums

    def log(self, row: Row, sign: int = 1) -> None:
        """Add a row of the log; with `sign` -1, take it off."""
        slot = self._slot(row)
        sums = self._at(slot)
        sums[REQUESTS] += sign
        if row["outcome"] != _OK:
            _failed(sums, row, sign)
        else:
            sums[LATENCY + bisect_left(EDGES_MS, row["latency_ms"])] += sign
            if row["ttft_ms"] is not None:
                sums[TTFT + bisect_left(EDGES_MS, row["ttft_ms"])] += sign
        if row["stream"]:
            sums[STREAMS] += sign
        if row["cache"] == "miss":
            sums[MISSES] += sign
        elif row["cache"] == "hit":
            sums[HITS] += sign
            sums[SAVED] += sign * (row.get("saved_nanousd") or 0)
        for name, place in _TOKENS:
            if count := row[name]:
                sums[place] += sign * count
        self._tries(slot, row["attempts"], sign)

    def entry(self, row: Row) -> None:
        """Add a row of the ledger, a correction or not."""
        sums = self._at(self._slot(row))
        cost = row["cost_nanousd"]
        if cost is None:
            # A price that nobody knew for an estimate is taken back with it.
            sums[UNPRICED] += -1 if row["kind"] == LedgerEntry.Kind.RETRACTED else 1
            return
        sums[COST] += cost
        if row["shadow"] or row["own_credential"]:
            sums[UNBILLED] += cost

    def priced(self, row: Row) -> None:
        """Say that a correction gives an entry the price that it had not had."""
        self._at(self._slot(row))[UNPRICED] -= 1

    def write(self) -> None:
        """Add all of it to the rows of every grain, in the current transaction."""
        rollup_rows.add({**self.slots, **by_day(self.slots)})
        # Apart, and after them: these are everybody's, and who has added to one is waited for.
        together = wide(self.slots)
        rollup_rows.add({**together, **by_day(together)})

    def _tries(self, slot: Slot, attempts: str, sign: int) -> None:
        """Count each attempt in the row of its own upstream."""
        for provider, model in _upstreams(attempts):
            same = provider == slot.provider and model == slot.model
            self._at(slot if same else slot._replace(provider=provider, model=model))[ATTEMPTS] += sign

    def _at(self, slot: Slot) -> Totals:
        found = self.slots.get(slot)
        if found is None:
            found = self.slots[slot] = [0] * len(COLUMNS)
        return found

    def _slot(self, row: Row) -> Slot:
        tenant, at = row["tenant_ref"] or 0, row["at"]
        second = int(at.timestamp())
        zone = self._zones.get(tenant, "UTC")
        width = HOUR_S if zone == "UTC" else width_s(zone, at.year)
        tags = row["tags"]
        return Slot(
            HOUR,
            second - second % width,
            tenant,
            row["key_ref"] or 0,
            row["provider"],
            row["model"],
            _sorted(tags) if tags else "",
        )


def zones(tenants: Collection[int] | None = None) -> dict[int, str]:
    """Return the time zones of tenants (None: of all), but for UTC."""
    rows = Tenant.objects.exclude(timezone="UTC")
    if tenants is not None:
        if not tenants:
            return {}
        rows = rows.filter(pk__in=tenants)
    return dict(rows.order_by().values_list("pk", "timezone"))


def _failed(sums: Totals, row: Row, sign: int) -> None:
    if row["outcome"] == _CANCELLED:
        sums[CANCELLED] += sign
    elif row["outcome"] in _FAILED:
        sums[ERRORS] += sign
        if 400 <= row["status"] < 500:
            sums[REFUSED] += sign
        if row["status"] == 429:
            sums[LIMITED] += sign


def by_day(slots: Mapping[Slot, Totals]) -> dict[Slot, Totals]:
    """Return slots of hours, wide or not, as slots of days (UTC)."""
    days: dict[Slot, Totals] = {}
    for slot, sums in slots.items():
        midnight = slot.starts_at - slot.starts_at % DAY_S
        _join(days, slot._replace(grain=slot.grain - HOUR + DAY, starts_at=midnight), sums)
    return days


def wide(slots: Mapping[Slot, Totals]) -> dict[Slot, Totals]:
    """Return the wide sums that sums of callers come to: of each tenant, and of each model."""
    found: dict[Slot, Totals] = {}
    for slot, sums in slots.items():
        grain = UsageRollup.Grain(slot.grain)
        _join(found, Slot(grain.of_tenants.value, slot.starts_at, slot.tenant_ref, 0, "", "", ""), sums)
        _join(found, Slot(grain.of_models.value, slot.starts_at, 0, 0, slot.provider, slot.model, ""), sums)
    return found


def _join(found: dict[Slot, Totals], slot: Slot, sums: Totals) -> None:
    known = found.get(slot)
    found[slot] = list(sums) if known is None else list(map(add, known, sums))


@lru_cache(maxsize=4096)
def width_s(zone: str, year: int) -> int:
    """Return how long slots of that zone are: quarters where its clocks are off by a part of an hour.

    All year, if they are for a part of it: an hour of Lord Howe's summer is none of its winter.
    """
    clock = zone_of(zone)
    months = (datetime(around, month, 1, tzinfo=UTC) for around in _around(year) for month in range(1, 13))
    offsets = (month.astimezone(clock).utcoffset() for month in months)
    return QUARTER_S if any(offset and offset.total_seconds() % HOUR_S for offset in offsets) else HOUR_S


def _around(year: int) -> Iterator[int]:
    yield from (near for near in (year - 1, year, year + 1) if 1 < near < 9999)


@lru_cache(maxsize=4096)
def _sorted(tags: str) -> str:
    """Return tags as UsageRollup has them: one text for one set of tags."""
    found = orjson.loads(tags)
    return orjson.dumps(found, option=orjson.OPT_SORT_KEYS).decode() if found else ""


def _upstreams(attempts: str) -> Iterator[tuple[str, str]]:
    """Yield provider and model of each try in a log row's attempts (JSON)."""
    if attempts == "[]":
        return
    for attempt in orjson.loads(attempts):
        if isinstance(attempt, dict):
            provider, model = attempt.get("provider"), attempt.get("model")
            if isinstance(provider, str) and isinstance(model, str):
                yield provider[:60], model[:200]
