"""Relays an opened stream to the client, event by event, and tells the truth at its end.

Nothing is retried here: content has reached the client. A stream ends with the end marker only when
it is whole; otherwise with a typed error event and no marker, unless its route has it continued
(proxy.continuation). The spool line is written before the last bytes go out. Nothing in an exit path awaits.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

import structlog

from providers.errors import UpstreamError
from providers.events import Event, Kind
from proxy.attempt import OpenStream
from proxy.continuation import Continuation
from proxy.errors import GatewayError, upstream_failed
from proxy.exchange import Exchange
from proxy.opening import GoingOn
from proxy.renderers import KEEP_ALIVE, Renderer
from proxy.vendor_response import SILENCE

log = structlog.get_logger()


async def relay(  # noqa: C901 - all that may happen to a stream, in one place
    stream: OpenStream,
    *,
    renderer: Renderer,
    exchange: Exchange,
    whole: Callable[[OpenStream], None],
    keep: Callable[[Sequence[Event]], None] | None = None,
    continuation: Continuation | None = None,
) -> AsyncIterator[bytes]:
    """Yield the client's bytes. `whole` is called once when the stream has ended whole.

    `keep` gets all events for the cache.
    """
    passing = _Passing(renderer, exchange, keep, continuation)
    events = stream.first
    try:
        while True:
            piece = passing.on(events)
            if passing.whole:
                whole(stream)
                exchange.end_ok()
            if piece:
                yield piece
            if passing.whole:
                return
            try:
                passing.check()
                arrived = await stream.response.piece()
            except UpstreamError as error:
                with GoingOn(stream, error, continuation) as going_on:
                    while comment := await going_on.comment():
                        yield comment
                    stream = going_on.stream()
                events = stream.first
                yield b": continued by %b\n\n" % stream.visit.upstream.id.encode()
                continue
            if arrived is SILENCE:
                events = ()
                yield KEEP_ALIVE
            else:
                events = stream.feed(arrived)
    except UpstreamError as error:
        stream.hang_up(error)
        yield _failed(exchange, stream, renderer, error)
    except (asyncio.CancelledError, GeneratorExit):
        _left(exchange, stream)
        raise
    except Exception as problem:  # noqa: BLE001 - nobody else can tell the client the truth about its stream
        stream.leave()
        exchange.so_far(stream.counted())
        yield fault(exchange, renderer, problem)


class _Passing:
    """What happens to the events of one read: seen, kept, written for the client, and recorded at the end."""

    __slots__ = ("_continuation", "_error", "_exchange", "_keep", "_renderer", "whole")

    def __init__(
        self,
        renderer: Renderer,
        exchange: Exchange,
        keep: Callable[[Sequence[Event]], None] | None,
        continuation: Continuation | None,
    ) -> None:
        self._renderer, self._exchange, self._keep = renderer, exchange, keep
        self._continuation = continuation
        self._error: UpstreamError | None = None
        self.whole = False

    def on(self, events: Sequence[Event]) -> bytes:
        """Return the client's bytes; an ERROR at the end is for `check`."""
        if not events:
            return b""
        exchange, last = self._exchange, events[-1]
        if last.error is not None:
            self._error, events = last.error, events[:-1]
        exchange.see(events)
        if self._continuation is not None:
            events = self._continuation.see(events)
        if self._keep is not None:
            self._keep(events)
        if last.kind is Kind.DONE:
            exchange.settle()  # the last piece may tell the usage
        if exchange.watching is not None:
            events = exchange.watching.events(events)
        if exchange.payload is not None:
            exchange.payload.see(events)
        if last.kind is not Kind.DONE:
            return self._renderer.events(events)
        piece = self._renderer.events(events)
        self.whole = True
        return piece

    def check(self) -> None:
        """Raise the ERROR that the last events have ended in."""
        if self._error is not None:
            error, self._error = self._error, None
            raise error


def _failed(exchange: Exchange, stream: OpenStream, renderer: Renderer, error: UpstreamError) -> bytes:
    exchange.so_far(stream.counted())
    failure = upstream_failed(error, provider=stream.visit.upstream.account.name)
    exchange.broke_off(error)
    said = b""
    if exchange.watching is not None:
        try:
            said = renderer.events(exchange.watching.withheld(error))
        except Exception as problem:  # noqa: BLE001 - as in `relay`
            return fault(exchange, renderer, problem)
    exchange.end_error(failure)
    return said + renderer.error(failure)


def _left(exchange: Exchange, stream: OpenStream) -> None:
    if not exchange.ended:
        stream.leave()
        exchange.so_far(stream.counted())
        exchange.end_cancelled()


def fault(exchange: Exchange, renderer: Renderer, problem: Exception) -> bytes:
    """End a stream that has begun in a failure of ours, and return what the client is told of it."""
    if isinstance(problem, GatewayError):
        failure = problem
    else:
        log.error("relay", request_id=exchange.completion.request_id, exc_info=problem)
        failure = GatewayError("The gateway failed in the middle of this answer.", code="internal_error")
    exchange.end_error(failure)
    return renderer.error(failure)


async def replayed(stream: bytes) -> AsyncIterator[bytes]:
    """Yield a cached stream, which is in hand as a whole."""
    yield stream
