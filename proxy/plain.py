"""The canonical form alone: for answers that are looked into, changed or continued on their way.

A call in this form is no vendor's own, and its events have no raw bytes: each says in `choices` all there
is. What only one vendor's format can say is lost, so this is only for who needs it.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from providers.call import Call
from providers.dialects.base import StreamDecoder
from providers.events import Event, Kind
from providers.usage import Usage
from providers.wires import CHAT, COUNT_TOKENS, EMBEDDINGS
from proxy.errors import BadRequest


def canonical_form(call: Call) -> Call:
    """Return the call as if the client had spoken the canonical form."""
    return call._replace(wire=CHAT, sent=call.body, raw=b"", verbatim=False)


def changeable(call: Call) -> Call:
    """Return the call in a form whose answer can be changed. Raises BadRequest where there is none."""
    if call.wire in (CHAT, EMBEDDINGS, COUNT_TOKENS):
        return call
    if call.only_native is not None:
        raise BadRequest(
            f"{call.only_native.message} Answers of that kind cannot go through this gateway's middleware.",
            param=call.only_native.param,
            code="not_changeable",
        )
    return canonical_form(call)


def plain(events: Iterable[Event]) -> list[Event]:
    """Return the events without raw bytes. Raises UpstreamError where a vendor's chunk is broken."""
    made: list[Event] = []
    for event in events:
        if not event.raw:
            made.append(event)
        elif event.chunks > 1:
            made += [_of_choice(choice) for choice in event.choices]
        else:
            made.append(
                Event(
                    event.kind,
                    choices=event.choices,
                    usage=event.usage,
                    finish_reasons=event.finish_reasons,
                    error=event.error,
                )
            )
    return made


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


def _of_choice(choice: Mapping[str, Any]) -> Event:
    """Return the event of one chunk among several that passed together: each has one choice, and content."""
    return Event(Kind.CONTENT, choices=[choice])
