"""What one worker holds in Redis, as the worker knows it: to hold it again when Redis has lost it.

Three kinds: holds of requests that run; those that have ended, until Redis has answered their settlement; and
what is in doubt: spent, but whether the ledger has it already nobody can say. That is held, as if a request
still ran, until the ledger has had the time to book it and was asked: so it counts, and never twice.
"""

import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import count
from typing import NamedTuple

import orjson

from keys.limits import Purse
from proxy.store.base import Demand, Hold
from proxy.store.plans import Plan, Plans
from proxy.store.scripts import ADOPT
from proxy.store.server import Server

BOOKED_S = 15.0  # so long after its end what a request has spent is in the ledger, if the database is up
MAX_ADOPTED = 500  # holds in one script: Redis does nothing else meanwhile


class Running(NamedTuple):
    """A hold that is not ended."""

    hold: Hold
    plan: Plan


class Ended(NamedTuple):
    """A hold that is. `way`, `tokens`: see settle.lua."""

    hold: Hold
    plan: Plan
    way: int
    tokens: int
    costs: Sequence[int]


async def _yes(purses: Sequence[str]) -> bool:  # noqa: ARG001 - whoever has a ledger asks it
    return True


class Holdings:
    """Those of one worker. `records`: the key of what Redis knows of them."""

    def __init__(self, server: Server, plans: Plans, *, owner: str, records: str) -> None:
        """Hold nothing yet."""
        self._server, self._plans, self._records = server, plans, records
        self._ids = (f"{owner}?{number}" for number in count(1))
        self.running: dict[str, Running] = {}
        self.ended: dict[str, Ended] = {}
        self._doubts: dict[str, tuple[float, Hold]] = {}
        self._spent: deque[tuple[int, dict[str, tuple[Purse, int]]]] = deque()
        self.before_dropping: Callable[[Sequence[str]], Awaitable[bool]] = _yes

    @property
    def doubted(self) -> Sequence[Hold]:
        """Return what is in doubt."""
        return [hold for _, hold in self._doubts.values()]

    def spent(self, hold: Hold, costs: Sequence[int]) -> None:
        """Remember for a while what was settled: should Redis lose it before the ledger has it."""
        second = int(time.monotonic())
        if not self._spent or self._spent[-1][0] != second:
            self._spent.append((second, {}))
            while self._spent[0][0] < second - BOOKED_S:
                self._spent.popleft()
        _add(self._spent[-1][1], hold, costs)

    def lost(self) -> None:
        """Redis has forgotten all: what was spent lately, or may have been, is in doubt."""
        sums: dict[str, tuple[Purse, int]] = {}
        oldest = time.monotonic() - BOOKED_S
        for second, spent in self._spent:
            if second >= oldest:
                for key, (purse, cost) in spent.items():
                    known = sums.get(key)
                    sums[key] = (purse, cost + (known[1] if known else 0))
        self._unpay(sums)
        for running in self.running.values():
            running.hold.steps = ()  # what was let through then counts no more: nothing of it is to correct
        self._spent.clear()
        self._doubt(sums.values())

    def doubt_ended(self) -> Sequence[Hold]:
        """Doubt what has ended while sums were restored: whether they have it nobody can say."""
        sums: dict[str, tuple[Purse, int]] = {}
        self._unpay(sums)
        return self._doubt(sums.values())

    def doubt(self, hold: Hold, costs: Sequence[int]) -> None:
        """Redis did not know this hold when it was settled."""
        sums: dict[str, tuple[Purse, int]] = {}
        _add(sums, hold, costs)
        if sums:
            self._server.spawn(self.adopt(self._doubt(sums.values())))

    async def hold_again(self) -> None:
        """Hold all of it, also where Redis has it. Raises CONNECTION_ERRORS."""
        await self.adopt([*(each.hold for each in self.running.values()), *self.doubted])

    async def adopt(self, holds: Sequence[Hold]) -> None:
        """Have Redis hold these whatever the limits say. Raises CONNECTION_ERRORS."""
        for first in range(0, len(holds), MAX_ADOPTED):
            some = [
                each
                for each in holds[first : first + MAX_ADOPTED]
                if not each.settled or each.demand.id in self.ended
            ]
            written = [
                (each.demand.id, each.worst, each.expected, self._plans.of(each.demand).tail) for each in some
            ]
            await self._server.call(ADOPT, self._records, orjson.dumps(written))
            for hold in some:
                hold.local = False

    async def drop_doubts(
        self, may_drop: Callable[[Sequence[str]], Awaitable[bool]], drop: Callable[[Hold], None]
    ) -> None:
        """Let go of what the ledger must have by now, once it has been asked."""
        oldest = time.monotonic() - BOOKED_S
        booked = [hold for since, hold in self._doubts.values() if since <= oldest]
        if not booked:
            return
        keys = sorted({purse.key for hold in booked for purse in hold.demand.purses})
        if await may_drop(keys):
            for hold in booked:
                del self._doubts[hold.demand.id]
                drop(hold)

    def _unpay(self, sums: dict[str, tuple[Purse, int]]) -> None:
        """Have what has ended cost nothing where it is settled, and add what it has cost to `sums`."""
        for identity, ended in self.ended.items():
            _add(sums, ended.hold, ended.costs)
            self.ended[identity] = ended._replace(costs=[0] * len(ended.costs))

    def _doubt(self, sums: Iterable[tuple[Purse, int]]) -> Sequence[Hold]:
        since = time.monotonic()
        made = [
            Hold(Demand(next(self._ids), purses=(purse,), worst=cost, expected=cost)) for purse, cost in sums
        ]
        self._doubts |= {hold.demand.id: (since, hold) for hold in made}
        return made


def _add(sums: dict[str, tuple[Purse, int]], hold: Hold, costs: Sequence[int]) -> None:
    for purse, cost in zip(hold.demand.purses, costs, strict=False):
        if cost:
            known = sums.get(purse.key)
            sums[purse.key] = (purse, cost + (known[1] if known else 0))
