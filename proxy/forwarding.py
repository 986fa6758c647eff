"""Passes a request on to a vendor as it is: everything but chat, which the dialects translate.

The story is the gateway's own (authenticate, read, route, admit, fail over, answer, record), without a
dialect's translation, a renderer or the cache. The client's bytes go to the vendor and the vendor's to the
client; the model's name is the only thing that is read and rewritten. Of the client's headers the vendor
sees only the few that say what the bytes are.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlencode

from django.http import HttpResponseBase

from keys.caller import Caller
from providers.call import Call
from providers.dialects import DIALECTS
from providers.dialects.openai.quirks import path_for, path_without_model
from providers.errors import UnsupportedParameter, UpstreamError
from providers.upstream import Timeouts, Upstream
from providers.wires import UNREAD
from proxy.attempt import refused, upstream_ratelimits
from proxy.destination import DIALECT, Destination, destination, forced, require_allowed, require_shared
from proxy.endpoints.forwarded import Forwarded
from proxy.errors import GatewayError, upstream_failed
from proxy.exchange import Exchange
from proxy.failover import Course, Terms
from proxy.fleet.registry import Fleet
from proxy.fleet.visit import Visit
from proxy.forwarded_body import ArrivingForm, ForwardedBody, WholeBody, model_not_found
from proxy.http import JsonReply, LaneRequest, PassedReply, StreamBroken, WireHeader
from proxy.metering import StreamMeter, usage_in
from proxy.middleware.base import Context
from proxy.multipart import FormScanner, boundary_of
from proxy.own_credential import destined
from proxy.reply_headers import wire_headers
from proxy.snapshot import Snapshot
from proxy.transport import Outgoing, Transport
from proxy.vendor_response import Response
from proxy.watched import show_head

PROVIDER_HEADER = b"x-gateway-provider"
PROVIDER_PARAMETER = "provider"
# What tells a vendor how to read the body and how to answer. The client's key is not among it.
_SENT_ON = ("content-type", "accept", "openai-beta")
_PASSED_BACK = ("content-disposition", "openai-processing-ms")
_EVENT_STREAM = "text/event-stream"
# What a client has stored there may be a page with scripts, and the admin has the same origin.
_NO_PAGE: tuple[WireHeader, ...] = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"sandbox"),
)
_NO_LIMIT = 1 << 60


class ForwardedExchange(Exchange):
    """An exchange whose usage is told by the vendor or unknown: bytes of images say nothing about tokens."""

    __slots__ = ()

    def _produced(self) -> bool:
        return False


class _Opened(NamedTuple):
    """An answer at its first bytes, which are not sent yet; `whole`: they are all of it."""

    response: Response
    first: bytes
    whole: bool
    visit: Visit


@dataclass(slots=True, kw_only=True)
class Forwarding:
    """One request on its way through. `path` is the vendor's, under its base URL."""

    target: Forwarded
    path: str
    request: LaneRequest
    exchange: Exchange
    transport: Transport
    fleet: Fleet
    env: Any
    _query: str = ""
    _deadline: float = 0.0
    _ratelimits: Mapping[str, str] = field(default_factory=dict)
    _body: ForwardedBody | None = None

    async def route(self, snapshot: Snapshot, caller: Caller) -> Destination:
        """Read the request as far as it must be known, and return where it goes. Raises GatewayError."""
        provider, self._query = _provider_and_query(self.request)
        body = self._body = await self._read(named=bool(provider))
        completion, model = self.exchange.completion, body.model
        completion.requested_model = model
        if caller.terms.forced_route:
            # By its route, whatever provider is named.
            model, provider = forced(caller, asked=model), ""
            completion.forced_model = model if model != body.model else ""
        if self.request.incoming is None:
            self.exchange.weigh(len(self.request.body))
        to = destination(
            snapshot,
            model=model,
            provider=provider,
            path="/v1" + self.path,
            names_model=self.target.names_model,
        )
        completion.route = to.route
        require_allowed(snapshot, caller, to, model=model, named=bool(provider))
        if self.exchange.own is not None:
            to = destined(to, self.exchange.own)
            completion.own_credential = to.own_credential
        if self.target.lists and self.request.method == "GET" and not to.own_credential:
            require_shared(to)
        return to

    def context(self, caller: Caller) -> Context:
        """Return what response middlewares are told of it. Of what is asked they learn the model."""
        return Context(self.exchange.completion, self.call, caller)

    @property
    def call(self) -> Call:
        """Return what is known of the call: the model, if it names one, and how many pictures it asks for."""
        model, body = self.exchange.completion.named_model, self._body
        choices = 1 if body is None else body.choices
        return Call(wire=UNREAD, model=model, body={}, raw=b"", choices=choices)

    async def answer(self, to: Destination) -> HttpResponseBase:
        """Fail over along the upstreams. Raises GatewayError when none answers."""
        totals = [each.timeouts.total_json_s for each in to.upstreams]
        self._deadline = asyncio.get_running_loop().time() + max(totals)
        # What makes something at the vendor's is not made twice: a lost answer may have been a success.
        again = self.target.names_model or self.request.method != "POST"
        terms = Terms(
            max_attempts=self.env.max_retries if again else 1,
            deadline=self._deadline,
            tenant=self.exchange.completion.tenant_id,
            queued=self.exchange.queued,
        )
        try:
            opened = await Course(to.upstreams, self._attempt, fleet=self.fleet, terms=terms).run()
        except UpstreamError as error:
            failure = upstream_failed(error, provider=self.exchange.completion.provider)
            failure.headers |= self._ratelimits
            raise failure from None
        return self._whole(opened) if opened.whole else self._streamed(opened)

    async def _read(self, *, named: bool) -> ForwardedBody:
        request, target = self.request, self.target
        content_type = request.wire.get(b"content-type", b"").decode("latin-1")
        if request.incoming is None:
            names_model = target.names_model and request.method == "POST"
            return WholeBody(request.body, content_type, names_model=names_model)
        declared = request.wire.get(b"content-length", b"")
        form = ArrivingForm(
            request.incoming,
            content_type,
            scanner=FormScanner(boundary_of(content_type)) if target.names_model else None,
            declared=int(declared) if declared.isdigit() else None,
            limit=self.env.max_upload_bytes,
            pictures=target.name == "images",
        )
        if not await form.peek() and not named:
            raise model_not_found()
        return form

    # ------------------------------------------------------------ one attempt

    async def _attempt(self, visit: Visit) -> _Opened:
        upstream, body = visit.upstream, self._body
        assert body is not None
        timeouts, now = upstream.timeouts, asyncio.get_running_loop().time()
        if self.exchange.completion.attempts:
            await self.exchange.hold_for_another()
        outgoing = self._outgoing(upstream, body)
        attempt = self.exchange.open_attempt(upstream)
        response: Response | None = None
        try:
            # An upload takes as long as the client takes for it; the vendor's time begins at its end.
            answer_s = min(timeouts.total_json_s, self._deadline - now)
            if not isinstance(outgoing.body, bytes | None):
                answer_s = timeouts.total_json_s
            response = await self.transport.forward(upstream.account, outgoing, answer_s=answer_s)
            self._ratelimits = upstream_ratelimits(response.headers)
            opened = await self._begun(response, timeouts, visit)
        except UpstreamError as error:
            if response is not None:
                response.close()
            error.retryable = error.retryable and body.repeatable
            self.exchange.close_attempt(attempt, status=None, error=error)
            raise
        except BaseException:
            if response is not None:
                response.close()
            raise
        self.exchange.close_attempt(attempt, status=response.status)
        return opened

    def _outgoing(self, upstream: Upstream, body: ForwardedBody) -> Outgoing:
        headers = {name: value.decode("latin-1") for name in _SENT_ON if (value := self._sent(name))}
        if body.content_type:
            headers["content-type"] = body.content_type
        return Outgoing(
            method=self.request.method or "",
            path=_place(self.path, upstream, self._query),
            headers=headers,
            body=(body.content(upstream.model) or b"") if self.request.method == "POST" else None,
            length=body.length(upstream.model),
            limit=_NO_LIMIT if self.target.download else self.env.max_response_bytes,
        )

    def _sent(self, name: str) -> bytes:
        return self.request.wire.get(name.encode(), b"")

    async def _begun(self, response: Response, timeouts: Timeouts, visit: Visit) -> _Opened:
        """Read an answer that must be known as a whole, or the first bytes of one that is streamed."""
        now = asyncio.get_running_loop().time()
        if response.status >= 300:
            response.watch(name="total", at=now + timeouts.total_json_s, idle_s=timeouts.idle_s)
            body = await response.read()
            raise DIALECTS[DIALECT].error(response.status, response.headers, body)
        kind = response.headers.get("content-type", "")
        if response.status == 204 or (kind.startswith("application/json") and not self.target.download):
            response.watch(name="total", at=now + timeouts.total_json_s)
            return _Opened(response, await response.read(), whole=True, visit=visit)
        # A file takes as long as its reader takes; only the vendor's silence ends it.
        at = math.inf if self.target.download else now + timeouts.total_s
        response.watch(name="total", at=at, idle_s=timeouts.idle_s)
        return _Opened(response, await response.piece(), whole=False, visit=visit)

    # ------------------------------------------------------------ the answer

    def _whole(self, opened: _Opened) -> HttpResponseBase:
        if self.target.metered:
            self.exchange.usage = usage_in(opened.first)
        headers = self._headers(opened.response)
        opened.visit.ended()
        reply = JsonReply(opened.first, headers)
        reply.status_code = opened.response.status
        if self.exchange.watching is not None:
            self.exchange.watching.head(reply.wire_headers)
        if self.exchange.payload is not None:
            self.exchange.payload.answered(opened.first)
        self.exchange.end_ok()
        return reply

    def _streamed(self, opened: _Opened) -> HttpResponseBase:
        exchange, response = self.exchange, opened.response
        kind = response.headers.get("content-type", "application/octet-stream")
        events = kind.startswith(_EVENT_STREAM)
        exchange.completion.stream = events
        exchange.completion.ttft_ms = exchange.elapsed_ms()
        headers = [(b"content-type", kind.encode("latin-1", "replace")), *self._headers(response)]
        if events:
            headers += [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]
        else:
            headers += _NO_PAGE

        def give_up() -> None:
            response.close()
            opened.visit.left()

        def abandon() -> None:
            """The client left before the first piece could be asked for."""
            give_up()
            exchange.end_cancelled()

        pieces = self._relayed(opened, events=events)
        reply = PassedReply(pieces, headers, status=response.status, abandon=abandon)
        if exchange.watching is not None:
            show_head(reply, exchange.watching, give_up=give_up)
        return reply

    async def _relayed(self, opened: _Opened, *, events: bool) -> AsyncIterator[bytes]:
        exchange, response, piece = self.exchange, opened.response, opened.first
        meter = StreamMeter() if events and self.target.metered else None
        last = b"\n\n"
        try:
            while piece:
                if meter is not None:
                    meter.see(piece)
                    exchange.usage = meter.usage
                if exchange.payload is not None:
                    exchange.payload.passed(piece, response.headers.get("content-type", ""))
                yield piece
                last = piece
                piece = await response.piece()
            if meter is not None:
                meter.close()
                exchange.usage = meter.usage
            opened.visit.ended()
            exchange.end_ok()
        except (UpstreamError, GatewayError) as error:  # the latter: of a form that is still arriving
            failure = self._broken(opened, error)
            if not events:
                raise StreamBroken from None
            yield (b"" if last.endswith(b"\n\n") else b"\n\n") + b"data: %b\n\n" % failure.body()
        finally:
            if not exchange.ended:  # the client has left
                response.close()
                opened.visit.left()
                exchange.end_cancelled()

    def _broken(self, opened: _Opened, error: UpstreamError | GatewayError) -> GatewayError:
        opened.response.close()
        if isinstance(error, UpstreamError):
            opened.visit.failed(error)
            self.exchange.broke_off(error)
            error = upstream_failed(error, provider=self.exchange.completion.provider)
        self.exchange.end_error(error)
        return error

    def _headers(self, response: Response) -> list[WireHeader]:
        headers = [header for header in wire_headers(self.exchange.completion) if header[1]]
        passed = {name: response.headers[name] for name in _PASSED_BACK if name in response.headers}
        for name, value in {**passed, **self._ratelimits}.items():
            headers.append((name.encode("latin-1", "replace"), value.encode("latin-1", "replace")))
        return headers


def _provider_and_query(request: LaneRequest) -> tuple[str, str]:
    """Return the provider that a request names, and its query without it."""
    query = request.scope.get("query_string", b"").decode("latin-1")
    provider = request.wire.get(PROVIDER_HEADER, b"").decode("latin-1").strip()
    if PROVIDER_PARAMETER not in query:
        return provider, query
    pairs = parse_qsl(query, keep_blank_values=True)
    named = [value for name, value in pairs if name == PROVIDER_PARAMETER]
    rest = [(name, value) for name, value in pairs if name != PROVIDER_PARAMETER]
    return provider or (named[-1] if named else ""), urlencode(rest)


def _place(path: str, upstream: Upstream, query: str) -> str:
    if upstream.model:
        try:
            path = path_for(path, upstream)
        except UnsupportedParameter as problem:
            raise refused(problem) from None
    else:
        path = path_without_model(path, upstream.account.path_template)
    return f"{path}{'&' if '?' in path else '?'}{query}" if query else path
