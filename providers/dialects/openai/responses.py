"""OpenAI's Responses format as a vendor answers in it: bodies and events go through untouched.

A stream's events are told apart by the name that stands before their data
(https://platform.openai.com/docs/api-reference/responses-streaming); only the last one is parsed, which
says how the answer ended and what it cost. There is no [DONE]: the stream is over with that event.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from providers.dialects.openai.errors import error_in_body
from providers.dialects.openai.responses_shapes import choices_in, completion_of, finish_reasons_of, usage_of
from providers.dialects.shapes import broken, parsed_object
from providers.errors import UpstreamError
from providers.events import Answer, Event, Kind, PassedEvent
from providers.sse import EventSplitter, data_of
from providers.usage import Usage
from providers.wires import RESPONSES

# As many deltas as stand in a row, framed as OpenAI frames them.
_DELTAS = re.compile(rb"(?:event: response\.[a-z_.]+\.delta\ndata: \{[^\n]*\}\n\n)+")
_NAME = re.compile(rb"(?:\A|[\r\n])event:([^\r\n]*)")
_ENDS = frozenset({"response.completed", "response.incomplete", "response.failed", "error"})
# The model has begun: a reasoning model may then say nothing for minutes, and is not silent.
_BEGINS = "response.output_item.added"


def responses_answer(body: bytes, message: Mapping[str, Any]) -> Answer:
    """Return a whole response as the answer that it is. Raises UpstreamError."""
    if not isinstance(message.get("output"), list):
        raise broken("it has no output")
    if message.get("status") == "failed":
        raise broken("it failed and does not say why")
    return Answer(
        body=body,
        wire=RESPONSES,
        usage=usage_of(message.get("usage")),
        finish_reasons=finish_reasons_of(message),
        parse=lambda raw: completion_of(parsed_object(raw)),
    )


class ResponsesStream:
    """Named events to events, raw bytes kept."""

    def __init__(self, *, choices: int) -> None:
        """Start before the first byte."""
        self._splitter = EventSplitter()
        self._ended = False

    def feed(self, chunk: bytes) -> Sequence[Event]:
        """Return the events completed by `chunk`; nothing after the end."""
        events: list[Event] = []
        block = None if self._ended else self._splitter.feed_block(chunk)
        if block is not None:
            self._take_block(block, events)
            return events
        for raw in self._splitter.feed(chunk):
            self._take(raw, events)
        return events

    def close(self) -> Sequence[Event]:
        """Return the error of a stream that ended early; a whole one has ended by itself."""
        events: list[Event] = []
        rest = b"" if self._ended else self._splitter.rest().strip()
        if rest and _is_whole(rest):  # the last event without its blank line
            self._take(rest + b"\n\n", events)
        if not self._ended:
            self._fail(broken("the stream ended without a completed response"), events)
        return events

    def so_far(self) -> Usage | None:
        """Return nothing: the only counts come with the end."""
        return None

    def _take_block(self, block: bytes, events: list[Event]) -> None:
        """Take whole events, lines ending in LF; deltas in a row are one event, however many they are."""
        start = 0
        while start < len(block) and not self._ended:
            deltas = _DELTAS.match(block, start)
            if deltas:
                stop = deltas.end()
                events.append(_passed(block[start:stop], block.count(b"\n\n", start, stop)))
            else:
                stop = block.index(b"\n\n", start) + 2
                self._take(block[start:stop], events)
            start = stop

    def _take(self, raw: bytes, events: list[Event]) -> None:
        if self._ended:
            return
        try:
            self._read(raw, events)
        except UpstreamError as error:
            self._fail(error, events)

    def _read(self, raw: bytes, events: list[Event]) -> None:
        named = _NAME.search(raw)
        name = named[1].decode("latin-1").strip() if named else ""
        payload: Mapping[str, Any] = {}
        if name in _ENDS or not name.startswith("response."):
            text = (data_of(raw) or b"").strip()
            if text == b"[DONE]":
                raise broken("the stream ended without a completed response")
            payload = parsed_object(text) if text else {}
            name = str(payload.get("type") or name)
        if name.endswith(".delta"):
            events.append(_passed(raw, 1))
        elif name in _ENDS:
            self._end(name, payload, raw, events)
        else:
            kind = Kind.CONTENT if name == _BEGINS else Kind.META
            events.append(Event(kind, raw=raw, wire=RESPONSES, parse=_choices_of))

    def _end(self, name: str, payload: Mapping[str, Any], raw: bytes, events: list[Event]) -> None:
        if name == "error":
            raise error_in_body(payload.get("error") or payload)
        response = payload.get("response")
        if not isinstance(response, dict):
            raise broken("its last event has no response")
        if name == "response.failed":
            raise error_in_body(response.get("error"))
        self._ended = True
        finish = Event(
            Kind.FINISH,
            raw=raw,
            wire=RESPONSES,
            parse=_choices_of,
            usage=usage_of(response.get("usage")),
            finish_reasons=finish_reasons_of({"status": name.removeprefix("response."), **response}),
        )
        events += [finish, Event(Kind.DONE, wire=RESPONSES, choices=())]

    def _fail(self, error: UpstreamError, events: list[Event]) -> None:
        self._ended = True
        events.append(Event(Kind.ERROR, choices=(), error=error))


def _is_whole(rest: bytes) -> bool:
    """Is what came last an event, or was it cut off in the middle?"""
    try:
        return bool(parsed_object(data_of(rest + b"\n\n") or b""))
    except UpstreamError:
        return False


def _passed(raw: bytes, chunks: int) -> PassedEvent:
    return PassedEvent(raw, RESPONSES, _choices_of, chunks)


def _choices_of(raw: bytes) -> Sequence[Mapping[str, Any]]:
    """Return the canonical choices of all the events in `raw`."""
    return [
        choice
        for event in raw.split(b"\n\n")
        if event
        for choice in choices_in(parsed_object(data_of(event + b"\n\n") or b"{}"))
    ]
