"""The in-process store: exact for one worker. No locks: it lives on the event loop."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence

from keys.limits import Counted, Purse
from proxy.cache import Entry, Policy
from proxy.store.base import ADMITTED, Admission, Demand, Hold, Ledgered, Left, Refusal, Used
from proxy.store.claims import Claims, LocalClaims
from proxy.store.windows import SlidingWindow

MAX_COUNTERS = 100_000


class Sums:
    """What one window of a budget has spent, and what calls under way may still cost: nano-dollars."""

    __slots__ = ("corrected", "expected", "spent", "worst")

    def __init__(self) -> None:
        """Have spent nothing."""
        self.spent = self.worst = self.expected = self.corrected = 0


class MemoryStore:
    """An LRU bounded by bytes, a window per rate limit, a number of slots, and the sums of budgets."""

    name = "memory"

    def __init__(self, *, max_bytes: int) -> None:
        """Hold at most `max_bytes` of cached answers, and a quarter of it for answers under keys."""
        self.claims: Claims = LocalClaims(max_bytes=max_bytes // 4)
        self._max_bytes = max_bytes
        self._bytes = 0
        self._entries: OrderedDict[bytes, tuple[float, Entry]] = OrderedDict()
        self._windows: dict[str, SlidingWindow] = {}
        self._slots: dict[str, int] = {}
        self._sums: dict[str, Sums] = {}

    async def admit(self, demand: Demand, policy: Policy, *, now: float) -> Admission:
        """Do it at once."""
        return self.admit_now(demand, policy, now=now)

    def admit_now(self, demand: Demand, policy: Policy, *, now: float) -> Admission:
        """Look up, then take: everything is here."""
        if policy.read:
            entry = self._get(policy.key, now)
            if entry is not None and policy.accepts(entry, now):
                return self._hit(entry, demand, now) if demand.on_hit else Admission(entry=entry)
        if not demand.takes:
            return ADMITTED
        return self._taken(demand, demand.rates, now, None)

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
        demand = hold.demand
        if hold.settled:
            return None
        for purse in demand.purses:
            refusal = self._refused_by_purse(purse, worst, expected, now)
            if refusal is not None:
                return refusal
        for purse in demand.purses:
            self._hold_money(purse, worst, expected)
        hold.worst += worst
        hold.expected += expected
        return None

    def settle(self, hold: Hold, *, tokens: int, costs: Sequence[int], now: float) -> None:
        """Put what was used in the place of what was held."""
        if hold.settled:
            return
        hold.settled = True
        demand = hold.demand
        difference = tokens - demand.tokens
        if difference:
            for (rule, key, by_tokens), step in zip(demand.rates, hold.steps, strict=True):
                if by_tokens:
                    window = self._windows.get(key)
                    if window is not None:
                        now_step = int(now * 1e6) // rule.step_us
                        window.correct(step, difference, now_step=now_step)
        self._release(hold)
        for purse, cost in zip(demand.purses, costs, strict=True):
            self._sums[purse.key].spent += cost

    def give_back(self, hold: Hold, *, now: float) -> None:
        """Take everything out again."""
        if hold.settled:
            return
        hold.settled = True
        demand = hold.demand
        for (_, key, by_tokens), step in zip(demand.rates, hold.steps, strict=True):
            window = self._windows.get(key)
            if window is not None:
                window.correct(step, -demand.tokens if by_tokens else -1, now_step=step)
        self._release(hold)

    def adopt(self, holds: Sequence[Hold]) -> None:
        """Take without a look at the limits."""
        for hold in holds:
            for _, key, _ in hold.demand.slots:
                self._slots[key] = self._slots.get(key, 0) + 1
            for purse in hold.demand.purses:
                self._hold_money(purse, hold.worst, hold.expected)

    def raise_spent(self, sums: Mapping[str, Ledgered]) -> None:
        """Lift each sum to the ledger's."""
        for key, (spent, corrected) in sums.items():
            known = self._sums_of(key)
            known.spent = max(known.spent + corrected - known.corrected, spent)
            known.corrected = corrected

    async def used(
        self, counted: Sequence[Counted], purses: Sequence[Purse], *, now: float
    ) -> Sequence[Used]:
        """Look them up."""
        return [*(self._used(each, now) for each in counted), *(self._spent(each) for each in purses)]

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

    # ------------------------------------------------------------ limits

    def _hit(self, entry: Entry, demand: Demand, now: float) -> Admission:
        hit = demand._replace(rates=demand.on_hit, slots=(), purses=(), tokens=0)
        return self._taken(hit, demand.on_hit, now, entry)

    def _taken(self, demand: Demand, rates: Sequence[Counted], now: float, entry: Entry | None) -> Admission:
        """Compare with everything, then take from everything."""
        now_us, tokens = int(now * 1e6), demand.tokens
        windows, steps = self._windows, []
        tightest: list[Left | None] = [None, None]
        for counted in rates:
            rule, key, by_tokens = counted
            step = now_us // rule.step_us
            window = windows.get(key)
            if window is None:
                window = self._new_window(key, now_us)
            else:
                newest = window.newest
                if newest is not None and newest > step:
                    step = newest  # the clock went back
                window.pass_to(step)
            weight = tokens if by_tokens else 1
            left = rule.amount - window.total - weight
            if left < 0:
                return _refused_by_rate(counted, window, weight, now)
            known = tightest[by_tokens]
            if known is None or left < known.remaining:
                tightest[by_tokens] = Left(rule, left)
            steps.append(step)
        for counted in demand.slots:
            taken = self._slots.get(counted.key, 0)
            if taken >= counted.rule.amount:
                return Admission(refusal=Refusal(counted, 0, 1, 1.0))
        worst, expected = demand.worst, demand.expected
        for purse in demand.purses:
            refusal = self._refused_by_purse(purse, worst, expected, now)
            if refusal is not None:
                return Admission(refusal=refusal)
        for (_, key, by_tokens), step in zip(rates, steps, strict=True):
            windows[key].take(step, tokens if by_tokens else 1)
        for _, key, _ in demand.slots:
            self._slots[key] = self._slots.get(key, 0) + 1
        for purse in demand.purses:
            self._hold_money(purse, worst, expected)
        hold = None if entry is not None else Hold(demand, steps)
        return Admission(entry, hold, None, tightest[0], tightest[1])

    def _new_window(self, key: str, now_us: int) -> SlidingWindow:
        if len(self._windows) > MAX_COUNTERS:
            self._windows = {
                key: window for key, window in self._windows.items() if not _at_rest(key, window, now_us)
            }
        window = self._windows[key] = SlidingWindow()
        return window

    def _refused_by_purse(self, purse: Purse, worst: int, expected: int, now: float) -> Refusal | None:
        sums = self._sums.get(purse.key)
        spent, held_worst, held_expected = (
            (0, 0, 0) if sums is None else (sums.spent, sums.worst, sums.expected)
        )
        limit = purse.limit
        if spent + held_worst + worst <= limit:
            return None
        if not purse.ceiling.strict and spent < limit and spent + held_expected + expected <= limit:
            return None
        left = max(limit - spent - (held_worst if purse.ceiling.strict else held_expected), 0)
        needs = worst if purse.ceiling.strict else expected
        return Refusal(purse, left, needs, max(purse.span.end - now, 0.0))

    def _hold_money(self, purse: Purse, worst: int, expected: int) -> None:
        sums = self._sums_of(purse.key)
        sums.worst += worst
        sums.expected += expected

    def _release(self, hold: Hold) -> None:
        for _, key, _ in hold.demand.slots:
            taken = self._slots[key] - 1
            if taken:
                self._slots[key] = taken
            else:
                del self._slots[key]
        for purse in hold.demand.purses:
            sums = self._sums_of(purse.key)
            sums.worst -= hold.worst
            sums.expected -= hold.expected

    def _sums_of(self, key: str) -> Sums:
        sums = self._sums.get(key)
        if sums is None:
            sums = self._sums[key] = Sums()
        return sums

    def _used(self, counted: Counted, now: float) -> Used:
        rule, key, _ = counted
        if not rule.window_s:
            return Used(self._slots.get(key, 0))
        window = self._windows.get(key)
        if window is None:
            return Used(0)
        window.pass_to(int(now * 1e6) // rule.step_us)
        first = window.fits_after(1, window.total)
        frees = None if first is None else max(first * rule.step_us / 1e6 - now, 0.0)
        return Used(window.total, frees_after_s=frees)

    def _spent(self, purse: Purse) -> Used:
        sums = self._sums.get(purse.key)
        return Used(0) if sums is None else Used(sums.spent, sums.worst)

    # ------------------------------------------------------------ the cache

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


def _refused_by_rate(counted: Counted, window: SlidingWindow, weight: int, now: float) -> Admission:
    rule = counted.rule
    fits = window.fits_after(weight, rule.amount)
    wait_s = None if fits is None else max(fits * rule.step_us / 1e6 - now, 0.001)
    left = max(rule.amount - window.total, 0)
    return Admission(refusal=Refusal(counted, left, weight, wait_s))


def _at_rest(key: str, window: SlidingWindow, now_us: int) -> bool:
    """Does nothing of it count by now? The key ends in its step's microseconds: see proxy.demand."""
    newest = window.newest
    step_us = int(key.rpartition("/")[2])
    return newest is None or (newest + 601) * step_us <= now_us
