"""Lets so many calls at a time into one provider's account, and makes the others wait in a fair queue.

One per account and worker; all of it runs on the event loop, so nothing here is locked. Who finds a free
slot and nobody waiting pays a comparison and an addition (`enter_now`). A slot that becomes free is handed
to the waiting call, not left to whoever comes first: the call has it before its task runs again, and gives
it back if the task was cancelled in that very moment.

Nobody waits in vain: who cannot be served before its deadline is refused when it comes, so that the next
target is asked while there is time. How long a turn in the queue takes
is the mean time between two departures, measured while calls wait and every slot is taken: at such times it
is how long a call keeps its slot, divided by the slots. Until enough were measured, or when the last was
long ago, nobody is refused for it.
"""

import asyncio
import sys

from proxy.fleet.fair_queue import FairQueue

UNLIMITED = sys.maxsize
MIN_RETRY_AFTER_S, MAX_RETRY_AFTER_S = 1.0, 3600.0
# So many departures make a pace; each newer one weighs a fifth; after a minute without one it is forgotten.
_ENOUGH, _NEWEST, _FRESH_S = 8, 0.2, 60.0


class QueueFull(Exception):
    """There is no place in the queue, or no chance before the deadline. `retry_after_s` is a guess."""

    def __init__(self, retry_after_s: float) -> None:
        """Say when it may be worth another try."""
        super().__init__(f"no place in the queue; try again in {retry_after_s:.0f} s")
        self.retry_after_s = retry_after_s


class QueueTimeout(Exception):
    """The deadline came before a slot."""


class _Waiter:
    __slots__ = ("deadline", "future", "tenant", "timer")

    def __init__(self, future: "asyncio.Future[str]", *, tenant: int | None, deadline: float) -> None:
        self.future = future
        self.tenant = tenant
        self.deadline = deadline
        self.timer: asyncio.TimerHandle | None = None

    def tell(self, word: str) -> None:
        """Say once how its wait ended."""
        if not self.future.done():
            self.future.set_result(word)
        if self.timer is not None:
            self.timer.cancel()


_INSIDE, _LATE = "inside", "late"


class Gate:
    """One account's slots. `in_flight` are the calls inside, those included that were just let in."""

    __slots__ = (
        "_gap_s",
        "_gaps",
        "_last_left_at",
        "_limit",
        "_loop",
        "_max_waiting",
        "_measured_at",
        "_queue",
        "in_flight",
    )

    def __init__(self, *, limit: int | None, max_waiting: int, loop: asyncio.AbstractEventLoop) -> None:
        """Let `limit` calls in at a time (None: any number) and `max_waiting` wait."""
        self.in_flight = 0
        self._loop = loop
        self._queue: FairQueue[_Waiter] = FairQueue()
        self._gaps, self._gap_s = 0, 0.0  # departures measured, and the mean time between them
        self._last_left_at = self._measured_at = 0.0
        self.configure(limit, max_waiting)

    @property
    def waiting(self) -> int:
        """How many calls wait."""
        return len(self._queue)

    @property
    def free(self) -> int:
        """How many calls could enter at once; none while calls wait."""
        return max(self._limit - self.in_flight, 0)

    @property
    def bounds(self) -> tuple[int | None, int]:
        """How many calls it lets in and how many may wait, as `configure` was told."""
        return (None if self._limit == UNLIMITED else self._limit, self._max_waiting)

    def configure(self, limit: int | None, max_waiting: int) -> None:
        """Take over new bounds. Those inside and in the queue stay, even where there are now too many."""
        self._limit = UNLIMITED if limit is None else limit
        self._max_waiting = max_waiting
        self._forget_pace()
        self._settle()

    def enter_now(self) -> bool:
        """Take a slot if one is free and nobody waits. `leave` gives it back."""
        # While calls wait every slot is taken: that keeps newcomers from passing them.
        if self.in_flight < self._limit:
            self.in_flight += 1
            return True
        return False

    async def enter(self, *, tenant: int | None, weight: int, deadline: float) -> None:
        """Take a slot, waiting for it until `deadline` (loop time). `leave` gives it back.

        Raises QueueFull at once when there is no place in the queue or no chance of a turn in time, and
        QueueTimeout at the deadline. Whoever is cancelled has no slot.
        """
        if self.enter_now():
            return
        self._refuse_in_vain(tenant, weight=weight, deadline=deadline)
        waiter = _Waiter(self._loop.create_future(), tenant=tenant, deadline=deadline)
        waiter.timer = self._loop.call_at(deadline, self._expel, waiter)
        if not self._queue:
            self._last_left_at = 0.0  # nobody waited for the slots that became free before
        self._queue.put(waiter, tenant=tenant, weight=weight)
        self._settle()
        try:
            word = await waiter.future
        except BaseException:
            self._withdraw(waiter)
            raise
        if word is _LATE:
            raise QueueTimeout

    def leave(self) -> None:
        """Give a slot back."""
        self.in_flight -= 1
        if self._queue:
            self._measure()
            self._settle()

    def _settle(self) -> None:
        """Let in whom there is room for."""
        while self.in_flight < self._limit:
            waiter = self._queue.first()
            if waiter is None:
                break
            if waiter.future.done():  # cancelled, and its task has not run yet
                self._queue.remove(waiter, tenant=waiter.tenant)
                continue
            self._queue.take()
            self.in_flight += 1
            waiter.tell(_INSIDE)

    def _expel(self, waiter: _Waiter) -> None:
        self._queue.remove(waiter, tenant=waiter.tenant)
        waiter.tell(_LATE)

    def _withdraw(self, waiter: _Waiter) -> None:
        """Its task was cancelled: before it had a slot, or in the moment when it got one."""
        let_in = not waiter.future.cancelled() and waiter.future.done() and waiter.future.result() is _INSIDE
        if waiter.timer is not None:
            waiter.timer.cancel()
        if let_in:
            self.leave()
        else:
            self._queue.remove(waiter, tenant=waiter.tenant)

    def _refuse_in_vain(self, tenant: int | None, *, weight: int, deadline: float) -> None:
        now = self._loop.time()
        if deadline <= now:
            raise QueueTimeout
        if len(self._queue) >= self._max_waiting:
            raise QueueFull(self._retry_after_s())
        turn_s = self._turn_s(now)
        if now + len(self._queue) * turn_s >= deadline:  # whoever is last in all lines may be too late
            begins_at = now + self._queue.ahead_of(tenant, weight=weight) * turn_s
            if begins_at >= deadline:
                raise QueueFull(self._retry_after_s())

    def _retry_after_s(self) -> float:
        """Guess when those who wait now are through."""
        now = self._loop.time()
        wait_s = len(self._queue) * self._turn_s(now)
        return min(max(wait_s, MIN_RETRY_AFTER_S), MAX_RETRY_AFTER_S)

    def _turn_s(self, now: float) -> float:
        """Return how long one turn takes; 0 when it is not known."""
        known = self._gaps >= _ENOUGH and now - self._measured_at < _FRESH_S
        return self._gap_s if known else 0.0

    def _measure(self) -> None:
        """Learn from a departure, just made while calls wait, how often there is one."""
        now = self._loop.time()
        last, self._last_left_at = self._last_left_at, now
        if self.in_flight + 1 < self._limit:  # it is not slots that are waited for
            self._last_left_at = 0.0
        elif last:
            if now - self._measured_at >= _FRESH_S:
                self._gaps = 0
            self._gaps += 1
            # The plain mean at first.
            self._gap_s += (now - last - self._gap_s) * max(_NEWEST, 1 / self._gaps)
            self._measured_at = now

    def _forget_pace(self) -> None:
        self._gaps, self._gap_s = 0, 0.0
        self._last_left_at = self._measured_at = 0.0
