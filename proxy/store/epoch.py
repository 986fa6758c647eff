"""The epoch of what Redis has counted: it ends when Redis comes back empty, and then nothing is admitted.

One worker restores the sums of budgets from the ledger while each holds again what it holds; then the next
epoch begins. That takes a second at most: after it, admission opens with what is there, and what is missing
follows.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

import structlog

from proxy.store.base import Ledgered
from proxy.store.scripts import OPEN
from proxy.store.server import Server

log = structlog.get_logger()

OPEN_S = 1.0
_MARGIN_S = 0.2  # before that second is over everyone opens
_LOOK_S = 0.02
Sums = Mapping[str, Ledgered]


async def _nothing() -> Sums:
    return {}


class Holder(Protocol):
    """Who must be there before admission opens."""

    async def register(self) -> None:
        """Say that this worker lives, and what it holds: whatever Redis had of it is lost."""

    async def opened(self) -> None:
        """See to what has ended meanwhile: the restored sums may have it, or not."""

    async def lift(self, sums: Sums) -> None:
        """Lift the sums of budgets."""

    @property
    def workers(self) -> int:
        """Return how many there were."""


class Epoch:
    """As one worker sees it."""

    def __init__(self, server: Server, holder: Holder, *, owner: str) -> None:
        """Know of none."""
        self._server, self._holder, self._owner = server, holder, owner
        self.current = ""
        self.reseed: Callable[[], Awaitable[Sums]] = _nothing
        self._owed = False
        self._opening: asyncio.Task[None] | None = None
        self._reseeding: asyncio.Task[Sums] | None = None

    async def opened(self) -> None:
        """Wait until admission is open again, or a second is over. Raises CONNECTION_ERRORS."""
        opening = self._opening
        if opening is None or opening.done():
            opening = self._opening = asyncio.get_running_loop().create_task(self._open())
        done, _ = await asyncio.wait({opening}, timeout=OPEN_S)
        if done:
            opening.result()

    async def follow(self, epoch: str) -> None:
        """Take note of the epoch that Redis is in, "" for none. Raises CONNECTION_ERRORS."""
        if not epoch:
            await self.opened()
        elif epoch != self.current:
            await self._begun(epoch)

    async def pay(self) -> None:
        """Restore what could not be restored in time. Raises CONNECTION_ERRORS."""
        if self._owed:
            self._owed = False
            await self._restore(asyncio.get_running_loop().time() + OPEN_S)

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + OPEN_S - _MARGIN_S
        expected = self._holder.workers
        epoch, restores, come = await self._ask("")
        closed = not epoch
        if closed:
            await self._holder.register()
        if restores:
            await self._restore(deadline)
        while not epoch:
            ready = restores and come >= expected
            begins = secrets.token_hex(8) if ready or loop.time() >= deadline else ""
            if not begins:
                await asyncio.sleep(_LOOK_S)
            epoch, _, come = await self._ask(begins)
        if restores:
            self.current = epoch  # and what this worker held is held
        elif epoch != self.current:
            await self._begun(epoch)
        if closed:
            await self._holder.opened()

    async def _begun(self, epoch: str) -> None:
        """Be in an epoch that another worker has begun.

        The first one that this worker knows as well: it may have ended something before Redis was back.
        """
        await self._holder.register()
        self.current = epoch

    async def _ask(self, begins: str) -> tuple[str, bool, int]:
        epoch, restores, come = await self._server.call(OPEN, self._owner, int(OPEN_S * 1000), begins)
        return epoch.decode(), bool(restores), come

    async def _restore(self, deadline: float) -> None:
        """Lift sums to the ledger's, now or as soon as it can be asked."""
        loop = asyncio.get_running_loop()
        reseeding = self._reseeding
        if reseeding is None or reseeding.done():
            reseeding = self._reseeding = loop.create_task(_sums(self.reseed))
        await asyncio.wait({reseeding}, timeout=max(deadline - loop.time(), 0))
        sums = reseeding.result() if reseeding.done() else None
        if sums is None:
            self._owed = True
        elif sums:
            await self._holder.lift(sums)

    def close(self) -> None:
        """Wait for nobody."""
        for task in (self._opening, self._reseeding):
            if task is not None:
                task.cancel()


async def _sums(reseed: Callable[[], Awaitable[Sums]]) -> Any:
    try:
        return await reseed()
    except Exception as problem:  # noqa: BLE001 - whatever the ledger has, admission opens
        log.warning("reseed", error=str(problem) or type(problem).__name__)
        return None
