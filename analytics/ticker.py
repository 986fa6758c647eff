"""Runs periodic tasks where there is no Celery beat: the embedded default.

Each run has a thread of its own, so that a slow task delays neither shipping nor another task, and
none runs beside itself. An error is logged and forgotten: the next time may go better.
"""

import threading
from collections.abc import Sequence
from typing import Protocol

import structlog
from django.db import connections

TICK_S = 0.5

log = structlog.get_logger()


class Periodic(Protocol):
    """A task with a schedule."""

    name: str

    def take_due(self) -> bool:
        """Is it due? If so, the next time is counted from now."""
        ...

    def run(self) -> None:
        """Run it to its end, here."""
        ...


class Ticker:
    """Starts what is due, twice a second, until it is stopped."""

    def __init__(self, tasks: Sequence[Periodic]) -> None:
        """Remember the tasks; `start` starts the thread."""
        self._tasks = tasks
        self._running: dict[str, threading.Thread] = {}

    def start(self, stop: threading.Event) -> None:
        """Tick in a daemon thread until `stop`: a task that still runs then does not hold up the end."""
        threading.Thread(target=self._tick_until, args=(stop,), name="ticker", daemon=True).start()

    def tick(self) -> None:
        """Start every task that is due and not running."""
        for task in self._tasks:
            previous = self._running.get(task.name)
            if (previous is None or not previous.is_alive()) and task.take_due():
                thread = threading.Thread(target=_run, args=(task,), name=task.name, daemon=True)
                self._running[task.name] = thread
                thread.start()

    def _tick_until(self, stop: threading.Event) -> None:
        while not stop.wait(TICK_S):
            self.tick()


def _run(task: Periodic) -> None:
    try:
        task.run()
    except Exception as problem:  # noqa: BLE001 - a background loop: it says what failed and goes on
        log.error("periodic_task_failed", task=task.name, error=f"{type(problem).__name__}: {problem}")
    finally:
        connections.close_all()
