"""Anthropic's stream for a client that speaks the same format: its bytes go through untouched.

Deltas of content are most of it and pass unparsed, all that one read of the network brought in one piece.
What frames them is parsed: a start, a stop, and the message's counts and stop reason. The counts are told
with the stop reason, not before: those of the start say nothing of the answer.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from providers.dialects.anthropic.answer import finish_choice, finish_reason_of, usage_of
from providers.dialects.anthropic.errors import error_inside
from providers.dialects.anthropic.stream import merge
from providers.dialects.passed import PassedStream
from providers.dialects.shapes import broken, parsed_object
from providers.dialects.toolcalls import arguments_text
from providers.dialects.translated import expected_shape
from providers.errors import UpstreamError
from providers.events import Event, Kind, PassedEvent
from providers.sse import data_of
from providers.usage import Usage
from providers.wires import MESSAGES

STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
_DELTA = b"event: content_block_delta\ndata: {"
_LINES = 3  # of a delta: event, data, and the empty one
# Where an event ends after which something else than a delta stands, or nothing.
_LAST_DELTA = re.compile(rb"\n\n(?!event: content_block_delta\ndata: \{)")
# An escaped quote precedes these words inside a string, so they match a key and its text only.
_INPUT = re.compile(rb'"partial_json"\s*:\s*"(?!")')

Choice = Mapping[str, Any]


class MessagesStream(PassedStream):
    """Server-sent events to events, raw bytes kept."""

    end = STOP

    def __init__(self) -> None:
        """Start before the first byte."""
        super().__init__()
        self._calls: dict[Any, int] = {}  # a tool's block -> which call of the answer it is
        self._no_input: str | None = None  # the input of the open call, as long as no delta has told it
        self._usage: dict[str, Any] = {}
        self._finished = False

    def so_far(self) -> Usage | None:
        """Return the counts of the start: they are the prompt's."""
        return usage_of(self._usage)

    def _events_in(self, block: bytes) -> list[Event]:
        """Return the events of `block`; deltas in a row are one, however many they are."""
        events: list[Event] = []
        start, end = 0, len(block)
        while start < end and not self._ended:
            chunks, stop = _deltas_from(block, start)
            if chunks:
                events.append(self._passed(block[start:stop], chunks))
            else:
                stop = block.index(b"\n\n", start) + 2
                events.append(self._one(block[start:stop]))
            start = stop
        return events

    def _one(self, raw: bytes) -> Event:
        """Return the one event in `raw`."""
        if b"\r" not in raw and _deltas_from(raw, 0)[0]:
            return self._passed(raw, 1)
        try:
            with expected_shape():
                return self._event(raw)
        except UpstreamError as error:
            return self._failed(error)

    def _passed(self, raw: bytes, chunks: int) -> Event:
        if self._no_input is not None and _INPUT.search(raw):
            self._no_input = None
        return PassedEvent(raw, MESSAGES, self._choices_of, chunks)

    def _event(self, raw: bytes) -> Event:
        payload = data_of(raw)
        if payload is None or not payload.strip():
            return _kept(Kind.META, raw)
        if payload.strip() == b"[DONE]":  # added by a server that speaks OpenAI's format, too
            return self._end(raw)
        message = parsed_object(payload)
        kind = message.get("type")
        if kind == "error" or message.get("error"):
            return self._failed(error_inside(message.get("error")))
        read = self._READERS.get(kind) if isinstance(kind, str) else None
        return _kept(Kind.META, raw) if read is None else read(self, raw, message)

    def _message_start(self, raw: bytes, message: Mapping[str, Any]) -> Event:
        merge(self._usage, message["message"].get("usage"))
        return _kept(Kind.META, raw)

    def _block_start(self, raw: bytes, message: Mapping[str, Any]) -> Event:
        block = message["content_block"]
        if block["type"] != "tool_use":
            return _kept(Kind.META, raw)
        call = self._calls[message["index"]] = len(self._calls)
        self._no_input = arguments_text(block.get("input") or {})
        function = {"name": block["name"], "arguments": ""}
        return _kept(Kind.CONTENT, raw, _calling(call, id=block["id"], type="function", function=function))

    def _block_delta(self, raw: bytes, message: Mapping[str, Any]) -> Event:
        if self._no_input is not None and message["delta"].get("partial_json"):
            self._no_input = None
        return _kept(Kind.CONTENT, raw, *self._said(message))

    def _block_stop(self, raw: bytes, message: Mapping[str, Any]) -> Event:
        given, self._no_input = self._no_input, None
        call = self._calls.get(message["index"])
        if given is None or call is None:
            return _kept(Kind.META, raw)
        return _kept(Kind.CONTENT, raw, _calling(call, function={"arguments": given}))

    def _message_delta(self, raw: bytes, message: Mapping[str, Any]) -> Event:
        merge(self._usage, message.get("usage"))
        usage, delta = usage_of(self._usage), message["delta"]
        if not delta.get("stop_reason") or self._finished:
            return Event(Kind.META, raw=raw, wire=MESSAGES, choices=(), usage=usage)
        self._finished = True
        reason = finish_reason_of(delta["stop_reason"], calls=len(self._calls))
        choice = {"index": 0, "delta": {}, **finish_choice(reason, delta.get("stop_details"))}
        return Event(
            Kind.FINISH, raw=raw, wire=MESSAGES, choices=[choice], usage=usage, finish_reasons=[reason]
        )

    def _message_stop(self, raw: bytes, _: Mapping[str, Any]) -> Event:
        return self._end(raw)

    def _end(self, raw: bytes) -> Event:
        if not self._finished:
            return self._failed(broken("the stream ended without a stop reason"))
        self._ended = True
        return _kept(Kind.DONE, raw)

    def _failed(self, error: UpstreamError) -> Event:
        self._ended = True
        return Event(Kind.ERROR, choices=(), error=error)

    def _choices_of(self, raw: bytes) -> Sequence[Choice]:
        """Return the choices of all the deltas in `raw`. Raises UpstreamError."""
        with expected_shape():
            return [
                choice
                for event in raw.split(b"\n\n")
                if event
                for choice in self._said(parsed_object(data_of(event + b"\n\n") or b"{}"))
            ]

    def _said(self, message: Mapping[str, Any]) -> Sequence[Choice]:
        """Return what one delta says. Of thinking its text only: who wants it whole reads the bytes."""
        delta = message["delta"]
        kind = delta["type"]
        if kind == "text_delta":
            return (_choice({"content": delta["text"]}),)
        if kind == "thinking_delta":
            return (_choice({"reasoning_content": delta["thinking"]}),)
        call = self._calls.get(message["index"])
        if kind == "input_json_delta" and call is not None and delta["partial_json"]:
            return (_calling(call, function={"arguments": delta["partial_json"]}),)
        return ()

    _READERS: ClassVar[Mapping[str, Callable[..., Event]]] = {
        "message_start": _message_start,
        "content_block_start": _block_start,
        "content_block_delta": _block_delta,
        "content_block_stop": _block_stop,
        "message_delta": _message_delta,
        "message_stop": _message_stop,
    }


def _deltas_from(block: bytes, start: int) -> tuple[int, int]:
    """Return how many deltas of content stand at `start` in a row, and where they end.

    `block` holds whole events, its lines end in LF. None are counted where the first is no delta, or one
    of them is framed in another way than by two lines.
    """
    if not block.startswith(_DELTA, start):
        return 0, start
    found = _LAST_DELTA.search(block, start)
    stop = len(block) if found is None else found.end()
    chunks = block.count(b"}\n\n" + _DELTA, start, stop) + 1
    if block.count(b"\n", start, stop) != _LINES * chunks or not block.endswith(b"}\n\n", start, stop):
        return 0, start
    return chunks, stop


def _kept(kind: Kind, raw: bytes, *choices: Choice) -> Event:
    return Event(kind, raw=raw, wire=MESSAGES, choices=choices)


def _choice(delta: Mapping[str, Any]) -> Choice:
    return {"index": 0, "delta": delta, "finish_reason": None}


def _calling(call: int, **fields: Any) -> Choice:
    return _choice({"tool_calls": [{"index": call, **fields}]})
