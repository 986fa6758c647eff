"""Lets commands that are sent in the same moment share one round trip.

A round trip costs this process several times what a command in it costs. Commands of one turn of
the event loop go out together; while a few round trips are under way, what comes gathers for the
next one, so batches grow with the load.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

MAX_UNDER_WAY = 4
MAX_BATCH = 500
Command = tuple[Any, ...]
Execute = Callable[[Sequence[Command]], Awaitable[Sequence[Any]]]


class Batcher:
    """Gathers commands for `execute`, which returns one answer (or exception) for each."""

    def __init__(self, execute: Execute, *, under_way: int = MAX_UNDER_WAY) -> None:
        """Nothing is under way yet. `under_way`: at most so many batches, 1 keeps their order."""
        self._execute = execute
        self._most = under_way
        self._waiting: list[tuple[Command, asyncio.Future[Any]]] = []
        self._gathering = False
        self._running = 0
        self._under_way: set[asyncio.Task[None]] = set()

    def send(self, *command: Any) -> "asyncio.Future[Any]":
        """Return the future answer. Raises, when awaited, what `execute` raised or answered."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        self._waiting.append((command, answer))
        if not self._gathering and self._running < self._most:
            self._gathering = True
            self._running += 1
            task = loop.create_task(self._run())  # begins with the loop's next turn
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
        return answer

    async def finish(self, *, within_s: float) -> None:
        """Wait for what is under way."""
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=within_s)

    async def _run(self) -> None:
        self._gathering = False
        while self._waiting:
            batch, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
            try:
                answers = await self._execute([command for command, _ in batch])
            except Exception as problem:  # noqa: BLE001 - handed to everyone who waits
                answers = [problem] * len(batch)
            for (_, waiting), answer in zip(batch, answers, strict=True):
                if waiting.done():
                    continue  # its request was cancelled
                if isinstance(answer, Exception):
                    waiting.set_exception(answer)
                else:
                    waiting.set_result(answer)
        self._running -= 1  # whoever sends from now on is waited for by nobody here
