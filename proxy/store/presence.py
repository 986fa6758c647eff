"""A worker's presence at Redis: it begins with the first hold, beats, and survives Redis's absence.

When Redis is back, what was given meanwhile is held there, what ended meanwhile is settled, and what was let
through is counted, before anybody asks it again.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

import orjson

from proxy.store.base import Hold, Ledgered
from proxy.store.epoch import Epoch
from proxy.store.holdings import Holdings
from proxy.store.leases import Leases, beating
from proxy.store.line import CONNECTION_ERRORS
from proxy.store.outage import Share
from proxy.store.plans import Plan, Plans, idle_ms, purse_name, rate_key
from proxy.store.scripts import COUNT, PACKED, SPENT
from proxy.store.server import Server

_SUMS_LAST_MS = 400 * 86_400_000  # of a budget that nobody uses
_ROUNDS = (
    20  # what comes up while it comes back is seen to at once; what is left after so many waits for a beat
)


class Presence:
    """Of one worker. `given`: the time for scripts, 0 for Redis's own."""

    resend: Callable[[str], "asyncio.Future[Any]"]
    give_back: Callable[..., None]
    release: Callable[[str, Plan], None]

    def __init__(
        self,
        server: Server,
        plans: Plans,
        holdings: Holdings,
        *,
        owner: str,
        outage: str,
        given: Callable[[], int],
    ) -> None:
        """Be unknown."""
        self._server, self._plans, self._holdings = server, plans, holdings
        self._owner, self._outage, self._given = owner, outage, given
        self.leases = Leases(server, owner=owner, given=given)
        self.epoch = Epoch(server, self, owner=owner)
        self.begun = False
        self._beats: asyncio.Task[None] | None = None
        self._share: Share | None = None
        self._sums: dict[str, Ledgered] = {}
        self._unheard: dict[str, Plan] = {}
        self._uncounted: dict[str, bytes] = {}
        self._outages = 0
        self._settling = self._waiting = self._turned_away = False

    # ------------------------------------------------------------ while Redis is there

    async def begin(self) -> None:
        """Be known, before anything is held. Raises CONNECTION_ERRORS."""
        if self._beats is None:
            self._beats = asyncio.get_running_loop().create_task(beating(self.beat, self._server.failed))
        await self.load()
        await self.beat()
        self.begun = True

    async def load(self) -> None:
        """Have Redis know the scripts that are called by name. Raises CONNECTION_ERRORS."""
        for script in PACKED:
            await self._server.send("SCRIPT", "LOAD", script.text)

    async def beat(self) -> None:
        """Say that this worker lives, and do what has to be done now and then. Raises CONNECTION_ERRORS."""
        if not self._server.usable():
            return
        known = bool(self.epoch.current)
        beat = await self.leases.beat()
        await self.epoch.follow(beat.epoch)
        if beat.new and known:
            await self._holdings.hold_again()  # it was taken for gone
        for worker in beat.gone:
            await self.leases.sweep(worker, self._may_drop)
        await self._holdings.drop_doubts(self._may_drop, self._drop)
        await self.epoch.pay()
        await self._lift()

    @property
    def workers(self) -> int:
        """Return how many workers there were at the last beat."""
        return self.leases.workers

    async def register(self) -> None:
        """Say that this worker lives, and hold again what it holds. Raises CONNECTION_ERRORS."""
        self._holdings.lost()
        await self.leases.beat()
        await self._holdings.hold_again()

    async def opened(self) -> None:
        """Hold what has ended since `register`, until the ledger has been asked. Raises CONNECTION_ERRORS."""
        await self._holdings.adopt(self._holdings.doubt_ended())

    async def lift(self, sums: Mapping[str, Ledgered]) -> None:
        """Lift sums to the ledger's. Raises CONNECTION_ERRORS."""
        self._sums |= sums
        await self._lift()

    def raise_spent(self, sums: Mapping[str, Ledgered]) -> None:
        """Lift sums to the ledger's, soon, and not before Redis has heard what was spent."""
        self._sums |= sums
        if self._server.usable():
            self.soon(self._lift)

    def soon(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do it; should Redis be away it is done when it is back."""
        if self._server.usable():
            self._server.spawn(self._guarded(work))

    async def settle_again(self) -> None:
        """Send what has ended once more. Raises CONNECTION_ERRORS."""
        if not self._settling:
            self._settling = True
            try:
                await self.load()
                await asyncio.gather(*[self.resend(identity) for identity in self._holdings.ended])
            finally:
                self._settling = False

    async def settle_when_open(self) -> None:
        """Send what has ended once more when sums are restored. Raises CONNECTION_ERRORS."""
        self._turned_away = True
        if self._waiting:
            return
        self._waiting = True
        try:
            while self._turned_away:
                self._turned_away = False
                await self.epoch.opened()
                await asyncio.gather(*[self.resend(identity) for identity in self._holdings.ended])
        finally:
            self._waiting = False

    async def _guarded(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except CONNECTION_ERRORS as problem:
            self._server.failed(problem)

    async def _lift(self) -> None:
        sums, self._sums = self._sums, {}
        if not sums:
            return
        written = orjson.dumps([(purse_name(key), *ledgered) for key, ledgered in sums.items()])
        try:
            await self._server.call(SPENT, 0 if self._given() else _SUMS_LAST_MS, written)
        except BaseException:
            self._sums = sums | self._sums
            raise

    async def _may_drop(self, purses: Sequence[str]) -> bool:
        """Has the ledger been asked what was spent of these, and Redis heard it?"""
        if not await self._holdings.before_dropping(purses):
            return False
        await self._lift()
        return True

    def _drop(self, hold: Hold) -> None:
        self.give_back(hold, now=time.time())

    # ------------------------------------------------------------ while it is away

    @property
    def away(self) -> bool:
        """Is anything counted here instead?"""
        return self._share is not None

    @property
    def share(self) -> Share:
        """Return what this worker may let through without Redis."""
        if self._share is None:
            self._outages += 1
            self._share = Share(self._plans.last_left(), workers=self.workers, outage=self._outage)
        return self._share

    def unheard(self, identity: str, plan: Plan) -> None:
        """Remember an admission whose answer was lost: Redis may hold it."""
        if identity and identity != "-":
            self._unheard[identity] = plan

    async def come_back(self) -> None:
        """Let Redis know what has happened, before anybody asks it. Raises CONNECTION_ERRORS."""
        if not (self.begun or self._share or self._holdings.running):
            return  # nobody has asked for anything yet
        await self.load()
        beat = await self.leases.beat()
        await self.epoch.follow(beat.epoch)
        await self._holdings.hold_again()
        for _ in range(_ROUNDS):
            if not await self._caught_up():
                break
        counted = () if self._share is None else self._share.counted(time.time())
        self._count(counted)
        self._share = None
        for identity, plan in self._unheard.items():
            if identity not in self._holdings.running:
                self.release(identity, plan)
        self._unheard.clear()

    async def _caught_up(self) -> bool:
        """Settle what has ended, and hold what is new; return whether there was any."""
        holdings = self._holdings
        local = [each.hold for each in holdings.ended.values() if each.hold.local]
        local += [each.hold for each in holdings.running.values() if each.hold.local]
        await holdings.adopt(local)
        ended = list(holdings.ended)
        await asyncio.gather(*[self.resend(identity) for identity in ended])
        return bool(local or ended)

    def _count(self, counted: Sequence[Any]) -> None:
        """Count what the limits have let through here; Redis does that before whatever is sent next."""
        if counted:
            name = f"gw:counted:{self._owner}:{self._outages}"
            self._uncounted[name] = orjson.dumps(
                [(rate_key(each), each.rule.step_us, idle_ms(each), total) for each, total in counted]
            )
        for name, written in self._uncounted.items():
            sent = self._server.send("EVAL", COUNT.text, 0, name, self._given(), written)
            sent.add_done_callback(partial(self._was_counted, name))

    def _was_counted(self, name: str, sent: "asyncio.Future[Any]") -> None:
        if sent.cancelled():
            return
        problem = sent.exception()
        if problem is None:
            self._uncounted.pop(name, None)
        else:
            self._server.failed(problem)

    async def close(self) -> None:
        """Leave, if nothing is held; else another worker frees it."""
        if self._beats is not None:
            self._beats.cancel()
        self.epoch.close()
        if self.begun and self._server.usable():
            await self._guarded(self._leave)

    async def _leave(self) -> None:
        holdings = self._holdings
        if holdings.ended:
            await asyncio.wait([self.resend(identity) for identity in holdings.ended])
        if not (holdings.running or holdings.ended or holdings.doubted):
            await self.leases.leave()
