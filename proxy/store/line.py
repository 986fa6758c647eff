"""One connection to Redis: what is sent on it is done in that order.

Commands come in batches (proxy.store.batch), one batch at a time, so that a hold is there before it is ended,
whoever waits for what. A batch is written and read as a whole: the client library's own pipelines cost this
process several times as much for each command.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import redis.asyncio as redis_async
from redis.exceptions import NoScriptError, RedisError

from proxy.store.batch import Command

__all__ = ["CONNECTION_ERRORS", "TIMEOUT_S", "Line", "NoScriptError"]

CONNECTION_ERRORS = (RedisError, OSError, TimeoutError)
TIMEOUT_S = 1.0
_EACH = 16  # answers that have `TIMEOUT_S` together


class Line:
    """Connects itself when it is used."""

    def __init__(self, url: str) -> None:
        """`url`: as the client library reads it."""
        pool = redis_async.ConnectionPool.from_url(
            url,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            # Telling Redis our version reads it from disk, for each connection, on the event loop.
            driver_info=None,
        )
        self._connection: Any = pool.make_connection()  # type: ignore[no-untyped-call]  # redis-py has none

    async def execute(self, commands: Sequence[Command]) -> Sequence[Any]:
        """Return the answers to commands, errors among them. Raises what ends a connection."""
        connection = self._connection
        try:
            if connection.is_connected and await connection.can_read():
                await connection.disconnect(nowait=True)  # Redis was restarted since
            await connection.send_packed_command([_packed(connection, commands)], check_health=False)
            return await self._read(len(commands))
        except BaseException:
            await connection.disconnect(nowait=True)  # what was not read would answer the next batch
            raise

    async def close(self) -> None:
        """Disconnect."""
        await self._connection.disconnect(nowait=True)

    async def _read(self, count: int) -> Sequence[Any]:
        # Asked past the connection, whose own method takes several times as long for each answer.
        parser, answers = self._connection._parser, list[Any]()  # noqa: SLF001 - the version is pinned
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(TIMEOUT_S) as limit:
            for number in range(count):
                if number % _EACH == 0:
                    limit.reschedule(loop.time() + TIMEOUT_S)
                answers.append(await parser.read_response())  # errors of commands are answers, too
        return answers


def _packed(connection: Any, commands: Sequence[Command]) -> bytes:
    """Return commands in Redis's protocol; one that is written already is a lone byte string."""
    parts: list[bytes] = []
    for command in commands:
        if len(command) == 1 and isinstance(command[0], bytes):
            parts.append(command[0])
        else:
            parts += connection.pack_command(*command)
    return b"".join(parts)
