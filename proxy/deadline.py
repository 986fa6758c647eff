"""Bounds waits: `with deadlines.until(at, "total"): await ...` raises that timeout's UpstreamError.

What asyncio.timeout does, for one task, at a fraction of its cost: every request to a vendor passes here.
Setting a timer and cancelling it costs more than all the rest, and hardly one ever fires. So all waits of
an event loop share one, set for the earliest of them. A wait that ends leaves the timer as it is; when it
fires, it is set again for the earliest of those that are there then.
"""

import asyncio
import math
from types import TracebackType

from proxy.vendor_response import timed_out

# Timers count whole milliseconds, and may fire up to one too early.
_EARLY_S = 0.001


class Deadlines:
    """Those of one event loop. Made inside it."""

    def __init__(self) -> None:
        """Bound nothing yet."""
        self.loop = asyncio.get_running_loop()
        self._waiting: set[Deadline] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._looks_at = math.inf

    def until(self, at: float, name: str) -> "Deadline":
        """Return a block's bound at loop time `at`; `name` says in the error which timeout fired."""
        return Deadline(self, at, name)

    def add(self, deadline: "Deadline") -> None:
        """Fire it, if it is not removed before its time."""
        self._waiting.add(deadline)
        if deadline.at < self._looks_at:
            self._look_at(deadline.at)

    def remove(self, deadline: "Deadline") -> None:
        """Its block has ended."""
        self._waiting.discard(deadline)

    def close(self) -> None:
        """Fire no more."""
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _look_at(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._looks_at = at
        self._timer = self.loop.call_at(at, self._look)

    def _look(self) -> None:
        self._timer, self._looks_at = None, math.inf
        due_at = self.loop.time() + _EARLY_S
        for deadline in [each for each in self._waiting if each.at <= due_at]:
            self._waiting.discard(deadline)
            deadline.fire()
        if self._waiting:
            self._look_at(min(each.at for each in self._waiting))


class Deadline:
    """Cancels its block at loop time `at`; a cancellation from elsewhere goes through untouched."""

    __slots__ = ("_cancelling", "_deadlines", "_fired", "_name", "_task", "at")

    def __init__(self, deadlines: Deadlines, at: float, name: str) -> None:
        """See `Deadlines.until`."""
        self.at = at
        self._deadlines = deadlines
        self._name = name
        self._fired = False

    def __enter__(self) -> None:
        """Begin."""
        task = asyncio.current_task(self._deadlines.loop)
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()
        self._deadlines.add(self)

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End; raise UpstreamError if this was what ended the block."""
        self._deadlines.remove(self)
        if not self._fired:
            return
        others = self._task.uncancel() > self._cancelling
        if kind is not None and issubclass(kind, asyncio.CancelledError) and not others:
            raise timed_out(self._name) from None

    def fire(self) -> None:
        """Cancel the block."""
        self._fired = True
        self._task.cancel()
