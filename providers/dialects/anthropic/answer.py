"""Anthropic's answers in the canonical form (https://platform.claude.com/docs/en/api/messages)."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from providers.canonical import CONTENT_FILTER, LENGTH, STOP, TOOL_CALLS
from providers.dialects.anthropic.tools import JSON_TOOL, answers_by_tool
from providers.dialects.shapes import broken
from providers.dialects.toolcalls import arguments_text
from providers.dialects.translated import expected_shape
from providers.usage import Usage, count

# https://platform.claude.com/docs/en/build-with-claude/handling-stop-reasons
_FINISH_REASONS: Mapping[str, str] = {
    "max_tokens": LENGTH,
    "model_context_window_exceeded": LENGTH,
    "tool_use": TOOL_CALLS,
    "refusal": CONTENT_FILTER,
}


def usage_of(usage: Any) -> Usage | None:
    """Read Anthropic's usage, whose input leaves out what the cache had and got; None when there is none.

    A conversation that was shortened on the way (compaction) is counted, and billed, beside the rest:
    https://platform.claude.com/docs/en/build-with-claude/compaction#understanding-usage
    """
    if not isinstance(usage, dict) or ("input_tokens" not in usage and "output_tokens" not in usage):
        return None
    told = _counts(usage)
    iterations = usage.get("iterations")
    if not isinstance(iterations, list):
        return told
    for each in iterations:
        if isinstance(each, dict) and each.get("type") == "compaction":
            told = told.plus(_counts(each)._replace(reasoning=0))
    return Usage._make(map(count, told))._replace(estimated=False)


def _counts(usage: Mapping[str, Any]) -> Usage:
    cached, written = (
        count(usage.get("cache_read_input_tokens")),
        count(usage.get("cache_creation_input_tokens")),
    )
    details, lifetimes = usage.get("output_tokens_details"), usage.get("cache_creation")
    return Usage(
        prompt=count(count(usage.get("input_tokens")) + cached + written),
        completion=count(usage.get("output_tokens")),
        cached=cached,
        cache_write=written,
        reasoning=count(details.get("thinking_tokens")) if isinstance(details, dict) else 0,
        # https://platform.claude.com/docs/en/build-with-claude/prompt-caching#1-hour-cache-duration
        cache_write_1h=count(lifetimes.get("ephemeral_1h_input_tokens"))
        if written and isinstance(lifetimes, dict)
        else 0,
    )


def finish_reason_of(stop_reason: Any, *, calls: int) -> str:
    """Return OpenAI's finish reason. `calls`: how many tools the client is asked to run."""
    reason = _FINISH_REASONS.get(stop_reason, STOP) if isinstance(stop_reason, str) else STOP
    return STOP if reason == TOOL_CALLS and not calls else reason


def finish_choice(reason: str, stop_details: Any) -> dict[str, Any]:
    """Return what both a choice and a stream's last one say of the end.

    Why Anthropic refused is told under its own name: OpenAI's `refusal` is what a model says itself.
    """
    return {"finish_reason": reason, **({"stop_details": stop_details} if stop_details else {})}


def stop_of(message: Mapping[str, Any]) -> str:
    """Return the finish reason of a whole answer that nobody has looked into. Raises UpstreamError."""
    calls = [block for block in _content(message) if block.get("type") == "tool_use"]
    return finish_reason_of(message.get("stop_reason"), calls=len(calls))


def canonical_answer(message: Mapping[str, Any], body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the chat completion of an answer to the canonical request `body`. Raises UpstreamError.

    What Anthropic's own tools did on its servers is left out: the client has nothing to do about it.
    """
    with expected_shape():
        return _completion(message, _content(message), body)


def _content(message: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    blocks = message.get("content")
    if not isinstance(blocks, list) or not all(isinstance(block, dict) for block in blocks):
        raise broken("it has no content")
    return blocks


def _completion(
    message: Mapping[str, Any], blocks: Sequence[Mapping[str, Any]], body: Mapping[str, Any]
) -> dict[str, Any]:
    calls = [block for block in blocks if block["type"] == "tool_use"]
    text = "".join(_texts(blocks))
    if answers_by_tool(body):
        answers = [call for call in calls if call["name"] == JSON_TOOL]
        calls = [call for call in calls if call["name"] != JSON_TOOL]
        text = "".join(arguments_text(call.get("input") or {}) for call in answers) or text
    reason = finish_reason_of(message.get("stop_reason"), calls=len(calls))
    said: dict[str, Any] = {
        "role": "assistant",
        "content": text or None,
        "refusal": None,
        **_without_nothing(
            tool_calls=[_call(call) for call in calls],
            reasoning_content="".join(thought_in(block) for block in blocks),
            thinking_blocks=[thought for block in blocks if (thought := kept_thought(block))],
            annotations=_annotations(blocks),
        ),
    }
    envelope = {name: message[name] for name in ("id", "model") if isinstance(message.get(name), str)}
    ending = finish_choice(reason, message.get("stop_details"))
    return {**envelope, "choices": [{"index": 0, "message": said, "logprobs": None, **ending}]}


def thought_in(block: Mapping[str, Any]) -> str:
    """Return the text of a block of thinking."""
    return _string(block.get("thinking")) if block["type"] == "thinking" else ""


def kept_thought(block: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a block of thinking as Anthropic wants it back; None for any other, and an empty one."""
    if block["type"] == "redacted_thinking" and block.get("data"):
        return {"type": "redacted_thinking", "data": _string(block["data"])}
    if block["type"] != "thinking":
        return None
    text, signature = thought_in(block), _string(block.get("signature"))
    if not text and not signature:
        return None
    return {"type": "thinking", "thinking": text, "signature": signature}


def annotations_of(citations: Any, *, start: int, end: int) -> list[dict[str, Any]]:
    """Return the URLs that the text from `start` to `end` cites, as OpenAI has them.

    What is cited of a document that the client sent has no URL: OpenAI has no field for it.
    """
    annotations = []
    for citation in citations if isinstance(citations, list) else ():
        url = citation.get("url") or citation.get("source")
        if not isinstance(url, str) or not url.startswith(("http://", "https://")):
            continue
        cited = {"url": url, "title": citation.get("title") or "", "start_index": start, "end_index": end}
        annotations.append({"type": "url_citation", "url_citation": cited})
    return annotations


def _annotations(blocks: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    annotations, start = [], 0
    for block in blocks:
        if block["type"] == "text":
            end = start + len(_string(block["text"]))
            annotations += annotations_of(block.get("citations"), start=start, end=end)
            start = end
    return annotations


def _texts(blocks: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for block in blocks:
        if block["type"] == "text":
            yield _string(block["text"])


def _call(block: Mapping[str, Any]) -> dict[str, Any]:
    function = {"name": _string(block["name"]), "arguments": arguments_text(block.get("input") or {})}
    return {"id": _string(block["id"]), "type": "function", "function": function}


def _string(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise broken("its fields have the wrong shape")
    return value


def _without_nothing(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value}
