"""The built-in demo vendor as the transport sees it: waits where a network would, breaks where one would.

Its timeouts are those of an answer from the wire. They need no timer of their own: how long the next piece
takes is known before it is waited for.
"""

import asyncio
import math
import random
from collections.abc import Callable, Mapping

from providers import demo
from providers.upstream import Account, UpstreamRequest
from proxy.vendor_response import broken_off, timed_out


async def ask_demo(
    account: Account, request: UpstreamRequest, *, draw: Callable[[], float] = random.random
) -> "DemoResponse":
    """Return the answer when its head is due. The caller bounds the wait.

    `draw` gives the number that decides whether this is one of the requests that fail.
    """
    faults = account.faults
    if faults is None or not faults.strike(draw()):
        return DemoResponse(demo.respond(request.path, request.body))
    reply = demo.respond(request.path, request.body, faults)
    if reply.latency_s:
        await asyncio.sleep(reply.latency_s)
    return DemoResponse(reply)


class DemoResponse:
    """An answer of the demo; there is no connection, so nothing is ever left of one."""

    __slots__ = (
        "_at",
        "_dropped",
        "_end",
        "_idle_s",
        "_loop",
        "_name",
        "_pieces",
        "headers",
        "over",
        "status",
    )

    def __init__(self, reply: demo.DemoReply) -> None:
        """Take over the reply."""
        self.status = reply.status
        self.headers: Mapping[str, str] = {"content-type": reply.content_type, **reply.headers}
        self.over = True
        self._pieces = reply.pieces
        self._end = reply.end
        self._loop = asyncio.get_running_loop()
        self._dropped: asyncio.Future[None] = self._loop.create_future()
        self._name, self._at, self._idle_s = "", math.inf, math.inf

    async def read(self) -> bytes:
        """Return the whole body. Raises UpstreamError."""
        pieces = []
        while piece := await self.piece():
            pieces.append(piece)
        return b"".join(pieces)

    async def piece(self) -> bytes:
        """Return the next piece, after its pause; b"" at the end. Raises UpstreamError."""
        for pause_s, piece in self._pieces:
            await self._wait(pause_s)
            return piece
        if self._end is demo.End.STALLED:
            await self._wait(math.inf)
        if self._end is demo.End.CUT:
            raise broken_off()
        return b""

    def watch(self, *, name: str, at: float, idle_s: float | None = None) -> None:
        """Set the limits of the pieces that follow; a later call replaces them."""
        self._name, self._at = name, at
        self._idle_s = math.inf if idle_s is None else idle_s

    def close(self) -> None:
        """Leave: who still waits for a piece gets none."""
        if not self._dropped.done():
            self._dropped.set_result(None)

    async def finish(self) -> None:
        """Nothing is left."""

    async def _wait(self, pause_s: float) -> None:
        """Wait for a piece that is due in `pause_s`. Raises UpstreamError when a limit comes before it."""
        left_s, name = self._at - self._loop.time(), self._name
        if self._idle_s < left_s:
            left_s, name = self._idle_s, "idle"
        if pause_s > 0 and left_s > 0:
            wait_s = min(pause_s, left_s)
            # Without any limit (a whole JSON answer that stalls) it is the caller who ends the wait.
            await asyncio.wait({self._dropped}, timeout=None if wait_s == math.inf else wait_s)
        if self._dropped.done():
            raise broken_off()
        if left_s <= 0 or left_s < pause_s:
            self.close()
            raise timed_out(name)
