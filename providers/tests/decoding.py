"""What tests of dialects ask of streams: decode them in pieces, and compare everything that can be seen."""

from collections.abc import Iterable, Sequence
from typing import Any

from providers.call import Call
from providers.dialects.base import Dialect
from providers.events import Event


def decoded(dialect: Dialect, pieces: Iterable[bytes], call: Call) -> list[Event]:
    """Return all events of a stream."""
    decoder = dialect.stream(call)
    events = [event for piece in pieces for event in decoder.feed(piece)]
    return [*events, *decoder.close()]


def seen(events: Sequence[Event]) -> list[Any]:
    """Return everything that a relay and a renderer could see of them."""
    return [
        (event.kind, event.raw, event.wire, list(event.choices), event.usage, list(event.finish_reasons))
        + ((event.error.owner, event.error.code, event.error.message) if event.error else ())
        for event in events
    ]


def splits(text: bytes, *, most: int = 200) -> Iterable[list[bytes]]:
    """Return the text cut once at each place, in steps that keep long recordings quick, and byte by byte."""
    for place in range(0, len(text), max(len(text) // most, 1)):
        yield [text[:place], text[place:]]
    yield [text[place : place + 1] for place in range(len(text))]
