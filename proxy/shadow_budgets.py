"""What this process spends on shadows, and how many of them are under way.

A shadow's budget is for one UTC day. What a running one costs is known at its end: until then its prompt
counts, so that a burst begins no more than there is room for. What the answers of those cost on top may still
be too much, once. A shadow with a budget whose price nobody knows is not asked: nobody could tell when to
stop.
"""

import asyncio
import random
from typing import NamedTuple

MAX_RUNNING = 100
_DAY_S = 86_400

OVER_BUDGET, UNPRICED, BUSY = "over_budget", "unpriced", "busy"


class Purse(NamedTuple):
    """Whose budget it is: a route, and the upstream that it is mirrored to."""

    route: str
    upstream: str


class ShadowBudgets:
    """One process's. All of it is for the event loop."""

    def __init__(self, *, rng: random.Random | None = None) -> None:
        """Have spent nothing."""
        self.rng = rng or random.Random()  # noqa: S311 - a sample, not a secret
        self.running: set[asyncio.Task[None]] = set()
        self._day = -1
        self._spent: dict[Purse, int] = {}
        self._held: dict[Purse, int] = {}

    def refusal(self, purse: Purse, budget: int | None, *, estimate: int | None, now: float) -> str:
        """Say why one more shadow may not go, "" if it may. Amounts are nano-dollars, `now` epoch seconds.

        `estimate`: what its prompt costs, None if nobody knows; `budget` None: it may cost anything.
        """
        if len(self.running) >= MAX_RUNNING:
            return BUSY
        if budget is None:
            return ""
        if estimate is None:
            return UNPRICED
        committed = self.spent(purse, now) + self._held.get(purse, 0)
        return OVER_BUDGET if committed >= budget or committed + estimate > budget else ""

    def hold(self, purse: Purse, estimate: int) -> None:
        """Set an estimate aside. `settle` gives it back."""
        self._held[purse] = self._held.get(purse, 0) + estimate

    def settle(self, purse: Purse, *, held: int, cost: int, now: float) -> None:
        """Book what a shadow has cost, on the day of its end, in place of what was held for it."""
        left = self._held[purse] - held
        if left:
            self._held[purse] = left
        else:
            del self._held[purse]
        if cost:
            self._spent[purse] = self.spent(purse, now) + cost

    def spent(self, purse: Purse, now: float) -> int:
        """Return what has been spent today."""
        day = int(now // _DAY_S)
        if day != self._day:
            self._day = day
            self._spent.clear()
        return self._spent.get(purse, 0)

    def stop(self) -> None:
        """Cancel those under way; each still writes its record."""
        for task in list(self.running):
            task.cancel()
