"""Processes that are kept alive until nobody wants them any more."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import structlog

MANAGE = Path(__file__).resolve().parent.parent / "manage.py"
BACKOFF_S = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
STEADY_S = 60.0  # after so long alive, a death is the first one again

log = structlog.get_logger("gatewaysite.serve")


@dataclass(slots=True, eq=False)
class Child:
    """A process to keep alive: how it is started, and what is known of its life.

    `starts`: how often it may die before it was ever ready; then it is given up. 0: always once more.
    `once`: it is done when it has ended well.
    """

    name: str
    arguments: tuple[str, ...]
    fds: tuple[int, ...]
    environment: Mapping[str, str]
    starts: int = 0
    once: bool = False
    process: asyncio.subprocess.Process | None = None
    deaths: int = 0
    started_at: float = 0.0
    renewed: bool = False  # its next end was asked for: it is started again at once
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    unwanted: asyncio.Event = field(default_factory=asyncio.Event)

    async def start(self) -> asyncio.subprocess.Process:
        """Start the process in a session of its own, where the terminal's Ctrl+C does not reach it."""
        self.started_at = time.monotonic()
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(MANAGE),
            *self.arguments,
            env={**os.environ, **self.environment},
            pass_fds=self.fds,
            stdin=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        return self.process

    @property
    def alive(self) -> bool:
        """Does its process run?"""
        return self.process is not None and self.process.returncode is None

    def send(self, number: signal.Signals) -> None:
        """Signal the process if it lives."""
        if self.process is not None and self.alive:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)

    @property
    def hopeless(self) -> bool:
        """Has it died too often without ever having been ready?"""
        return bool(self.starts) and not self.ready.is_set() and self.deaths >= self.starts


class Children:
    """The processes of one parent, each with a task that keeps it alive."""

    def __init__(self, *, ended: Callable[[int], None]) -> None:
        """`ended` is told the id of every process that has ended."""
        self._ended = ended
        self._lives: dict[Child, asyncio.Task[None]] = {}

    def begin(self, child: Child) -> "asyncio.Task[None]":
        """Keep `child` alive from now on. The task ends when it is done, unwanted or given up."""
        life = self._lives[child] = asyncio.create_task(self._keep(child))
        life.add_done_callback(lambda _: self._lives.pop(child))
        return life

    def said_ready(self, pid: int) -> None:
        """Note that a process serves."""
        for child in self._lives:
            if child.process is not None and child.process.pid == pid:
                child.ready.set()

    def all_but(self, other: Child | None) -> list[Child]:
        """Return all that live but one."""
        return [child for child in self._lives if child is not other]

    async def end(self, ending: Iterable[Child], *, within_s: float) -> None:
        """End what lives of these for good; kill what takes longer than `within_s`."""
        lives = {self._lives[child]: child for child in ending if child in self._lives}
        for child in lives.values():
            child.unwanted.set()
            child.send(signal.SIGTERM)
        if not lives:
            return
        _, unfinished = await asyncio.wait(lives, timeout=within_s)
        if unfinished:
            for life in unfinished:
                lives[life].send(signal.SIGKILL)
            names = [lives[life].name for life in unfinished]
            log.error("serve.killed", processes=names, after_s=within_s)
            await asyncio.wait(unfinished)

    def renew(self, child: Child) -> None:
        """End its process, if there is one, and start another at once."""
        if child.alive:
            child.renewed = True
            child.send(signal.SIGTERM)

    async def _keep(self, child: Child) -> None:
        """Start `child`, and again after every death."""
        while not child.unwanted.is_set():
            status = await self._live(child)
            if child.unwanted.is_set() or (child.once and status == 0):
                return
            if child.renewed:
                child.renewed = False
                continue
            child.deaths = 1 if time.monotonic() - child.started_at > STEADY_S else child.deaths + 1
            if child.hopeless:
                log.error("serve.gave_up", process=child.name, status=status)
                return
            pause_s = BACKOFF_S[min(child.deaths, len(BACKOFF_S)) - 1]
            log.error("serve.process_died", process=child.name, status=status, restart_in_s=pause_s)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(child.unwanted.wait(), pause_s)

    async def _live(self, child: Child) -> int | str:
        """Run `child` once and return its exit status, or why it could not be started."""
        try:
            process = await child.start()
        except OSError as problem:  # no memory or no process left: later there may be
            return str(problem)
        if child.unwanted.is_set():
            child.send(signal.SIGTERM)  # it was being started while the others were told
        status = await process.wait()
        self._ended(process.pid)
        return status
