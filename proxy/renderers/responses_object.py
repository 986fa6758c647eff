"""The response object around an output: what was asked, how it ended, what it cost.

https://platform.openai.com/docs/api-reference/responses/object
"""

from collections.abc import Mapping, Sequence
from typing import Any

from providers.canonical import CONTENT_FILTER, LENGTH
from providers.usage import Usage
from proxy.completion import Completion

IN_PROGRESS, COMPLETED, INCOMPLETE = "in_progress", "completed", "incomplete"
_REASONS = {LENGTH: "max_output_tokens", CONTENT_FILTER: "content_filter"}
# What the answer repeats of the request, and what it says where nothing was asked.
_ECHOED: Mapping[str, Any] = {
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "prompt_cache_key": None,
    "safety_identifier": None,
    "temperature": 1.0,
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "user": None,
}


def status_of(finish_reason: str) -> str:
    """Return the status of a response that ended for a canonical reason."""
    return INCOMPLETE if finish_reason in _REASONS else COMPLETED


def response_object(
    completion: Completion,
    sent: Mapping[str, Any],
    *,
    output: Sequence[Mapping[str, Any]] = (),
    finish_reason: str | None = None,
    usage: Usage | None = None,
) -> dict[str, Any]:
    """Return a response; without a finish reason, one that has just begun. It is stored nowhere."""
    reason = _REASONS.get(finish_reason or "")
    text, reasoning = sent.get("text"), sent.get("reasoning")
    return {
        "id": f"resp_{completion.id}",
        "object": "response",
        "created_at": int(completion.at),
        "status": IN_PROGRESS if finish_reason is None else status_of(finish_reason),
        "background": False,
        "error": None,
        "incomplete_details": None if reason is None else {"reason": reason},
        "model": completion.model,
        "output": output,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None, **(reasoning or {})},
        "service_tier": "default",
        "store": False,
        "text": {"format": {"type": "text"}, **(text or {})},
        "truncation": "disabled",
        **{name: usual if sent.get(name) is None else sent[name] for name, usual in _ECHOED.items()},
        "usage": None if usage is None else usage_object(usage),
    }


def usage_object(usage: Usage) -> dict[str, Any]:
    """Return token counts as responses have them."""
    return {
        "input_tokens": usage.prompt,
        "input_tokens_details": {"cached_tokens": usage.cached, "cache_write_tokens": usage.cache_write},
        "output_tokens": usage.completion,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.total,
    }
