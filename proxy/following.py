"""Answers a request from another's flight (proxy.flights)."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from django.http import HttpResponseBase

from providers.call import Call
from providers.errors import Owner, UpstreamError
from providers.events import Event, Kind
from proxy.answering import replay
from proxy.cache import BrokenEntry, Entry
from proxy.errors import upstream_failed
from proxy.exchange import Exchange
from proxy.flights import Flight
from proxy.http import StreamReply
from proxy.relay import fault
from proxy.renderers import KEEP_ALIVE, Renderer
from proxy.reply_headers import wire_headers
from proxy.watched import show_head

NEVER_S = 86_400.0


@dataclass(slots=True, kw_only=True)
class Following:
    """One request that follows. `keep_alive_s`: after so long without a byte a comment is sent, 0: never."""

    flight: Flight
    exchange: Exchange
    call: Call
    renderer: Renderer
    keep_alive_s: float
    _seen: int = 0

    async def answer(self) -> HttpResponseBase | None:
        """Return the answer; None where the flight has failed before there was anything of it."""
        flight = self.flight
        flight.join()
        try:
            while not flight.over and not (self.call.stream and flight.batches):
                await flight.more()
        except BaseException:
            flight.leave()
            raise
        if flight.over and (flight.entry is not None or not (self.call.stream and flight.whole)):
            flight.leave()
            return None if flight.entry is None else self._replayed(flight.entry)
        completion = self.exchange.completion
        completion.cache = "hit"
        completion.provider, completion.model = flight.provider
        completion.ttft_ms = self.exchange.elapsed_ms()

        def abandon() -> None:
            """The client left before the first piece could be asked for."""
            flight.leave()
            self.exchange.end_cancelled()

        headers = [*wire_headers(completion), (b"age", b"0")]
        reply = StreamReply(self._followed(), headers, abandon=abandon)
        if self.exchange.watching is not None:
            show_head(reply, self.exchange.watching, give_up=flight.leave)
        return reply

    def _replayed(self, entry: Entry) -> HttpResponseBase | None:
        self.exchange.completion.cache = "hit"
        try:
            reply, _ = replay(entry, call=self.call, exchange=self.exchange, renderer=self.renderer)
        except BrokenEntry:
            self.exchange.completion.cache = "miss"
            return None
        return reply

    async def _followed(self) -> AsyncIterator[bytes]:
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
        piece = self.renderer.events(events)
        if whole:
            exchange.end_ok()
        return piece

    async def _happens(self) -> bool:
        """Wait until something happens; False: a comment is due."""
        try:
            async with asyncio.timeout(self.keep_alive_s or NEVER_S):
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
