"""The only door to vendors on the hot path: aiohttp, one session per provider (bulkhead, keep-alive).

Every failure leaves here as an UpstreamError, most specific first (`_translated`). A reset on a
reused connection before any byte of the answer is the keep-alive race, not a failure: the request
is sent once more on another connection and counts as the same attempt.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from contextvars import ContextVar
from typing import Any, Protocol

import aiohttp
from aiohttp.connector import Connection
from yarl import URL

from providers import demo
from providers.errors import INVALID_RESPONSE, Owner, UpstreamError
from providers.models import DEMO_URL
from providers.upstream import Account, Upstream, UpstreamRequest

USER_AGENT = "django-llm-gateway"
KEEPALIVE_S = 60.0
DRAIN_S = 1.0
RESOLVE_S = 2.0
_reused: ContextVar[bool] = ContextVar("reused", default=False)
_wants_fresh: ContextVar[bool] = ContextVar("wants_fresh", default=False)


class Response(Protocol):
    """An answer whose head has arrived. `headers` have lower-case names."""

    status: int
    headers: Mapping[str, str]

    async def read(self) -> bytes:
        """Return the whole body."""

    def chunks(self) -> AsyncIterator[bytes]:
        """Return the body as it arrives; watched by the limits set on it."""

    def watch(self, *, name: str, at: float, idle_s: float | None = None) -> None:
        """End `chunks` with timeout `name` at loop time `at`, or "idle" after `idle_s` without a byte."""

    def close(self) -> None:
        """Drop the connection: the vendor sees that we left. Never waits."""

    async def finish(self) -> None:
        """Read what little is left so that the connection can be used again."""


class Transport:
    """Opens requests to upstreams."""

    def __init__(self, *, max_response_bytes: int) -> None:
        """Answers larger than `max_response_bytes` are refused."""
        self._max_response_bytes = max_response_bytes
        self._sessions: dict[tuple[str, int, float], aiohttp.ClientSession] = {}
        self._urls: dict[tuple[str, str], URL] = {}

    async def open(self, upstream: Upstream, request: UpstreamRequest) -> Response:
        """Send the request and return when the head is here. Raises UpstreamError.

        The caller bounds the wait (asyncio.timeout); cancelling closes the connection.
        """
        account = upstream.account
        if account.base_url == DEMO_URL:
            return DemoResponse(demo.respond(request.path, request.body))
        session = self._session(account)
        headers = {**account.headers, **request.headers}
        try:
            url = self._url(account.base_url, request.path)
            try:
                response = await _post(session, url, request.body, headers, fresh=False)
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, ConnectionError):
                if not _reused.get():
                    raise
                response = await _post(session, url, request.body, headers, fresh=True)
        except (aiohttp.ClientError, OSError, ValueError) as problem:
            raise _translated(problem) from None
        return HttpResponse(response, self._max_response_bytes)

    async def close(self) -> None:
        """Close all sessions."""
        sessions = list(self._sessions.values())
        self._sessions.clear()
        for session in sessions:
            await session.close()

    def _session(self, account: Account) -> aiohttp.ClientSession:
        key = (account.name, account.max_connections, account.timeouts.connect_s)
        session = self._sessions.get(key)
        if session is None:
            session = self._sessions[key] = aiohttp.ClientSession(
                connector=_Connector(
                    limit=account.max_connections,
                    limit_per_host=0,
                    keepalive_timeout=KEEPALIVE_S,
                    ttl_dns_cache=30,
                    # c-ares: no threads for DNS. Bounded, because sock_connect does not count it.
                    resolver=aiohttp.AsyncResolver(timeout=RESOLVE_S, tries=2),
                    enable_cleanup_closed=False,
                ),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=account.timeouts.connect_s),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"accept-encoding": "identity", "user-agent": USER_AGENT},
                skip_auto_headers=("accept",),
                read_bufsize=1 << 18,
                max_line_size=1 << 16,
                max_field_size=1 << 16,
            )
        return session

    def _url(self, base: str, path: str) -> URL:
        key = (base, path)
        url = self._urls.get(key)
        if url is None:
            if len(self._urls) > 1000:
                self._urls.clear()
            url = self._urls[key] = URL(base.rstrip("/") + path)
        return url


async def _post(
    session: aiohttp.ClientSession, url: URL, body: bytes, headers: Mapping[str, str], *, fresh: bool
) -> aiohttp.ClientResponse:
    _reused.set(False)
    _wants_fresh.set(fresh)
    # A redirect would carry body and credential to a place that no provider row names.
    return await session.post(url, data=body, headers=headers, allow_redirects=False)


class _Connector(aiohttp.TCPConnector):
    """Tells whether a connection had been used before, and makes a fresh one when asked for."""

    async def _get(self, key: Any, traces: Any) -> Connection | None:
        # aiohttp's own look into the pool; there is no public way past it (3.14).
        return None if _wants_fresh.get() else await super()._get(key, traces)

    async def connect(self, req: Any, traces: Any, timeout: Any) -> Connection:  # noqa: ASYNC109 - aiohttp's signature
        connection = await super().connect(req, traces, timeout)
        protocol: Any = connection.protocol
        _reused.set(getattr(protocol, "gateway_used", False))
        with contextlib.suppress(AttributeError):
            protocol.gateway_used = True
        return connection


class HttpResponse:
    """An aiohttp answer, watched by at most one timer at a time."""

    __slots__ = (
        "_at",
        "_idle_s",
        "_loop",
        "_max_bytes",
        "_name",
        "_response",
        "_timed_out",
        "_timer",
        "_waiting_since",
        "headers",
        "status",
    )

    def __init__(self, response: aiohttp.ClientResponse, max_bytes: int) -> None:
        """Take over the response."""
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers  # case-insensitive
        self._response = response
        self._max_bytes = max_bytes
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._name = self._timed_out = ""
        self._at = 0.0
        self._idle_s: float | None = None
        self._waiting_since = 0.0

    async def read(self) -> bytes:
        """Return the whole body. Raises UpstreamError, also for one that is too large."""
        content = self._response.content
        try:
            body = await content.readany()
            pieces, size = [body], len(body)
            while size <= self._max_bytes:
                if content.at_eof():
                    return b"".join(pieces) if len(pieces) > 1 else body
                pieces.append(await content.readany())
                size += len(pieces[-1])
            raise _too_large(self._max_bytes)
        except (aiohttp.ClientError, OSError) as problem:
            raise _translated(problem) from None
        finally:
            self._release()

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it arrives. Raises UpstreamError."""
        content, size = self._response.content, 0
        try:
            while True:
                self._waiting_since = self._loop.time()
                chunk = await content.readany()
                self._waiting_since = 0.0
                if not chunk:
                    if content.at_eof():
                        return
                    continue
                size += len(chunk)
                if size > self._max_bytes:
                    raise _too_large(self._max_bytes)
                yield chunk
        except (aiohttp.ClientError, OSError) as problem:
            if self._timed_out:
                raise timed_out(self._timed_out) from None
            raise _translated(problem) from None
        finally:
            self._stop_timer()

    def watch(self, *, name: str, at: float, idle_s: float | None = None) -> None:
        """Set the limits of `chunks`; a later call replaces them."""
        self._stop_timer()
        self._name, self._at, self._idle_s = name, at, idle_s
        look_at = at if idle_s is None else min(at, self._loop.time() + idle_s)
        self._timer = self._loop.call_at(look_at, self._check)

    def close(self) -> None:
        """Drop the connection, unless the answer was read to its end."""
        self._stop_timer()
        self._release()

    async def finish(self) -> None:
        """Read to the end within a second, or drop the connection."""
        if self._response.content.at_eof():
            self._release()
            return
        try:
            async with asyncio.timeout(DRAIN_S):
                await self._response.content.read()
        except (TimeoutError, aiohttp.ClientError, OSError):
            self._response.close()
        self._release()

    def _release(self) -> None:
        if self._response.content.at_eof():
            self._response.release()
        else:
            self._response.close()

    def _check(self) -> None:
        """Fire, or look again when the present wait could have become too long."""
        now = self._loop.time()
        # Not waiting means that the client is the slow one: that is not the vendor's silence.
        waited_s = now - self._waiting_since if self._waiting_since else 0.0
        self._timer = None
        if now >= self._at:
            self._timed_out = self._name
        elif self._idle_s is not None and waited_s >= self._idle_s:
            self._timed_out = "idle"
        else:
            remaining_s = self._at - now if self._idle_s is None else self._idle_s - waited_s
            self._timer = self._loop.call_at(min(self._at, now + remaining_s) + 0.001, self._check)
            return
        self._response.close()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class DemoResponse:
    """The demo vendor's answer: waits where a network would."""

    def __init__(self, reply: demo.DemoReply) -> None:
        """Take over the reply."""
        self.status = reply.status
        self.headers: Mapping[str, str] = {"content-type": reply.content_type}
        self._pieces = reply.pieces

    async def read(self) -> bytes:
        """Return the whole body."""
        return b"".join([piece async for piece in self.chunks()])

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the pieces, each after its pause."""
        for pause_s, piece in self._pieces:
            if pause_s:
                await asyncio.sleep(pause_s)
            yield piece

    def watch(self, *, name: str, at: float, idle_s: float | None = None) -> None:
        """The demo is never silent."""

    def close(self) -> None:
        """Nothing to drop."""

    async def finish(self) -> None:
        """Nothing is left."""


def timed_out(name: str) -> UpstreamError:
    """Return the error of a timeout: connect, first content, idle or total."""
    return UpstreamError(
        f"The {name} timeout fired.", owner=Owner.HEALTH, code="upstream_timeout", timeout=name
    )


def _too_large(limit: int) -> UpstreamError:
    return UpstreamError(
        f"The answer is larger than MAX_RESPONSE_BYTES ({limit}).",
        owner=Owner.HEALTH,
        code="upstream_too_large",
    )


def _translated(problem: Exception) -> UpstreamError:
    if isinstance(problem, (aiohttp.ConnectionTimeoutError, aiohttp.ServerTimeoutError, TimeoutError)):
        return timed_out("connect")
    if isinstance(problem, (aiohttp.ClientConnectorCertificateError, aiohttp.ClientSSLError)):
        return UpstreamError(
            "The provider's certificate is not trusted, or TLS failed.",
            owner=Owner.HEALTH,
            code="upstream_connect",
        )
    if isinstance(problem, aiohttp.ClientConnectorError):
        return UpstreamError(
            "The connection was refused or the host is unknown.", owner=Owner.HEALTH, code="upstream_connect"
        )
    if isinstance(problem, (aiohttp.ClientPayloadError, aiohttp.ClientResponseError)):
        return UpstreamError("The answer broke off or is garbled.", owner=Owner.HEALTH, code=INVALID_RESPONSE)
    if isinstance(problem, (aiohttp.InvalidURL, ValueError)):
        return UpstreamError(
            "The provider's base URL is not valid.", owner=Owner.HEALTH, code="upstream_connect"
        )
    return UpstreamError("The connection was lost.", owner=Owner.HEALTH, code="upstream_reset")
