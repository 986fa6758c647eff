"""A stream that is read into the canonical form: what all decoders of other vendors' streams share.

A subclass reads one parsed payload at a time (`read`) and says at the end whether the stream was whole
(`finished`). Whatever shape a payload has, the outcome is events: one of another shape than the vendor
documents is the vendor's failure, told as an ERROR event.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from providers.dialects.shapes import broken, parsed_object
from providers.errors import UpstreamError
from providers.events import Event, done_event, failed_event
from providers.sse import EventSplitter, data_of
from providers.usage import Usage

# What reading a field of an unexpected type ends in.
_MISSHAPEN = (AttributeError, IndexError, KeyError, TypeError, ValueError)


@contextmanager
def expected_shape() -> Iterator[None]:
    """Turn what a misshapen answer makes of the code that reads it into an UpstreamError."""
    try:
        yield
    except _MISSHAPEN:
        raise broken("its fields have the wrong shape") from None


class Splitter(Protocol):
    """Bytes in, complete records out (providers.sse, providers.ndjson)."""

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the records that `chunk` completes."""

    def rest(self) -> bytes:
        """Return what came after the last complete record."""


class TranslatedStream:
    """Server-sent events, or another framing that a subclass names, to canonical events."""

    def __init__(self) -> None:
        """Start before the first byte."""
        self._splitter = self.splitter()
        self._ended = False

    def splitter(self) -> Splitter:
        """Return what cuts the bytes into records; server-sent events unless overridden."""
        return EventSplitter()

    def payload_of(self, record: bytes) -> bytes | None:
        """Return the JSON of a record; None where it holds none."""
        return data_of(record)

    def read(self, payload: Mapping[str, Any], events: list[Event]) -> None:
        """Append what one payload says; call `end` after the last. Raises UpstreamError."""
        raise NotImplementedError

    def finished(self) -> bool:
        """Has the vendor said why every choice ended?"""
        raise NotImplementedError

    def last(self) -> Sequence[Event]:
        """Return what is still to be said before DONE: the usage, as a rule."""
        return ()

    def so_far(self) -> Usage | None:
        """Return the counts told so far, where the vendor tells some before the end."""
        return None

    def feed(self, chunk: bytes) -> Sequence[Event]:
        """Return the events completed by `chunk`; nothing after the end."""
        events: list[Event] = []
        for record in () if self._ended else self._splitter.feed(chunk):
            self._take(record, events)
            if self._ended:
                break
        return events

    def close(self) -> Sequence[Event]:
        """Return the end: DONE, or the error of a stream that ended early."""
        events: list[Event] = []
        rest = b"" if self._ended else self._splitter.rest().strip()
        if rest:  # the last record without its line end
            self._take(rest + b"\n\n", events)
        if not self._ended:
            self.end(events)
        return events

    def end(self, events: list[Event]) -> None:
        """Append the end of the stream: whole if it is."""
        self._ended = True
        if self.finished():
            events += [*self.last(), done_event()]
        else:
            events.append(failed_event(broken("the stream ended without a finish reason")))

    def _take(self, record: bytes, events: list[Event]) -> None:
        payload = self.payload_of(record)
        if payload is None or not payload.strip():
            return
        if payload.lstrip().startswith(b"[DONE]"):  # no JSON starts so, whatever was put on its line
            self.end(events)
            return
        try:
            with expected_shape():
                self.read(parsed_object(payload), events)
        except UpstreamError as error:
            self._ended = True
            events.append(failed_event(error))
