"""Answers a request from another's flight (proxy.flights)."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass

import structlog
from django.http import HttpResponseBase

from providers.call import Call
from providers.errors import Owner, UpstreamError
from providers.events import Event, Kind
from proxy.answering import replay
from proxy.cache import BrokenEntry, Entry
from proxy.errors import GatewayError, upstream_failed
from proxy.exchange import Exchange
from proxy.flights import Flight
from proxy.http import StreamReply
from proxy.relay import fault, replayed
from proxy.renderers import KEEP_ALIVE, Renderer
from proxy.reply_headers import wire_headers
from proxy.watched import show_head

log = structlog.get_logger()


@dataclass(slots=True, kw_only=True)
class Following:
    """One request that follows. `keep_alive_s`: after so long without a byte a comment is sent.

    `alone` answers without this flight, if that fails after the first comment has gone out.
    """

    flight: Flight
    exchange: Exchange
    call: Call
    renderer: Renderer
    keep_alive_s: float
    alone: Callable[[], Awaitable[HttpResponseBase]]
    _seen: int = 0

    async def answer(self) -> HttpResponseBase | None:
        """Return the answer; None where the flight has failed before there was anything of it."""
        flight = self.flight
        flight.join()
        try:
            while not self._ready():
                if not self.call.stream:
                    await flight.more()
                elif not await self._happens():
                    return self._streamed(self._late())
        except BaseException:
            flight.leave()
            raise
        if self._passes():
            self._begin()
            return self._streamed(self._followed())
        flight.leave()
        return None if flight.entry is None else self._replayed(flight.entry)

    def _ready(self) -> bool:
        return self.flight.over or (self.call.stream and bool(self.flight.batches))

    def _passes(self) -> bool:
        """Is there a stream to be passed on as it comes? One that is over and kept is better replayed."""
        flight = self.flight
        if not self.call.stream or not flight.batches:
            return False
        return not flight.over or (flight.entry is None and flight.whole)

    def _begin(self) -> None:
        completion = self.exchange.completion
        completion.cache = "hit"
        completion.provider, completion.model = self.flight.provider
        completion.ttft_ms = self.exchange.elapsed_ms()

    def _streamed(self, pieces: AsyncGenerator[bytes, None]) -> StreamReply:
        def abandon() -> None:
            """The client left before the first piece could be asked for."""
            self.flight.leave()
            self.exchange.end_cancelled()

        headers = wire_headers(self.exchange.completion)
        if self.exchange.completion.cache == "hit":
            headers.append((b"age", b"0"))
        reply = StreamReply(pieces, headers, abandon=abandon)
        if self.exchange.watching is not None:
            show_head(reply, self.exchange.watching, give_up=self.flight.leave)
        return reply

    async def _late(self) -> AsyncGenerator[bytes, None]:
        """Send comments until there is something; if that is the flight's failure, answer without it."""
        try:
            while not self._ready():
                yield KEEP_ALIVE
                await self._happens()
        except (asyncio.CancelledError, GeneratorExit):
            self.flight.leave()
            self.exchange.end_cancelled()
            raise
        if self._passes():
            self._begin()
            pieces: AsyncIterator[bytes] = self._followed()
        else:
            self.flight.leave()
            pieces = await self._otherwise()
        try:
            async for piece in pieces:
                yield piece
        finally:
            await pieces.aclose()  # type: ignore[attr-defined]  # a generator; its exit paths never wait

    async def _otherwise(self) -> AsyncIterator[bytes]:
        """Return the pieces of another answer; by now its failure can only be an event."""
        exchange, entry = self.exchange, self.flight.entry
        try:
            reply = None if entry is None else self._replayed(entry)
            reply = reply or await self.alone()
        except asyncio.CancelledError:
            exchange.end_cancelled()
            raise
        except GatewayError as error:
            problem = error
        except Exception:  # a fault of ours, and the head is gone: the client still gets the truth
            log.exception("following", request_id=exchange.completion.request_id)
            problem = GatewayError("The gateway failed. This was logged.", code="internal_error")
        else:
            assert isinstance(reply, StreamReply)
            return reply.pieces
        exchange.end_error(problem)
        return replayed(self.renderer.error(problem))

    def _replayed(self, entry: Entry) -> HttpResponseBase | None:
        self.exchange.completion.cache = "hit"
        try:
            reply, _ = replay(entry, call=self.call, exchange=self.exchange, renderer=self.renderer)
        except BrokenEntry:
            self.exchange.completion.cache = "miss"
            return None
        return reply

    async def _followed(self) -> AsyncGenerator[bytes, None]:
        exchange = self.exchange
        try:
            while not exchange.ended:
                yield await self._next_piece()
        except (asyncio.CancelledError, GeneratorExit):
            if not exchange.ended:
                exchange.end_cancelled()
            raise
        except UpstreamError as error:  # in a chunk that nobody has read before
            failure = upstream_failed(error, provider=exchange.completion.provider)
            yield fault(exchange, self.renderer, failure)
        except Exception as problem:  # noqa: BLE001 - nobody else can tell the client the truth
            yield fault(exchange, self.renderer, problem)
        finally:
            self.flight.leave()

    async def _next_piece(self) -> bytes:
        """Return what the client gets next: of the stream, a comment, or the truth about its end."""
        flight = self.flight
        while True:
            if self._seen < len(flight.batches):
                piece = self._passed(flight.batches[self._seen])
                self._seen += 1
                if piece:
                    return piece
            elif flight.over:
                return self._broken(flight.error)
            elif not await self._happens():
                return KEEP_ALIVE

    def _passed(self, events: Sequence[Event]) -> bytes:
        exchange = self.exchange
        exchange.see(events)
        whole = bool(events) and events[-1].kind is Kind.DONE
        if whole:
            exchange.settle()
        if exchange.watching is not None:
            events = exchange.watching.events(events)
        if exchange.payload is not None:
            exchange.payload.see(events)
        piece = self.renderer.events(events)
        if whole:
            exchange.end_ok()
        return piece

    async def _happens(self) -> bool:
        """Wait until something happens; False: a comment is due."""
        try:
            async with asyncio.timeout(self.keep_alive_s):
                await self.flight.more()
        except TimeoutError:
            return False
        return True

    def _broken(self, error: UpstreamError | None) -> bytes:
        problem = error or UpstreamError("The answer broke off.", owner=Owner.HEALTH, code="upstream_reset")
        failure = upstream_failed(problem, provider=self.exchange.completion.provider)
        watching = self.exchange.watching
        said = b"" if watching is None else self.renderer.events(watching.withheld(problem))
        self.exchange.end_error(failure)
        return said + self.renderer.error(failure)
