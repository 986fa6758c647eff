"""What becomes of counts and holds when a worker dies, and when Redis goes away or forgets everything."""

import asyncio
import time

import pytest

from keys.limits import TOKENS
from proxy.store import epoch as epochs
from proxy.store import holdings, leases
from proxy.store import redis as redis_store
from proxy.store.base import Hold, Ledgered
from proxy.store.redis import RedisStore
from proxy.tests.fakes import until
from proxy.tests.redis_stores import (
    counted,
    demand,
    log,
    purse,
    refused,
    server,
    settled,
    slot,
    spent,
    stores,
    take,
    taken,
)

__all__ = ["log", "server", "stores"]  # fixtures

pytestmark = pytest.mark.broker
ONE, BUDGET = slot(2), purse(100)


def lapse(server, store):
    """Have Redis take a worker for gone, and it beat no more."""
    store.counts.presence._beats.cancel()
    with server.client() as client:
        assert client.zadd("gw:workers", {store.counts.presence.leases._owner: 1}, xx=True, ch=True)


def vouch(store):
    """Have a worker be there for long enough to judge others."""
    store.counts.presence.leases._since_us = -(10**18)


async def held(store, **fields):
    return (await take(store, slots=(ONE,), purses=(BUDGET,), worst=30, expected=10, **fields)).hold


async def dead(stores, server, **fields):
    """Return a worker that has died with a hold, and another that can judge it."""
    gone, other = stores(owner="gone"), stores(owner="other")
    await held(gone, **fields)
    await take(other, ONE)
    lapse(server, gone)
    vouch(other)
    return gone, other


def records(server):
    with server.client() as client:
        return {key.decode(): client.hlen(key) for key in client.scan_iter("gw:holds:*")}


# ---------------------------------------------------------------- workers


async def test_what_a_dead_worker_holds_is_free_when_the_ledger_was_asked(stores, server):
    _, other = await dead(stores, server)
    asked = []

    async def ledger(purses):
        asked.append(list(purses))
        other.raise_spent({BUDGET.key: Ledgered(25)})
        return True

    other.counts.holdings.before_dropping = ledger
    assert await taken(other, ONE) == [1]
    await other.counts.presence.beat()
    assert asked == [[BUDGET.key]]
    assert await taken(other, ONE) == [0]
    assert await spent(other, BUDGET) == [(25, 0)]
    with server.client() as client:
        assert client.zrange("gw:workers", 0, -1) == [b"other"]
    assert "gw:holds:gone" not in records(server)


async def test_its_money_stays_held_while_the_ledger_cannot_be_asked(stores, server):
    _, other = await dead(stores, server)
    up = False

    async def ledger(purses):
        return up

    other.counts.holdings.before_dropping = ledger
    for _ in range(2):
        await other.counts.presence.beat()
        assert await taken(other, ONE) == [0]
        assert await spent(other, BUDGET) == [(0, 30)]
    up = True
    await other.counts.presence.beat()
    assert await spent(other, BUDGET) == [(0, 0)]
    assert await taken(other, ONE) == [0]


async def test_a_worker_that_was_away_itself_judges_nobody(stores, server):
    _, other = await dead(stores, server)
    other.counts.presence.leases._since_us = int(time.time() * 1e6)
    await other.counts.presence.beat()
    assert await taken(other, ONE) == [1]
    assert await spent(other, BUDGET) == [(0, 30)]


async def test_a_worker_that_was_taken_for_gone_holds_its_own_again(stores, server):
    gone, other = await dead(stores, server)
    await other.counts.presence.beat()
    assert await spent(other, BUDGET) == [(0, 0)]
    await gone.counts.presence.beat()
    assert await taken(other, ONE) == [1]
    assert await spent(other, BUDGET) == [(0, 30)]
    [running] = gone.counts.holdings.running.values()
    gone.settle(running.hold, tokens=0, costs=(20,), now=0.0)
    await settled(gone)
    assert await spent(other, BUDGET) == [(20, 0)]


async def test_what_ends_after_its_worker_was_taken_for_gone_is_held_until_the_ledger_has_it(
    stores, server, monkeypatch
):
    """The sweep asked the ledger before this was spent: nobody knows when the ledger has it, but soon."""
    gone, other = await dead(stores, server)
    await other.counts.presence.beat()
    [running] = gone.counts.holdings.running.values()
    gone.settle(running.hold, tokens=0, costs=(20,), now=0.0)
    await settled(gone)
    assert await spent(other, BUDGET) == [(0, 20)]

    async def ledger(purses):
        gone.raise_spent({BUDGET.key: Ledgered(20)})
        return True

    gone.counts.holdings.before_dropping = ledger
    await gone.counts.presence.beat()
    assert await spent(other, BUDGET) == [(0, 20)]
    monkeypatch.setattr(holdings, "BOOKED_S", 0.0)
    await gone.counts.presence.beat()
    await settled(gone)
    assert await spent(other, BUDGET) == [(20, 0)]


async def test_a_worker_that_ends_in_peace_leaves_nothing(stores, server):
    store, other = stores(owner="one"), stores(owner="two")
    hold = await held(store)
    store.settle(hold, tokens=0, costs=(5,), now=0.0)
    await store.close()
    assert await spent(other, BUDGET) == [(5, 0)]
    with server.client() as client:
        assert client.zrange("gw:workers", 0, -1) == []
    assert records(server) == {}


async def test_it_lives_without_being_asked(stores, server, monkeypatch):
    monkeypatch.setattr(leases, "BEAT_S", 0.01)
    store = stores(owner="one")
    await held(store)
    with server.client() as client:
        first = client.zscore("gw:workers", "one")
        await until(lambda: client.zscore("gw:workers", "one") > first)


# ---------------------------------------------------------------- an empty Redis


async def test_an_empty_redis_is_restored_from_the_ledger_and_by_each_worker(stores, server):
    one, two = stores(owner="one"), stores(owner="two")
    holds = [await held(one), await held(two)]
    for store in (one, two):
        await store.counts.presence.beat()
    asked = []

    async def ledger():
        asked.append(None)
        return {BUDGET.key: Ledgered(15)}

    async def booked(purses):
        return True

    for store in (one, two):
        store.ask_ledger(before_dropping=booked, reseed=ledger)
    server.forget()
    # 15 + 30 + 30 are gone: 26 more are too many, 25 are not; and both slots are taken.
    answers = await asyncio.gather(
        refused(one, purses=(BUDGET,), worst=26), refused(two, slots=(ONE,)), refused(one)
    )
    assert list(answers) == [BUDGET, ONE, None]
    assert len(asked) == 1
    assert await refused(two, purses=(BUDGET,), worst=25) is None
    for store, hold in zip((one, two), holds, strict=True):
        store.settle(hold, tokens=0, costs=(4,), now=0.0)
        await settled(store)
    assert await spent(one, BUDGET) == [(23, 25)]
    assert await taken(one, ONE) == [0]


async def test_what_was_spent_lately_counts_until_the_ledger_has_it(stores, server, monkeypatch):
    store = stores()
    store.settle(await held(store), tokens=0, costs=(20,), now=0.0)
    assert await spent(store, BUDGET) == [(20, 0)]
    server.forget()
    assert await refused(store, purses=(BUDGET,), worst=81) is BUDGET
    assert await spent(store, BUDGET) == [(0, 20)]

    async def ledger(purses):
        store.raise_spent({BUDGET.key: Ledgered(20)})
        return True

    store.counts.holdings.before_dropping = ledger
    monkeypatch.setattr(holdings, "BOOKED_S", 0.0)
    await store.counts.presence.beat()
    assert await spent(store, BUDGET) == [(20, 0)]


async def test_what_ends_while_sums_are_restored_counts_once(stores, server, monkeypatch):
    """The spool that they are restored from has it, or not: its hold counts until the ledger was asked."""
    store, gate, asked = stores(), asyncio.Event(), asyncio.Event()
    holds = [await held(store), await held(store)]

    async def ledger():
        asked.set()
        await gate.wait()
        return {BUDGET.key: Ledgered(20)}

    store.counts.presence.epoch.reseed = ledger
    server.forget()
    beat = asyncio.create_task(store.counts.presence.beat())
    await asked.wait()
    for hold, cost in zip(holds, (20, 5), strict=True):
        store.settle(hold, tokens=0, costs=(cost,), now=0.0)
    gate.set()
    await beat
    await settled(store)
    assert await spent(store, BUDGET) == [(20, 25)]
    assert await taken(store, ONE) == [0]

    async def booked(purses):
        store.raise_spent({BUDGET.key: Ledgered(25)})
        return True

    store.counts.holdings.before_dropping = booked
    monkeypatch.setattr(holdings, "BOOKED_S", 0.0)
    await store.counts.presence.beat()
    assert await spent(store, BUDGET) == [(25, 0)]


async def test_admission_opens_after_a_second_whatever_the_ledger_does(stores, server, monkeypatch):
    """And what it says is taken over when it does."""
    store, gate, lifted = stores(), asyncio.Event(), asyncio.Event()
    await take(store)

    async def ledger():
        await gate.wait()
        lifted.set()
        return {BUDGET.key: Ledgered(95)}

    store.counts.presence.epoch.reseed = ledger
    server.forget()
    assert await refused(store, purses=(BUDGET,), worst=10) is None
    gate.set()
    await lifted.wait()
    await store.counts.presence.beat()
    assert await refused(store, purses=(BUDGET,), worst=1) is BUDGET


async def test_a_ledger_that_fails_is_asked_again(stores, server, monkeypatch):
    monkeypatch.setattr(epochs, "log", redis_store.log)
    store, answers = stores(), [OSError("gone"), {BUDGET.key: Ledgered(95)}]
    await take(store)

    async def ledger():
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    store.counts.presence.epoch.reseed = ledger
    server.forget()
    assert await refused(store, purses=(BUDGET,), worst=1) is None
    assert redis_store.log.of("reseed") == [{"error": "gone"}]
    await store.counts.presence.beat()
    assert await refused(store, purses=(BUDGET,), worst=5) is BUDGET


async def test_a_quiet_worker_notices_that_redis_was_emptied(stores, server):
    quiet, busy = stores(owner="quiet"), stores(owner="busy")
    await held(quiet)
    server.forget()
    assert await refused(busy) is None
    await quiet.counts.presence.beat()
    assert await taken(busy, ONE) == [1]
    assert await spent(busy, BUDGET) == [(0, 30)]


# ---------------------------------------------------------------- outages


@pytest.fixture
async def outage(server, log, monkeypatch):
    """Make a store whose Redis can be made to go and come back."""
    server.forget()
    made = []

    class Outage:
        def store(self, mode="share", **options):
            made.append(RedisStore(server.url(), outage=mode, **options))
            return made[-1]

        def begin(self):
            server.stop()

        def freeze(self):
            server.freeze()

        async def end(self, *, forgotten=True):
            if forgotten:
                server.start()
            else:
                server.thaw()
            for store in made:
                store._down_until = 0.0
                store.usable()
                async with asyncio.timeout(20):
                    while store.state() != "up":
                        await asyncio.sleep(0.01)
                        store._down_until = 0.0
                        store.usable()

    monkeypatch.setattr("proxy.store.line.TIMEOUT_S", 0.3)
    yield Outage()
    server.thaw()
    if not server._answers():
        server.start()
    for store in made:
        await store.close()


async def test_without_redis_a_worker_spends_its_share_of_what_was_left(outage):
    store, limit, budget, one = outage.store(), counted(11), purse(100), slot(9)
    await take(store, limit, slots=(one,), purses=(budget,), worst=20, expected=1)
    store.counts.presence.leases.workers = 1
    outage.freeze()
    # Left were 10 requests, 80 and 8 slots: half of that.
    assert [await refused(store, limit) for _ in range(5)] == [None] * 5
    refusal = (await take(store, limit)).refusal
    assert (refusal.by, refusal.outage, refusal.left) == (limit, True, 0)
    first = (await take(store, slots=(one,), purses=(budget,), worst=40)).hold
    assert first.local
    assert await refused(store, purses=(budget,), worst=1) is budget
    store.settle(first, tokens=0, costs=(10,), now=0.0)
    assert await refused(store, purses=(budget,), worst=31) is budget
    assert await refused(store, purses=(budget,), worst=30) is None
    assert [await refused(store, slots=(one,)) for _ in range(5)] == [None] * 4 + [one]
    assert await refused(store) is None


async def test_shares_are_smaller_the_more_workers_there_are(outage):
    store, limit = outage.store(), counted(81)
    await take(store, limit)
    store.counts.presence.leases.workers = 4
    outage.freeze()
    assert [await refused(store, limit) for _ in range(11)] == [None] * 10 + [limit]


async def test_of_what_was_never_seen_there_is_no_share(outage):
    store = outage.store()
    await take(store, counted(10))
    outage.freeze()
    unseen = counted(1_000_000, key="unseen")
    refusal = (await take(store, unseen)).refusal
    assert (refusal.by, refusal.outage, refusal.retry_after_s) == (unseen, True, 1.0)


@pytest.mark.parametrize(("mode", "admitted"), [("refuse", False), ("allow", True)])
async def test_it_can_refuse_or_allow_all_instead(outage, mode, admitted):
    store, limit, budget = outage.store(mode), counted(10), purse(10)
    hold = (await take(store, limit, purses=(budget,), worst=1)).hold
    outage.freeze()
    for wanted in ((limit,), ()):
        refusal = (await take(store, *wanted, purses=(budget,), worst=20)).refusal
        assert (refusal is None) == admitted
        assert admitted or refusal.outage
    assert (await store.raise_hold(hold, worst=20, expected=1, now=0.0) is None) == admitted
    assert await refused(store) is None


async def test_what_happened_without_redis_is_there_when_it_is_back(outage, server):
    """It was frozen, and has forgotten nothing."""
    store, limit, budget, one = outage.store("allow"), counted(99), purse(1000), slot(9)
    before = (await take(store, limit, slots=(one,), purses=(budget,), worst=30)).hold
    kept = (await take(store, limit, slots=(one,), purses=(budget,), worst=30)).hold
    outage.freeze()
    ended, running = [
        (await take(store, limit, slots=(one,), purses=(budget,), worst=50)).hold for _ in range(2)
    ]
    assert await store.raise_hold(kept, worst=5, expected=5, now=0.0) is None
    store.settle(before, tokens=0, costs=(7,), now=0.0)
    store.settle(ended, tokens=0, costs=(11,), now=0.0)
    await outage.end(forgotten=False)
    assert await spent(store, budget) == [(18, 50 + 35)]
    assert await taken(store, one) == [2]
    # The first of the outage was sent before Redis was known to be away, and it has done it when it could.
    assert (await taken(store, limit))[0] in (4, 5)
    store.settle(running, tokens=0, costs=(2,), now=0.0)
    store.settle(kept, tokens=0, costs=(3,), now=0.0)
    assert await spent(store, budget) == [(23, 0)]
    assert await taken(store, one) == [0]
    assert not store.counts.holdings.ended


async def test_a_request_that_was_refused_without_redis_holds_nothing_there(outage):
    store, one, budget = outage.store("refuse"), slot(9), purse(1000)
    await take(store)
    outage.freeze()
    assert await refused(store, slots=(one,), purses=(budget,), worst=30)
    await outage.end(forgotten=False)
    assert await taken(store, one) == [0]
    assert await spent(store, budget) == [(0, 0)]


async def test_a_settlement_whose_answer_was_lost_is_booked_once(outage, monkeypatch):
    store, budget = outage.store(), purse(1000)
    holds = [(await take(store, purses=(budget,), worst=30)).hold for _ in range(2)]
    execute = store._batch._execute

    async def losing(commands):
        await execute(commands)
        raise ConnectionResetError("lost")

    monkeypatch.setattr(store._batch, "_execute", losing)
    store.settle(holds[0], tokens=0, costs=(7,), now=0.0)
    await until(lambda: store.state() != "up")
    monkeypatch.setattr(store._batch, "_execute", execute)
    store.settle(holds[1], tokens=0, costs=(5,), now=0.0)
    assert len(store.counts.holdings.ended) == 2
    store._down_until = 0.0
    store.usable()
    await until(lambda: store.state() == "up")
    # The second answer says that nothing was held: whether the first was heard is for the ledger to say.
    assert await spent(store, budget) == [(12, 7)]

    monkeypatch.setattr(holdings, "BOOKED_S", 0.0)
    store.raise_spent({budget.key: Ledgered(12)})
    await store.counts.presence.beat()
    assert await spent(store, budget) == [(12, 0)]


async def test_a_redis_that_comes_back_empty_gets_all_from_ledger_and_worker(outage, monkeypatch):
    store, budget, one = outage.store("allow"), purse(1000), slot(9)
    before = (await take(store, slots=(one,), purses=(budget,), worst=30)).hold
    running = (await take(store, slots=(one,), purses=(budget,), worst=40)).hold
    outage.begin()
    ended = (await take(store, slots=(one,), purses=(budget,), worst=50)).hold
    store.settle(before, tokens=0, costs=(7,), now=0.0)
    store.settle(ended, tokens=0, costs=(11,), now=0.0)

    async def ledger():
        return {budget.key: Ledgered(107)}  # it has one of the two

    store.counts.presence.epoch.reseed = ledger
    await outage.end()
    assert await spent(store, budget) == [(107, 18 + 40)]
    assert await taken(store, one) == [1]

    async def booked(purses):
        store.raise_spent({budget.key: Ledgered(118)})
        return True

    store.counts.holdings.before_dropping = booked
    monkeypatch.setattr(holdings, "BOOKED_S", 0.0)
    await store.counts.presence.beat()
    assert await spent(store, budget) == [(118, 40)]
    store.settle(running, tokens=0, costs=(1,), now=0.0)
    assert await spent(store, budget) == [(119, 0)]


async def test_what_a_worker_that_began_without_redis_has_ended_counts_once(outage, monkeypatch):
    """Another worker has restored the sums, with what this one had spent by then."""
    budget = purse(1000)
    old, new = outage.store("allow"), outage.store("allow")
    await take(old, purses=(budget,), worst=1)
    outage.begin()
    await old.look()  # both know that it is away, and the old one is the first to find it back
    await new.look()
    ended = (await take(new, purses=(budget,), worst=50)).hold
    new.settle(ended, tokens=0, costs=(11,), now=0.0)

    async def ledger():
        return {budget.key: Ledgered(11)}

    old.counts.presence.epoch.reseed = new.counts.presence.epoch.reseed = ledger
    await outage.end()
    assert await spent(old, budget) == [(11, 11 + 1)]
    monkeypatch.setattr(holdings, "BOOKED_S", 0.0)
    await new.counts.presence.beat()
    assert await spent(old, budget) == [(11, 1)]


async def test_sums_told_while_redis_is_away_are_taken_over(outage):
    store, budget = outage.store(), purse(1000)
    await take(store, purses=(budget,), worst=1)
    outage.freeze()
    await store.look()
    store.raise_spent({budget.key: Ledgered(50, corrected=-3)})
    store.raise_spent({budget.key: Ledgered(60, corrected=-3)})
    assert (await store.used((), (budget,), now=0.0))[0].used == 1
    await outage.end(forgotten=False)
    await settled(store)
    await store.counts.presence.beat()
    assert await spent(store, budget) == [(60, 1)]


async def test_holds_are_taken_over_from_elsewhere_whatever_the_limits_say(stores):
    store, budget, one = stores(), purse(10), slot(1)
    hold = Hold(demand(counted(1, kind=TOKENS), slots=(one,), purses=(budget,), worst=30, expected=2))
    await take(store, counted(9, key="another"))
    for _ in range(2):
        store.adopt([hold])
        await settled(store)
    assert await spent(store, budget) == [(0, 30)]
    assert await taken(store, one) == [1]
    store.settle(hold, tokens=0, costs=(4,), now=0.0)
    assert await spent(store, budget) == [(4, 0)]
    assert await taken(store, one) == [0]
