"""Answers one admitted request: from the cache (`replay`), or from an upstream, whole or streamed.

A stream's head is held until the first content, or until the first keep-alive comment is due;
until then failover may still change status and headers.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import structlog
from django.http import HttpResponseBase

from providers.call import Call
from providers.errors import UpstreamError
from providers.events import Event
from providers.upstream import Upstream
from providers.usage import Usage
from proxy import cache
from proxy.attempt import Attempting, OpenStream
from proxy.cache import BrokenEntry, Entry, Policy
from proxy.continuation import Continuation, continuable
from proxy.errors import GatewayError, upstream_failed
from proxy.exchange import Exchange
from proxy.failover import Attempt, Course, Terms, first_success
from proxy.fleet.fitting import fitting
from proxy.flights import Flight
from proxy.hedging import Race
from proxy.http import JsonReply, StreamReply, WireHeader
from proxy.opening import ended_or_due, give_up
from proxy.payload import Payload
from proxy.plain import canonical_form
from proxy.races import AnswerRace, StreamRace
from proxy.relay import relay, replayed
from proxy.renderers import KEEP_ALIVE, Renderer, enveloped
from proxy.replay import Recording, answer_of, events_of
from proxy.reply_headers import gateway_headers, wire_headers
from proxy.routing import Resolved
from proxy.services import Services
from proxy.shadowing import mirrored
from proxy.watched import replay_watched, reply_watched, show_head

log = structlog.get_logger()

Result = TypeVar("Result")


def replay(
    entry: Entry, *, call: Call, exchange: Exchange, renderer: Renderer
) -> tuple[HttpResponseBase, Entry | None]:
    """Return a cached answer as JSON or as a stream, and the entry in JSON form if it had to be assembled.

    Raises BrokenEntry for one that cannot be read.
    """
    completion = exchange.completion
    completion.provider, completion.model, completion.usage = entry.provider, entry.model, entry.usage
    headers = wire_headers(completion)
    headers.append((b"age", b"%d" % max(int(completion.at - entry.stored_at), 0)))
    if exchange.watching is not None:
        return replay_watched(entry, headers, call=call, exchange=exchange, renderer=renderer)
    assembled: Entry | None = None
    if call.stream:
        piece = _stream_of(entry, call, renderer, exchange.payload)
    else:
        answer, assembled = answer_of(entry, call, completion)
        piece = renderer.answer(answer)
        if exchange.payload is not None:
            exchange.payload.answered(piece)
    exchange.usage = entry.usage
    exchange.end_ok()
    return StreamReply(replayed(piece), headers) if call.stream else JsonReply(piece, headers), assembled


def _stream_of(entry: Entry, call: Call, renderer: Renderer, payload: Payload | None) -> bytes:
    try:
        events = events_of(entry, call)
        piece = renderer.events(events)
    except UpstreamError:  # a chunk that went through unparsed is no JSON
        raise BrokenEntry from None
    if payload is not None:
        payload.see(events)
    return piece


@dataclass(slots=True, kw_only=True)
class Answering:
    """One request's answer in the making.

    `weight` is its tenant's in a line; `affinity`: what keeps its session together, if it is to be.
    """

    services: Services
    exchange: Exchange
    call: Call
    resolved: Resolved
    renderer: Renderer
    policy: Policy
    ttl_s: float
    weight: int
    affinity: bytes
    _continues: bool = False
    _upstreams: Sequence[Upstream] = ()  # in the order that they are tried in
    _deadline: float = 0.0  # loop time; of all attempts, from the first one on

    async def answer(self) -> HttpResponseBase:
        """Fail over along the targets. Raises GatewayError when none answers."""
        if self.resolved.continues and self.call.stream and continuable(self.call):
            self._continues, self.call = True, canonical_form(self.call)
        attempting = self._attempting(self.call)
        if self.call.stream:
            return await self._stream(attempting)
        answer = await self._first_success(attempting, attempting.answer, AnswerRace)
        self.exchange.take_answer(answer)
        self.exchange.settle()
        answer = enveloped(answer, self.exchange.completion)
        if self.policy.write:
            self._keep(answer.finish_reasons, cache.JSON, lambda: answer.body, answer.usage, wire=answer.wire)
        if self.exchange.watching is not None:
            return reply_watched(
                answer, self._headers(attempting), exchange=self.exchange, renderer=self.renderer
            )
        body = self.renderer.answer(answer)
        if self.exchange.payload is not None:
            self.exchange.payload.answered(body)
        self.exchange.end_ok()
        return JsonReply(body, self._headers(attempting))

    async def _stream(self, attempting: Attempting) -> HttpResponseBase:
        opening: asyncio.Task[OpenStream] = self.services.spawn(
            self._first_success(attempting, attempting.stream, StreamRace)
        )
        try:
            await ended_or_due(opening, self.services.keep_alive_s)
        except asyncio.CancelledError:
            give_up(opening)
            raise
        body = self._relayed(opening.result()) if opening.done() else self._late(opening)

        def abandon() -> None:
            """The client left before the first piece could be asked for."""
            give_up(opening)
            self.exchange.end_cancelled()

        reply = StreamReply(body, self._headers(attempting), abandon=abandon)
        if self.exchange.watching is not None:
            show_head(reply, self.exchange.watching, give_up=partial(give_up, opening))
        return reply

    def _attempting(self, call: Call) -> Attempting:
        services, watching = self.services, self.exchange.watching
        self._deadline = self._deadline or services.deadlines.loop.time() + self.resolved.total_s
        return Attempting(
            call=call,
            exchange=self.exchange,
            transport=services.transport,
            deadlines=services.deadlines,
            deadline=self._deadline,
            filtered=self.resolved.on_content_filter,
            tell_s=services.keep_alive_s,
            plain=self._continues or bool(watching is not None and watching.changes_events),
        )

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
                await ended_or_due(opening, self.services.keep_alive_s)
            stream = opening.result()
        except (asyncio.CancelledError, GeneratorExit):
            give_up(opening)
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
        recording = continuation = None
        if self.policy.write:
            recording = Recording(self.services.env.cache_max_bytes // 4, exchange.completion)
        if self._continues:
            continuation = Continuation(
                self.call,
                self._upstreams,
                open=self._reopen,
                exchange=exchange,
                max_attempts=self.services.env.max_retries,
                keep_alive_s=self.services.keep_alive_s,
            )

        def whole(last: OpenStream) -> None:
            last.visit.ended()
            if last.response.over:
                last.response.close()
            else:
                self.services.spawn(last.response.finish())
            if recording is not None and recording.fits:
                continued = continuation is not None and continuation.happened  # no model has said all of it
                reasons = () if continued else exchange.finish_reasons
                self._keep(reasons, cache.EVENTS, recording.body, exchange.usage, wire=recording.wire)

        keep: Callable[[Sequence[Event]], None] | None = None if recording is None else recording.add
        if self.exchange.flight is not None and recording is not None:
            self.exchange.flight.provider = (exchange.completion.provider, exchange.completion.model)
            keep = self._shared(recording, self.exchange.flight)
        return relay(
            stream,
            renderer=self.renderer,
            exchange=exchange,
            whole=whole,
            keep=keep,
            continuation=continuation,
        )

    async def _reopen(self, call: Call, upstream: Upstream) -> OpenStream:
        """Make one attempt at an upstream that is to continue a stream, at once or not at all."""
        attempting, now = self._attempting(call), self.services.deadlines.loop.time()
        terms = Terms(max_attempts=1, deadline=now, tokens=self.exchange.prompt_tokens())
        return await Course([upstream], attempting.stream, fleet=self.services.fleet, terms=terms).run()

    async def _first_success(
        self, attempting: Attempting, attempt: Attempt[Result], race: Callable[..., Race[Result]]
    ) -> Result:
        resolved, fleet, tokens = self.resolved, self.services.fleet, self.exchange.prompt_tokens()
        upstreams = self._upstreams = self._in_order(tokens)
        if resolved.shadows:
            attempt = mirrored(attempt, self.services, self.exchange, call=attempting.call, to=resolved)

        def course() -> "Course[Result]":  # quoted: it would be evaluated for each request
            terms = Terms(
                max_attempts=self.services.env.max_retries,
                deadline=attempting.deadline,
                tokens=tokens,
                tenant=self.exchange.completion.tenant_id,
                weight=self.weight,
                queued=self.exchange.queued,
                on_context_overflow=resolved.on_context_overflow,
                on_content_filter=resolved.on_content_filter,
            )
            hedges = race(attempting, fleet) if resolved.hedges else None
            return Course(upstreams, attempt, fleet=fleet, terms=terms, race=hedges)

        try:
            if resolved.hedges:
                return await course().run()
            return await first_success(upstreams, attempt, fleet=fleet, tokens=tokens, course=course)
        except UpstreamError as error:
            failure = upstream_failed(error, provider=self.exchange.completion.provider)
            failure.headers |= attempting.headers
            raise failure from None

    def _in_order(self, tokens: int) -> Sequence[Upstream]:
        """Return the upstreams to be tried with a prompt of about `tokens`, the first choice first."""
        resolved = self.resolved
        upstreams = self.services.fleet.order(resolved, self.affinity)
        return fitting(upstreams, tokens, resolved.on_context_overflow)

    @staticmethod
    def _shared(recording: Recording, flight: Flight) -> Callable[[Sequence[Event]], None]:
        def keep(events: Sequence[Event]) -> None:
            recording.add(events)
            flight.add(events)

        return keep

    def _keep(
        self,
        finish_reasons: Sequence[str],
        form: str,
        body: Callable[[], bytes],
        usage: Usage | None,
        *,
        wire: str,
    ) -> None:
        """Hand the whole answer to those who follow, and to the cache if it may be stored."""
        flight, storable = self.exchange.flight, cache.storable(finish_reasons)
        if not storable and (flight is None or not flight.followed):
            return
        completion = self.exchange.completion
        entry = Entry(
            form=form,
            body=body(),
            provider=completion.provider,
            model=completion.model,
            stored_at=time.time(),
            usage=usage,
            wire=wire,
        )
        if storable:
            self.services.store.put(self.policy.key, entry, ttl_s=self.ttl_s)
        if flight is not None:
            flight.land(entry)


def record_failure(exchange: Exchange, problem: BaseException) -> None:
    """Record a request that ends in `problem`: an error for the client, its departure, or a fault of ours."""
    if isinstance(problem, GatewayError):
        exchange.end_error(problem)
        problem.headers = {**gateway_headers(exchange.completion), **problem.headers}
    elif isinstance(problem, asyncio.CancelledError):
        exchange.end_cancelled()
    elif isinstance(problem, Exception):
        exchange.end_error(GatewayError(type(problem).__name__, code="internal_error"))
