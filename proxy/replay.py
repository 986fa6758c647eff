"""Turns cached entries into answers and streams, and a running stream into an entry's body."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import orjson

from providers.call import Call
from providers.dialects import READERS
from providers.errors import UpstreamError
from providers.events import Answer, Event, Kind
from providers.wires import CHAT, COMPLETIONS, MESSAGES, RESPONSES
from proxy.assemble import assemble, disassemble
from proxy.cache import EVENTS, JSON, BrokenEntry, Entry
from proxy.completion import Completion
from proxy.native_completions import CompletionsForm
from proxy.native_messages import NativeMessages
from proxy.native_responses import ResponsesForm
from proxy.renderers import ChatRenderer


class NativeForm(Protocol):
    """Between a stream and a whole answer in a client's own format, where the canonical form says less."""

    def assemble(self, stream: bytes) -> bytes:
        """Return the whole answer that the bytes of a finished stream add up to. Raises BrokenEntry."""

    def disassemble(self, body: bytes) -> bytes:
        """Return the bytes of a stream that would have said the whole answer. Raises BrokenEntry."""


NATIVE_FORMS: Mapping[str, NativeForm] = {
    COMPLETIONS: CompletionsForm(),
    MESSAGES: NativeMessages(),
    RESPONSES: ResponsesForm(),
}


class Recording:
    """A stream's events in wire form, up to a size; a larger stream is not cached.

    Where the vendor speaks the client's format the bytes are the vendor's, else they are canonical.
    """

    def __init__(self, limit: int, completion: Completion) -> None:
        """Keep at most `limit` bytes."""
        self.fits = True
        self.wire = CHAT
        self._pieces: list[bytes] = []
        self._room = limit
        self._renderer = ChatRenderer(completion, wants_usage=True)

    def add(self, events: Sequence[Event]) -> None:
        """Record some events."""
        if not self.fits:
            return
        wire = events[0].wire if events else ""
        if wire and wire != CHAT:
            self.wire = wire
            piece = b"".join([event.raw for event in events])
        else:
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
    reader = READERS.get(entry.wire)
    if reader is None:
        raise BrokenEntry
    kept = call._replace(wire=entry.wire)
    if entry.form == JSON and entry.wire in NATIVE_FORMS:
        entry = entry._replace(form=EVENTS, body=NATIVE_FORMS[entry.wire].disassemble(entry.body))
    if entry.form == JSON:
        try:
            whole = reader.decode(entry.body, kept)
        except UpstreamError:
            raise BrokenEntry from None
        return disassemble(whole.message, entry.usage)
    decoder = reader.stream(kept)
    events = [*decoder.feed(entry.body), *decoder.close()]
    if events[-1].kind is not Kind.DONE:
        raise BrokenEntry
    return events


def streamed(answer: Answer, call: Call) -> Sequence[Event]:
    """Return the events of a stream that would have said a whole answer, in its own format where that is one.

    `call` is as the vendor was asked. Raises BrokenEntry.
    """
    form = NATIVE_FORMS.get(answer.wire)
    if form is None:
        return disassemble(answer.message, answer.usage)
    return READERS[answer.wire].stream(call).feed(form.disassemble(answer.body))


def answer_of(entry: Entry, call: Call, completion: Completion) -> tuple[Answer, Entry | None]:
    """Return the whole answer, and the entry in JSON form if it had to be assembled just now.

    Raises BrokenEntry.
    """
    assembled: Entry | None = None
    if entry.form == EVENTS and entry.wire in NATIVE_FORMS:
        body = NATIVE_FORMS[entry.wire].assemble(entry.body)
        entry = assembled = entry._replace(form=JSON, body=body)
    if entry.form == EVENTS:
        events = events_of(entry, call)
        identity = f"chatcmpl-{completion.id}"
        try:
            message = assemble(events, id=identity, created=int(entry.stored_at), model=entry.model)
        except UpstreamError:  # a chunk that went through unparsed is no JSON
            raise BrokenEntry from None
        entry = assembled = entry._replace(form=JSON, body=orjson.dumps(message), wire=CHAT)
    if entry.body[:1] != b"{" or entry.body[-1:] != b"}":
        raise BrokenEntry
    return Answer(body=entry.body, wire=entry.wire, usage=entry.usage, finish_reasons=()), assembled
