"""One try at one upstream: encode, open, and read the answer or a stream's first content.

Raises UpstreamError when the upstream fails, Inexpressible when the dialect cannot say the call.
Whatever happens, the connection is either read to its end or dropped.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import orjson

from providers.call import Call
from providers.canonical import CONTENT_FILTER
from providers.dialects import DIALECTS
from providers.dialects.base import Dialect, StreamDecoder
from providers.dialects.params import canonical, extras_of
from providers.dialects.shapes import broken
from providers.errors import CONTENT_FILTERED, Owner, UnsupportedParameter, UpstreamError
from providers.events import Answer, Event, Kind
from providers.upstream import Upstream, UpstreamRequest
from providers.usage import Usage
from providers.wires import COUNT_TOKENS, MESSAGES
from proxy.cache import BrokenEntry
from proxy.completion import Attempt
from proxy.counting import tokens_of
from proxy.deadline import Deadlines
from proxy.endpoints.naming import client_name
from proxy.errors import Inexpressible
from proxy.exchange import Exchange
from proxy.fleet.visit import Visit
from proxy.plain import PlainStream
from proxy.replay import streamed
from proxy.transport import Transport
from proxy.vendor_response import Response

MAX_NAMES, MAX_NAME = 50, 100


@dataclass(slots=True)
class OpenStream:
    """A stream whose first content is in hand (`first`) and not yet sent.

    `decoder` is None where nothing more can come: `first` is all of it.
    """

    first: Sequence[Event]
    response: Response
    decoder: StreamDecoder | None
    visit: Visit

    def counted(self) -> Usage | None:
        """Return the vendor's counts so far."""
        return counted(self.first, self.decoder)

    def feed(self, arrived: bytes) -> Sequence[Event]:
        """Return the events that some bytes complete; none are the end."""
        decoder = self.decoder
        assert decoder is not None, "a stream without decoder ends with DONE"
        return decoder.feed(arrived) if arrived else decoder.close()

    def hang_up(self, error: UpstreamError) -> None:
        """It has broken off."""
        self.response.close()
        self.visit.failed(error)

    def leave(self) -> None:
        """Nobody reads it any more."""
        self.response.close()
        self.visit.left()


class Try(NamedTuple):
    """One attempt: its record, and what the client is told of it in headers if it is the one that answers."""

    visit: Visit
    attempt: Attempt
    headers: dict[str, str]


@dataclass(slots=True)
class Attempting:
    """What all attempts of one request share. `deadline` is loop time, as told by the `deadlines`.

    `filtered` are the targets for what another's content filter has stopped; a stream tells the silence of
    `tell_s` seconds, and has no raw bytes if it is to be `plain`. `headers` are those of the
    attempt that answers, or of the last one that failed.
    """

    call: Call
    exchange: Exchange
    transport: Transport
    deadlines: Deadlines
    deadline: float
    filtered: Sequence[Upstream] = ()
    tell_s: float | None = None
    plain: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    tries: list[Try] = field(default_factory=list)

    async def answer(self, visit: Visit) -> Answer:
        """Return the whole answer of one attempt."""
        upstream = visit.upstream
        if self.call.wire == COUNT_TOKENS and not DIALECTS[upstream.account.dialect].counts_tokens:
            return self._counted(visit)
        if self.exchange.completion.attempts:
            await self.exchange.hold_for_another()
        dialect, request, attempt = self._start(visit)
        call = asked(self.call, request)
        at = min(self.deadline, self.deadlines.loop.time() + upstream.timeouts.total_json_s)
        try:
            response, body = await self._fetch(upstream, request, at)
            self._note(response, visit)
            if response.status >= 300:
                raise dialect.error(response.status, response.headers, body)
            answer = dialect.decode(body, call)
            if self.filtered and _is_filtered(answer) and self._moves_on(visit):
                self.exchange.spend(attempt, upstream, answer.usage)
                raise filtered_out()
        except UpstreamError as error:
            self.exchange.close_attempt(attempt, status=None, error=error)
            raise
        self.exchange.close_attempt(attempt, status=response.status)
        visit.ended()
        return answer

    async def stream(self, visit: Visit) -> OpenStream:
        """Return one attempt's stream at its first content; whoever gets it ends the visit."""
        if self.exchange.completion.attempts:
            await self.exchange.hold_for_another()
        dialect, request, attempt = self._start(visit)
        upstream, now = visit.upstream, self.deadlines.loop.time()
        timeouts = upstream.timeouts
        first = Bound.first_content(now + timeouts.first_content_s, self.deadline)
        response: Response | None = None
        try:
            response = await self._open(upstream, request, first)
            self._note(response, visit)
            response.watch(name=first.name, at=first.at)
            opened = await self._first_content(dialect, asked(self.call, request), response, visit=visit)
        except UpstreamError as error:
            if response is not None:
                response.close()
            self.exchange.close_attempt(attempt, status=None, error=error)
            raise
        except BaseException:
            if response is not None:
                response.close()
            raise
        self.exchange.close_attempt(attempt, status=response.status)
        visit.content()
        total_at = min(self.deadline, now + timeouts.total_s)
        response.watch(name="total", at=total_at, idle_s=timeouts.idle_s, tell_s=self.tell_s)
        return opened

    def choose(self, visit: Visit) -> None:
        """Make the attempt of `visit` the one that answers: of several, it was the first."""
        chosen = self._try(visit)
        self.headers = chosen.headers
        self.exchange.choose(chosen.attempt, visit.upstream)

    def lose(self, visit: Visit, usage: Usage | None) -> None:
        """Note that another attempt was faster. `usage`: what this one has cost, where its vendor told."""
        for each in self.tries:
            if each.visit is visit:  # who cannot be asked this has no try, nor who was given up before it
                self.exchange.lose(each.attempt, visit.upstream, usage)

    def _moves_on(self, visit: Visit) -> bool:
        """Is there somebody else to be asked, should the content filter stop this one's answer?"""
        return all(visit.target is not each for each in self.filtered)

    def _try(self, visit: Visit) -> Try:
        return next(each for each in reversed(self.tries) if each.visit is visit)

    def _counted(self, visit: Visit) -> Answer:
        """Guess what the vendor does not count; it is not asked, and nothing is spent."""
        visit.left()
        upstream = visit.upstream
        self.headers = {}
        try:
            count = tokens_of(canonical(self.call, upstream))
        except UnsupportedParameter as problem:
            raise refused(problem, self.call) from None
        self.exchange.target(upstream)
        self.headers["x-gateway-estimated"] = "true"
        return Answer(
            body=orjson.dumps({"input_tokens": count}), wire=COUNT_TOKENS, usage=None, finish_reasons=()
        )

    def _start(self, visit: Visit) -> tuple[Dialect, UpstreamRequest, Attempt]:
        upstream = visit.upstream
        dialect = DIALECTS[upstream.account.dialect]
        headers = self.headers = {}  # they tell of the vendor that answers, not of those that failed before
        try:
            request = dialect.encode(self.call, upstream)
        except UnsupportedParameter as problem:
            raise refused(problem, self.call) from None
        dropped = dropped_by(self.call, request)
        if dropped:
            headers["x-gateway-dropped-params"] = _listed(dropped)
        attempt = self.exchange.open_attempt(upstream)
        self.tries.append(Try(visit, attempt, headers))
        return dialect, request, attempt

    async def _fetch(self, upstream: Upstream, request: UpstreamRequest, at: float) -> tuple[Response, bytes]:
        with self.deadlines.until(at, "total"):
            response = await self.transport.open(upstream, request)
            try:
                return response, await response.read()
            except BaseException:
                response.close()
                raise

    async def _open(self, upstream: Upstream, request: UpstreamRequest, first: "Bound") -> Response:
        with self.deadlines.until(first.at, first.name):
            return await self.transport.open(upstream, request)

    async def _first_content(
        self, dialect: Dialect, call: Call, response: Response, *, visit: Visit
    ) -> OpenStream:
        if response.status >= 300:
            raise dialect.error(response.status, response.headers, await response.read())
        if response.headers.get("content-type", "").startswith("application/json"):
            # Some servers answer a streaming request with JSON: an error with status 200, or all of it.
            answer = dialect.decode(await response.read(), call)
            try:
                return OpenStream(streamed(answer, call), response, None, visit)
            except BrokenEntry:
                raise broken("its fields have the wrong shape") from None
        decoder, seen = dialect.stream(call), list[Event]()
        if self.plain:
            decoder = PlainStream(decoder)
        while piece := await response.piece():
            seen += decoder.feed(piece)
            if _has_content(seen):
                if self.filtered and _begins_filtered(seen) and self._moves_on(visit):
                    usage = counted(seen, decoder)
                    self.exchange.spend(self._try(visit).attempt, visit.upstream, usage)
                    raise filtered_out()
                return OpenStream(seen, response, decoder, visit)
        seen += decoder.close()
        _has_content(seen)  # raises the ERROR that a stream without content ends in
        return OpenStream(seen, response, None, visit)

    def _note(self, response: Response, visit: Visit) -> None:
        told = upstream_ratelimits(response.headers)
        if told:
            self._try(visit).headers.update(told)
            visit.heard(response.headers)


class Bound(NamedTuple):
    """Until when (loop time) a wait may last, and the name of the timeout that ends it."""

    at: float
    name: str

    @classmethod
    def first_content(cls, at: float, total: float) -> "Bound":
        """Return the bound of a stream's first content, or the total one where that comes before."""
        return cls(at, "first content") if at <= total else cls(total, "total")


def counted(events: Sequence[Event], decoder: StreamDecoder | None) -> Usage | None:
    """Return the vendor's counts of a stream so far: what its decoder knows, or what `events` say."""
    told = None if decoder is None else decoder.so_far()
    return told or next((each.usage for each in reversed(events) if each.usage is not None), None)


def upstream_ratelimits(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the vendor's own rate-limit headers under the name that they are passed on by."""
    # OpenAI: x-ratelimit-*, Anthropic: anthropic-ratelimit-*, Mistral: ratelimitbysize-*.
    told = [name for name in headers if "ratelimit" in name]
    return {"x-upstream-" + name[name.find("ratelimit") :]: headers[name] for name in told}


def dropped_by(call: Call, request: UpstreamRequest) -> list[str]:
    """Return the parameters that the vendor gets nothing of, in the caller's own words."""
    dropped = [client_name(call, name) for name in request.dropped_params]
    return [*dropped, *extras_of(call)] if request.wire != call.wire else dropped


def _listed(names: Sequence[str]) -> str:
    """Return names for a header. They are the client's own: any text, of any length."""
    plain = [name for name in names if name.isascii() and name.isprintable() and len(name) <= MAX_NAME]
    return ", ".join(plain[:MAX_NAMES])


def refused(problem: UnsupportedParameter, call: Call | None = None) -> Inexpressible:
    """Return what the caller is told of it when no other vendor can say it, in its own words."""
    if call is None:
        return Inexpressible(problem.message, param=problem.param, code=problem.code)
    name = client_name(call, problem.param)
    message = problem.message.replace(f"'{problem.param}'", f"'{name}'")
    return Inexpressible(message, param=name, code=problem.code)


def asked(call: Call, request: UpstreamRequest) -> Call:
    """Return the call as the vendor was asked: in the format that the answer will come in."""
    return call._replace(wire=request.wire) if request.wire and request.wire != call.wire else call


def _has_content(events: Sequence[Event]) -> bool:
    """Is there something worth sending? Raises the error that came before it."""
    for event in events:
        if event.kind is Kind.ERROR and event.error is not None:
            raise event.error
    return any(event.kind in (Kind.CONTENT, Kind.FINISH, Kind.DONE) for event in events)


def filtered_out() -> UpstreamError:
    """Return the error of an answer of which the vendor's content filter has left nothing."""
    return UpstreamError(
        "The provider's content filter stopped the answer.",
        owner=Owner.CALLER,
        status=400,
        code=CONTENT_FILTERED,
    )


def _is_filtered(answer: Answer) -> bool:
    if CONTENT_FILTER not in answer.finish_reasons:
        return False
    if answer.wire == MESSAGES:
        return not answer.message.get("content")
    choices = answer.message.get("choices") or ()
    return bool(choices) and not any(choice.get("message", {}).get("content") for choice in choices)


def _begins_filtered(events: Sequence[Event]) -> bool:
    return all(event.kind is not Kind.CONTENT for event in events) and any(
        CONTENT_FILTER in event.finish_reasons for event in events
    )
