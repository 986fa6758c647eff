"""The counts of one process: a window per rate limit, slots, the sums of budgets. All stores decide so."""

from collections.abc import Mapping, Sequence

from keys.limits import STEPS, WINDOWS_S, Counted, Purse
from proxy.store.base import Admission, Demand, Hold, Ledgered, Left, Refusal, Used
from proxy.store.windows import SlidingWindow

MAX_COUNTERS = 100_000
LASTING_STEP_US = int(WINDOWS_S["hour"] * 1e6) // STEPS
# A window, the step that it is in, and what is to be let through in it.
Passed = tuple[SlidingWindow, int, int]
SLOT_WAIT_S = 1.0  # nobody knows when a call ends


class Sums:
    """What one window of a budget has spent, and what calls under way may still cost: nano-dollars."""

    __slots__ = ("corrected", "ends_at", "expected", "spent", "worst")

    def __init__(self, ends_at: float) -> None:
        """Have spent nothing. The window ends at epoch second `ends_at`."""
        self.spent = self.worst = self.expected = self.corrected = 0
        self.ends_at = ends_at


class Counts:
    """Compares with everything, then takes from everything; no step of it waits."""

    def __init__(self) -> None:
        """Have counted nothing."""
        self._windows: dict[str, SlidingWindow] = {}
        self._slots: dict[str, int] = {}
        self._sums: dict[str, Sums] = {}

    def take(self, demand: Demand, *, now: float) -> Admission:
        """Take all of it or nothing."""
        refusal, passed, requests, tokens = self._room_in_windows(demand, int(now * 1e6), now)
        if refusal is None and demand.slots:
            refusal = self._refused_by_slots(demand)
        if refusal is None and demand.purses:
            refusal = self._refused_by_purses(demand.purses, demand.worst, demand.expected, now)
        if refusal is not None:
            return Admission(refusal=refusal)
        steps = []
        for window, step, weight in passed:
            window.take(step, weight)
            steps.append(step)
        hold = Hold(demand, steps)
        self.adopt(hold)
        return Admission(None, hold, None, requests, tokens)

    def take_more(self, hold: Hold, *, worst: int, expected: int, now: float) -> Refusal | None:
        """Hold more money, or say what refuses it."""
        if hold.settled:
            return None
        refusal = self._refused_by_purses(hold.demand.purses, worst, expected, now)
        if refusal is not None:
            return refusal
        for purse in hold.demand.purses:
            sums = self._sums_of(purse)
            sums.worst += worst
            sums.expected += expected
        hold.worst += worst
        hold.expected += expected
        return None

    def adopt(self, hold: Hold) -> None:
        """Hold slots and money without a look at the limits."""
        for _, key, _ in hold.demand.slots:
            self._slots[key] = self._slots.get(key, 0) + 1
        for purse in hold.demand.purses:
            sums = self._sums_of(purse)
            sums.worst += hold.worst
            sums.expected += hold.expected

    def settle(self, hold: Hold, *, tokens: int, costs: Sequence[int], now: float) -> None:
        """Put what was used in the place of what was held, once."""
        if hold.settled:
            return
        demand = hold.demand
        self._correct(hold, tokens=tokens - demand.tokens, requests=0, now=now)
        self._release(hold)
        for purse, cost in zip(demand.purses, costs, strict=True):
            self._sums_of(purse).spent += cost

    def give_back(self, hold: Hold, *, now: float) -> None:
        """Take everything out again, once."""
        if hold.settled:
            return
        self._correct(hold, tokens=-hold.demand.tokens, requests=-1, now=now)
        self._release(hold)

    def raise_spent(self, sums: Mapping[str, Ledgered]) -> None:
        """Lift each sum to the ledger's, and add the corrections that it has not seen."""
        for key, (spent, corrected) in sums.items():
            known = self._sums.get(key)
            if known is None:
                known = self._sums[key] = Sums(float("inf"))
            known.spent = max(known.spent + corrected - known.corrected, spent)
            known.corrected = corrected

    def sums(self) -> dict[str, Ledgered]:
        """Return what each window of a budget has spent, by the key of its sums."""
        return {key: Ledgered(sums.spent, sums.corrected) for key, sums in self._sums.items()}

    def lasting(self) -> dict[str, dict[int, int]]:
        """Return what was let through by the limits of hours and days, step by step. For any thread."""
        windows = list(self._windows.items())
        return {key: window.steps() for key, window in windows if _step_us(key) >= LASTING_STEP_US}

    def restore(self, lasting: Mapping[str, Mapping[int, int]], *, now: float) -> None:
        """Go on with what `lasting` has returned, as far as it still counts."""
        now_us = int(now * 1e6)
        for key, steps in lasting.items():
            window = SlidingWindow()
            for step in sorted(steps):
                window.take(step, steps[step])
            if not _at_rest(key, window, now_us):
                self._windows[key] = window

    def used_of(self, counted: Counted, *, now: float) -> Used:
        """Return how a rate limit stands."""
        rule, key, _ = counted
        if not rule.step_us:
            return Used(self._slots.get(key, 0))
        window = self._windows.get(key)
        if window is None:
            return Used(0)
        window.pass_to(int(now * 1e6) // rule.step_us)
        first = window.fits_after(1, window.total)
        return Used(
            window.total, frees_after_s=None if first is None else max(first * rule.step_us / 1e6 - now, 0.0)
        )

    def last_used(self) -> dict[str, int]:
        """Return how much of each rate limit was used when it was last asked for. For any thread."""
        windows = list(self._windows.items())
        return {key: window.total for key, window in windows} | dict(self._slots)

    def spent_of(self, purse: Purse) -> Used:
        """Return how a budget's window stands."""
        sums = self._sums.get(purse.key)
        return Used(0) if sums is None else Used(sums.spent, sums.worst)

    # ------------------------------------------------------------ rates

    def _room_in_windows(
        self, demand: Demand, now_us: int, now: float
    ) -> tuple[Refusal | None, Sequence[Passed], Left | None, Left | None]:
        """Return what refuses the demand, or what is to be taken from which windows and what is left then."""
        requests: Left | None = None
        tokens: Left | None = None
        passed: list[Passed] = []
        windows, weighs = self._windows, demand.tokens
        for counted in demand.rates:
            rule, key, by_tokens = counted
            step = now_us // rule.step_us
            window = windows.get(key)
            if window is None:
                window = self._new_window(key, now_us)
            else:
                step = window.pass_to(step)
            weight = weighs if by_tokens else 1
            left = rule.amount - window.total - weight
            if left < 0:
                return _refused_by(counted, window, weight, now), passed, None, None
            if by_tokens:
                if tokens is None or left < tokens.remaining:
                    tokens = Left(rule, left)
            elif requests is None or left < requests.remaining:
                requests = Left(rule, left)
            passed.append((window, step, weight))
        return None, passed, requests, tokens

    def _correct(self, hold: Hold, *, tokens: int, requests: int, now: float) -> None:
        hold.settled = True
        for (rule, key, by_tokens), step in zip(hold.demand.rates, hold.steps, strict=True):
            difference = tokens if by_tokens else requests
            window = self._windows.get(key)
            if window is None and difference > 0:
                window = self._new_window(key, int(now * 1e6))
            if window is not None and difference:
                window.correct(step, difference, now_step=int(now * 1e6) // rule.step_us)

    def _new_window(self, key: str, now_us: int) -> SlidingWindow:
        if len(self._windows) > MAX_COUNTERS:
            self._windows = {
                key: window for key, window in self._windows.items() if not _at_rest(key, window, now_us)
            }
        window = self._windows[key] = SlidingWindow()
        return window

    # ------------------------------------------------------------ slots and budgets

    def _refused_by_slots(self, demand: Demand) -> Refusal | None:
        for counted in demand.slots:
            if self._slots.get(counted.key, 0) >= counted.rule.amount:
                return Refusal(counted, 0, 1, SLOT_WAIT_S)
        return None

    def _refused_by_purses(
        self, purses: Sequence[Purse], worst: int, expected: int, now: float
    ) -> Refusal | None:
        for purse in purses:
            sums, limit, strict = self._sums.get(purse.key), purse.limit, purse.ceiling.strict
            spent, held, likely = (0, 0, 0) if sums is None else (sums.spent, sums.worst, sums.expected)
            if spent + held + worst <= limit:
                continue
            if not strict and spent + likely + expected <= limit:
                continue
            left = max(limit - spent - (held if strict else likely), 0)
            return Refusal(purse, left, worst if strict else expected, max(purse.span.end - now, 0.0))
        return None

    def _release(self, hold: Hold) -> None:
        for _, key, _ in hold.demand.slots:
            taken = self._slots[key] - 1
            if taken:
                self._slots[key] = taken
            else:
                del self._slots[key]
        for purse in hold.demand.purses:
            sums = self._sums_of(purse)
            sums.worst -= hold.worst
            sums.expected -= hold.expected

    def _sums_of(self, purse: Purse) -> Sums:
        sums = self._sums.get(purse.key)
        if sums is None:
            if len(self._sums) > MAX_COUNTERS:
                self._sums = {
                    key: each
                    for key, each in self._sums.items()
                    if each.worst or each.ends_at > purse.span.start
                }
            sums = self._sums[purse.key] = Sums(purse.span.end)
        return sums


def _refused_by(counted: Counted, window: SlidingWindow, weight: int, now: float) -> Refusal:
    rule = counted.rule
    fits = window.fits_after(weight, rule.amount)
    wait_s = None if fits is None else max(fits * rule.step_us / 1e6 - now, 0.001)
    return Refusal(counted, max(rule.amount - window.total, 0), weight, wait_s)


def _at_rest(key: str, window: SlidingWindow, now_us: int) -> bool:
    """Does nothing of it count by now? The key ends in its step's microseconds: see proxy.demand."""
    newest = window.newest
    return newest is None or (newest + STEPS + 1) * _step_us(key) <= now_us


def _step_us(key: str) -> int:
    return int(key.rpartition("/")[2])
