"""Checks that what an OpenAI-compatible server sends has the shape that everyone behind relies on.

Servers that imitate OpenAI send strings for objects and nulls for lists. What is only missing is
fine; what has another type is a broken answer, found here and not in a renderer.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from providers.dialects.shapes import broken


def answer_choices(message: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Return the choices of a whole answer, at least one. Raises UpstreamError."""
    choices = _listed(message, "message")
    if not choices:
        raise broken("it has no choices")
    for choice in choices:
        if not isinstance(choice.get("message"), dict):
            raise broken("it has no choices")
    return choices


def chunk_choices(chunk: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Return the choices of a stream's chunk, maybe none. Raises UpstreamError."""
    return _listed(chunk, "delta")


def text_choices(holder: Mapping[str, Any], part: str) -> Sequence[Mapping[str, Any]]:
    """Return the choices of a `/completions` answer or chunk as chat's, or raise UpstreamError."""
    choices = []
    for choice in _listed(holder, part):
        text = choice.get("text")
        if not _is_or_none(text, str):
            raise broken("its choices have the wrong shape")
        content = {"content": text or ""} if part == "delta" else {"role": "assistant", "content": text or ""}
        choices.append({**{name: each for name, each in choice.items() if name != "text"}, part: content})
    return choices


def _listed(holder: Mapping[str, Any], field: str) -> Sequence[Mapping[str, Any]]:
    choices = holder.get("choices")
    if choices is None:
        return ()
    if not isinstance(choices, list):
        raise broken("its choices have the wrong shape")
    for choice in choices:
        if not _is_choice(choice, field):
            raise broken("its choices have the wrong shape")
    return choices


def _is_choice(choice: Any, field: str) -> bool:
    if not isinstance(choice, dict):
        return False
    get = choice.get
    part, index, reason, logprobs = get(field), get("index"), get("finish_reason"), get("logprobs")
    if not (
        (part is None or isinstance(part, dict))
        and (index is None or isinstance(index, int))
        and (reason is None or isinstance(reason, str))
        and (logprobs is None or isinstance(logprobs, dict))
    ):
        return False
    calls = part.get("tool_calls") if part else None
    return calls is None or (isinstance(calls, list) and all(_is_call(call) for call in calls))


def _is_call(call: Any) -> bool:
    if not isinstance(call, dict):
        return False
    function = call.get("function")
    return (
        _is_or_none(call.get("index"), int)
        and _is_or_none(function, dict)
        and (function is None or _is_or_none(function.get("arguments"), str))
    )


def _is_or_none(value: Any, kind: type) -> bool:
    return value is None or isinstance(value, kind)
