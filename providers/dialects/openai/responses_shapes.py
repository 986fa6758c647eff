"""What OpenAI's Responses objects say in the canonical form: for those who read what goes through.

Whatever shape they have, reading them raises nothing: what is missing or has another type is not there.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from providers.canonical import CONTENT_FILTER, LENGTH, STOP, TOOL_CALLS
from providers.usage import Usage, count, with_parts

# Why a response is incomplete; anything else that cuts one short is a length, too.
_INCOMPLETE = {"content_filter": CONTENT_FILTER}
_CALLS = frozenset({"function_call", "custom_tool_call"})
# The deltas that are text, and the canonical field of each.
_TEXTS = {
    "response.output_text.delta": "content",
    "response.refusal.delta": "refusal",
    "response.reasoning_summary_text.delta": "reasoning_content",
    "response.reasoning_text.delta": "reasoning_content",
}


def usage_of(usage: Any) -> Usage | None:
    """Read a response's usage; None when there is none. An explicit zero stays zero."""
    if not isinstance(usage, dict) or ("input_tokens" not in usage and "output_tokens" not in usage):
        return None
    into = _object(usage.get("input_tokens_details"))
    out = _object(usage.get("output_tokens_details"))
    cached = count(told) if (told := into.get("cached_tokens")) else 0
    cache_write = count(told) if (told := into.get("cache_write_tokens")) else 0
    reasoning = count(told) if (told := out.get("reasoning_tokens")) else 0
    prompt, completion = count(usage.get("input_tokens")), count(usage.get("output_tokens"))
    return with_parts(Usage(prompt, completion, cached, cache_write, reasoning), into, out)


def finish_reasons_of(response: Mapping[str, Any]) -> Sequence[str]:
    """Return why a response ended; its status where it has not (queued, in_progress, cancelled)."""
    status = response.get("status") or "completed"
    if status == "incomplete":
        reason = _object(response.get("incomplete_details")).get("reason")
        return (_INCOMPLETE.get(str(reason), LENGTH),)
    if status != "completed":
        return (str(status),)
    calls = any(str(item.get("type")) in _CALLS for item in _objects(response.get("output")))
    return (TOOL_CALLS if calls else STOP,)


def completion_of(response: Mapping[str, Any]) -> dict[str, Any]:
    """Return the chat completion that says what a response says."""
    (reason,) = finish_reasons_of(response)
    usage = usage_of(response.get("usage"))
    whole: dict[str, Any] = {
        "id": response.get("id"),
        "object": "chat.completion",
        "created": count(response.get("created_at")),
        "model": response.get("model"),
        "choices": [
            {
                "index": 0,
                "message": _message(response.get("output")),
                "logprobs": None,
                "finish_reason": reason if reason in (LENGTH, CONTENT_FILTER, TOOL_CALLS) else STOP,
            }
        ],
    }
    return whole if usage is None else {**whole, "usage": usage.to_openai()}


def choices_in(event: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Return the canonical choices of one event of a stream, none or one."""
    kind = str(event.get("type"))
    said: dict[str, Any] = {}
    reason = None
    if kind in _TEXTS:
        said = {_TEXTS[kind]: _text(event, "delta")}
    elif kind == "response.function_call_arguments.delta":
        said = {"tool_calls": [{**_place(event), "function": {"arguments": _text(event, "delta")}}]}
    elif kind == "response.output_item.added":
        item = _object(event.get("item"))
        if item.get("type") == "function_call":
            said = {"tool_calls": [{**_place(event), **_call(item)}]}
    elif kind in ("response.completed", "response.incomplete"):
        status = {"status": kind.removeprefix("response.")}
        (reason,) = finish_reasons_of({**status, **_object(event.get("response"))})
    return ({"index": 0, "delta": said, "finish_reason": reason},) if said or reason else ()


def _message(output: Any) -> dict[str, Any]:
    text, refusal, thought = "", "", ""
    annotations: list[Any] = []
    calls: list[Any] = []
    for item in _objects(output):
        if item.get("type") == "message":
            for part in _objects(item.get("content")):
                text += _text(part, "text")
                refusal += _text(part, "refusal")
                annotations += [_annotation(each) for each in _objects(part.get("annotations"))]
        elif item.get("type") == "function_call":
            calls.append(_call(item))
        elif item.get("type") == "reasoning":
            thoughts = (*_objects(item.get("summary")), *_objects(item.get("content")))
            thought += "".join(_text(part, "text") for part in thoughts)
    message: dict[str, Any] = {"role": "assistant", "content": text or None, "refusal": refusal or None}
    more = {"reasoning_content": thought, "annotations": annotations, "tool_calls": calls}
    return message | {name: value for name, value in more.items() if value}


def _annotation(annotation: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a citation as chat has it: its fields under its own name."""
    kind = annotation.get("type")
    if kind != "url_citation":
        return annotation
    return {"type": kind, kind: {name: value for name, value in annotation.items() if name != "type"}}


def _call(item: Mapping[str, Any]) -> dict[str, Any]:
    function = {"name": _text(item, "name"), "arguments": _text(item, "arguments")}
    return {"id": _text(item, "call_id") or _text(item, "id"), "type": "function", "function": function}


def _place(event: Mapping[str, Any]) -> dict[str, int]:
    return {"index": count(event.get("output_index"))}


def _text(holder: Mapping[str, Any], name: str) -> str:
    value = holder.get(name)
    return value if isinstance(value, str) else ""


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _objects(value: Any) -> Iterator[Mapping[str, Any]]:
    yield from (each for each in value if isinstance(each, dict)) if isinstance(value, list) else ()
