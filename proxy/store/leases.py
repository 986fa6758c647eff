"""That a worker lives: said to Redis every half second, and found out about the others.

What a worker holds that has not said so for `LAPSES_S` is freed by another: its slots at once, its money when
the ledger has had the time to book what that worker had finished.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

import structlog

from proxy.store.line import CONNECTION_ERRORS
from proxy.store.scripts import BEAT, SWEEP
from proxy.store.server import Server

log = structlog.get_logger()

BEAT_S = 0.5
LAPSES_S = 15.0
_LAPSES_US = int(LAPSES_S * 1e6)


class Beat(NamedTuple):
    """What Redis said: `since` this worker has lived without a gap, which `new` begins."""

    new: bool
    epoch: str
    gone: Sequence[str]


class Leases:
    """Of one worker. `given`: the time for scripts, 0 for Redis's own."""

    def __init__(self, server: Server, *, owner: str, given: Callable[[], int]) -> None:
        """Live from the first beat on."""
        self._server, self._owner, self._given = server, owner, given
        self._since_us = 0
        self.workers = 1

    async def beat(self) -> Beat:
        """Say that this worker lives. Raises CONNECTION_ERRORS."""
        now_us, new, self.workers, epoch, gone = await self._server.call(
            BEAT, self._owner, _LAPSES_US, self._given()
        )
        if new:
            self._since_us = now_us
        # Whoever was away itself must not take the others for gone: they may have been away as well.
        seen = now_us - self._since_us >= _LAPSES_US
        return Beat(bool(new), epoch.decode(), [each.decode() for each in gone] if seen else ())

    async def sweep(self, worker: str, before_dropping: Callable[[Sequence[str]], Awaitable[bool]]) -> None:
        """Free what a worker holds that is gone. Raises CONNECTION_ERRORS."""
        purses = await self._swept(worker, money=False)
        if purses and await before_dropping([each.decode().removeprefix("gw:purse:") for each in purses]):
            await self._swept(worker, money=True)
            log.warning("worker_gone", worker=worker, budgets=len(purses))

    async def leave(self) -> None:
        """Say that this worker holds nothing and will not beat again. Raises CONNECTION_ERRORS."""
        await self._server.send("ZREM", "gw:workers", self._owner)

    async def _swept(self, worker: str, *, money: bool) -> Sequence[bytes]:
        answer: Any = await self._server.call(SWEEP, worker, f"gw:holds:{worker}", int(money), self._given())
        return () if answer == -1 else answer


async def beating(once: Callable[[], Awaitable[None]], failed: Callable[[BaseException], None]) -> None:
    """Do it again and again."""
    while True:
        await asyncio.sleep(BEAT_S)
        try:
            await once()
        except CONNECTION_ERRORS as problem:
            failed(problem)
        except Exception:
            log.exception("beat")
