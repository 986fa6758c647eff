"""Turns spool lines into rows: total, so that no line which the shipper let pass stops a transaction.

A field of the wrong type becomes empty, a text that is too long is cut, and NUL, which PostgreSQL
cannot hold, is dropped: a strange field must not cost a record its money.

Rows are plain mappings of column to value, not model instances: those cost five times as much, and
the shipper shares its machine with traffic.
"""

import math
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import orjson

from analytics.models import RequestLog
from analytics.prices import PriceBook
from keys.models import LedgerEntry
from providers.pricing import Rates, cost_nanousd
from providers.usage import Usage
from proxy.completion import SHADOW_ROUTE

Record = Mapping[str, Any]
Row = dict[str, Any]

MAX_BIGINT = 2**63 - 1
MAX_SMALLINT = 32_767
CACHE_HIT = "hit"


def rows(*, done: str, interrupted: str) -> tuple[dict[str, Row], dict[str, Row]]:
    """Return the log rows and the ledger rows of spool lines, by completion id.

    A line that comes twice counts once, and `done` beats `interrupted`.
    """
    logs: dict[str, Row] = {}
    entries: dict[str, Row] = {}
    for record in parse(done):
        if record["id"] not in logs:
            logs[record["id"]] = log_row(record)
            entry = spent_entry(record)
            if entry is not None:
                entries[record["id"]] = entry
    if interrupted:
        cut_off = {record["id"]: record for record in parse(interrupted) if record["id"] not in logs}
        prices = PriceBook(text(record.get("provider"), 60) for record in cut_off.values())
        for completion_id, record in cut_off.items():
            entry = interrupted_entry(record)
            price(entry, prices.rates(entry["provider"], entry["model"], record["at"]))
            entries[completion_id] = entry
            logs[completion_id] = interrupted_log_row(record, entry)
    return logs, entries


def parse(lines: str) -> Iterator[Record]:
    """Yield the records of newline-joined spool lines."""
    for line in lines.split("\n"):
        if line:
            record = orjson.loads(line)
            yield _without_nul(record) if "\\u0000" in line else record


def log_row(record: Record) -> Row:
    """Return the log row of a `done` line."""
    usage = record.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    attempts = record.get("attempts")
    return {
        **_who_and_what(record),
        "status": min(count(record.get("status")) or 0, MAX_SMALLINT),
        "outcome": text(record.get("outcome"), 12),
        "error_code": text(record.get("error_code"), 60),
        "cache": text(record.get("cache"), 8),
        "attempts": _json(attempts if isinstance(attempts, list) else []),
        "prompt_tokens": count(usage.get("prompt")),
        "completion_tokens": count(usage.get("completion")),
        "cached_tokens": count(usage.get("cached")),
        "cache_write_tokens": count(usage.get("cache_write")),
        "reasoning_tokens": count(usage.get("reasoning")),
        "usage_estimated": usage.get("estimated") is True,
        "cost_nanousd": count(record.get("cost_nanousd")),
        "latency_ms": real(record.get("latency_ms")) or 0.0,
        "ttft_ms": real(record.get("ttft_ms")),
        "overhead_ms": real(record.get("overhead_ms")),
    }


def spent_entry(record: Record) -> Row | None:
    """Return the ledger row of a `done` line; None when it cost nothing (no usage, or a cache hit)."""
    usage = record.get("usage")
    if not isinstance(usage, dict) or record.get("cache") == CACHE_HIT:
        return None
    return {
        **_whose_tokens(record, usage),
        "attempt": _answering(record.get("attempts")),
        "kind": (LedgerEntry.Kind.SHADOW if is_shadow(record) else LedgerEntry.Kind.SPENT).value,
        "estimated": usage.get("estimated") is True,
        "price_ref": count(record.get("price_id")),
        "cost_nanousd": count(record.get("cost_nanousd")),
    }


def interrupted_entry(record: Record) -> Row:
    """Return the ledger row of an `open` line whose process died: its estimate, not yet priced."""
    estimate = record.get("estimate")
    return {
        **_whose_tokens(record, estimate if isinstance(estimate, dict) else {}),
        "attempt": 0,
        "kind": LedgerEntry.Kind.INTERRUPTED.value,
        "estimated": True,
        "price_ref": None,
        "cost_nanousd": None,
    }


def interrupted_log_row(record: Record, entry: Row) -> Row:
    """Return the log row of an `open` line whose process died. Status 0: none is known to have been sent."""
    attempt = {
        "provider": entry["provider"],
        "model": entry["model"],
        "outcome": "interrupted",
        "status": None,
    }
    return {
        **_who_and_what(record),
        "status": 0,
        "outcome": RequestLog.Outcome.INTERRUPTED.value,
        "error_code": "interrupted",
        "cache": "",
        "attempts": _json([attempt]),
        "prompt_tokens": entry["prompt_tokens"],
        "completion_tokens": entry["completion_tokens"],
        "cached_tokens": entry["cached_tokens"],
        "cache_write_tokens": entry["cache_write_tokens"],
        "reasoning_tokens": entry["reasoning_tokens"],
        "usage_estimated": True,
        "cost_nanousd": entry["cost_nanousd"],
        "latency_ms": 0.0,
        "ttft_ms": None,
        "overhead_ms": None,
    }


def is_shadow(record: Mapping[str, Any]) -> bool:
    """Is it the record, or the log row, of what nobody asked for? It is in nobody's budget."""
    return text(record.get("route"), 210).startswith(SHADOW_ROUTE)


def price(entry: Row, rates: Rates | None) -> None:
    """Set what `entry` costs at `rates`; without rates it stays unknown, which is not 0."""
    if rates is None:
        return
    usage = Usage(
        prompt=entry["prompt_tokens"],
        completion=entry["completion_tokens"],
        cached=entry["cached_tokens"],
        cache_write=entry["cache_write_tokens"],
        reasoning=entry["reasoning_tokens"],
    )
    entry["price_ref"] = rates.price_id
    entry["cost_nanousd"] = min(cost_nanousd(usage, rates), MAX_BIGINT)


def text(value: Any, limit: int) -> str:
    """Return a text of at most `limit` characters; anything else is empty."""
    return value[:limit] if isinstance(value, str) else ""


def count(value: Any) -> int | None:
    """Return a whole number that a column can hold, or None."""
    return value if isinstance(value, int) and value is not True and 0 <= value <= MAX_BIGINT else None


def real(value: Any) -> float | None:
    """Return a finite number, or None."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _who_and_what(record: Record) -> Row:
    return {
        "completion_id": record["id"],
        "request_id": text(record.get("request_id"), 128),
        "at": datetime.fromtimestamp(record["at"], UTC),
        "endpoint": text(record.get("endpoint"), 40),
        "tenant_ref": count(record.get("tenant_id")),
        "key_ref": count(record.get("key_id")),
        "requested_model": text(record.get("requested_model"), 200),
        "route": text(record.get("route"), 210),
        "provider": text(record.get("provider"), 60),
        "model": text(record.get("model"), 200),
        "stream": record.get("stream") is True,
    }


def _whose_tokens(record: Record, usage: Mapping[str, Any]) -> Row:
    return {
        "completion_id": record["id"],
        "at": datetime.fromtimestamp(record["at"], UTC),
        "tenant_ref": count(record.get("tenant_id")),
        "key_ref": count(record.get("key_id")),
        "provider": text(record.get("provider"), 60),
        "model": text(record.get("model"), 200),
        "requested_model": text(record.get("requested_model"), 200),
        "prompt_tokens": count(usage.get("prompt")) or 0,
        "completion_tokens": count(usage.get("completion")) or 0,
        "cached_tokens": count(usage.get("cached")) or 0,
        "cache_write_tokens": count(usage.get("cache_write")) or 0,
        "reasoning_tokens": count(usage.get("reasoning")) or 0,
    }


def _answering(attempts: Any) -> int:
    """Return the position of the attempt that answered: the last that went well, else the last."""
    if not isinstance(attempts, list):
        return 0
    for position in range(len(attempts) - 1, -1, -1):
        attempt = attempts[position]
        if isinstance(attempt, dict) and attempt.get("outcome") == "ok":
            return min(position, MAX_SMALLINT)
    return min(max(len(attempts) - 1, 0), MAX_SMALLINT)


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()


def _without_nul(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\0", "")
    if isinstance(value, list):
        return [_without_nul(item) for item in value]
    if isinstance(value, dict):
        return {_without_nul(key): _without_nul(item) for key, item in value.items()}
    return value
