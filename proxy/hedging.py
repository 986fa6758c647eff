"""Asks a second upstream when the first is slower than it usually is: the first content wins.

    first ---------------- p95 ------------------ content: it wins, the other is cancelled
                             second ------ ...

Both attempts are recorded, and paid for. The second is one of the request's attempts like any other.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, Protocol, TypeVar

from providers.errors import UpstreamError
from proxy.errors import GatewayError
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

    def left(self, result: Lost_contra) -> None:
        """The client left in the very moment of this result."""


class Hedged(Generic[Result]):
    """One attempt, and a second one where the first is slow. `last`: whose end `run` told of."""

    def __init__(
        self,
        race: Race[Result],
        *,
        visited: Callable[[Visit], Coroutine[Any, Any, Result]],
        second: Callable[[], Visit | None],
        failed: Callable[[Visit, UpstreamError | GatewayError], None],
    ) -> None:
        """`visited` makes an attempt, `second` starts another; `failed` hears of one that fails first."""
        self.last: Visit | None = None
        self._race, self._visited, self._second, self._failed = race, visited, second, failed
        self._running: dict[asyncio.Task[Result], Visit] = {}

    async def run(self, visit: Visit) -> Result:
        """Return the first result. Raises what the last attempt raised, if none has one.

        Who has not ended by then is given up, and not waited for.
        """
        self.last = visit
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
                await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in [each for each in running if each.done()]:  # of two at once the first
                    result = self._result(task)
                    if result is not None:
                        return result
        except asyncio.CancelledError:
            self._give_up(lambda _, result: None if result is None else self._race.left(result))
            raise
        finally:
            self._give_up(self._race.lost)

    def _start(self, visit: Visit) -> None:
        self._running[asyncio.create_task(self._visited(visit))] = visit

    def _start_second(self) -> None:
        visit = self._second()
        if visit is not None:
            self._start(visit)

    def _result(self, task: "asyncio.Task[Result]") -> Result | None:
        """Return the winner's result; None while another may have one. Raises when no other may."""
        visit = self.last = self._running.pop(task)
        try:
            result = task.result()
        except (UpstreamError, GatewayError) as problem:  # the latter: of one that was not made
            final = isinstance(problem, UpstreamError) and not problem.retryable
            if final or not self._running:
                raise
            self._failed(visit, problem)
            return None
        self._race.won(visit)
        return result

    def _give_up(self, told: Callable[[Visit, Result | None], None]) -> None:
        """End what still runs, and tell of it; what has failed by itself has been told of."""
        while self._running:
            task, visit = self._running.popitem()
            if not task.done():
                task.cancel()
                told(visit, None)
            elif not task.cancelled() and task.exception() is None:
                told(visit, task.result())
            visit.left()  # a task that has not begun will not end its visit
