"""Turns cached entries into answers and streams, and a running stream into an entry's body."""

from collections.abc import Sequence

import orjson

from providers.call import Call
from providers.dialects import DIALECTS
from providers.dialects.openai import CHAT
from providers.errors import UpstreamError
from providers.events import Answer, Event, Kind
from proxy.assemble import assemble, disassemble
from proxy.cache import EVENTS, JSON, Entry
from proxy.completion import Completion
from proxy.renderers import ChatRenderer


class BrokenEntry(Exception):
    """A cached entry cannot be read; it counts as a miss."""


class Recording:
    """A stream's events in canonical wire form, up to a size; a larger stream is not cached."""

    def __init__(self, limit: int, completion: Completion) -> None:
        """Keep at most `limit` bytes."""
        self.fits = True
        self._pieces: list[bytes] = []
        self._room = limit
        self._renderer = ChatRenderer(completion, wants_usage=True)

    def add(self, events: Sequence[Event]) -> None:
        """Record some events."""
        if not self.fits:
            return
        piece = self._renderer.events(events)
        self._room -= len(piece)
        if self._room < 0:
            self.fits = False
            self._pieces.clear()
        else:
            self._pieces.append(piece)

    def body(self) -> bytes:
        """Return all of it."""
        return b"".join(self._pieces)


def events_of(entry: Entry, call: Call) -> list[Event]:
    """Return the events of a cached answer, whichever form it is kept in. Raises BrokenEntry."""
    if entry.form == JSON:
        try:
            whole = DIALECTS["openai"].decode(entry.body, call)
        except UpstreamError:
            raise BrokenEntry from None
        return disassemble(whole.message, entry.usage)
    decoder = DIALECTS["openai"].stream(call)
    events = [*decoder.feed(entry.body), *decoder.close()]
    if events[-1].kind is not Kind.DONE:
        raise BrokenEntry
    return events


def answer_of(entry: Entry, call: Call, completion: Completion) -> tuple[Answer, Entry | None]:
    """Return the whole answer, and the entry in JSON form if it had to be assembled just now.

    Raises BrokenEntry.
    """
    assembled: Entry | None = None
    if entry.form == EVENTS:
        events = events_of(entry, call)
        identity = f"chatcmpl-{completion.id}"
        try:
            message = assemble(events, id=identity, created=int(entry.stored_at), model=entry.model)
        except UpstreamError:  # a chunk that went through unparsed is no JSON
            raise BrokenEntry from None
        entry = assembled = Entry(
            JSON, orjson.dumps(message), entry.provider, entry.model, entry.stored_at, entry.usage
        )
    if entry.body[:1] != b"{" or entry.body[-1:] != b"}":
        raise BrokenEntry
    return Answer(body=entry.body, wire=CHAT, usage=entry.usage, finish_reasons=()), assembled
