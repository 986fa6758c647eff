"""A request whose body is still arriving as it is sent: at the speed of the slower side, held by nobody.

The vendor may answer before the end. What it refuses is not sent on any further; what it accepts is. When the
pieces themselves fail, that is why the request fails.
"""

import asyncio
from collections.abc import AsyncIterator

from proxy.wire.connection import Connection
from proxy.wire.errors import Silent, WireError
from proxy.wire.reply import Reply


class Upload:
    """One such request. `end` must be called when nobody waits for its answer any more."""

    __slots__ = (
        "_answer_s",
        "_chunked",
        "_connection",
        "_ended",
        "_pieces",
        "_reply",
        "_stall_s",
        "_task",
        "_timer",
        "problem",
    )

    def __init__(
        self,
        connection: Connection,
        pieces: AsyncIterator[bytes],
        *,
        chunked: bool,
        stall_s: float,
        answer_s: float,
    ) -> None:
        """The vendor may stop taking for `stall_s`, and think for `answer_s` once it has everything.

        `problem` is why sending failed, if it did.
        """
        self._connection = connection
        self._pieces = pieces
        self._chunked = chunked
        self._stall_s, self._answer_s = stall_s, answer_s
        self.problem: BaseException | None = None
        self._ended = False
        self._reply: Reply | None = None
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def answered(self, head: bytes, *, limit: int) -> Reply:
        """Send it and return the reply at its head. Raises WireError, or what the pieces raise."""
        reply = self._reply = self._connection.begin(head, limit=limit)
        self._task = asyncio.get_running_loop().create_task(self._send())
        self._task.add_done_callback(self._sent)
        try:
            await reply.head()
        except BaseException as ended:
            self.end()
            reply.close()
            if self.problem is not None and isinstance(ended, WireError):
                raise self.problem from None
            raise
        if reply.status >= 300:
            self.end()
        return reply

    def end(self) -> None:
        """Send nothing more. The connection is used again only if everything had been sent."""
        self._ended = True
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()

    async def _send(self) -> None:
        connection = self._connection
        async for piece in self._pieces:
            if not connection.usable:
                return
            try:
                async with asyncio.timeout(self._stall_s):
                    await connection.write(b"%x\r\n%b\r\n" % (len(piece), piece) if self._chunked else piece)
            except TimeoutError:
                raise Silent("idle") from None
        if self._chunked:
            await connection.write(b"0\r\n\r\n")
        connection.sent()

    def _sent(self, task: "asyncio.Task[None]") -> None:
        if task.cancelled():
            return
        assert self._reply is not None
        self.problem = task.exception()
        if self.problem is not None:
            self._reply.close()
        elif not (self._reply.status or self._ended):
            self._timer = asyncio.get_running_loop().call_later(self._answer_s, self._expire)

    def _expire(self) -> None:
        assert self._reply is not None
        if not self._reply.status:
            self.problem = Silent("total")
            self._reply.close()
