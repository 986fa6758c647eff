"""Answers one admitted request: from the cache (`replay`), or from an upstream, whole or streamed.

A stream's head is held until the first content, or until the first keep-alive comment is due;
until then failover may still change status and headers.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import structlog
from django.http import HttpResponseBase

from providers.call import Call
from providers.errors import UpstreamError
from providers.upstream import Upstream
from providers.usage import Usage
from proxy import cache, failover
from proxy.attempt import Attempting, OpenStream
from proxy.cache import BrokenEntry, Entry, Policy
from proxy.completion import Completion
from proxy.deadline import Deadlines
from proxy.errors import GatewayError, upstream_failed
from proxy.exchange import Exchange
from proxy.http import JsonReply, StreamReply, WireHeader
from proxy.relay import relay, replayed
from proxy.renderers import KEEP_ALIVE, Renderer, enveloped
from proxy.replay import Recording, answer_of, events_of
from proxy.routing import Resolved
from proxy.store.base import Store
from proxy.transport import Transport

log = structlog.get_logger()

Result = TypeVar("Result")
KEEP_ALIVE_S = 15.0


def replay(
    entry: Entry, *, call: Call, exchange: Exchange, renderer: Renderer
) -> tuple[HttpResponseBase, Entry | None]:
    """Return a cached answer as JSON or as a stream, and the entry in JSON form if it had to be assembled.

    Raises BrokenEntry for one that cannot be read.
    """
    completion = exchange.completion
    completion.provider, completion.model, completion.usage = entry.provider, entry.model, entry.usage
    assembled: Entry | None = None
    if call.stream:
        piece = _stream_of(entry, call, renderer)
    else:
        answer, assembled = answer_of(entry, call, completion)
        piece = renderer.answer(answer)
    exchange.usage = entry.usage
    headers = wire_headers(completion)
    headers.append((b"age", b"%d" % max(int(completion.at - entry.stored_at), 0)))
    exchange.end_ok()
    return StreamReply(replayed(piece), headers) if call.stream else JsonReply(piece, headers), assembled


def _stream_of(entry: Entry, call: Call, renderer: Renderer) -> bytes:
    try:
        return renderer.events(events_of(entry, call))
    except UpstreamError:  # a chunk that went through unparsed is no JSON
        raise BrokenEntry from None


@dataclass(slots=True, kw_only=True)
class Answering:
    """One request's answer in the making. `spawn` starts a task that the gateway keeps track of."""

    exchange: Exchange
    call: Call
    resolved: Resolved
    renderer: Renderer
    policy: Policy
    ttl_s: float
    store: Store
    transport: Transport
    deadlines: Deadlines
    env: Any
    spawn: Callable[[Any], "asyncio.Task[Any]"]

    async def answer(self) -> HttpResponseBase:
        """Fail over along the targets. Raises GatewayError when none answers."""
        attempting = Attempting(
            call=self.call,
            exchange=self.exchange,
            transport=self.transport,
            deadlines=self.deadlines,
            deadline=self.deadlines.loop.time() + self._total_s(),
            headers={},
        )
        if self.call.stream:
            return await self._stream(attempting)
        answer = await self._first_success(attempting, attempting.answer)
        self.exchange.take_answer(answer)
        self.exchange.settle()
        answer = enveloped(answer, self.exchange.completion)
        if self.policy.write and cache.storable(answer.finish_reasons):
            self._keep(cache.JSON, answer.body, answer.usage, wire=answer.wire)
        body = self.renderer.answer(answer)
        self.exchange.end_ok()
        return JsonReply(body, self._headers(attempting))

    async def _stream(self, attempting: Attempting) -> HttpResponseBase:
        opening: asyncio.Task[OpenStream] = self.spawn(self._first_success(attempting, attempting.stream))
        try:
            await _ended_or_due(opening, KEEP_ALIVE_S)
        except asyncio.CancelledError:
            _give_up(opening)
            raise
        body = self._relayed(opening.result()) if opening.done() else self._late(opening)

        def abandon() -> None:
            """The client left before the first piece could be asked for."""
            _give_up(opening)
            self.exchange.end_cancelled()

        return StreamReply(body, self._headers(attempting), abandon=abandon)

    def _headers(self, attempting: Attempting) -> list[WireHeader]:
        headers = wire_headers(self.exchange.completion)
        for name, value in attempting.headers.items():
            headers.append((name.encode("latin-1", "replace"), value.encode("latin-1", "replace")))
        return headers

    async def _late(self, opening: "asyncio.Task[OpenStream]") -> AsyncIterator[bytes]:
        """Send comments until the stream opens; by now its failure can only be an event."""
        try:
            while not opening.done():
                yield KEEP_ALIVE
                await _ended_or_due(opening, KEEP_ALIVE_S)
            stream = opening.result()
        except (asyncio.CancelledError, GeneratorExit):
            _give_up(opening)
            self.exchange.end_cancelled()
            raise
        except GatewayError as error:
            self.exchange.end_error(error)
            yield self.renderer.error(error)
            return
        except Exception:  # a fault of ours, and the head is gone: the client still gets the truth
            log.exception("opening", request_id=self.exchange.completion.request_id)
            failure = GatewayError("The gateway failed. This was logged.", code="internal_error")
            self.exchange.end_error(failure)
            yield self.renderer.error(failure)
            return
        relayed = self._relayed(stream)
        try:
            async for piece in relayed:
                yield piece
        finally:
            await relayed.aclose()  # type: ignore[attr-defined]  # a generator; its exit paths never wait

    def _relayed(self, stream: OpenStream) -> AsyncIterator[bytes]:
        exchange = self.exchange
        exchange.completion.ttft_ms = exchange.elapsed_ms()
        recording = None
        if self.policy.write:
            recording = Recording(self.env.cache_max_bytes // 4, exchange.completion)

        def whole() -> None:
            if stream.response.over:
                stream.response.close()
            else:
                self.spawn(stream.response.finish())
            if recording is not None and recording.fits and cache.storable(exchange.finish_reasons):
                self._keep(cache.EVENTS, recording.body(), exchange.usage, wire=recording.wire)

        keep = None if recording is None else recording.add
        return relay(stream, renderer=self.renderer, exchange=exchange, whole=whole, keep=keep)

    async def _first_success(
        self, attempting: Attempting, attempt: Callable[[Upstream], Awaitable[Result]]
    ) -> Result:
        try:
            return await failover.run(
                self.resolved.upstreams,
                attempt,
                max_attempts=self.env.max_retries,
                deadline=attempting.deadline,
            )
        except UpstreamError as error:
            failure = upstream_failed(error, provider=self.exchange.completion.provider)
            failure.headers |= attempting.headers
            raise failure from None

    def _keep(self, form: str, body: bytes, usage: Usage | None, *, wire: str) -> None:
        completion = self.exchange.completion
        entry = Entry(
            form=form,
            body=body,
            provider=completion.provider,
            model=completion.model,
            stored_at=time.time(),
            usage=usage,
            wire=wire,
        )
        self.store.put(self.policy.key, entry, ttl_s=self.ttl_s)

    def _total_s(self) -> float:
        return self.resolved.total_s if self.call.stream else self.resolved.total_json_s


async def _ended_or_due(task: "asyncio.Task[Any]", seconds: float) -> None:
    """Wait until the task has ended or the time is up: asyncio.wait for one task, at a third of its cost."""
    loop = asyncio.get_running_loop()
    waiting: asyncio.Future[None] = loop.create_future()

    def wake(_: object = None) -> None:
        if not waiting.done():
            waiting.set_result(None)

    timer = loop.call_later(seconds, wake)
    task.add_done_callback(wake)
    try:
        await waiting
    finally:
        timer.cancel()
        task.remove_done_callback(wake)


def _give_up(opening: "asyncio.Task[OpenStream]") -> None:
    """Cancel an opening that nobody waits for any more, or close what it has opened."""
    if not opening.cancel() and not opening.cancelled() and opening.exception() is None:
        opening.result().response.close()


def wire_headers(completion: Completion) -> list[WireHeader]:
    """Return what every answer says about itself."""
    facts = (completion.provider, completion.model, completion.cache, len(completion.attempts))
    return [(b"x-request-id", completion.request_id.encode("latin-1", "replace")), *_facts_on_wire(*facts)]


@lru_cache(maxsize=1024)
def _facts_on_wire(provider: str, model: str, cached: str, attempts: int) -> tuple[WireHeader, ...]:
    headers = []
    if provider:
        headers += [("x-gateway-provider", provider), ("x-gateway-model", model)]
    if cached:
        headers += [("x-gateway-cache", cached), ("x-gateway-attempts", str(attempts))]
    return tuple((name.encode(), value.encode("latin-1", "replace")) for name, value in headers)


def gateway_headers(completion: Completion) -> dict[str, str]:
    """Return the same for an answer that is an error; without what is not known by then."""
    return {name.decode(): value.decode("latin-1") for name, value in wire_headers(completion) if value}


def record_failure(exchange: Exchange, problem: BaseException) -> None:
    """Record a request that ends in `problem`: an error for the client, its departure, or a fault of ours."""
    if isinstance(problem, GatewayError):
        exchange.end_error(problem)
        problem.headers = {**gateway_headers(exchange.completion), **problem.headers}
    elif isinstance(problem, asyncio.CancelledError):
        exchange.end_cancelled()
    elif isinstance(problem, Exception):
        exchange.end_error(GatewayError(type(problem).__name__, code="internal_error"))
