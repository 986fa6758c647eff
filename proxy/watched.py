"""Answers in hand before the eyes of the response middlewares: what they are shown, and in which order.

A whole answer is shown before its head, which may speak of it; a stream's head comes first. The end is told
when both are done, so that a middleware that fails is in the record.
"""

from collections.abc import AsyncIterator, Callable, Sequence

from django.http import HttpResponseBase

from providers.call import Call
from providers.dialects import READERS
from providers.errors import UpstreamError
from providers.events import Answer, Event
from providers.wires import CHAT, EMBEDDINGS
from proxy.cache import BrokenEntry, Entry
from proxy.errors import GatewayError
from proxy.exchange import Exchange
from proxy.http import JsonReply, StreamReply, WireHeader
from proxy.middleware.chain import Watching
from proxy.relay import fault
from proxy.renderers import Renderer, enveloped
from proxy.replay import answer_of, events_of


def show_head(reply: StreamReply, watching: Watching, *, give_up: Callable[[], object]) -> None:
    """Show a stream's head. Raises GatewayError, when `give_up` has let go of what is open."""
    try:
        watching.head(reply.wire_headers)
    except GatewayError:
        give_up()
        raise


def reply_watched(
    answer: Answer, headers: Sequence[WireHeader], *, exchange: Exchange, renderer: Renderer
) -> JsonReply:
    """Return the reply that they make of a whole answer. Raises GatewayError."""
    watching = exchange.watching
    assert watching is not None
    answer = enveloped(watching.answer(answer), exchange.completion)
    reply = JsonReply(renderer.answer(answer), headers)
    watching.head(reply.wire_headers)
    if exchange.payload is not None:
        exchange.payload.answered(reply.content)
    exchange.end_ok()
    return reply


def replay_watched(
    entry: Entry, headers: Sequence[WireHeader], *, call: Call, exchange: Exchange, renderer: Renderer
) -> tuple[HttpResponseBase, Entry | None]:
    """Return what they make of a cached answer, and the entry in JSON form if it had to be assembled.

    Raises GatewayError; BrokenEntry, before anybody has seen anything of it.
    """
    watching = exchange.watching
    assert watching is not None
    if not call.stream:
        answer, assembled = answer_of(entry, call, exchange.completion)
        answer = _read(answer, call, exchange, changes=watching.changes_events)
        exchange.usage = entry.usage
        return reply_watched(answer, headers, exchange=exchange, renderer=renderer), assembled
    events = events_of(entry, call)
    _require_readable(events)
    exchange.usage = entry.usage
    replayed = _replayed(events, watching, exchange=exchange, renderer=renderer)
    reply = StreamReply(replayed, headers, abandon=exchange.end_cancelled)
    watching.head(reply.wire_headers)
    return reply, None


async def _replayed(
    events: Sequence[Event], watching: Watching, *, exchange: Exchange, renderer: Renderer
) -> AsyncIterator[bytes]:
    try:
        events = watching.events(events)
        piece = renderer.events(events)
        if exchange.payload is not None:
            exchange.payload.see(events)
        exchange.end_ok()
    except Exception as problem:  # noqa: BLE001 - the head is gone: the client still gets the truth
        piece = fault(exchange, renderer, problem)
    yield piece


def _read(answer: Answer, call: Call, exchange: Exchange, *, changes: bool) -> Answer:
    """Return a cached answer with its canonical form; as nothing but that where it may be changed."""
    reader = READERS.get(answer.wire)
    if reader is None:
        return answer
    try:
        message = reader.decode(answer.body, call._replace(wire=answer.wire)).message
    except (UpstreamError, ValueError):
        raise BrokenEntry from None
    native = answer.wire not in (CHAT, EMBEDDINGS)
    whole = Answer(
        body=b"" if native and changes else answer.body,
        wire="" if native and changes else answer.wire,
        message=message,
        usage=answer.usage,
        finish_reasons=answer.finish_reasons,
    )
    return enveloped(whole, exchange.completion)


def _require_readable(events: Sequence[Event]) -> None:
    try:
        for event in events:
            _ = event.choices
    except UpstreamError:  # a chunk that went through unparsed is no JSON
        raise BrokenEntry from None
