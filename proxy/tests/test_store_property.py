"""Both stores against a list of what has happened: the same decisions and totals in any sequence."""

import asyncio
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from keys.limits import STEPS, TOKENS
from proxy.cache import BYPASS, JSON, Entry, Policy
from proxy.store import holdings, leases, line
from proxy.store.base import Demand, Hold, Ledgered
from proxy.store.memory import MemoryStore
from proxy.store.redis import RedisStore
from proxy.tests.redis_stores import counted, purse, server, settled, slot
from tests.sizes import FULL_RUN_S, SOAK, sized

__all__ = ["server"]  # a fixture

SEQUENCES = sized("sequences of admissions and ends", 40, full=3000)
pytestmark = [pytest.mark.broker, pytest.mark.timeout(FULL_RUN_S if SOAK else 300)]

TICK = 1 / 64  # no fraction of it is lost in a float
RATES = (
    counted(3, per="second", key="s"),
    counted(6, per="minute", key="m"),
    counted(40, kind=TOKENS, per="minute", key="t"),
)
SLOTS = (slot(2, key="one"), slot(4, key="two"))
PURSES = (purse(60, key="7@0"), purse(50, strict=False, key="8@0"))
READ = Policy(b"k", read=True, write=True, max_age_s=1e9)
SOME = st.integers(0, 30)


class Happened:
    """The reference: what counts, one by one, and nothing summed up."""

    def __init__(self) -> None:
        self.passed: dict[str, list[list[Any]]] = {each.key: [] for each in RATES}
        self.running: dict[str, tuple[Demand, dict[str, int]]] = {}
        self.costs: dict[str, list[int]] = {each.key: [] for each in PURSES}
        self.corrected = dict.fromkeys(self.costs, 0)

    def total(self, limit, now):
        step = int(now * 1e6) // limit.rule.step_us
        return sum(weight for _, at, weight in self.passed[limit.key] if step - at <= STEPS)

    def slots(self, limit):
        return sum(limit in asked.slots for asked, _ in self.running.values())

    def held(self, budget, kind="worst"):
        return sum(money[kind] for asked, money in self.running.values() if budget in asked.purses)

    def spent(self, budget):
        return sum(self.costs[budget.key]) + self.corrected[budget.key]

    def refuses(self, asked, now):
        """Return what refuses a request, and how much of it is left."""
        for limit in asked.rates:
            total = self.total(limit, now)
            if total + (asked.tokens if limit.by_tokens else 1) > limit.rule.amount:
                return limit, max(limit.rule.amount - total, 0)
        for limit in asked.slots:
            if self.slots(limit) >= limit.rule.amount:
                return limit, 0
        return self.refuses_money(asked, asked.worst, asked.expected)

    def refuses_money(self, asked, worst, expected):
        for budget in asked.purses:
            free = budget.limit - self.spent(budget)
            fits = worst <= free - self.held(budget)
            if not budget.ceiling.strict:
                fits = fits or expected <= free - self.held(budget, "expected")
            if not fits:
                held = self.held(budget, "worst" if budget.ceiling.strict else "expected")
                return budget, max(free - held, 0)
        return None

    def take(self, asked, now, *, hit=False):
        for limit in asked.rates:
            weight = asked.tokens if limit.by_tokens else 1
            self.passed[limit.key].append([asked.id, int(now * 1e6) // limit.rule.step_us, weight])
        if not hit:
            self.running[asked.id] = (asked, {"worst": asked.worst, "expected": asked.expected})

    def end(self, identity, now, *, tokens=None, costs=()):
        """End a hold; `tokens` None: nothing was used."""
        asked, _ = self.running.pop(identity)
        for limit in asked.rates:
            step = int(now * 1e6) // limit.rule.step_us
            before = asked.tokens if limit.by_tokens else 1
            after = 0 if tokens is None else tokens if limit.by_tokens else 1
            mine = [
                each for each in self.passed[limit.key] if each[0] == identity and step - each[1] <= STEPS
            ]
            if mine:
                mine[0][2] += after - before
            elif after > before:
                self.passed[limit.key].append(["", step, after - before])
        for budget, cost in zip(asked.purses, costs, strict=False):
            self.costs[budget.key].append(cost)

    def ledger(self):
        return {each.key: Ledgered(self.spent(each), self.corrected[each.key]) for each in PURSES}


class Stores(RuleBasedStateMachine):
    """Two workers on one Redis, one process, and the reference."""

    server: Any

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.now = 1_000_000_000.0
        self.ids = count(1)
        self.owners = count(1)
        self.holds: dict[str, tuple[RedisStore, Any, Any]] = {}

    # ------------------------------------------------------------ plumbing

    def run(self, work):
        return self.loop.run_until_complete(work)

    def do(self, call, *arguments, **named):
        """Call what needs a running loop."""

        async def called():
            call(*arguments, **named)

        self.run(called())

    def worker(self):
        made = RedisStore(self.server.url(), owner=f"w{next(self.owners)}", clock=lambda: int(self.now * 1e6))
        made.counts.holdings.before_dropping = self.booked_by(made)
        made.counts.presence.epoch.reseed = self.reseed
        return made

    async def reseed(self):
        return self.happened.ledger()

    def booked_by(self, store):
        async def booked(_purses):
            store.raise_spent(self.happened.ledger())
            return True

        return booked

    def cache(self):
        with self.server.client() as client:
            client.set(b"gw:cache:k", Entry(JSON, b"{}", "p", "m", self.now, None).pack())

    def pick(self, number):
        return list(self.holds)[number % len(self.holds)]

    def demand(self, which, tokens, worst, expected):
        bits = [bool(which >> bit & 1) for bit in range(7)]
        rates = tuple(each for each, bit in zip(RATES, bits[:3], strict=True) if bit)
        return Demand(
            f"c{next(self.ids)}",
            rates,
            tuple(each for each, bit in zip(SLOTS, bits[3:5], strict=True) if bit),
            tuple(each for each, bit in zip(PURSES, bits[5:], strict=True) if bit),
            tokens=tokens,
            worst=max(worst, expected),
            expected=expected,
            on_hit=tuple(each for each in rates if not each.by_tokens),
        )

    def compare(self, answer, other, expected):
        """Both stores say the same, and what the reference says."""
        assert answer.refusal == other.refusal
        assert (answer.requests, answer.tokens) == (other.requests, other.tokens)
        if expected is None:
            assert answer.refusal is None
        else:
            assert (answer.refusal.by, answer.refusal.left) == expected

    # ------------------------------------------------------------ what happens

    @initialize()
    def start(self):
        self.server.forget()
        self.happened = Happened()
        self.memory = MemoryStore(max_bytes=0)
        self.workers = [self.worker(), self.worker()]
        self.cache()
        for store in self.workers:
            self.run(store.counts.presence.begin())

    @rule(ticks=st.one_of(st.integers(1, 20), st.integers(20, 4000)))
    def wait(self, ticks):
        self.now += ticks * TICK

    @rule(worker=st.integers(0, 1), which=st.integers(1, 127), amounts=st.tuples(SOME, SOME, SOME))
    def admit(self, worker, which, amounts):
        asked = self.demand(which, *amounts)
        refuses = self.happened.refuses(asked, self.now)
        store = self.workers[worker]
        answer = self.run(store.admit(asked, BYPASS, now=self.now))
        other = self.memory.admit_now(asked, BYPASS, now=self.now)
        self.compare(answer, other, refuses)
        if refuses is None:
            assert list(answer.hold.steps) == list(other.hold.steps)
            self.happened.take(asked, self.now)
            self.holds[asked.id] = (store, answer.hold, other.hold)

    @rule(worker=st.integers(0, 1), which=st.integers(1, 127))
    def hit(self, worker, which):
        asked = self.demand(which, 5, 5, 5)
        taken = Demand(asked.id, asked.on_hit)
        refuses = self.happened.refuses(taken, self.now)
        answer = self.run(self.workers[worker].admit(asked, READ, now=self.now))
        self.compare(answer, self.memory.counts.take(taken, now=self.now), refuses)
        assert (answer.entry is None, answer.hold) == (refuses is not None, None)
        if refuses is None:
            self.happened.take(taken, self.now, hit=True)

    @precondition(lambda self: self.holds)
    @rule(number=SOME, tokens=SOME, costs=st.tuples(SOME, SOME), times=st.integers(1, 2))
    def settle(self, number, tokens, costs, times):
        identity = self.pick(number)
        store, hold, other = self.holds.pop(identity)
        spent = costs[: len(hold.demand.purses)]
        for _ in range(times):
            self.do(store.settle, hold, tokens=tokens, costs=spent, now=self.now)
            self.memory.settle(other, tokens=tokens, costs=spent, now=self.now)
        self.happened.end(identity, self.now, tokens=tokens, costs=spent)

    @precondition(lambda self: self.holds)
    @rule(number=SOME, times=st.integers(1, 2))
    def give_back(self, number, times):
        identity = self.pick(number)
        store, hold, other = self.holds.pop(identity)
        for _ in range(times):
            self.do(store.give_back, hold, now=self.now)
            self.memory.give_back(other, now=self.now)
        self.happened.end(identity, self.now)

    @precondition(lambda self: self.holds)
    @rule(number=SOME, worst=SOME, expected=SOME)
    def raise_hold(self, number, worst, expected):
        identity = self.pick(number)
        store, hold, other = self.holds[identity]
        worst = max(worst, expected)
        asked, money = self.happened.running[identity]
        refuses = self.happened.refuses_money(asked, worst, expected)
        more = {"worst": worst, "expected": expected, "now": self.now}
        answer = self.run(store.raise_hold(hold, **more))
        assert answer == self.run(self.memory.raise_hold(other, **more))
        assert refuses == (None if answer is None else (answer.by, answer.left))
        if refuses is None and asked.purses:
            money["worst"] += worst
            money["expected"] += expected

    @rule(worker=st.integers(0, 1), which=st.integers(1, 15), worst=SOME, times=st.integers(1, 2))
    def adopt(self, worker, which, worst, times):
        asked = self.demand(which << 3, 0, worst, worst)
        hold, other = Hold(asked), Hold(asked)
        for _ in range(times):
            self.do(self.workers[worker].adopt, [hold])
        self.memory.adopt([other])
        self.happened.take(asked, self.now)
        self.holds[asked.id] = (self.workers[worker], hold, other)

    @rule(worker=st.integers(0, 1), corrections=st.tuples(SOME, SOME))
    def correct_the_ledger(self, worker, corrections):
        for budget, more in zip(PURSES, corrections, strict=True):
            less = min(more - 15, sum(self.happened.costs[budget.key]))
            self.happened.corrected[budget.key] += max(less, -self.happened.spent(budget))
        self.do(self.workers[worker].raise_spent, self.happened.ledger())
        self.memory.raise_spent(self.happened.ledger())

    @rule(worker=st.integers(0, 1))
    def read_an_old_ledger(self, worker):
        """What was spent last is not in it yet."""
        ledger = {
            each.key: Ledgered(
                sum(self.happened.costs[each.key][:-1]) + self.happened.corrected[each.key],
                self.happened.corrected[each.key],
            )
            for each in PURSES
        }
        self.do(self.workers[worker].raise_spent, ledger)
        self.memory.raise_spent(ledger)

    # ------------------------------------------------------------ what goes wrong

    @rule(worker=st.integers(0, 1))
    def die(self, worker):
        """A worker dies, and the other finds out."""
        gone, other = self.workers[worker], self.workers[1 - worker]
        self.run(self.all_sent())
        self.run(other.counts.presence.leases.beat())
        gone.counts.presence._beats.cancel()
        self.run(gone._line.close())
        with self.server.client() as client:
            client.zadd("gw:workers", {gone.counts.presence.leases._owner: 1})
        other.counts.presence.leases._since_us = -(10**18)
        self.run(other.counts.presence.beat())
        for identity, (store, _, held) in list(self.holds.items()):
            if store is gone:
                asked = held.demand
                self.memory.settle(held, tokens=asked.tokens, costs=[0] * len(asked.purses), now=self.now)
                self.happened.end(identity, self.now, tokens=asked.tokens)
                del self.holds[identity]
        self.workers[worker] = self.worker()
        self.run(self.workers[worker].counts.presence.begin())

    @rule()
    def empty_redis(self):
        """Redis forgets everything: the limits begin anew, holds and budgets do not."""
        self.run(self.all_sent())
        self.server.forget()
        self.cache()
        self.run(self.beats())
        self.run(self.beats())  # the ledger has had its time
        self.memory = MemoryStore(max_bytes=0)
        self.memory.raise_spent(self.happened.ledger())
        self.memory.adopt([held for _, _, held in self.holds.values()])
        for _, _, held in self.holds.values():
            held.steps = [0] * len(held.steps)
        for passed in self.happened.passed.values():
            passed.clear()

    async def beats(self):
        await asyncio.gather(*[each.counts.presence.beat() for each in self.workers])
        await self.all_sent()

    async def all_sent(self):
        for store in self.workers:
            await settled(store)

    @invariant()
    def totals(self):
        """Every limit and budget stands as the reference says, in both stores."""
        if not hasattr(self, "workers"):
            return
        self.run(self.all_sent())
        limits = (*RATES, *SLOTS)
        used = self.run(self.workers[0].used(limits, PURSES, now=self.now))
        assert used == self.run(self.memory.used(limits, PURSES, now=self.now))
        assert [each.used for each in used] == [
            *(self.happened.total(each, self.now) for each in RATES),
            *(self.happened.slots(each) for each in SLOTS),
            *(self.happened.spent(each) for each in PURSES),
        ]
        assert [each.held for each in used[-2:]] == [self.happened.held(each) for each in PURSES]
        assert [each.state() for each in self.workers] == ["up", "up"]

    def teardown(self):
        for store in getattr(self, "workers", ()):
            self.run(store.close())
        self.loop.close()


def test_both_stores_decide_as_what_has_happened_says(server, monkeypatch):
    monkeypatch.setattr(leases, "BEAT_S", 3600.0)  # they beat when told to
    monkeypatch.setattr(holdings, "BOOKED_S", 0.0)
    monkeypatch.setattr(line, "TIMEOUT_S", 60.0)  # a busy machine is no outage
    monkeypatch.setattr(Stores, "server", server, raising=False)
    run_state_machine_as_test(
        Stores,
        settings=settings(
            max_examples=SEQUENCES,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
