"""What tests of the live feed share: finished requests."""

from itertools import count
from typing import Any

from proxy.completion import Completion

_numbers = count(1)


def finished(**fields: Any) -> Completion:
    """Return a request that was answered, but for `fields`."""
    usual = {
        "id": f"done-{next(_numbers)}",
        "request_id": "mine",
        "at": 1_780_000_000.0,
        "endpoint": "chat",
        "status": 200,
        "outcome": "ok",
        "provider": "openai",
        "model": "gpt-4o",
        "requested_model": "fast",
        "latency_ms": 12.34,
    }
    return Completion(**{**usual, **fields})


def failure(**fields: Any) -> Completion:
    """Return one that failed."""
    return finished(**{"status": 502, "outcome": "error", "error_code": "upstream_error", **fields})
