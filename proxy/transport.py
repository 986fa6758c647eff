"""The only door to vendors on the hot path: one pool of connections per provider (bulkhead, keep-alive).

Every failure leaves here as an UpstreamError (proxy.vendor_response). A reset on a
reused connection before any byte of the answer is the keep-alive race, not a failure: the request
is sent once more on another connection and counts as the same attempt.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from functools import cache

from providers.models import DEMO_URL
from providers.upstream import Account, Upstream, UpstreamRequest
from proxy.demo_response import ask_demo
from proxy.vendor_response import (
    HttpResponse,
    Response,
    UploadedResponse,
    stopped,
    timed_out,
    translated,
)
from proxy.wire import errors as wire
from proxy.wire.addresses import Addresses
from proxy.wire.origin import Address, address_of, bodiless, framed, request_head
from proxy.wire.pool import Pool
from proxy.wire.reply import Reply
from proxy.wire.upload import Upload

USER_AGENT = "django-llm-gateway"
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
        self._stopped = False
        self._addresses = Addresses()
        self._tls = _trust()  # now, and not during the first request
        self._pools: dict[tuple[object, ...], Pool] = {}
        self._doors: dict[tuple[str, str, str], _Door] = {}

    async def open(self, upstream: Upstream, request: UpstreamRequest) -> Response:
        """Send the request and return when the head is here. Raises UpstreamError.

        The caller bounds the wait; cancelling closes the connection.
        """
        account = upstream.account
        if self._stopped:
            raise stopped()
        if account.base_url == DEMO_URL:
            return await ask_demo(account, request)
        try:
            door = self._doors.get((account.name, account.credential, request.path))
            if door is None or door.account is not account:
                door = self._door(account, request.path)
            reply = await self._ask(
                door.pool,
                door.head(request),
                request.body,
                limit=self._max_response_bytes,
                connect_s=upstream.timeouts.connect_s,
            )
        except wire.WireError as problem:
            raise translated(problem) from None
        return HttpResponse(reply)

    async def forward(self, account: Account, request: Outgoing, *, answer_s: float) -> Response:
        """Send a request on and return when the head of the answer is here. Raises UpstreamError.

        `answer_s` bounds the wait from when the request has been sent, and the one for a connection. What
        the pieces of an arriving body raise is raised here, or by the response.
        """
        try:
            address = address_of(account.base_url.rstrip("/") + request.path)
            headers = {**_OWN_HEADERS, **request.headers, **account.headers}
            head = request_head(address, headers, method=request.method)
            pool, connect_s = self._pool(account, address), account.timeouts.connect_s
            if request.body is None or isinstance(request.body, bytes):
                body = request.body or b""
                head = bodiless(head) if request.body is None else framed(head, len(body))
                async with asyncio.timeout(answer_s):
                    return HttpResponse(
                        await self._ask(pool, head, body, limit=request.limit, connect_s=connect_s)
                    )
            async with asyncio.timeout(answer_s):
                # A kept one may have died, and what has been sent cannot be sent again.
                connection = await pool.take(connect_s=connect_s, fresh=True)
            upload = Upload(
                connection,
                request.body,
                chunked=request.length is None,
                stall_s=account.timeouts.idle_s,
                answer_s=answer_s,
            )
            reply = await upload.answered(framed(head, request.length), limit=request.limit)
            return UploadedResponse(reply, upload)
        except wire.WireError as problem:
            raise translated(problem) from None
        except TimeoutError:
            raise timed_out("total") from None

    def break_off(self) -> None:
        """End all that is being asked, as the gateway ends; nothing more is asked."""
        self._stopped = True
        for pool in self._pools.values():
            pool.close(wire.Stopped("the gateway is being stopped"))

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

    async def _ask(self, pool: Pool, head: bytes, body: bytes, *, limit: int, connect_s: float) -> Reply:
        connection = pool.kept() or await pool.take(connect_s=connect_s)
        while True:
            reply = connection.send(head, body, limit=limit)
            try:
                await reply.head()
            except wire.Stale:  # not twice: only a kept connection is
                connection = await pool.take(connect_s=connect_s, fresh=True)
            except BaseException:
                reply.close()
                raise
            else:
                return reply

    def _door(self, account: Account, path: str) -> _Door:
        address = address_of(account.base_url.rstrip("/") + path)
        if len(self._doors) >= MAX_DOORS:
            self._doors.clear()
        door = _Door(account, address, self._pool(account, address))
        if not account.own_credential:  # that of a client goes with its request
            self._doors[account.name, account.credential, path] = door
        return door

    def _pool(self, account: Account, address: Address) -> Pool:
        key = (account.name, address.origin, account.max_connections)
        pool = self._pools.get(key)
        if pool is None:
            self._forget_unused()
            pool = self._pools[key] = Pool(
                address.origin,
                limit=account.max_connections,
                addresses=self._addresses,
                tls=self._tls,
            )
        return pool


@cache
def _trust() -> ssl.SSLContext:
    """Return the TLS settings of all connections. Reads the system's trusted certificates: milliseconds."""
    return ssl.create_default_context()
