"""The canonical form alone: for answers that are looked into, changed or continued on their way.

A call in this form is no vendor's own, and its events have no raw bytes: each says in `choices` all there
is. What only one vendor's format can say is lost, so this is only for who needs it.
"""

from collections.abc import Sequence

from providers.call import Call
from providers.dialects.base import StreamDecoder
from providers.events import Event, Kind, done_event, usage_event
from providers.usage import Usage
from providers.wires import CHAT


def canonical_form(call: Call) -> Call:
    """Return the call as if the client had spoken the canonical form."""
    return call._replace(wire=CHAT, sent=call.body, raw=b"", verbatim=False)


def plain(events: Sequence[Event]) -> list[Event]:
    """Return the events without raw bytes, one for each piece of an answer."""
    return [piece for event in events for piece in _pieces(event)]


class PlainStream:
    """A decoder whose events are plain."""

    def __init__(self, decoder: StreamDecoder) -> None:
        """Read what `decoder` reads."""
        self._decoder = decoder

    def feed(self, chunk: bytes) -> Sequence[Event]:
        """Return the events completed by `chunk`."""
        return plain(self._decoder.feed(chunk))

    def close(self) -> Sequence[Event]:
        """Return what the end of the bytes completes."""
        return plain(self._decoder.close())

    def so_far(self) -> Usage | None:
        """Return the counts told so far and in no event yet."""
        return self._decoder.so_far()


def _pieces(event: Event) -> list[Event]:
    if not event.raw or event.kind is Kind.ERROR:
        return [event]
    if event.kind is Kind.DONE:
        return [done_event()]
    if event.kind is Kind.USAGE and event.usage is not None:
        return [usage_event(event.usage)]
    pieces = [Event(event.kind, choices=[choice]) for choice in event.choices]
    if pieces and (event.usage is not None or event.finish_reasons):
        last = pieces[-1]
        last.usage, last.finish_reasons = event.usage, event.finish_reasons
    return pieces
