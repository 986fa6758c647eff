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
    keep: Callable[[Sequence[Event]], None] | None,
) -> AsyncIterator[bytes]:
    """Yield the client's bytes. `whole` is called once when the stream has ended whole.

    `keep` gets all events for the cache.
    """
    try:
        async for events in _batches(stream):
            exchange.see(events)
            if keep is not None:
                keep(events)
            if events and events[-1].kind is Kind.DONE:
                exchange.end_ok()
                whole()
            piece = renderer.events(events)
            if piece:
                yield piece
    except UpstreamError as error:
        stream.response.close()
        failure: GatewayError = upstream_failed(error, provider=exchange.completion.provider)
        if exchange.completion.attempts:
            attempt = exchange.completion.attempts[-1]
            attempt.outcome, attempt.error = error.code or error.owner.value, error.message
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


async def replayed(events: Sequence[Event], renderer: Renderer) -> AsyncIterator[bytes]:
    """Yield a cached stream."""
    yield renderer.events(events)


async def _batches(stream: OpenStream) -> AsyncIterator[Sequence[Event]]:
    """Yield events as they come, up to DONE. Raises the error a stream ends with."""
    yield stream.first
    if stream.chunks is None or stream.decoder is None or stream.first[-1].kind is Kind.DONE:
        return
    feed = stream.decoder.feed
    async for chunk in stream.chunks:
        events = feed(chunk)
        if not events:
            continue
        last = events[-1]
        if last.kind is Kind.ERROR and last.error is not None:
            if len(events) > 1:
                yield events[:-1]
            raise last.error
        yield events
        if last.kind is Kind.DONE:
            return
    events = stream.decoder.close()
    if events and events[-1].error is not None:
        raise events[-1].error
    yield events
