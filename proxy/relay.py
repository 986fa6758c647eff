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
    keep: Callable[[Sequence[Event]], None] = lambda _: None,
) -> AsyncIterator[bytes]:
    """Yield the client's bytes. `whole` is called once when the stream has ended whole.

    `keep` gets all events for the cache.
    """
    try:
        async for events in _batches(stream):
            exchange.see(events)
            keep(events)
            ends = events[-1].kind is Kind.DONE
            if ends:
                exchange.settle()  # the last piece may tell the usage
            piece = renderer.events(events)
            if ends:
                exchange.end_ok()
                whole()
            if piece:
                yield piece
    except UpstreamError as error:
        stream.response.close()
        failure: GatewayError = upstream_failed(error, provider=exchange.completion.provider)
        if exchange.completion.attempts:
            exchange.completion.attempts[-1].fail(error)
        exchange.end_error(failure)
        yield renderer.error(failure)
    except (asyncio.CancelledError, GeneratorExit):
        if not exchange.ended:
            stream.response.close()
            exchange.end_cancelled()
        raise
    except Exception:  # a fault of ours: the client still gets the truth about its stream
        log.exception("relay", request_id=exchange.completion.request_id)
        stream.response.close()
        failure = GatewayError("The gateway failed in the middle of this answer.", code="internal_error")
        exchange.end_error(failure)
        yield renderer.error(failure)


async def replayed(stream: bytes) -> AsyncIterator[bytes]:
    """Yield a cached stream, which is in hand as a whole."""
    yield stream


async def _batches(stream: OpenStream) -> AsyncIterator[Sequence[Event]]:
    """Yield events as they come, up to DONE. Raises the error a stream ends with, after what precedes it."""
    yield stream.first
    if stream.first[-1].kind is Kind.DONE:
        return
    async for events in _decoded(stream):
        error = events[-1].error
        if error is None:
            yield events
            continue
        if len(events) > 1:
            yield events[:-1]
        raise error


async def _decoded(stream: OpenStream) -> AsyncIterator[Sequence[Event]]:
    """Yield what each chunk completes, and what the end does."""
    if stream.chunks is None or stream.decoder is None:
        return
    feed = stream.decoder.feed
    async for chunk in stream.chunks:
        events = feed(chunk)
        if events:
            yield events
            if events[-1].kind is Kind.DONE:
                # Closed here and not by the garbage collector, which would make a task of it.
                await stream.chunks.aclose()  # type: ignore[attr-defined]  # a generator
                return
    events = stream.decoder.close()
    if events:
        yield events
