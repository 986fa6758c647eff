"""Relays an opened stream to the client, event by event, and tells the truth at its end.

Nothing is retried here: content has reached the client. A stream ends with the end marker only when
it is whole; otherwise with a typed error event and no marker. The spool line is written before the
last bytes go out. Nothing in an exit path awaits.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

import structlog

from providers.errors import UpstreamError
from providers.events import Event, Kind
from proxy.attempt import OpenStream
from proxy.errors import GatewayError, upstream_failed
from proxy.exchange import Exchange
from proxy.renderers import Renderer

log = structlog.get_logger()


async def relay(
    stream: OpenStream,
    *,
    renderer: Renderer,
    exchange: Exchange,
    whole: Callable[[], None],
    keep: Callable[[Sequence[Event]], None] | None = None,
) -> AsyncIterator[bytes]:
    """Yield the client's bytes. `whole` is called once when the stream has ended whole.

    `keep` gets all events for the cache.
    """
    passing = _Passing(renderer, exchange, whole, keep)
    events, response, decoder = stream.first, stream.response, stream.decoder
    try:
        while True:
            if events:
                piece = passing.on(events)
                if piece:
                    yield piece
                last = events[-1]
                if last.kind is Kind.DONE:
                    return
                if last.error is not None:
                    yield _failed(exchange, stream, renderer, last.error)
                    return
            assert decoder is not None, "a stream without decoder ends with DONE"
            arrived = await response.piece()
            events = decoder.feed(arrived) if arrived else decoder.close()
    except UpstreamError as error:
        yield _failed(exchange, stream, renderer, error)
    except (asyncio.CancelledError, GeneratorExit):
        if not exchange.ended:
            stream.response.close()
            exchange.so_far(stream.counted())
            exchange.end_cancelled()
        raise
    except Exception:  # a fault of ours: the client still gets the truth about its stream
        log.exception("relay", request_id=exchange.completion.request_id)
        stream.response.close()
        failure = GatewayError("The gateway failed in the middle of this answer.", code="internal_error")
        exchange.end_error(failure)
        yield renderer.error(failure)


class _Passing:
    """What happens to the events of one read: seen, kept, written for the client, and recorded at the end."""

    __slots__ = ("_exchange", "_keep", "_renderer", "_whole")

    def __init__(
        self,
        renderer: Renderer,
        exchange: Exchange,
        whole: Callable[[], None],
        keep: Callable[[Sequence[Event]], None] | None,
    ) -> None:
        self._renderer, self._exchange, self._whole, self._keep = renderer, exchange, whole, keep

    def on(self, events: Sequence[Event]) -> bytes:
        """Return the client's bytes; an ERROR at the end is left to the caller."""
        exchange, last = self._exchange, events[-1]
        if last.error is not None:
            events = events[:-1]
        exchange.see(events)
        if self._keep is not None:
            self._keep(events)
        if last.kind is not Kind.DONE:
            return self._renderer.events(events)
        exchange.settle()  # the last piece may tell the usage
        piece = self._renderer.events(events)
        exchange.end_ok()
        self._whole()
        return piece


def _failed(exchange: Exchange, stream: OpenStream, renderer: Renderer, error: UpstreamError) -> bytes:
    stream.response.close()
    exchange.so_far(stream.counted())
    failure = upstream_failed(error, provider=exchange.completion.provider)
    if exchange.completion.attempts:
        exchange.completion.attempts[-1].fail(error)
    exchange.end_error(failure)
    return renderer.error(failure)


async def replayed(stream: bytes) -> AsyncIterator[bytes]:
    """Yield a cached stream, which is in hand as a whole."""
    yield stream
