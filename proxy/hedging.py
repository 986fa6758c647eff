"""Asks a second upstream when the first is slower than it usually is: the first content wins.

    first ---------------- p95 ------------------ content: it wins, the other is cancelled
                             second ------ ...

Both attempts are recorded, and paid for. The second is one of the request's attempts like any other.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, Protocol, TypeVar

from providers.errors import UpstreamError
from providers.upstream import Upstream
from proxy.errors import Inexpressible
from proxy.fleet.visit import Visit

Result = TypeVar("Result")
Lost_contra = TypeVar("Lost_contra", contravariant=True)


class Race(Protocol[Lost_contra]):
    """What a hedged request does with its attempts (proxy.answering)."""

    def delay_s(self, visit: Visit) -> float | None:
        """Return how long the upstream usually takes at most; None if that is not known."""

    def won(self, visit: Visit) -> None:
        """This attempt answers."""

    def lost(self, visit: Visit, result: Lost_contra | None) -> None:
        """It does not, for another was faster. `result`: it had one in the very same moment."""


class Hedged(Generic[Result]):
    """One attempt, and a second one where the first is slow."""

    def __init__(
        self,
        race: Race[Result],
        *,
        visited: Callable[[Visit], Coroutine[Any, Any, Result]],
        second: Callable[[], Visit | None],
        failed: Callable[[Upstream, UpstreamError], None],
    ) -> None:
        """`visited` makes an attempt, `second` starts another; `failed` hears of one that fails first."""
        self._race, self._visited, self._second, self._failed = race, visited, second, failed
        self._running: dict[asyncio.Task[Result], Visit] = {}

    async def run(self, visit: Visit) -> Result:
        """Return the first result. Raises what the last attempt raised, if none has one."""
        delay_s = self._race.delay_s(visit)
        if delay_s is None:
            return await self._visited(visit)
        running = self._running
        try:
            self._start(visit)
            done, _ = await asyncio.wait(running, timeout=delay_s)
            if not done:
                self._start_second()
            while True:
                done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    result = self._result(task)
                    if result is not None:
                        await self._settle()
                        return result
        finally:
            for task, other in running.items():  # nobody waits for them: their ends do not wait either
                task.cancel()
                other.left()

    def _start(self, visit: Visit) -> None:
        self._running[asyncio.create_task(self._visited(visit))] = visit

    def _start_second(self) -> None:
        visit = self._second()
        if visit is not None:
            self._start(visit)

    def _result(self, task: "asyncio.Task[Result]") -> Result | None:
        """Return the winner's result; None while another may have one. Raises when no other may."""
        visit = self._running.pop(task)
        try:
            result = task.result()
        except UpstreamError as error:
            if not self._running or not error.retryable:
                raise
            self._failed(visit.target, error)
            return None
        except Inexpressible:
            if not self._running:
                raise
            return None
        self._race.won(visit)
        return result

    async def _settle(self) -> None:
        """End the attempt that was slower, and note it."""
        losers = dict(self._running)
        self._running.clear()
        for task in losers:
            task.cancel()
        if losers:
            await asyncio.wait(losers)
        for task, visit in losers.items():
            ended = not task.cancelled() and task.exception() is None
            self._race.lost(visit, task.result() if ended else None)
            visit.left()  # a task that has not begun has not ended its visit
