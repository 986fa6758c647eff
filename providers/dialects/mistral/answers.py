"""Mistral's answers and streams to the canonical form.

They look like OpenAI's but for a content that may be a list (thinking, then text), tool calls without index
or with arguments as an object, `model_length`, and usage that comes unasked with the last chunk.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from providers import usage as usages
from providers.canonical import LENGTH, STOP, TOOL_CALLS
from providers.dialects.call_ids import made_id
from providers.dialects.mistral.errors import error_in
from providers.dialects.shapes import broken
from providers.dialects.toolcalls import arguments_text
from providers.dialects.translated import TranslatedStream
from providers.errors import Owner, UpstreamError
from providers.events import Answer, Event, Kind, TextEvent, delta_event, finish_event, usage_event
from providers.usage import Usage

MAX_CALLS = 10_000  # an index above it is none
_REASONS: Mapping[str, str] = {
    "stop": STOP,
    "length": LENGTH,
    "model_length": LENGTH,
    "tool_calls": TOOL_CALLS,
    "content_filter": "content_filter",
}


def chat_answer(body: Mapping[str, Any]) -> Answer:
    """Return a whole answer. Raises UpstreamError, or what a misshapen body makes of reading it."""
    error = error_in(body)
    if error is not None:
        raise error
    choices = [_choice(choice, body, place) for place, choice in enumerate(body["choices"])]
    if not choices:
        raise broken("it has no choices")
    return Answer(
        message={"choices": choices},
        usage=usage_of(body.get("usage")),
        finish_reasons=[choice["finish_reason"] for choice in choices],
    )


class MistralStream(TranslatedStream):
    """The chunks of chat and of fill-in-the-middle."""

    def __init__(self) -> None:
        """Start before the first byte."""
        super().__init__()
        self._numbers: dict[int, _Numbers] = {}  # by choice
        self._finished: set[int] = set()
        self._usage: Usage | None = None

    def read(self, payload: Mapping[str, Any], events: list[Event]) -> None:
        """Append what one chunk says. Raises UpstreamError."""
        text = _plain_text(payload)
        if text and 0 in self._numbers:
            events.append(TextEvent(text))
            return
        error = error_in(payload)
        if error is not None:
            raise error
        if payload.get("usage") is not None:
            self._usage = usage_of(payload["usage"]) or self._usage
        for choice in payload.get("choices") or ():
            self._read_choice(choice, payload, events)

    def finished(self) -> bool:
        """Has every choice that was seen a finish reason?"""
        return bool(self._finished) and self._finished.issuperset(self._numbers)

    def so_far(self) -> Usage | None:
        """Return the counts, should they have come before the end."""
        return self._usage

    def last(self) -> Sequence[Event]:
        """Return the usage."""
        return [] if self._usage is None else [usage_event(self._usage)]

    def _read_choice(self, choice: Mapping[str, Any], chunk: Mapping[str, Any], events: list[Event]) -> None:
        delta, index = choice.get("delta") or {}, usages.count(choice.get("index"))
        numbers = self._numbers.get(index) or self._numbers.setdefault(index, _Numbers())
        content, calls, logprobs = delta.get("content"), delta.get("tool_calls"), choice.get("logprobs")
        text, thought = (content, "") if content.__class__ is str else _said(content)
        if thought:
            events.append(delta_event({"reasoning_content": thought}, index=index))
        if text and index == 0 and not logprobs:
            events.append(TextEvent(text))
        elif text or logprobs:
            events.append(_text_event(text, index, logprobs))
        events += [
            delta_event({"tool_calls": [numbers.piece(call, chunk)]}, index=index) for call in calls or ()
        ]
        reason = choice.get("finish_reason")
        if reason is not None and index not in self._finished:
            self._finished.add(index)
            events.append(finish_event(_reason(reason), index=index))


class _Numbers:
    """Numbers the tool calls of one choice: Mistral's deltas may come without an index, or all with 0."""

    def __init__(self) -> None:
        self._ids: dict[int, str] = {}  # by number

    def piece(self, call: Mapping[str, Any], chunk: Mapping[str, Any]) -> dict[str, Any]:
        """Return a call's delta, with its index; its first one with all that belongs there."""
        function, identity = call["function"], _identity(call)
        number = self._number_of(call, identity)
        if number in self._ids:
            return {"index": number, "function": {"arguments": _piece_of_arguments(function)}}
        identity = identity or made_id(chunk.get("id"), number, function["name"])
        self._ids[number] = identity
        return _function(identity, function) | {"index": number}

    def _number_of(self, call: Mapping[str, Any], identity: str) -> int:
        taken, given = self._ids, usages.count(call.get("index")) if "index" in call else -1
        known = 0 <= given <= MAX_CALLS
        if identity:
            for number, other in taken.items():
                if other == identity:
                    return number
        elif not call["function"].get("name"):  # the rest of a call that has begun
            if not taken:
                raise broken("a tool call has no name")
            return given if known and given in taken else max(taken)
        # An index that another call has already says nothing.
        return given if known and given not in taken else max(taken, default=-1) + 1


def usage_of(counts: Any) -> Usage | None:
    """Return the usage; cached tokens stand under one of three names.

    https://docs.mistral.ai/api/endpoint/chat names all of them.
    """
    usage = usages.from_openai(counts)
    if usage is None or usage.cached:
        return usage
    details = counts.get("prompt_token_details")
    cached = usages.count(details.get("cached_tokens")) if isinstance(details, dict) else 0
    return usage._replace(cached=cached or usages.count(counts.get("num_cached_tokens")))


def _choice(choice: Mapping[str, Any], body: Mapping[str, Any], place: int) -> dict[str, Any]:
    told = choice["message"]
    text, thought = _said(told.get("content"))
    calls = [
        _function(_identity(call) or made_id(body.get("id"), place, number), call["function"])
        for number, call in enumerate(told.get("tool_calls") or ())
    ]
    message: dict[str, Any] = {"role": "assistant", "content": None if calls and not text else text}
    if thought:
        message["reasoning_content"] = thought
    if calls:
        message["tool_calls"] = calls
    index = choice.get("index")
    whole: dict[str, Any] = {"index": place if index is None else usages.count(index), "message": message}
    if isinstance(choice.get("logprobs"), dict):
        whole["logprobs"] = choice["logprobs"]
    return {**whole, "finish_reason": _reason(choice.get("finish_reason"))}


def _said(content: Any) -> tuple[str, str]:
    """Return the text and the thought of a content: a string, or a list of parts."""
    if content is None or isinstance(content, str):
        return content or "", ""
    if not isinstance(content, list):
        raise broken("its content has the wrong shape")
    texts, thoughts = [], []
    for part in content:
        if part["type"] == "text":
            texts.append(part["text"])
        elif part["type"] == "thinking":
            thoughts += [_thought(each) for each in part["thinking"]]
    return "".join(texts), "".join(thoughts)


def _thought(part: Any) -> str:
    text = part if isinstance(part, str) else part.get("text") or ""  # references have none
    return text if isinstance(text, str) else ""


def _plain_text(chunk: Mapping[str, Any]) -> str:
    """Return the text of a chunk that says nothing else, as most do; "" of any other."""
    choices = chunk.get("choices")
    if choices.__class__ is not list or len(choices) != 1 or "usage" in chunk:
        return ""
    choice = choices[0]
    delta = choice.get("delta")
    if delta.__class__ is not dict or len(delta) != 1 or choice.get("index") != 0:
        return ""
    text = delta.get("content")
    plain = choice.get("finish_reason") is None and not choice.get("logprobs")
    return text if plain and isinstance(text, str) else ""


def _text_event(text: str, index: int, logprobs: Any) -> Event:
    choice: dict[str, Any] = {"index": index, "delta": {"content": text}, "finish_reason": None}
    if isinstance(logprobs, dict):
        choice["logprobs"] = logprobs
    return Event(Kind.CONTENT, choices=[choice])


def _function(identity: str, function: Mapping[str, Any]) -> dict[str, Any]:
    name = function["name"]
    if not isinstance(name, str):
        raise broken("a tool call has no name")
    arguments = arguments_text(function.get("arguments"))
    return {"id": identity, "type": "function", "function": {"name": name, "arguments": arguments}}


def _piece_of_arguments(function: Mapping[str, Any]) -> str:
    arguments = function.get("arguments")
    return arguments if isinstance(arguments, str) else ""


def _identity(call: Mapping[str, Any]) -> str:
    identity = call.get("id")
    # The API's own default for none is the word: https://github.com/mistralai/client-python (ToolCall.id)
    return identity if isinstance(identity, str) and identity != "null" else ""


def _reason(reason: Any) -> str:
    if reason == "error":
        raise UpstreamError("The provider ended the answer with an error.", owner=Owner.HEALTH, status=502)
    if not isinstance(reason, str):
        raise broken("a choice has no finish reason")
    return _REASONS.get(reason, STOP)
