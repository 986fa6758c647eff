"""Segments as `proxy/spool.py` leaves them, written by hand."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import orjson

from providers.usage import Usage
from proxy.completion import Attempt, Completion

BOOT = "0123456789"


def completion(completion_id: str, **fields: Any) -> Completion:
    """An answered chat of key 1 in tenant 1 that cost 42 microdollars."""
    return Completion(
        **{
            "id": completion_id,
            "request_id": f"req-{completion_id}",
            "at": 1_790_000_000.25,
            "endpoint": "chat/completions",
            "key_id": 1,
            "tenant_id": 1,
            "requested_model": "gpt-4o",
            "route": "prefix:gpt-4o",
            "provider": "openai",
            "model": "gpt-4o",
            "status": 200,
            "outcome": "ok",
            "cache": "miss",
            "attempts": [Attempt("openai", "gpt-4o", 0.2, 11.5, 200, "ok")],
            "usage": Usage(prompt=100, completion=20),
            "price_id": 7,
            "cost_nanousd": 42_000,
            "latency_ms": 12.5,
            **fields,
        }
    )


def done(completion_id: str, **fields: Any) -> bytes:
    """Its `done` line."""
    return completion(completion_id, **fields).done_line()


def opened(completion_id: str, *, estimate: Usage | None = None, **fields: Any) -> bytes:
    """The `open` line of a call to openai/gpt-4o."""
    estimate = estimate or Usage(prompt=1000, completion=500, estimated=True)
    line = completion(completion_id, **fields).open_line(provider="openai", model="gpt-4o", prompt_estimate=0)
    record = {**orjson.loads(line), "estimate": estimate.to_json()}
    return orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)


def write(
    directory: Path, sequence: int, lines: Iterable[bytes], *, boot: str = BOOT, suffix: str = ".seg"
) -> Path:
    """Put a segment into the spool at once, as a rename does."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{boot}-0-{sequence:08d}{suffix}"
    hidden = path.with_suffix(".hidden")
    hidden.write_bytes(b"".join(lines))
    hidden.rename(path)
    return path


def text(*lines: bytes) -> str:
    """Lines as a Shipment carries them."""
    return b"".join(lines).decode().rstrip("\n")
