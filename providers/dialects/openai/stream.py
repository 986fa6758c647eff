"""OpenAI's streams of chat and of text completions: passed on, and searched for what the relay must know.

Finish reasons, usage and errors are found by searching the bytes; only what the search hits is parsed.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from providers import usage as usages
from providers.dialects.openai.errors import error_in_body
from providers.dialects.openai.shapes import chunk_choices, text_choices
from providers.dialects.passed import PassedStream
from providers.dialects.shapes import broken, parsed_object
from providers.errors import UpstreamError
from providers.events import Event, Kind, PassedEvent
from providers.sse import data_of
from providers.usage import Usage
from providers.wires import CHAT, COMPLETIONS

DONE = b"data: [DONE]\n\n"
# An escaped quote precedes these words inside a string, so they match keys only.
_NOTABLE = re.compile(rb'"finish_reason"\s*:\s*"|"usage"\s*:\s*\{|"error"\s*:')


class OpenAIStream(PassedStream):
    """Server-sent chunks to events, raw bytes kept."""

    wire = CHAT
    end = DONE

    def __init__(self, *, choices: int) -> None:
        """Expect `choices` parallel answers."""
        super().__init__()
        # With several choices every chunk is parsed: each choice must finish.
        self._in_blocks = choices == 1
        self._seen: set[int] = set()
        self._finished: set[int] = set()
        self._passing = False  # content has been seen, so that content may pass unparsed

    def _one(self, raw: bytes) -> Event:
        """Return the one event in `raw`."""
        if self._passing and b"\r" not in raw and _plain_from(raw, 0)[0]:
            return PassedEvent(raw, self.wire, self._choices_of)
        return self._looked_into(raw)

    def _events_in(self, block: bytes) -> list[Event]:
        """Return the events of `block`; what may pass unparsed is one event, however many chunks it holds."""
        events: list[Event] = []
        start, end, simple = 0, len(block), True
        while start < end and not self._ended:
            chunks, stop = _plain_from(block, start) if self._passing and simple else (0, start)
            if chunks:
                events.append(PassedEvent(block[start:stop], self.wire, self._choices_of, chunks))
            else:
                simple = simple and stop < end
                stop = block.index(b"\n\n", start) + 2
                events.append(self._one(block[start:stop]))
            start = stop
        return events

    def so_far(self) -> Usage | None:
        """Return nothing: each count is told in its event."""
        return None

    def _looked_into(self, raw: bytes) -> Event:
        try:
            return self._event(raw)
        except UpstreamError as error:
            return self._failed(error)

    def _event(self, raw: bytes) -> Event:
        payload = data_of(raw)
        if payload is None or not payload.strip():
            return Event(Kind.META, raw=raw, wire=self.wire, choices=())
        if payload.strip() == b"[DONE]":
            return self._end(raw)
        chunk = parsed_object(payload)
        if chunk.get("error"):
            return self._failed(error_in_body(chunk["error"]))
        return self._parsed(raw, chunk)

    def _end(self, raw: bytes) -> Event:
        if not self._finished or self._seen - self._finished:
            return self._failed(broken("the stream ended without a finish reason"))
        self._ended, self._passing = True, False
        return Event(Kind.DONE, raw=raw, wire=self.wire, choices=())

    def _failed(self, error: UpstreamError) -> Event:
        self._ended, self._passing = True, False
        return Event(Kind.ERROR, choices=(), error=error)

    def _parsed(self, raw: bytes, chunk: Mapping[str, Any]) -> Event:
        choices = self.choices_in(chunk)
        usage = usages.from_openai(chunk.get("usage"))
        reasons = []
        for choice in choices:
            index = usages.count(choice.get("index"))
            self._seen.add(index)
            if choice.get("finish_reason"):
                reasons.append(choice["finish_reason"])
                self._finished.add(index)
        has_content = any(_has_content(choice.get("delta")) for choice in choices)
        self._passing = self._in_blocks and (self._passing or has_content)
        kind = (
            Kind.FINISH
            if reasons
            else Kind.CONTENT
            if has_content
            else Kind.USAGE
            if usage is not None and not choices
            else Kind.META
        )
        return Event(kind, raw=raw, wire=self.wire, choices=choices, usage=usage, finish_reasons=reasons)

    def choices_in(self, chunk: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        """Return the canonical choices of one chunk. Raises UpstreamError."""
        return chunk_choices(chunk)

    def _choices_of(self, raw: bytes) -> Sequence[Mapping[str, Any]]:
        """Return the choices of all the events in `raw`."""
        return [
            choice
            for event in raw.split(b"\n\n")
            if event
            for choice in self.choices_in(parsed_object(data_of(event + b"\n\n") or b"{}"))
        ]


class CompletionsStream(OpenAIStream):
    """The chunks of `/completions`: `text` stands where chat has a delta."""

    wire = COMPLETIONS

    def choices_in(self, chunk: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        """Return the canonical choices of one chunk. Raises UpstreamError."""
        return text_choices(chunk, "delta")


def _has_content(delta: Any) -> bool:
    return isinstance(delta, dict) and any(value for key, value in delta.items() if key != "role")


def _plain_from(block: bytes, start: int) -> tuple[int, int]:
    """Return how many plain events stand at `start`, and where they end.

    Plain is one line of a JSON object without anything notable. `block` holds whole events, its lines end
    in LF. No event, ending at `start`: the first one is not plain. No event, ending at the end: something
    among them is framed in another way, and looking again at each of them would cost too much.
    """
    if not block.startswith(b"data: {", start):
        return 0, start
    found = _NOTABLE.search(block, start)
    stop = len(block) if found is None else block.rfind(b"\n\n", start, found.start()) + 2
    if stop <= start + 1:
        return 0, start
    chunks = block.count(b"}\n\ndata: {", start, stop) + 1
    if block.count(b"\n", start, stop) != 2 * chunks or not block.endswith(b"}\n\n", start, stop):
        return 0, len(block)
    return chunks, stop
