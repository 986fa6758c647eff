"""A canonical answer in Anthropic's words: its blocks, its stop reason, its usage."""

from collections.abc import Mapping
from typing import Any

import orjson

from providers import canonical
from providers.usage import Usage

Block = dict[str, Any]
_STOP_REASONS = {
    canonical.STOP: "end_turn",
    canonical.LENGTH: "max_tokens",
    canonical.TOOL_CALLS: "tool_use",
    "function_call": "tool_use",
    canonical.CONTENT_FILTER: "refusal",
}


def blocks_of(message: Mapping[str, Any], completion_id: str) -> list[Block]:
    """Return the content blocks of a whole canonical message: thoughts, words, tool calls."""
    blocks = _thoughts(message)
    texts = (canonical.text_in(message.get("content")), message.get("refusal"))
    blocks += [{"type": "text", "text": text} for text in texts if isinstance(text, str) and text]
    calls = message.get("tool_calls") or []
    if message.get("function_call"):  # what OpenAI had before tools; some servers still do
        calls = [*calls, {"function": message["function_call"]}]
    for place, call in enumerate(calls):
        function = call.get("function") or {}
        blocks.append(
            {
                "type": "tool_use",
                "id": call.get("id") or made_id(completion_id, place),
                "name": function.get("name") or "",
                "input": _input_of(function.get("arguments")),
            }
        )
    return blocks


def made_id(completion_id: str, place: int) -> str:
    """Return the id of a tool call that the vendor gave none."""
    return f"toolu_{completion_id}_{place}"


def thought_block(block: Mapping[str, Any]) -> Block:
    """Return one of the canonical `thinking_blocks` as Anthropic's block."""
    if block.get("type") == "redacted_thinking":
        return {"type": "redacted_thinking", "data": str(block.get("data") or "")}
    text, signature = str(block.get("thinking") or ""), str(block.get("signature") or "")
    return {"type": "thinking", "thinking": text, "signature": signature}


def stop_reason_of(reason: str, *, uses_tools: bool) -> str:
    """Return Anthropic's stop reason for OpenAI's finish reason."""
    if uses_tools and reason == canonical.STOP:  # of servers that end tool calls like any answer
        return "tool_use"
    return _STOP_REASONS.get(reason, "end_turn")


def usage_of(usage: Usage) -> dict[str, Any]:
    """Return Anthropic's usage: what was read from or written to a cache is no part of the input."""
    counts: dict[str, Any] = {
        "input_tokens": max(usage.prompt - usage.cached - usage.cache_write, 0),
        "cache_creation_input_tokens": usage.cache_write,
        "cache_read_input_tokens": usage.cached,
        "output_tokens": usage.completion,
    }
    if usage.cache_write_1h:
        counts["cache_creation"] = {
            "ephemeral_5m_input_tokens": max(usage.cache_write - usage.cache_write_1h, 0),
            "ephemeral_1h_input_tokens": usage.cache_write_1h,
        }
    if usage.reasoning:
        counts["output_tokens_details"] = {"thinking_tokens": usage.reasoning}
    return counts


def _thoughts(message: Mapping[str, Any]) -> list[Block]:
    whole = message.get("thinking_blocks")
    blocks = (
        [thought_block(each) for each in whole if isinstance(each, dict)] if isinstance(whole, list) else []
    )
    reasoning = canonical.reasoning_in(message)
    if reasoning and not any(block.get("thinking") for block in blocks):  # else they say it again
        blocks.insert(0, thought_block({"thinking": reasoning}))
    return blocks


def _input_of(arguments: Any) -> dict[str, Any]:
    if isinstance(arguments, dict):
        return arguments
    if arguments is None or (isinstance(arguments, str) and not arguments.strip()):
        return {}
    try:
        value = orjson.loads(arguments)
    except (orjson.JSONDecodeError, TypeError):
        value = None
    if isinstance(value, dict) and _can_be_written(value):
        return value
    # An answer cut off, or a model's mistake. Anthropic wants such input back in this form:
    # https://platform.claude.com/docs/en/agents-and-tools/tool-use/fine-grained-tool-streaming
    return {"INVALID_JSON": arguments}


def _can_be_written(value: Mapping[str, Any]) -> bool:
    """Is it nested no deeper than JSON may be here? More can be read than written."""
    try:
        orjson.dumps({"content": [{"input": value}]})
    except orjson.JSONEncodeError:
        return False
    return True
