"""The connections to one origin: kept for the next request, never more than the limit.

The most recently used one is taken first, so that those that are not needed grow old and are closed.
Whoever finds all in use waits in line.
"""

import asyncio
import contextlib
import ssl
from collections import deque

from aiohappyeyeballs import start_connection

from proxy.wire.addresses import Addresses
from proxy.wire.connection import Connection
from proxy.wire.errors import CannotConnect, ConnectTimeout, Untrusted, WireError
from proxy.wire.origin import Origin

KEEP_S = 60.0
# RFC 8305: how long IPv6 has before IPv4 is tried beside it.
EYEBALLS_DELAY_S = 0.25


class Pool:
    """At most `limit` connections."""

    def __init__(self, origin: Origin, *, limit: int, addresses: Addresses, tls: ssl.SSLContext) -> None:
        """Open nothing yet."""
        self._origin = origin
        self._limit = limit
        self._addresses = addresses
        self._tls = tls if origin.tls else None
        self._loop = asyncio.get_running_loop()
        self._all: set[Connection] = set()
        self._opening = 0
        self._idle: deque[Connection] = deque()
        # Told a free connection, or None: there is room for a new one.
        self._line: deque[asyncio.Future[Connection | None]] = deque()
        self._sweep: asyncio.TimerHandle | None = None

    @property
    def size(self) -> int:
        """Connections that are open or being opened."""
        return len(self._all) + self._opening

    def kept(self) -> Connection | None:
        """Return a connection that is open and idle, if there is one."""
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
        return None

    async def take(self, *, connect_s: float, fresh: bool = False) -> Connection:
        """Return a connection, a newly opened one if `fresh`. Raises CannotConnect or ConnectTimeout.

        A new one opens within `connect_s` seconds, or not; the wait in line is not counted.
        """
        while True:
            if not fresh and (connection := self.kept()) is not None:
                return connection
            if self.size >= self._limit and self._idle:
                self._idle.popleft().abort()
            if self.size < self._limit:
                return await self._open(connect_s)
            freed = await self._turn()
            if freed is None:
                continue
            if not fresh and freed.usable:
                return freed
            freed.abort()

    def close(self, problem: WireError | None = None) -> None:
        """Close all connections, those in use too; what they answer fails with `problem`."""
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        for connection in list(self._all):
            connection.abort(problem)

    def _free(self, connection: Connection) -> None:
        connection.idle_since = self._loop.time()
        if not self._hand_over(connection):
            self._idle.append(connection)
            if self._sweep is None:
                self._sweep = self._loop.call_later(KEEP_S, self._close_old)

    def _gone(self, connection: Connection) -> None:
        self._all.discard(connection)
        with contextlib.suppress(ValueError):
            self._idle.remove(connection)
        self._hand_over(None)

    def _hand_over(self, connection: Connection | None) -> bool:
        while self._line:
            waiting = self._line.popleft()
            if not waiting.done():
                waiting.set_result(connection)
                return True
        return False

    async def _turn(self) -> Connection | None:
        waiting: asyncio.Future[Connection | None] = self._loop.create_future()
        self._line.append(waiting)
        try:
            return await waiting
        except asyncio.CancelledError:
            if waiting.done() and not waiting.cancelled():  # told in the very moment we gave up
                freed = waiting.result()
                if freed is None:
                    self._hand_over(None)
                else:
                    self._free(freed)
            raise

    def _close_old(self) -> None:
        self._sweep = None
        before = self._loop.time() - KEEP_S
        while self._idle and self._idle[0].idle_since <= before:
            self._idle.popleft().abort()
        if self._idle:
            self._sweep = self._loop.call_at(self._idle[0].idle_since + KEEP_S, self._close_old)

    async def _open(self, connect_s: float) -> Connection:
        self._opening += 1
        opened = False
        try:
            async with asyncio.timeout(connect_s):
                connection = await self._connected()
            self._all.add(connection)
            opened = True
        except TimeoutError:
            raise ConnectTimeout(f"no connection within {connect_s:g} s") from None
        except ssl.SSLError:
            raise Untrusted("TLS failed") from None
        except OSError:
            raise CannotConnect("refused or unreachable") from None
        finally:
            self._opening -= 1
            if not opened:
                self._hand_over(None)
        return connection

    async def _connected(self) -> Connection:
        origin, loop = self._origin, self._loop
        found = await self._addresses.of(origin.host, origin.port)
        socket = await start_connection(found, happy_eyeballs_delay=EYEBALLS_DELAY_S, interleave=1, loop=loop)
        try:
            _, connection = await loop.create_connection(
                lambda: Connection(loop, free=self._free, gone=self._gone),
                sock=socket,
                ssl=self._tls,
                server_hostname=origin.host if self._tls else None,
            )
        except BaseException:
            socket.close()
            raise
        return connection
