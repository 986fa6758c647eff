"""Turns spool lines into rows: total, so that no line which the shipper let pass stops a transaction.

NUL, which PostgreSQL cannot hold, is dropped; `analytics.fields` reads what is strange in other ways.

Rows are plain mappings of column to value, not model instances: those cost five times as much, and
the shipper shares its machine with traffic.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import orjson

from analytics.fields import MAX_SMALLINT, count, real, tags, text, to_json
from analytics.ledger_rows import (
    CACHE_HIT,
    Record,
    Row,
    cost,
    counts,
    interrupted_entry,
    price,
    spent_entries,
    usage_of,
)
from analytics.models import RequestLog
from analytics.prices import PriceBook


def rows(*, done: str, interrupted: str) -> tuple[dict[str, Row], dict[str, list[Row]]]:
    """Return the log row and the ledger rows of spool lines, by completion id.

    A line that comes twice counts once, and `done` beats `interrupted`.
    """
    logs: dict[str, Row] = {}
    entries: dict[str, list[Row]] = {}
    hits: dict[str, Record] = {}
    for record in parse(done):
        if record["id"] not in logs:
            logs[record["id"]] = log_row(record)
            spent = spent_entries(record)
            if spent:
                entries[record["id"]] = spent
            if record.get("cache") == CACHE_HIT and isinstance(record.get("usage"), dict):
                hits[record["id"]] = record
    _price_hits(logs, hits)
    if interrupted:
        cut_off = {record["id"]: record for record in parse(interrupted) if record["id"] not in logs}
        prices = PriceBook(text(record.get("provider"), 60) for record in cut_off.values())
        for completion_id, record in cut_off.items():
            entry = interrupted_entry(record)
            price(entry, prices.rates(entry["provider"], entry["model"], record["at"]))
            entries[completion_id] = [entry]
            logs[completion_id] = interrupted_log_row(record, entry)
    return logs, entries


def _price_hits(logs: Mapping[str, Row], hits: Mapping[str, Record]) -> None:
    """Note what asking the vendor would have cost: by the prices of then, for the usage of then."""
    if not hits:
        return
    prices = PriceBook(text(record.get("provider"), 60) for record in hits.values())
    for completion_id, record in hits.items():
        row = logs[completion_id]
        rates = prices.rates(row["provider"], row["model"], record["at"])
        if rates is not None:
            row["saved_nanousd"] = cost(usage_of(counts(record["usage"])), rates)


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
        "attempts": to_json(attempts if isinstance(attempts, list) else []),
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
        "queue_ms": real(record.get("queue_ms")),
        "saved_nanousd": None,
        "limits": _limits(record.get("limits")),
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
        "attempts": to_json([attempt]),
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
        "queue_ms": None,
        "saved_nanousd": None,
        "limits": None,
    }


def _limits(told: Any) -> str | None:
    """Return the limits that a line tells of; a strange one tells of none."""
    if not isinstance(told, list) or not all(isinstance(each, dict) for each in told):
        return None
    limits = [
        {"limit": text(each.get("limit"), 300), **({"refused": True} if each.get("refused") is True else {})}
        for each in told
    ]
    return to_json(limits) if limits else None


def _who_and_what(record: Record) -> Row:
    return {
        "completion_id": record["id"],
        "request_id": text(record.get("request_id"), 128),
        "at": datetime.fromtimestamp(record["at"], UTC),
        "endpoint": text(record.get("endpoint"), 40),
        "tenant_ref": count(record.get("tenant_id")),
        "key_ref": count(record.get("key_id")),
        "tags": tags(record),
        "requested_model": text(record.get("requested_model"), 200),
        "route": text(record.get("route"), 210),
        "provider": text(record.get("provider"), 60),
        "model": text(record.get("model"), 200),
        "stream": record.get("stream") is True,
    }


def _without_nul(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\0", "")
    if isinstance(value, list):
        return [_without_nul(item) for item in value]
    if isinstance(value, Mapping):
        return {_without_nul(key): _without_nul(item) for key, item in value.items()}
    return value
