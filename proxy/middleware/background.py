"""A bounded queue with a daemon thread behind it: for what must neither wait nor hold up an answer.

`put` never blocks and never raises; what does not fit is dropped and counted (`gateway_background_total`).
The thread starts with the first thing put, so that a process which forks before has none.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import structlog

from proxy.metrics import BACKGROUND

log = structlog.get_logger()

CAPACITY = 10_000
GATHER_S = 0.5

Thing = TypeVar("Thing")


class Background(Generic[Thing]):
    """Hands what is put to `work`, in order, up to `batch` things at a time."""

    def __init__(
        self,
        name: str,
        work: Callable[[Sequence[Thing]], None],
        *,
        batch: int = 1,
        capacity: int = CAPACITY,
        gather_s: float = 0.0,
    ) -> None:
        """`gather_s`: how long to wait for company after the first thing of a batch."""
        self._name, self._work = name, work
        self._batch, self._capacity, self._gather_s = batch, capacity, gather_s
        self._things: deque[Thing] = deque()
        self._due = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def closing(self) -> threading.Event:
        """Is set when the queue is being closed: work that waits should stop waiting."""
        return self._closing

    def put(self, thing: Thing) -> bool:
        """Queue a thing; False if it was dropped. For any thread, the event loop among them."""
        if len(self._things) >= self._capacity or self._closing.is_set():
            self._count("dropped")
            return False
        self._things.append(thing)
        self._due.set()
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        return True

    def close(self, timeout_s: float) -> None:
        """Take no more, and wait until what is queued is done, for a moment. Blocks."""
        self._closing.set()
        self._due.set()
        thread = self._thread
        if thread is not None:
            thread.join(timeout_s)
        if thread is None or not thread.is_alive():
            self._closing.clear()  # it may be used again

    def _run(self) -> None:
        while self._due.wait():
            if self._gather_s and len(self._things) < self._batch:
                self._closing.wait(self._gather_s)
            self._due.clear()
            while self._things:
                count = min(self._batch, len(self._things))
                self._do([self._things.popleft() for _ in range(count)])
            if self._closing.is_set():
                return

    def _do(self, things: Sequence[Thing]) -> None:
        try:
            self._work(things)
        except Exception:  # a background loop: it goes on with the next
            self._count("failed", len(things))
            log.exception("background_failed", queue=self._name, count=len(things))
        else:
            self._count("done", len(things))

    def _count(self, outcome: str, things: int = 1) -> None:
        BACKGROUND.labels(queue=self._name, outcome=outcome).inc(things)


def remaining_s(deadline: float) -> float:
    """Return the seconds left until `deadline` (time.monotonic), at least 0."""
    return max(deadline - time.monotonic(), 0.0)
