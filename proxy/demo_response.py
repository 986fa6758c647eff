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
from proxy.vendor_response import SILENCE, broken_off, timed_out


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
        "_next",
        "_pieces",
        "_since",
        "_tell_s",
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
        self._name, self._at, self._idle_s, self._tell_s = "", math.inf, math.inf, math.inf
        self._next: tuple[float, bytes] | None = None  # when (loop time) the next piece is due, and it
        self._since = 0.0  # the last piece, by loop time

    async def read(self) -> bytes:
        """Return the whole body. Raises UpstreamError."""
        pieces = []
        while piece := await self.piece():
            pieces.append(piece)
        return b"".join(pieces)

    async def piece(self) -> bytes:
        """Return the next piece, after its pause; b"" at the end, or SILENCE. Raises UpstreamError."""
        now = self._loop.time()
        if self._next is None:
            pause_s, piece = next(self._pieces, self._last())
            self._next, self._since = (now + pause_s, piece), now
        due_at, piece = self._next
        if now + self._tell_s < due_at:
            await self._wait(self._tell_s)
            return SILENCE
        await self._wait(due_at - now)
        self._next = None
        if not piece and self._end is demo.End.CUT:
            raise broken_off()
        return piece

    def watch(
        self, *, name: str, at: float, idle_s: float | None = None, tell_s: float | None = None
    ) -> None:
        """Set the limits of the pieces that follow; a later call replaces them."""
        self._name, self._at = name, at
        self._idle_s = math.inf if idle_s is None else idle_s
        self._tell_s = math.inf if tell_s is None else tell_s

    def close(self) -> None:
        """Leave: who still waits for a piece gets none."""
        if not self._dropped.done():
            self._dropped.set_result(None)

    async def finish(self) -> None:
        """Nothing is left."""

    def _last(self) -> tuple[float, bytes]:
        return (math.inf if self._end is demo.End.STALLED else 0.0, b"")

    async def _wait(self, pause_s: float) -> None:
        """Wait for a piece that is due in `pause_s`. Raises UpstreamError when a limit comes before it."""
        now = self._loop.time()
        left_s, name = self._at - now, self._name
        if pause_s > 0 and self._since + self._idle_s < now + left_s:
            left_s, name = self._since + self._idle_s - now, "idle"
        if pause_s > 0 and left_s > 0:
            wait_s = min(pause_s, left_s)
            # Without any limit (a whole JSON answer that stalls) it is the caller who ends the wait.
            await asyncio.wait({self._dropped}, timeout=None if wait_s == math.inf else wait_s)
        if self._dropped.done():
            raise broken_off()
        if left_s <= 0 or left_s < pause_s:
            self.close()
            raise timed_out(name)
