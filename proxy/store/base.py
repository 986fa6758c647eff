"""The contract of a store: live counters, holds and the cache, asked once per request.

`admit` takes what a request would use from all its limits, or nothing from any, and finds its answer if the
cache has it, in one step. What an admitted request may cost is held until it is settled, once, with what it
has cost; the concurrency slots that it has are leases of the same hold.

Rate limits count in windows that slide (keys.limits.STEPS steps each): exact in one process and across
replicas, never one above the limit in any window. Sums of budgets are what the ledger says, at the least:
`raise_spent` lifts them to it, so that whatever a crash or an empty Redis has lost comes back.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from keys.limits import Counted, Purse, RateRule
from proxy.cache import Entry, Policy
from proxy.store.claims import Claims


class Demand(NamedTuple):
    """What one request would take. `id` is the completion's: the one name of its hold.

    `rates` count requests and tokens, `slots` requests at a time. `tokens` is an estimate, corrected at the
    end. `worst` and `expected` are nano-dollars: what it can cost at most, and what it is likely to cost. A
    cached answer takes what is in `on_hit`, and nothing else.
    """

    id: str
    rates: Sequence[Counted] = ()
    slots: Sequence[Counted] = ()
    purses: Sequence[Purse] = ()
    tokens: int = 0
    worst: int = 0
    expected: int = 0
    on_hit: Sequence[Counted] = ()

    @property
    def takes(self) -> bool:
        """Does it count against anything?"""
        return bool(self.rates or self.slots or self.purses)


class Hold:
    """What an admitted request holds. `step` is the step of each rate's window in which it was counted.

    `worst` and `expected` grow with each further attempt. `local`: the store was away when it was given.
    """

    __slots__ = ("demand", "expected", "local", "settled", "steps", "worst")

    def __init__(self, demand: Demand, steps: Sequence[int] = (), *, local: bool = False) -> None:
        """Hold what the demand says."""
        self.demand = demand
        self.steps = steps
        self.worst, self.expected = demand.worst, demand.expected
        self.settled = False
        self.local = local


class Left(NamedTuple):
    """How much of a rate limit is left, of those of its kind the one that bites first."""

    rule: RateRule
    remaining: int


class Refusal(NamedTuple):
    """What refuses a request. `left` and `needs` are in its unit: requests, tokens, nano-dollars.

    `retry_after_s`: when it would fit, if nothing else comes; None: it never does. `outage`: the store is
    away, and this worker's share is used up.
    """

    by: Counted | Purse
    left: int
    needs: int
    retry_after_s: float | None
    outage: bool = False


class Admission(NamedTuple):
    """The store's answer: refused, or admitted with a cached `entry`, or with a `hold` if anything is held.

    `requests` and `tokens` say how much is left afterwards, None where no such limit holds.
    """

    entry: Entry | None = None
    hold: Hold | None = None
    refusal: Refusal | None = None
    requests: Left | None = None
    tokens: Left | None = None


ADMITTED = Admission()


class Ledgered(NamedTuple):
    """What the ledger says of one window of a budget, in nano-dollars.

    `corrected` is the sum of its corrections, which are part of `spent`: what a counter has not seen of it is
    added to the counter, up or down.
    """

    spent: int
    corrected: int = 0


class Used(NamedTuple):
    """How a limit or budget stands. `held` is part of no `used`: requests at a time have only `used`."""

    used: int
    held: int = 0
    frees_after_s: float | None = None  # until the first of what is used is free again


class Store(Protocol):
    """In-process or Redis. `claims`: the keys under which one request alone is answered."""

    name: str
    claims: Claims

    def admit_now(self, demand: Demand, policy: Policy, *, now: float) -> Admission | None:
        """Do what `admit` does if that needs no waiting, else nothing: None."""

    async def admit(self, demand: Demand, policy: Policy, *, now: float) -> Admission:
        """Take all of it or nothing, and look the policy's key up if it may be read. `now`: epoch seconds."""

    def peek(self, cache_key: bytes, now: float) -> Entry | None:
        """Return the entry that `admit_now` would find. Nothing is taken, nobody waits."""

    def put(self, cache_key: bytes, entry: Entry, *, ttl_s: float) -> None:
        """Keep an entry for `ttl_s` seconds, soon. Never raises, never waits."""

    async def raise_hold(self, hold: Hold, *, worst: int, expected: int, now: float) -> Refusal | None:
        """Hold so much more for a further attempt, or say what refuses it: then the hold is as before."""

    def settle(self, hold: Hold, *, tokens: int, costs: Sequence[int], now: float) -> None:
        """End a hold, soon and once: its request has used `tokens`, and so many nano-dollars of each purse.

        Never raises, never waits; repeated, it does nothing.
        """

    def give_back(self, hold: Hold, *, now: float) -> None:
        """End a hold of which nothing was used, as if it had never been taken."""

    def adopt(self, holds: Sequence[Hold]) -> None:
        """Hold these too, whatever the limits say: they were taken elsewhere, or before a loss. Soon."""

    def raise_spent(self, sums: Mapping[str, Ledgered]) -> None:
        """Have the sums of budgets' windows (by Purse.key) be what the ledger says at the least. Soon."""

    async def used(
        self, counted: Sequence[Counted], purses: Sequence[Purse], *, now: float
    ) -> Sequence[Used]:
        """Return how each of these stands, in their order: `counted`, then `purses`."""

    def last_used(self) -> Mapping[str, int]:
        """Return how much of each rate limit was used when it was last asked for, by its key. Any thread."""

    async def look(self) -> None:
        """Find out how it is, for whoever asks for its `state`: a quiet process has no news of it."""

    def state(self) -> str:
        """Return "up" or what is wrong, for /health."""

    async def close(self) -> None:
        """Let go of connections."""
