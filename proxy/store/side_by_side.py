"""The in-process store of a process that may be replaced: it shares its budgets with its successor."""

import asyncio
from collections.abc import Mapping, Sequence

from proxy.cache import Policy
from proxy.store.base import Admission, Demand, Hold, Ledgered, Refusal
from proxy.store.beside import Beside
from proxy.store.memory import MemoryStore

TURN_S = 0.002
LOOK_S = 0.1


class SideBySideStore(MemoryStore):
    """As exact beside others of its kind as it is alone, for budgets. Rate limits are each process's own."""

    def __init__(
        self, beside: Beside, *, max_bytes: int, loop: asyncio.AbstractEventLoop | None = None
    ) -> None:
        """Take the place among the others, and begin to look out for them, in the loop that runs."""
        super().__init__(max_bytes=max_bytes)
        self.beside = beside
        self._mine: dict[str, Hold] = {}
        self._loop = loop or asyncio.get_running_loop()
        self._looks: asyncio.TimerHandle | None = None
        self._look_out()

    def admit_now(self, demand: Demand, policy: Policy, *, now: float) -> Admission | None:  # type: ignore[override]  # as the contract
        """Do it at once, unless others must be asked."""
        if not demand.purses:
            return super().admit_now(demand, policy, now=now)
        if not self.beside.alone:
            return None
        return self._admit(demand, policy, now)

    async def admit(self, demand: Demand, policy: Policy, *, now: float) -> Admission:
        """Wait for our turn if there are others."""
        if not demand.purses or not await self._turn():
            return self._admit(demand, policy, now)
        try:
            self.beside.read(self)
            return self._admit(demand, policy, now)
        finally:
            self.beside.end_turn()

    async def raise_hold(self, hold: Hold, *, worst: int, expected: int, now: float) -> Refusal | None:
        """Compare and take, when it is our turn."""
        turn = bool(hold.demand.purses) and await self._turn()
        try:
            if turn:
                self.beside.read(self)
            refusal = await super().raise_hold(hold, worst=worst, expected=expected, now=now)
            if refusal is None and not hold.settled and not self.beside.alone:
                self.beside.held(hold)
            return refusal
        finally:
            if turn:
                self.beside.end_turn()

    def settle(self, hold: Hold, *, tokens: int, costs: Sequence[int], now: float) -> None:
        """Put what was used in the place of what was held."""
        super().settle(hold, tokens=tokens, costs=costs, now=now)
        self._ended(hold, costs)

    def give_back(self, hold: Hold, *, now: float) -> None:
        """Take everything out again."""
        super().give_back(hold, now=now)
        self._ended(hold, None)

    def raise_spent(self, sums: Mapping[str, Ledgered]) -> None:
        """Lift each sum to the ledger's, which may know what the others have just told."""
        self.beside.read(self)
        super().raise_spent(sums)

    def learn_spent(self, sums: Mapping[str, Ledgered]) -> None:
        """Lift sums to what another process says."""
        super().raise_spent(sums)

    def state_of_purses(self) -> tuple[Mapping[str, Ledgered], Sequence[Hold]]:
        """Return the sums, and what this process itself holds."""
        return self.sums(), list(self._mine.values())

    async def close(self) -> None:
        """Leave the others."""
        if self._looks is not None:
            self._looks.cancel()
        self.beside.close()
        await super().close()

    def _admit(self, demand: Demand, policy: Policy, now: float) -> Admission:
        admission = super().admit_now(demand, policy, now=now)
        if admission.hold is not None and demand.purses:
            self._mine[demand.id] = admission.hold
            if not self.beside.alone:
                self.beside.held(admission.hold)
        return admission

    def _ended(self, hold: Hold, costs: Sequence[int] | None) -> None:
        if self._mine.pop(hold.demand.id, None) is hold and not self.beside.alone:
            self.beside.ended(hold, costs)

    async def _turn(self) -> bool:
        """Wait for it; False as soon as there is no other."""
        while not self.beside.alone:
            if self.beside.take_turn():
                return True
            await asyncio.sleep(TURN_S)
        return False

    def _look_out(self) -> None:
        self._looks = self._loop.call_later(LOOK_S, self._look_out)
        self.beside.look(self)
