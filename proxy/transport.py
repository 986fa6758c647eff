"""The only door to vendors on the hot path: one pool of connections per provider (bulkhead, keep-alive).

Every failure leaves here as an UpstreamError, most specific first (`_translated`). A reset on a
reused connection before any byte of the answer is the keep-alive race, not a failure: the request
is sent once more on another connection and counts as the same attempt.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Protocol

from providers import demo
from providers.errors import INVALID_RESPONSE, Owner, UpstreamError
from providers.models import DEMO_URL
from providers.upstream import Account, Upstream, UpstreamRequest
from proxy.wire import errors as wire
from proxy.wire.addresses import Addresses
from proxy.wire.connection import Connection
from proxy.wire.origin import Address, address_of, bodiless, framed, request_head
from proxy.wire.pool import Pool
from proxy.wire.reply import Reply
from proxy.wire.upload import Upload

USER_AGENT = "django-llm-gateway"
DRAIN_S = 1.0
MAX_DOORS = 1000
_OWN_HEADERS = {"accept-encoding": "identity", "user-agent": USER_AGENT}


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A request that is passed on: `path` is under the base URL, with its query.

    `body` is None where the method has none, or pieces that are still arriving, `length` bytes in all (None:
    nobody knows). The vendor's own headers win over `headers`. `limit`: bytes of the answer.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes | AsyncIterator[bytes] | None
    length: int | None
    limit: int


class Response(Protocol):
    """An answer whose head has arrived. `headers` have lower-case names."""

    status: int
    headers: Mapping[str, str]

    @property
    def over(self) -> bool:
        """Has all of it arrived, so that nothing holds the connection any more?"""

    async def read(self) -> bytes:
        """Return the whole body. See `watch`."""

    async def piece(self) -> bytes:
        """Return what has arrived of the body, waiting for some; b"" at its end. See `watch`."""

    def watch(self, *, name: str, at: float, idle_s: float | None = None) -> None:
        """End `piece` and `read` with timeout `name` at loop time `at`, or "idle" `idle_s` after a byte."""

    def close(self) -> None:
        """Drop the connection: the vendor sees that we left. Never waits."""

    async def finish(self) -> None:
        """Read what little is left so that the connection can be used again."""


class _Door:
    """Where one account's requests to one path go: its pool, and the head that they all begin with."""

    __slots__ = ("_address", "_head", "_head_of", "account", "pool")

    def __init__(self, account: Account, address: Address, pool: Pool) -> None:
        self.account = account
        self.pool = pool
        self._address = address
        self._head = b""
        self._head_of: Mapping[str, str] | None = None

    def head(self, request: UpstreamRequest) -> bytes:
        """Return the request's head; a dialect's constant headers are put together once."""
        if self._head_of is not request.headers:
            headers = {**_OWN_HEADERS, **self.account.headers, **request.headers}
            self._head = request_head(self._address, headers)
            self._head_of = request.headers
        return b"%b%d\r\n\r\n" % (self._head, len(request.body))


class Transport:
    """Opens requests to upstreams. Made inside the event loop."""

    def __init__(self, *, max_response_bytes: int) -> None:
        """Answers larger than `max_response_bytes` are refused."""
        self._max_response_bytes = max_response_bytes
        self._addresses = Addresses()
        self._tls = _trust()  # now, and not during the first request
        self._pools: dict[tuple[object, ...], Pool] = {}
        self._doors: dict[tuple[str, str], _Door] = {}

    async def open(self, upstream: Upstream, request: UpstreamRequest) -> Response:
        """Send the request and return when the head is here. Raises UpstreamError.

        The caller bounds the wait; cancelling closes the connection.
        """
        account = upstream.account
        if account.base_url == DEMO_URL:
            return DemoResponse(demo.respond(request.path, request.body))
        try:
            door = self._doors.get((account.name, request.path))
            if door is None or door.account is not account:
                door = self._door(account, request.path)
            reply = await self._ask(
                door.pool, door.head(request), request.body, limit=self._max_response_bytes
            )
        except wire.WireError as problem:
            raise _translated(problem) from None
        return HttpResponse(reply)

    async def forward(self, account: Account, request: Outgoing, *, answer_s: float) -> Response:
        """Send a request on and return when the head of the answer is here. Raises UpstreamError.

        `answer_s` bounds the wait from when the request has been sent. Also raises what the pieces of an
        arriving body raise.
        """
        try:
            address = address_of(account.base_url.rstrip("/") + request.path)
            headers = {**_OWN_HEADERS, **request.headers, **account.headers}
            head = request_head(address, headers, method=request.method)
            pool = self._pool(account, address)
            if request.body is None or isinstance(request.body, bytes):
                body = request.body or b""
                head = bodiless(head) if request.body is None else framed(head, len(body))
                async with asyncio.timeout(answer_s):
                    return HttpResponse(await self._ask(pool, head, body, limit=request.limit))
            upload = Upload(
                # A kept one may have died, and what has been sent cannot be sent again.
                await pool.take(fresh=True),
                request.body,
                chunked=request.length is None,
                stall_s=account.timeouts.idle_s,
                answer_s=answer_s,
            )
            reply = await upload.answered(framed(head, request.length), limit=request.limit)
            return UploadedResponse(reply, upload)
        except wire.WireError as problem:
            raise _translated(problem) from None
        except TimeoutError:
            raise timed_out("total") from None

    async def close(self) -> None:
        """Close all connections."""
        for pool in self._pools.values():
            pool.close()
        self._pools.clear()
        self._doors.clear()
        await self._addresses.close()

    def _forget_unused(self) -> None:
        """Drop the pools without connections, and the doors to them: providers that have moved leave some."""
        self._pools = {name: each for name, each in self._pools.items() if each.size}
        kept = set(self._pools.values())
        self._doors = {name: door for name, door in self._doors.items() if door.pool in kept}

    async def _ask(self, pool: Pool, head: bytes, body: bytes, *, limit: int) -> Reply:
        try:
            return await self._ask_on(pool.kept() or await pool.take(), head, body, limit)
        except wire.Stale:
            return await self._ask_on(await pool.take(fresh=True), head, body, limit)

    async def _ask_on(self, connection: Connection, head: bytes, body: bytes, limit: int) -> Reply:
        reply = connection.send(head, body, limit=limit)
        try:
            await reply.head()
        except BaseException:
            reply.close()
            raise
        return reply

    def _door(self, account: Account, path: str) -> _Door:
        address = address_of(account.base_url.rstrip("/") + path)
        if len(self._doors) >= MAX_DOORS:
            self._doors.clear()
        door = self._doors[account.name, path] = _Door(account, address, self._pool(account, address))
        return door

    def _pool(self, account: Account, address: Address) -> Pool:
        key = (account.name, address.origin, account.max_connections, account.timeouts.connect_s)
        pool = self._pools.get(key)
        if pool is None:
            self._forget_unused()
            pool = self._pools[key] = Pool(
                address.origin,
                limit=account.max_connections,
                connect_s=account.timeouts.connect_s,
                addresses=self._addresses,
                tls=self._tls,
            )
        return pool


@cache
def _trust() -> ssl.SSLContext:
    """Return the TLS settings of all connections. Reads the system's trusted certificates: milliseconds."""
    return ssl.create_default_context()


class HttpResponse:
    """An answer from the wire, watched by at most one timer at a time."""

    __slots__ = (
        "_at",
        "_idle_s",
        "_loop",
        "_name",
        "_reply",
        "_timed_out",
        "_timer",
        "_waiting_since",
        "headers",
        "status",
    )

    def __init__(self, reply: Reply) -> None:
        """Take over the reply, whose head is here."""
        self.status = reply.status
        self.headers = reply.headers
        self._reply = reply
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._timed_out = ""
        self._waiting_since = 0.0

    @property
    def over(self) -> bool:
        """Has all of it arrived?"""
        return self._reply.whole

    async def read(self) -> bytes:
        """Return the whole body. Raises UpstreamError, also for one that is too large."""
        try:
            return await self._reply.read()
        except wire.WireError as problem:
            raise self._failure(problem) from None
        finally:
            self._stop_timer()

    async def piece(self) -> bytes:
        """Return what has arrived since the last piece; b"" at the end. Raises UpstreamError."""
        self._waiting_since = self._loop.time()
        try:
            piece = await self._reply.piece()
        except wire.WireError as problem:
            self._stop_timer()
            raise self._failure(problem) from None
        self._waiting_since = 0.0
        if not piece:
            self._stop_timer()
        return piece

    def _failure(self, problem: wire.WireError) -> UpstreamError:
        return timed_out(self._timed_out) if self._timed_out else _translated(problem)

    def watch(self, *, name: str, at: float, idle_s: float | None = None) -> None:
        """Set the limits of `piece`; a later call replaces them."""
        self._name, self._at, self._idle_s = name, at, idle_s
        look_at = at if idle_s is None else min(at, self._loop.time() + idle_s)
        if self._timer is not None:
            if self._timer.when() <= look_at:
                return  # it looks early enough, and goes by the limits that it finds then
            self._timer.cancel()
        self._timer = self._loop.call_at(look_at, self._check)

    def close(self) -> None:
        """Drop the connection, unless the answer has arrived to its end."""
        self._stop_timer()
        self._reply.close()

    async def finish(self) -> None:
        """Read to the end within a second, or drop the connection."""
        self._stop_timer()
        if self._reply.whole:
            return
        try:
            async with asyncio.timeout(DRAIN_S):
                await self._reply.read()
        except (TimeoutError, wire.WireError):
            self._reply.close()

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
        self._reply.close()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class UploadedResponse(HttpResponse):
    """An answer that may have come before the end of what is sent: its own end is the end of both."""

    __slots__ = ("_upload",)

    def __init__(self, reply: Reply, upload: Upload) -> None:
        """Take over both."""
        super().__init__(reply)
        self._upload = upload

    def _stop_timer(self) -> None:
        super()._stop_timer()
        self._upload.end()


class DemoResponse:
    """The demo vendor's answer: waits where a network would."""

    def __init__(self, reply: demo.DemoReply) -> None:
        """Take over the reply."""
        self.status = reply.status
        self.headers: Mapping[str, str] = {"content-type": reply.content_type}
        self._pieces = reply.pieces
        self.over = True  # there is no connection

    async def read(self) -> bytes:
        """Return the whole body."""
        pieces = []
        while piece := await self.piece():
            pieces.append(piece)
        return b"".join(pieces)

    async def piece(self) -> bytes:
        """Return the next piece, after its pause."""
        for pause_s, piece in self._pieces:
            if pause_s:
                await asyncio.sleep(pause_s)
            return piece
        return b""

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


def _translated(problem: wire.WireError) -> UpstreamError:
    if isinstance(problem, wire.ConnectTimeout):
        return timed_out("connect")
    if isinstance(problem, wire.Silent):
        return timed_out(str(problem))
    message, code = "The connection was lost.", "upstream_reset"
    if isinstance(problem, wire.Untrusted):
        message, code = "The provider's certificate is not trusted, or TLS failed.", "upstream_connect"
    elif isinstance(problem, wire.CannotConnect):
        message, code = "The connection was refused or the host is unknown.", "upstream_connect"
    elif isinstance(problem, wire.NoAddress):
        message, code = f"The provider's row cannot be used: {problem}.", "upstream_connect"
    elif isinstance(problem, wire.TooLarge):
        message = f"The answer is larger than MAX_RESPONSE_BYTES ({problem.limit})."
        code = "upstream_too_large"
    elif isinstance(problem, wire.Garbled):
        message, code = f"The answer broke off or is garbled: {problem}.", INVALID_RESPONSE
    return UpstreamError(message, owner=Owner.HEALTH, code=code)
