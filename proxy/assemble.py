"""Between a whole answer and a stream of it, in the canonical form, both ways. Pure."""

import base64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import orjson

from providers.canonical import begins_another, reasoning_in, text_in
from providers.events import Answer, Event, Kind
from providers.usage import Usage
from providers.wires import EMBEDDINGS

_THOUGHT = frozenset({"reasoning_content", "thinking_blocks"})


def assemble(events: Iterable[Event], *, id: str, created: int, model: str) -> dict[str, Any]:  # noqa: A002 - OpenAI's field
    """Return the chat completion object that a stream's events add up to."""
    assembly = Assembly()
    assembly.add(events)
    return assembly.answer(id=id, created=created, model=model)


class Assembly:
    """What the events of a stream add up to so far."""

    __slots__ = ("_choices", "_usage")

    def __init__(self) -> None:
        """Begin with nothing."""
        self._choices: dict[int, dict[str, Any]] = {}
        self._usage: Usage | None = None

    def add(self, events: Iterable[Event]) -> None:
        """Add some. Raises UpstreamError for one that nobody has read before and that cannot be read."""
        for event in events:
            self._usage = event.usage or self._usage
            for choice in event.choices:
                self._add_choice(choice)

    def _add_choice(self, choice: Mapping[str, Any]) -> None:
        index = choice.get("index") or 0
        whole = self._choices.setdefault(index, _empty(index))
        _add_delta(whole["message"], choice.get("delta") or {})
        if choice.get("logprobs"):
            whole["logprobs"] = _add_logprobs(whole.get("logprobs"), choice["logprobs"])
        if choice.get("finish_reason"):
            whole["finish_reason"] = choice["finish_reason"]

    def answer(self, *, id: str, created: int, model: str) -> dict[str, Any]:  # noqa: A002 - OpenAI's field
        """Return the chat completion object. Nothing may be added behind it."""
        answer: dict[str, Any] = {
            "id": id,
            "object": "chat.completion",
            "created": created,
            "model": model,
            "choices": [_finished(self._choices[index]) for index in sorted(self._choices)],
        }
        if self._usage is not None:
            answer["usage"] = self._usage.to_openai()
        return answer


def disassemble(answer: Mapping[str, Any], usage: Usage | None) -> list[Event]:
    """Return the events of a stream that would have said `answer`, a chat completion object."""
    events = []
    for choice in answer.get("choices") or ():
        index = choice.get("index") or 0
        message = {name: value for name, value in (choice.get("message") or {}).items() if value is not None}
        *thoughts, delta = _pieces_of(message)
        events += [
            Event(Kind.CONTENT, choices=[{"index": index, "delta": thought, "finish_reason": None}])
            for thought in thoughts
        ]
        if isinstance(delta.get("tool_calls"), list):
            delta["tool_calls"] = [{"index": place, **call} for place, call in enumerate(delta["tool_calls"])]
        opening: dict[str, Any] = {"index": index, "delta": delta, "finish_reason": None}
        if choice.get("logprobs"):
            opening["logprobs"] = choice["logprobs"]
        reason = choice.get("finish_reason") or "stop"
        closing: dict[str, Any] = {"index": index, "delta": {}, "finish_reason": reason}
        events.append(Event(Kind.CONTENT, choices=[opening]))
        events.append(Event(Kind.FINISH, choices=[closing], finish_reasons=[reason]))
    if usage is not None:
        events.append(Event(Kind.USAGE, choices=(), usage=usage))
    events.append(Event(Kind.DONE, choices=()))
    return events


def text_bytes(choices: Sequence[Mapping[str, Any]]) -> int:
    """Return about how many bytes of text, thought and tool arguments a chunk adds.

    Signatures are nobody's tokens, and a whole thinking block says again what came before it.
    """
    return sum(len(text.encode()) for choice in choices for text in _texts_in(choice.get("delta") or {}))


def answer_bytes(answer: Answer) -> int:
    """Return about how many bytes of text an answer has. Vectors are none: only their prompt costs."""
    if answer.body:
        return 0 if answer.wire == EMBEDDINGS else len(answer.body)
    return 0 if "data" in answer.message else len(orjson.dumps(answer.message))


def texts_of(choices: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the plain text that each chunk's first choice adds, where it adds some."""
    return [
        text
        for choice in choices
        if not choice.get("index")
        and isinstance(text := (choice.get("delta") or {}).get("content"), str)
        and text
    ]


def _texts_in(delta: Mapping[str, Any]) -> Iterator[str]:
    yield text_in(delta.get("content"))
    yield reasoning_in(delta)
    yield str(delta.get("refusal") or "")
    for call in delta.get("tool_calls") or ():
        function = call.get("function") or {}
        yield str(function.get("name") or "") + str(function.get("arguments") or "")


def _pieces_of(message: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a message's deltas: each thinking block after its text, as streams have them, then the rest."""
    blocks, role = message.get("thinking_blocks"), {"role": message["role"]} if "role" in message else {}
    if not isinstance(blocks, list) or not all(isinstance(block, dict) for block in blocks):
        return [message]
    texts = [block.get("thinking") or "" for block in blocks]
    if not all(isinstance(text, str) for text in texts) or "".join(texts) != message.get("reasoning_content"):
        return [message]
    rest = {name: value for name, value in message.items() if name not in _THOUGHT}
    pieces = []
    for block, text in zip(blocks, texts, strict=True):
        pieces += [{**role, "reasoning_content": text}] if text else []
        pieces.append({**role, "thinking_blocks": [block]})
    return [*pieces, rest]


def _empty(index: int) -> dict[str, Any]:
    message = {"role": "assistant", "content": None, "refusal": None}
    return {"index": index, "message": message, "logprobs": None, "finish_reason": None}


def _add_delta(message: dict[str, Any], delta: Mapping[str, Any]) -> None:
    for name, value in delta.items():
        if value is None:
            continue
        if name == "tool_calls":
            _add_tool_calls(message.setdefault("_calls", []), value)
        elif name == "audio" and isinstance(value, dict):
            message.setdefault("_audio", []).append(value)
        elif name == "function_call":
            _add_function(message.setdefault("function_call", {}), value)
        elif isinstance(value, str) and name != "role":
            message[name] = (message.get(name) or "") + value
        elif isinstance(value, list):
            entries = [_without_index(entry) if isinstance(entry, dict) else entry for entry in value]
            message[name] = [*(message.get(name) or []), *entries]
        else:
            message[name] = value


def _add_tool_calls(calls: list[dict[str, Any]], deltas: Sequence[Mapping[str, Any]]) -> None:
    for delta in deltas:
        call = _call_of(calls, delta)
        for name, value in delta.items():
            if name == "function":
                _add_function(call.setdefault("function", {}), value or {})
            elif value is not None:
                call[name] = value


def _call_of(calls: list[dict[str, Any]], delta: Mapping[str, Any]) -> dict[str, Any]:
    """Return the call that a delta goes on: by index, else by id (some servers send no index)."""
    for key in ("index", "id"):
        if delta.get(key) is not None:
            for call in calls[::-1]:
                if call.get(key) == delta[key] and not begins_another(delta, call.get("id")):
                    return call
            calls.append({})
            return calls[-1]
    if not calls:
        calls.append({})
    return calls[-1]


def _add_function(function: dict[str, Any], delta: Mapping[str, Any]) -> None:
    if delta.get("name"):
        function["name"] = delta["name"]
    function["arguments"] = (function.get("arguments") or "") + (delta.get("arguments") or "")


def _add_logprobs(whole: Mapping[str, Any] | None, delta: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(whole or {})
    for name, tokens in delta.items():
        if isinstance(tokens, list):
            merged[name] = [*(merged.get(name) or []), *tokens]
    return merged


def _audio_of(pieces: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the audio that pieces of a stream add up to; each piece of its data is base64 by itself."""
    whole: dict[str, Any] = {}
    for piece in pieces:
        whole |= piece
    for name, join in (("transcript", "".join), ("data", _joined_base64)):
        texts = [piece[name] for piece in pieces if isinstance(piece.get(name), str)]
        if texts:
            whole[name] = join(texts)
    return whole


def _joined_base64(texts: Sequence[str]) -> str:
    try:
        return base64.b64encode(b"".join(base64.b64decode(text) for text in texts)).decode()
    except ValueError:  # it is no base64: the client's to judge
        return "".join(texts)


def _finished(choice: dict[str, Any]) -> dict[str, Any]:
    audio = choice["message"].pop("_audio", None)
    if audio:
        choice["message"]["audio"] = _audio_of(audio)
    calls = choice["message"].pop("_calls", None)
    if calls:
        in_order = sorted(calls, key=lambda call: call.get("index") or 0)  # stable without indexes
        choice["message"]["tool_calls"] = [_without_index(call) for call in in_order]
    return choice


def _without_index(call: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in call.items() if name != "index"}
