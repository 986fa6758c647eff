"""Reads the log's and the ledger's rows as `analytics.rollups` takes them."""

from collections.abc import Iterator, Mapping
from typing import Any

from django.db.models import QuerySet, TextField
from django.db.models.functions import Cast

from analytics.fields import tags
from analytics.models import RequestLog
from keys.models import LedgerEntry

Row = Mapping[str, Any]

_LOGGED = (
    *("at", "tenant_ref", "key_ref", "provider", "model", "status", "outcome", "stream", "cache"),
    *("prompt_tokens", "completion_tokens", "cached_tokens", "cache_write_tokens", "reasoning_tokens"),
    *("latency_ms", "ttft_ms", "saved_nanousd"),
)
_BOOKED = (
    *("at", "tenant_ref", "key_ref", "provider", "model", "kind", "cost_nanousd"),
    *("shadow", "own_credential"),
)
READ_AT_ONCE = 5_000


def logs(rows: QuerySet[RequestLog]) -> Iterator[Row]:
    """Yield rows of the log, column to value; what is JSON as text."""
    texts = {name: Cast(name, TextField()) for name in ("tags", "attempts")}
    return _read(rows, _LOGGED, texts)


def entries(rows: QuerySet[LedgerEntry]) -> Iterator[Row]:
    """Yield rows of the ledger likewise."""
    return _read(rows, _BOOKED, {"tags": Cast("tags", TextField())})


def entry_row(entry: LedgerEntry) -> Row:
    """Return one row of the ledger likewise."""
    return {**{name: getattr(entry, name) for name in _BOOKED}, "tags": tags({"tags": entry.tags})}


def _read(rows: QuerySet[Any], columns: tuple[str, ...], texts: Mapping[str, Cast]) -> Iterator[Row]:
    # Under other names: an annotation may not be called what a column is called.
    renamed = {f"{name}_text": text for name, text in texts.items()}
    names = (*columns, *texts)
    for values in (
        rows.order_by().annotate(**renamed).values_list(*columns, *renamed).iterator(chunk_size=READ_AT_ONCE)
    ):
        yield dict(zip(names, values, strict=True))
