"""A stream that a client gets in the vendor's own format: what decoders that pass bytes on share.

Whole events of one read are looked at together where their framing is simple, else one by one. What is
not looked into passes unparsed; a subclass knows what that may be.
"""

from collections.abc import Sequence

from providers.events import Event
from providers.sse import EventSplitter


class PassedStream:
    """Server-sent events to events, raw bytes kept."""

    end = b""  # the vendor's last event, for one that forgot it

    def __init__(self) -> None:
        """Start before the first byte."""
        self._splitter = EventSplitter()
        self._in_blocks = True  # may several events be looked at together?
        self._ended = False

    def feed(self, chunk: bytes) -> Sequence[Event]:
        """Return the events completed by `chunk`; nothing after the end."""
        block = self._splitter.feed_block(chunk) if self._in_blocks and not self._ended else None
        if block is not None:
            return self._events_in(block)
        events: list[Event] = []
        for raw in self._splitter.feed(chunk):
            if self._ended:
                break
            events.append(self._one(raw))
        return events

    def close(self) -> Sequence[Event]:
        """Add the end a vendor forgot, or the error of a stream that ended early."""
        events = []
        rest = b"" if self._ended else self._splitter.rest().strip()
        if rest:  # some servers end without the last blank line
            events.append(self._looked_into(rest + b"\n\n"))
        if not self._ended:
            events.append(self._end(self.end))
        return events

    def _events_in(self, block: bytes) -> list[Event]:
        """Return the events of `block`, which holds whole ones whose lines end in LF."""
        raise NotImplementedError

    def _one(self, raw: bytes) -> Event:
        """Return the one event in `raw`."""
        raise NotImplementedError

    def _looked_into(self, raw: bytes) -> Event:
        """Return the one event in `raw`, which may be half of one: never unparsed."""
        return self._one(raw)

    def _end(self, raw: bytes) -> Event:
        """Return the end of the stream: DONE, or ERROR if it is not whole."""
        raise NotImplementedError
