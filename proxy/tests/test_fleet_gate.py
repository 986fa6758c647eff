import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.fleet.gate import MAX_RETRY_AFTER_S, UNLIMITED, Gate, QueueFull, QueueTimeout
from proxy.tests.virtual_time import run


class Crowd:
    """Calls at a gate, by number. Use it inside a running loop."""

    def __init__(self, limit, max_waiting=100):
        self.loop = asyncio.get_running_loop()
        self.gate = Gate(limit=limit, max_waiting=max_waiting, loop=self.loop)
        self.inside, self.entered, self.ended = [], [], {}
        self.tasks = []

    def call(self, *, tenant=1, weight=1, within_s=1e6):
        number = len(self.tasks)
        deadline = self.loop.time() + within_s
        self.tasks.append(self.loop.create_task(self._call(number, tenant, weight, deadline)))
        return number

    async def _call(self, number, tenant, weight, deadline):
        try:
            await self.gate.enter(tenant=tenant, weight=weight, deadline=deadline)
        except BaseException as problem:
            self.ended[number] = (type(problem), self.loop.time())
            if isinstance(problem, asyncio.CancelledError):
                raise
            return
        self.inside.append(number)
        self.entered.append((number, self.loop.time()))

    def leave(self):
        self.gate.leave()
        return self.inside.pop(0)

    def wait_s(self, number):
        return dict(self.entered)[number] - 1000

    async def settled(self):
        for _ in range(5):
            await asyncio.sleep(0)


def in_virtual_time(story):
    def test():
        run(story())

    test.__name__ = story.__name__
    return test


@in_virtual_time
async def test_it_lets_in_as_many_as_the_limit():
    gate = Gate(limit=2, max_waiting=9, loop=asyncio.get_running_loop())
    assert (gate.enter_now(), gate.free) == (True, 1)
    assert (gate.enter_now(), gate.enter_now()) == (True, False)
    assert (gate.in_flight, gate.free, gate.waiting) == (2, 0, 0)
    gate.leave()
    assert gate.enter_now()


@in_virtual_time
async def test_it_only_counts_without_a_limit():
    gate = Gate(limit=None, max_waiting=0, loop=asyncio.get_running_loop())
    assert all(gate.enter_now() for _ in range(1000))
    assert (gate.in_flight, gate.free) == (1000, UNLIMITED - 1000)


@in_virtual_time
async def test_a_slot_goes_to_who_waits_and_not_to_who_comes():
    crowd = Crowd(1)
    assert crowd.gate.enter_now()
    crowd.call()
    await crowd.settled()
    crowd.gate.leave()
    assert not crowd.gate.enter_now()
    await crowd.settled()
    assert (crowd.inside, crowd.gate.in_flight) == ([0], 1)


@in_virtual_time
async def test_a_flood_does_not_keep_another_tenants_first_call_waiting():
    crowd = Crowd(1)
    assert crowd.gate.enter_now()
    for _ in range(50):
        crowd.call(tenant=1)
    await crowd.settled()
    first = crowd.call(tenant=2)
    await crowd.settled()
    crowd.gate.leave()
    await crowd.settled()
    crowd.leave()
    await crowd.settled()
    assert first in [number for number, _ in crowd.entered]


@in_virtual_time
async def test_it_refuses_at_once_when_the_queue_is_full():
    crowd = Crowd(1, max_waiting=2)
    assert crowd.gate.enter_now()
    for _ in range(3):
        crowd.call()
    await crowd.settled()
    assert crowd.ended == {2: (QueueFull, 1000)}
    assert crowd.gate.waiting == 2


@in_virtual_time
async def test_a_call_stops_waiting_at_its_deadline():
    crowd = Crowd(1)
    assert crowd.gate.enter_now()
    crowd.call(within_s=3)
    await asyncio.sleep(10)
    assert crowd.ended == {0: (QueueTimeout, pytest.approx(1003))}
    crowd.gate.leave()
    assert (crowd.gate.in_flight, crowd.gate.waiting, crowd.gate.free) == (0, 0, 1)


@in_virtual_time
async def test_a_call_whose_deadline_is_over_waits_for_nothing():
    crowd = Crowd(1)
    assert crowd.gate.enter_now()
    crowd.call(within_s=0)
    await crowd.settled()
    assert crowd.ended == {0: (QueueTimeout, 1000)}


@in_virtual_time
async def test_a_cancelled_call_leaves_the_queue():
    crowd = Crowd(1)
    assert crowd.gate.enter_now()
    crowd.call()
    crowd.call()
    await crowd.settled()
    crowd.tasks[0].cancel()
    crowd.gate.leave()  # before the cancelled task has run again
    await crowd.settled()
    assert crowd.inside == [1]
    assert (crowd.gate.in_flight, crowd.gate.waiting) == (1, 0)


@in_virtual_time
async def test_a_call_cancelled_in_the_moment_of_its_turn_gives_the_slot_on():
    crowd = Crowd(1)
    assert crowd.gate.enter_now()
    crowd.call()
    crowd.call()
    await crowd.settled()
    crowd.gate.leave()
    crowd.tasks[0].cancel()  # it has the slot, but has not run again
    await crowd.settled()
    assert crowd.inside == [1]
    crowd.leave()
    assert (crowd.gate.in_flight, crowd.gate.waiting, crowd.gate.enter_now()) == (0, 0, True)


async def saturated(crowd, *, hold_s, departures):
    """Let calls pass one by one, each keeping its slot for so long, while others wait."""
    assert crowd.gate.enter_now()
    for _ in range(departures + 1):
        crowd.call()
    await crowd.settled()
    crowd.inside.append(None)
    for _ in range(departures):
        await asyncio.sleep(hold_s)
        crowd.leave()
        await crowd.settled()


@in_virtual_time
async def test_it_refuses_who_could_not_be_served_in_time():
    """By the pace measured: 2 s a turn, so the third in the queue is in vain with 5 s."""
    crowd = Crowd(1)
    await saturated(crowd, hold_s=2, departures=10)
    for _ in range(2):
        crowd.call()
    in_time, in_vain = crowd.call(within_s=7), crowd.call(within_s=7)
    other_tenant = crowd.call(tenant=2, within_s=7)
    await crowd.settled()
    assert crowd.ended == {in_vain: (QueueFull, crowd.loop.time())}
    assert {in_time, other_tenant} <= set(range(len(crowd.tasks))) - set(crowd.ended)


@in_virtual_time
async def test_it_refuses_nobody_before_it_has_measured_enough():
    crowd = Crowd(1)
    await saturated(crowd, hold_s=2, departures=5)
    for _ in range(5):
        crowd.call(within_s=1)
    await crowd.settled()
    assert not crowd.ended


@in_virtual_time
async def test_a_pace_of_long_ago_refuses_nobody():
    crowd = Crowd(1)
    await saturated(crowd, hold_s=2, departures=10)
    await asyncio.sleep(61)
    for _ in range(5):
        crowd.call(within_s=1)
    await crowd.settled()
    assert not crowd.ended


@in_virtual_time
async def test_retry_after_says_when_those_who_wait_are_through():
    crowd = Crowd(1, max_waiting=30)
    await saturated(crowd, hold_s=2, departures=10)
    while crowd.gate.waiting < 30:
        crowd.call()
        await crowd.settled()
    with pytest.raises(QueueFull) as refused:
        await crowd.gate.enter(tenant=1, weight=1, deadline=1e9)
    assert refused.value.retry_after_s == pytest.approx(60)


@in_virtual_time
async def test_retry_after_has_bounds():
    crowd = Crowd(1, max_waiting=0)
    assert crowd.gate.enter_now()
    with pytest.raises(QueueFull) as refused:
        await crowd.gate.enter(tenant=1, weight=1, deadline=1e9)
    assert refused.value.retry_after_s == 1
    crowd.gate.leave()
    crowd.gate.configure(1, 100)
    await saturated(crowd, hold_s=50, departures=10)
    while crowd.gate.waiting < 100:
        crowd.call(within_s=1e8)
        await crowd.settled()
    with pytest.raises(QueueFull) as refused:
        await crowd.gate.enter(tenant=1, weight=1, deadline=1e9)
    assert refused.value.retry_after_s == MAX_RETRY_AFTER_S


@in_virtual_time
async def test_a_higher_limit_lets_in_who_waits_and_a_lower_one_ends_nothing():
    crowd = Crowd(1)
    for _ in range(4):
        crowd.call()
    await crowd.settled()
    assert crowd.inside == [0]
    crowd.gate.configure(3, 100)
    await crowd.settled()
    assert crowd.inside == [0, 1, 2]
    crowd.gate.configure(1, 100)
    assert (crowd.gate.in_flight, crowd.gate.free) == (3, 0)
    crowd.leave()
    crowd.leave()
    await crowd.settled()
    assert crowd.inside == [2]
    crowd.gate.configure(None, 100)
    await crowd.settled()
    assert crowd.inside == [2, 3]
    assert crowd.gate.enter_now()


PARTS = [
    "enter",
    "enter_now",
    "leave",
    "cancel",
    "leave+cancel",
    "cancel+leave",
    "pass",
    "configure",
    "run",
]
STEPS = st.lists(st.tuples(st.sampled_from([*PARTS, "enter", "leave"]), st.integers(0, 40)), max_size=60)


class Naive:
    """What must hold at any time, whatever the order: counted outside the gate."""

    def __init__(self, crowd, limit):
        self.crowd, self.limit, self.passed = crowd, limit, 0

    @property
    def slots(self):
        return len(self.crowd.inside) + self.passed

    async def step(self, name, choice):
        crowd, gate = self.crowd, self.crowd.gate
        if name == "enter":
            crowd.call(tenant=choice % 3 or None, weight=1 + choice % 4, within_s=1 + choice)
        elif name == "enter_now":
            self.passed += gate.enter_now()
        elif name == "pass":
            await asyncio.sleep(choice / 4)
        elif name == "run":
            await crowd.settled()
        elif name == "configure":
            self.limit = [1, 2, 3, None][choice % 4]
            gate.configure(self.limit, 5 + choice)
        else:
            for part in name.split("+"):
                self._part(part, choice)

    def _part(self, part, choice):
        crowd = self.crowd
        if part == "leave" and crowd.inside:
            crowd.leave()
        elif part == "leave" and self.passed:
            self.passed -= 1
            crowd.gate.leave()
        elif part == "cancel" and crowd.tasks:
            crowd.tasks[choice % len(crowd.tasks)].cancel()

    async def check(self):
        """In rest, when every task has run as far as it can."""
        crowd, gate = self.crowd, self.crowd.gate
        await crowd.settled()
        assert gate.in_flight == self.slots
        assert gate.waiting == sum(not task.done() for task in crowd.tasks)
        if gate.waiting:
            assert self.slots >= self.limit  # nobody waits beside a free slot
        if not gate.waiting:
            assert gate.free == max((UNLIMITED if self.limit is None else self.limit) - self.slots, 0)


@given(st.integers(1, 3), STEPS)
def test_it_neither_loses_nor_doubles_a_slot_in_any_order_of_events(limit, steps):
    async def story():
        crowd = Crowd(limit, max_waiting=8)
        naive = Naive(crowd, limit)
        for name, choice in steps:
            before = crowd.gate.in_flight
            await naive.step(name, choice)
            if naive.limit is not None:
                assert crowd.gate.in_flight <= max(naive.limit, before)
            if name == "run":
                await naive.check()
        await naive.check()
        while naive.slots:
            naive._part("leave", 0)
            await naive.check()
        assert (crowd.gate.in_flight, crowd.gate.waiting) == (0, 0)
        crowd.gate.configure(limit, 8)
        assert [crowd.gate.enter_now() for _ in range(limit + 1)] == [True] * limit + [False]

    run(story())


@given(st.dictionaries(st.integers(1, 4), st.integers(1, 8), min_size=2), st.integers(1, 4))
def test_tenants_get_turns_by_weight_over_a_saturated_run(weights, limit):
    async def story():
        crowd = Crowd(limit, max_waiting=10_000)
        for _ in range(limit):
            crowd.gate.enter_now()
        tenant_of = {}
        for _ in range(60):
            for tenant, weight in weights.items():
                tenant_of[crowd.call(tenant=tenant, weight=weight)] = tenant
        await crowd.settled()
        for _ in range(60):
            crowd.gate.leave()
            await crowd.settled()
        turns = [tenant_of[number] for number, _ in crowd.entered]
        for one in weights:
            for other in weights:
                apart = turns.count(one) / weights[one] - turns.count(other) / weights[other]
                assert apart <= 1 / weights[one] + 1 / weights[other] + 1e-9
        for task in crowd.tasks:
            task.cancel()

    run(story())
