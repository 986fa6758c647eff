"""Bounds a wait: `with Deadline(at, "total"): await ...` raises that timeout's UpstreamError.

What asyncio.timeout does, for one task and one timer, at a third of its cost: every request to a
vendor passes here.
"""

import asyncio
from types import TracebackType

from proxy.vendor_response import timed_out


class Deadline:
    """Cancels the block at loop time `at`; a cancellation from elsewhere goes through untouched."""

    __slots__ = ("_at", "_cancelling", "_fired", "_name", "_task", "_timer")

    def __init__(self, at: float, name: str) -> None:
        """`name` says in the error which timeout fired."""
        self._at = at
        self._name = name
        self._fired = False

    def __enter__(self) -> None:
        """Arm the timer."""
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()
        self._timer = asyncio.get_running_loop().call_at(self._at, self._fire)

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Disarm it; raise UpstreamError if it was what ended the block."""
        self._timer.cancel()
        if not self._fired:
            return
        others = self._task.uncancel() > self._cancelling
        if kind is not None and issubclass(kind, asyncio.CancelledError) and not others:
            raise timed_out(self._name) from None

    def _fire(self) -> None:
        self._fired = True
        self._task.cancel()
