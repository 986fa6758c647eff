"""The in-process store: exact for one worker. No locks: it lives on the event loop."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence

from keys.limits import Counted, Purse
from proxy.cache import Entry, Policy
from proxy.store.base import ADMITTED, Admission, Demand, Hold, Ledgered, Refusal, Used
from proxy.store.claims import Claims, LocalClaims
from proxy.store.counts import Counts


class MemoryStore:
    """An LRU bounded by bytes, and the counts."""

    name = "memory"

    def __init__(self, *, max_bytes: int) -> None:
        """Hold at most `max_bytes` of cached answers, and a quarter of it for answers under keys."""
        self.claims: Claims = LocalClaims(max_bytes=max_bytes // 4)
        self._max_bytes = max_bytes
        self._bytes = 0
        self._entries: OrderedDict[bytes, tuple[float, Entry]] = OrderedDict()
        self.counts = Counts()

    async def admit(self, demand: Demand, policy: Policy, *, now: float) -> Admission:
        """Do it at once."""
        return self.admit_now(demand, policy, now=now)

    def admit_now(self, demand: Demand, policy: Policy, *, now: float) -> Admission:
        """Look up, then take: everything is here."""
        if policy.read:
            entry = self._get(policy.key, now)
            if entry is not None and policy.accepts(entry, now):
                return self._hit(entry, demand, now) if demand.on_hit else Admission(entry=entry)
        return self.counts.take(demand, now=now) if demand.takes else ADMITTED

    def _hit(self, entry: Entry, demand: Demand, now: float) -> Admission:
        taken = self.counts.take(Demand(demand.id, rates=demand.on_hit), now=now)
        return taken if taken.refusal is not None else taken._replace(entry=entry, hold=None)

    def peek(self, cache_key: bytes, now: float) -> Entry | None:
        """Look up alone."""
        return self._get(cache_key, now)

    def put(self, cache_key: bytes, entry: Entry, *, ttl_s: float) -> None:
        """Keep an entry; one that fills more than a quarter of the store is not kept."""
        self._drop(cache_key)
        if entry.size > self._max_bytes // 4:
            return
        self._entries[cache_key] = (entry.stored_at + ttl_s, entry)
        self._bytes += entry.size
        while self._bytes > self._max_bytes:
            self._drop(next(iter(self._entries)))

    async def raise_hold(self, hold: Hold, *, worst: int, expected: int, now: float) -> Refusal | None:
        """Compare and take."""
        return self.counts.take_more(hold, worst=worst, expected=expected, now=now)

    def settle(self, hold: Hold, *, tokens: int, costs: Sequence[int], now: float) -> None:
        """Do it at once."""
        self.counts.settle(hold, tokens=tokens, costs=costs, now=now)

    def give_back(self, hold: Hold, *, now: float) -> None:
        """Do it at once."""
        self.counts.give_back(hold, now=now)

    def adopt(self, holds: Sequence[Hold]) -> None:
        """Do it at once."""
        for hold in holds:
            self.counts.adopt(hold)

    def raise_spent(self, sums: Mapping[str, Ledgered]) -> None:
        """Do it at once."""
        self.counts.raise_spent(sums)

    def sums(self) -> dict[str, Ledgered]:
        """Return what each window of a budget has spent, by the key of its sums."""
        return self.counts.sums()

    def lasting(self) -> dict[str, dict[int, int]]:
        """Return what was let through by the limits of hours and days, step by step. For any thread."""
        return self.counts.lasting()

    def restore(self, lasting: Mapping[str, Mapping[int, int]], *, now: float) -> None:
        """Go on with what `lasting` has returned, as far as it still counts."""
        self.counts.restore(lasting, now=now)

    async def used(
        self, counted: Sequence[Counted], purses: Sequence[Purse], *, now: float
    ) -> Sequence[Used]:
        """Look them up."""
        counts = self.counts
        return [
            *(counts.used_of(each, now=now) for each in counted),
            *(counts.spent_of(each) for each in purses),
        ]

    def last_used(self) -> dict[str, int]:
        """Look them up as they are."""
        return self.counts.last_used()

    async def look(self) -> None:
        """There is nothing to find out."""

    def state(self) -> str:
        """Always up."""
        return "up"

    async def close(self) -> None:
        """Nothing is open."""

    @property
    def cached_bytes(self) -> int:
        """Bytes the cache holds."""
        return self._bytes

    def _get(self, cache_key: bytes, now: float) -> Entry | None:
        found = self._entries.get(cache_key)
        if found is None:
            return None
        expires_at, entry = found
        if now >= expires_at:
            self._drop(cache_key)
            return None
        self._entries.move_to_end(cache_key)
        return entry

    def _drop(self, cache_key: bytes) -> None:
        found = self._entries.pop(cache_key, None)
        if found is not None:
            self._bytes -= found[1].size
