"""What a viewer is told of one finished request."""

from collections.abc import Mapping
from typing import Any

from config.money import usd
from proxy.completion import Completion

NOBODY = 0  # stands for a request of no tenant, as in the rollups


def event_of(completion: Completion) -> dict[str, Any]:
    """Return what goes over the channel layer. No text of anybody's, and no secret: of the key its prefix.

    `cost_usd` is a decimal string; None: unknown. Times are milliseconds, `at` epoch seconds.
    """
    usage, cost = completion.usage, completion.cost_nanousd
    return {
        "id": completion.id,
        "request_id": completion.request_id,
        "at": completion.at,
        "endpoint": completion.endpoint,
        "tenant_id": completion.tenant_id or NOBODY,
        "key_id": completion.key_id or NOBODY,
        "key": completion.key_prefix,
        "requested_model": completion.requested_model,
        "provider": completion.provider,
        "model": completion.model,
        "status": completion.status,
        "outcome": completion.outcome,
        "error_code": completion.error_code,
        "stream": completion.stream,
        "cache": completion.cache,
        "attempts": len(completion.attempts),
        "prompt_tokens": None if usage is None else usage.prompt,
        "completion_tokens": None if usage is None else usage.completion,
        "cost_usd": None if cost is None else usd(cost),
        "latency_ms": round(completion.latency_ms, 1),
        "ttft_ms": None if completion.ttft_ms is None else round(completion.ttft_ms, 1),
    }


def failed(event: Mapping[str, Any]) -> bool:
    """Did it end otherwise than with an answer?"""
    return bool(event["outcome"] != "ok")
