"""One try at one upstream: encode, open, and read the answer or a stream's first content.

Raises UpstreamError when the upstream fails, Inexpressible when the dialect cannot say the call.
Whatever happens, the connection is either read to its end or dropped.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import orjson

from providers.call import Call
from providers.dialects import DIALECTS
from providers.dialects.base import Dialect, StreamDecoder
from providers.dialects.params import canonical, extras_of
from providers.dialects.shapes import broken
from providers.errors import UnsupportedParameter, UpstreamError
from providers.events import Answer, Event, Kind
from providers.upstream import Upstream, UpstreamRequest
from providers.usage import Usage
from providers.wires import COUNT_TOKENS
from proxy.cache import BrokenEntry
from proxy.completion import Attempt
from proxy.counting import tokens_of
from proxy.deadline import Deadlines
from proxy.endpoints.naming import client_name
from proxy.errors import Inexpressible
from proxy.exchange import Exchange
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

    def counted(self) -> Usage | None:
        """Return the vendor's counts so far."""
        return None if self.decoder is None else self.decoder.so_far()


@dataclass(slots=True)
class Attempting:
    """What all attempts of one request share. `deadline` is loop time, as told by the `deadlines`."""

    call: Call
    exchange: Exchange
    transport: Transport
    deadlines: Deadlines
    deadline: float
    headers: dict[str, str]

    async def answer(self, upstream: Upstream) -> Answer:
        """Return the whole answer of one attempt."""
        if self.call.wire == COUNT_TOKENS and not DIALECTS[upstream.account.dialect].counts_tokens:
            return self._counted(upstream)
        dialect, request, attempt = self._start(upstream)
        call = asked(self.call, request)
        at = min(self.deadline, self.deadlines.loop.time() + upstream.timeouts.total_json_s)
        try:
            response, body = await self._fetch(upstream, request, at)
            self._note(response)
            if response.status >= 300:
                raise dialect.error(response.status, response.headers, body)
            answer = dialect.decode(body, call)
        except UpstreamError as error:
            self.exchange.close_attempt(attempt, status=None, error=error)
            raise
        self.exchange.close_attempt(attempt, status=response.status)
        return answer

    async def stream(self, upstream: Upstream) -> OpenStream:
        """Return one attempt's stream at its first content."""
        dialect, request, attempt = self._start(upstream)
        timeouts = upstream.timeouts
        now = self.deadlines.loop.time()
        first_by = min(self.deadline, now + timeouts.first_content_s)
        response: Response | None = None
        try:
            response = await self._open(upstream, request, first_by)
            self._note(response)
            opened = await self._first_content(dialect, asked(self.call, request), response, first_by)
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
        response.watch(name="total", at=min(self.deadline, now + timeouts.total_s), idle_s=timeouts.idle_s)
        return opened

    def _counted(self, upstream: Upstream) -> Answer:
        """Guess what the vendor does not count; it is not asked, and nothing is spent."""
        self.headers.clear()
        try:
            count = tokens_of(canonical(self.call, upstream))
        except UnsupportedParameter as problem:
            raise refused(problem, self.call) from None
        self.exchange.target(upstream)
        self.headers["x-gateway-estimated"] = "true"
        return Answer(
            body=orjson.dumps({"input_tokens": count}), wire=COUNT_TOKENS, usage=None, finish_reasons=()
        )

    def _start(self, upstream: Upstream) -> tuple[Dialect, UpstreamRequest, Attempt]:
        dialect = DIALECTS[upstream.account.dialect]
        self.headers.clear()  # they tell of the vendor that answers, not of those that failed before
        try:
            request = dialect.encode(self.call, upstream)
        except UnsupportedParameter as problem:
            raise refused(problem, self.call) from None
        dropped = [client_name(self.call, name) for name in request.dropped_params]
        if request.wire != self.call.wire:
            dropped += extras_of(self.call)
        if dropped:
            self.headers["x-gateway-dropped-params"] = _listed(dropped)
        return dialect, request, self.exchange.open_attempt(upstream)

    async def _fetch(self, upstream: Upstream, request: UpstreamRequest, at: float) -> tuple[Response, bytes]:
        with self.deadlines.until(at, "total"):
            response = await self.transport.open(upstream, request)
            try:
                return response, await response.read()
            except BaseException:
                response.close()
                raise

    async def _open(self, upstream: Upstream, request: UpstreamRequest, at: float) -> Response:
        with self.deadlines.until(at, "first content"):
            return await self.transport.open(upstream, request)

    async def _first_content(
        self, dialect: Dialect, call: Call, response: Response, first_by: float
    ) -> OpenStream:
        response.watch(name="first content", at=first_by)
        if response.status >= 300:
            raise dialect.error(response.status, response.headers, await response.read())
        if response.headers.get("content-type", "").startswith("application/json"):
            # Some servers answer a streaming request with JSON: an error with status 200, or all of it.
            answer = dialect.decode(await response.read(), call)
            try:
                return OpenStream(streamed(answer, call), response, None)
            except BrokenEntry:
                raise broken("its fields have the wrong shape") from None
        decoder, seen = dialect.stream(call), list[Event]()
        while piece := await response.piece():
            seen += decoder.feed(piece)
            if _has_content(seen):
                return OpenStream(seen, response, decoder)
        seen += decoder.close()
        _has_content(seen)  # raises the ERROR that a stream without content ends in
        return OpenStream(seen, response, None)

    def _note(self, response: Response) -> None:
        self.headers |= upstream_ratelimits(response.headers)


def upstream_ratelimits(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the vendor's own rate-limit headers under the name that they are passed on by."""
    # OpenAI: x-ratelimit-*, Anthropic: anthropic-ratelimit-*, Mistral: ratelimitbysize-*.
    told = [name for name in headers if "ratelimit" in name]
    return {"x-upstream-" + name[name.find("ratelimit") :]: headers[name] for name in told}


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
