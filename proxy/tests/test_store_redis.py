"""The Redis store on a real Redis server: the cache, the counts, and Redis's absence."""

import asyncio
import time

import pytest

from keys.limits import REQUESTS, TOKENS, RateRule
from providers.usage import Usage
from proxy.cache import BYPASS, EVENTS, JSON, Entry, Policy
from proxy.store import redis as redis_store
from proxy.store.base import Left
from proxy.store.memory import MemoryStore
from proxy.store.redis import RedisStore, sync_client
from proxy.tests.fakes import until
from proxy.tests.redis_stores import (
    counted,
    demand,
    log,
    purse,
    refused,
    server,
    slot,
    spent,
    stores,
    take,
    taken,
)
from tests.servers import redis

__all__ = ["log", "server", "stores"]  # fixtures

pytestmark = pytest.mark.broker
PER_HOUR = counted(3)
READ = Policy(b"k", read=True, write=True, max_age_s=3600.0)


def entry(body=b"{}", form=JSON):
    return Entry(form, body, "openai", "gpt-4o", time.time(), Usage(3, 4))


async def get(store, key=b"k", **fields):
    """Return what the cache has for a request that takes `fields`."""
    return (await store.admit(demand(**fields), READ._replace(key=key), now=time.time())).entry


# ---------------------------------------------------------------- cache


async def test_it_shares_what_was_put(stores):
    one, two = stores(), stores()
    kept = entry(b"\x00 any \n bytes", EVENTS)
    one.put(b"\x00\xffk", kept, ttl_s=100)
    await one._batch.finish(within_s=5)
    assert await get(two, b"\x00\xffk") == kept
    assert await get(two, b"other") is None


async def test_it_keeps_an_entry_no_longer_than_told(stores, server):
    store = stores()
    old = Entry(JSON, b"{}", "p", "m", time.time() - 60, None)
    store.put(b"k", old, ttl_s=100)
    await store._batch.finish(within_s=5)
    with server.client() as client:
        assert 30_000 < client.pttl(b"gw:cache:k") <= 41_000


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        b"garbage",
        b"{}\n{}",
        b"7\n{}",
        b'{"form":"json","provider":"p","model":"m","stored_at":1,"usage":null,"later_field":1}\n{}',
        b'{"form":"json","provider":"p","model":"m","stored_at":1,"usage":{"later_field":1}}\n{}',
    ],
)
async def test_it_takes_what_it_cannot_read_for_a_miss(stores, server, packed):
    """Another version of the gateway may share the server."""
    with server.client() as client:
        client.set(b"gw:cache:k", packed)
    assert await get(stores()) is None


async def test_it_keeps_the_cache_at_home_where_only_counters_are_shared(stores, server):
    one, two = stores(local=MemoryStore(max_bytes=10_000)), stores(local=MemoryStore(max_bytes=10_000))
    one.put(b"k", entry(), ttl_s=100)
    assert await get(one)
    assert await get(two) is None
    with server.client() as client:
        assert client.dbsize() == 0


@pytest.mark.parametrize("local", [True, False])
async def test_a_hit_takes_what_a_hit_takes_and_nothing_else(stores, local):
    store = stores(local=MemoryStore(max_bytes=10_000) if local else None)
    wide, tokens, one, budget = counted(3), counted(99, kind=TOKENS, key="t"), slot(1), purse(10)
    fields = {"slots": (one,), "purses": (budget,), "tokens": 9, "worst": 7}
    asked = demand(wide, tokens, **fields, on_hit=(wide,))
    store.put(b"k", entry(), ttl_s=100)
    hits = [await store.admit(asked, READ, now=time.time()) for _ in range(4)]
    assert [bool(each.entry) for each in hits] == [True, True, True, False]
    assert [each.hold for each in hits] == [None] * 4
    assert [each.requests for each in hits[:3]] == [Left(wide.rule, left) for left in (2, 1, 0)]
    assert hits[3].refusal.by is wide
    assert await taken(store, wide, tokens, one) == [3, 0, 0]
    assert await spent(store, budget) == [(0, 0)]


async def test_a_hit_of_which_nothing_is_counted_is_answered_at_once_where_the_cache_is_here(stores):
    store = stores(local=MemoryStore(max_bytes=10_000))
    store.put(b"k", entry(), ttl_s=100)
    assert store.peek(b"k", time.time())
    assert store.admit_now(demand(slots=(slot(1),)), READ, now=time.time()).entry
    assert store.admit_now(demand(on_hit=(PER_HOUR,)), READ, now=time.time()) is None
    assert store.admit_now(demand(PER_HOUR), BYPASS, now=time.time()) is None
    assert store.admit_now(demand(), BYPASS, now=time.time()) is not None
    elsewhere = stores()
    assert elsewhere.peek(b"k", time.time()) is None
    assert elsewhere.admit_now(demand(), READ, now=time.time()) is None


@pytest.mark.parametrize("value", [b"garbage", "old"])
async def test_what_a_hit_took_is_given_back_when_its_value_is_of_no_use(stores, server, value):
    if value == "old":
        value = Entry(JSON, b"{}", "p", "m", time.time() - 7200, None).pack()
    with server.client() as client:
        client.set(b"gw:cache:k", value)
    store, wide, narrow, one = stores(), counted(5), counted(5, key="b"), slot(2)
    asked = demand(wide, narrow, slots=(one,), on_hit=(wide,))
    admission = await store.admit(asked, READ, now=time.time())
    assert (admission.entry, admission.requests) == (None, Left(wide.rule, 4))
    assert admission.hold is not None
    assert await taken(store, wide, narrow, one) == [1, 1, 1]


async def test_an_answer_that_is_not_there_is_admitted_in_the_same_round_trip(stores, monkeypatch):
    store = stores()
    await take(store, PER_HOUR)
    trips = []
    execute = store._batch._execute

    async def counting(commands):
        asked = [each for each in commands if each[0] == "GET" or each[0][:1] == b"*"]
        trips.extend([asked] if asked else [])
        return await execute(commands)

    monkeypatch.setattr(store._batch, "_execute", counting)
    admission = await store.admit(demand(PER_HOUR, on_hit=(PER_HOUR,)), READ, now=time.time())
    assert (admission.entry, admission.requests.remaining) == (None, 1)
    assert [len(asked) for asked in trips] == [2]


# ---------------------------------------------------------------- limits


@pytest.mark.parametrize("amount", [1, 3, 7, 60])
async def test_it_counts_exactly_across_workers(stores, amount):
    limit, budget = counted(amount), purse(1000)
    workers = [stores(), stores(), stores()]
    admissions = await asyncio.gather(
        *[take(workers[each % 3], limit, purses=(budget,), worst=2) for each in range(amount + 10)]
    )
    assert sum(each.refusal is None for each in admissions) == amount
    refusals = [each.refusal for each in admissions if each.refusal is not None]
    assert all((each.by, each.left, each.needs) == (limit, 0, 1) for each in refusals)
    assert all(3500 < (each.retry_after_s or 0) <= 3606 for each in refusals)
    assert await spent(workers[0], budget) == [(0, 2 * amount)]


async def test_it_takes_from_all_limits_or_from_none(stores):
    store = stores()
    wide, narrow, one, budget = counted(5, key="w"), counted(4, key="n"), slot(2), purse(10)
    hold = (await take(store, wide, narrow, slots=(one,), purses=(budget,), worst=6, expected=1)).hold
    assert await refused(store, wide, narrow, slots=(one,), purses=(budget,), worst=6) is budget
    assert await refused(store, wide, narrow, slots=(one,), purses=(budget,), worst=4) is None
    assert await refused(store, wide, narrow, slots=(one,)) is one
    assert await taken(store, wide, narrow, one) == [2, 2, 2]
    assert await spent(store, budget) == [(0, 10)]
    store.settle(hold, tokens=0, costs=(3,), now=0.0)
    assert await spent(store, budget) == [(3, 4)]
    assert await taken(store, one) == [1]


async def test_it_tells_what_is_left(stores):
    rates = [counted(10), counted(4, key="b"), counted(500, kind=TOKENS, key="c")]
    admission = await take(stores(), *rates, tokens=20)
    assert admission.requests == Left(rates[1].rule, 3)
    assert admission.tokens == Left(rates[2].rule, 480)


async def test_it_lets_through_again_after_the_wait(stores):
    """By Redis's own clock."""
    store, limit = stores(), counted(1, per="second")
    assert await refused(store, limit) is None
    refusal = (await take(store, limit)).refusal
    await asyncio.sleep((refusal.retry_after_s or 0) + 0.002)
    assert await refused(store, limit) is None


async def test_a_window_is_forgotten_when_none_of_it_counts_any_more(stores, server):
    store, limit = stores(), counted(500, per="second")
    await asyncio.gather(*[take(store, limit) for _ in range(100)])
    await asyncio.sleep(0.002)  # a step
    await take(store, limit)
    with server.client() as client:
        keys = sorted(client.scan_iter("gw:limit:*"))
        assert keys == [f"gw:limit:{limit.key}".encode(), f"gw:limit:{limit.key}:steps".encode()]
        assert all(0 < client.pttl(key) <= 1010 for key in keys)


async def test_a_sum_is_forgotten_some_time_after_its_window_has_ended(stores, server):
    store, budget = stores(), purse(10)
    total = budget._replace(key="8@0", span=budget.span._replace(end=253_000_000_000))
    await take(store, purses=(budget, total), worst=1)
    with server.client() as client:
        assert client.pexpiretime("gw:purse:7@0") == (budget.span.end + 7 * 86_400) * 1000
        assert client.pttl("gw:purse:8@0") == -1


async def test_a_hold_ends_once(stores):
    store, limit, one, budget = stores(), counted(99, kind=TOKENS), slot(2), purse(10)
    first, second = [
        (await take(store, limit, tokens=5, slots=(one,), purses=(budget,), worst=4)).hold for _ in range(2)
    ]
    for _ in range(2):
        store.settle(first, tokens=7, costs=(3,), now=0.0)
        store.give_back(first, now=0.0)
    assert await taken(store, limit, one) == [12, 1]
    assert await spent(store, budget) == [(3, 4)]
    for _ in range(2):
        store.give_back(second, now=0.0)
        store.settle(second, tokens=7, costs=(3,), now=0.0)
    assert await taken(store, limit, one) == [7, 0]
    assert await spent(store, budget) == [(3, 0)]
    assert not store.counts.holdings.running
    assert not store.counts.holdings.ended


async def test_a_further_attempt_is_held_or_refused(stores):
    store, budget, soft = stores(), purse(10), purse(10, strict=False, key="8@0")
    hold = (await take(store, purses=(budget, soft), worst=4, expected=2)).hold
    assert await store.raise_hold(hold, worst=4, expected=2, now=0.0) is None
    refusal = await store.raise_hold(hold, worst=4, expected=2, now=0.0)
    assert (refusal.by, refusal.left, refusal.needs) == (budget, 2, 4)
    assert (hold.worst, hold.expected) == (8, 4)
    assert await spent(store, budget, soft) == [(0, 8), (0, 8)]
    store.settle(hold, tokens=0, costs=(7, 7), now=0.0)
    assert await spent(store, budget, soft) == [(7, 0), (7, 0)]
    assert await store.raise_hold(hold, worst=4, expected=2, now=0.0) is None


async def test_one_that_leaves_before_it_is_admitted_holds_nothing(stores):
    store, one, budget = stores(), slot(1), purse(10)
    await take(store)
    asking = asyncio.create_task(take(store, slots=(one,), purses=(budget,), worst=4))
    for _ in range(4):
        await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert await taken(store, one) == [0]
    assert await spent(store, budget) == [(0, 0)]


async def test_what_one_that_leaves_may_hold_is_let_go_of_though_redis_goes_away_then(stores, monkeypatch):
    """The admission has arrived at Redis; its answer and what takes it back are lost with the connection."""
    monkeypatch.setattr(redis_store, "RETRY_S", 0.0)
    store, one, budget = stores(), slot(1), purse(10)
    await take(store)
    execute, arrived, lost = store._batch._execute, asyncio.Event(), asyncio.Event()

    async def losing(commands):
        answers = await execute(commands)
        if not arrived.is_set() and any(b"gw:purse:" in each[0] for each in commands if len(each) == 1):
            arrived.set()
            await lost.wait()
            raise ConnectionResetError
        if arrived.is_set() and not lost.released:
            lost.released = True
            raise ConnectionResetError
        return answers

    lost.released = False
    monkeypatch.setattr(store._batch, "_execute", losing)
    asking = asyncio.create_task(take(store, slots=(one,), purses=(budget,), worst=4))
    await arrived.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    lost.set()
    await until(lambda: lost.released and store.state() != "up")
    while store.state() != "up":
        store.usable()
        await asyncio.sleep(0)
    assert await taken(store, one) == [0]
    assert await spent(store, budget) == [(0, 0)]


async def test_it_needs_no_script_to_be_known(stores, server):
    store, one, budget = stores(), slot(5), purse(10)
    hold = (await take(store, slots=(one,), purses=(budget,), worst=1)).hold
    with server.client() as client:
        client.script_flush()
        assert await refused(store, slots=(one,), purses=(budget,), worst=1) is None
        client.script_flush()
        assert await store.raise_hold(hold, worst=1, expected=1, now=0.0) is None
        client.script_flush()
        store.settle(hold, tokens=0, costs=(2,), now=0.0)
        assert await spent(store, budget) == [(2, 1)]
    assert store.state() == "up"


async def test_any_name_of_a_model_can_be_counted(stores):
    store = stores()
    rule = RateRule("rate:1", REQUESTS, 1, per="hour", each="model")
    names = [
        counted(1)._replace(rule=rule, key=f"rate:1/{model}/1") for model in ("a b", "a\n", 'é"\0', "{}")
    ]
    assert [await refused(store, each) for each in names] == [None] * 4
    assert [await refused(store, each) for each in names] == names


# ---------------------------------------------------------------- outages


async def test_it_goes_on_without_redis_and_says_so_once(log):
    with redis() as server:
        store = RedisStore(server.url(), outage="allow")
        assert store.state() == "up"
        server.stop()
        for _ in range(5):
            store.put(b"k", entry(), ttl_s=100)
            admission = await store.admit(demand(PER_HOUR), READ, now=time.time())
            assert (admission.entry, admission.refusal) == (None, None)
        assert store.state().startswith("down")
        assert [line["up"] for line in log.of("redis")] == [False]
        # Still down: looked at again, in the background, without another line.
        store._down_until = 0.0
        await take(store, PER_HOUR)
        await take(store, PER_HOUR)
        await asyncio.wait(store._tasks, timeout=5)
        assert len(log.of("redis")) == 1
        server.start()
        store._down_until = 0.0
        await take(store, PER_HOUR)
        await until(lambda: store.state() == "up")
        assert [line["up"] for line in log.of("redis")] == [False, True]
        # The seven of the outage have used it up.
        assert await refused(store, PER_HOUR) is PER_HOUR
        await store.close()


async def test_it_notices_an_outage_when_it_puts(log):
    store = RedisStore("redis://127.0.0.1:9/0")
    store.put(b"k", entry(), ttl_s=100)
    await store._batch.finish(within_s=5)
    assert store.state().startswith("down")
    store.put(b"k", entry(), ttl_s=100)
    assert not store._tasks
    await store.close()


async def test_it_lets_what_it_has_begun_come_to_an_end(log):
    store = RedisStore("redis://127.0.0.1:9/0")
    store.put(b"k", entry(), ttl_s=100)
    await until(lambda: store.state() != "up")
    store._down_until = 0.0
    await take(store, PER_HOUR)
    assert store._tasks
    await store.close()
    assert not store._tasks


async def test_it_serves_its_own_cache_while_the_counters_are_away(log):
    store = RedisStore("redis://127.0.0.1:9/0", local=MemoryStore(max_bytes=10_000))
    store.put(b"k", entry(), ttl_s=100)
    for _ in range(2):
        assert (await store.admit(demand(slots=(slot(1),)), READ, now=time.time())).entry
    await store.close()


async def test_it_does_not_wait_long_for_a_redis_that_is_silent(log):
    """Accepts and never answers: one request pays for it, within seconds, and the rest go on without."""
    held = []
    silent = await asyncio.start_server(lambda *streams: held.append(streams), "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    store = RedisStore(f"redis://127.0.0.1:{port}/0")
    async with asyncio.timeout(5 * redis_store.TIMEOUT_S):
        assert (await take(store, PER_HOUR)).refusal.outage
    assert store.state().startswith("down")
    await store.close()
    silent.close()
    for _, writer in held:
        writer.close()


async def test_it_goes_on_when_more_come_at_once_than_there_are_connections(stores):
    """Redis is well: a burst must not be taken for an outage, which would open all limits."""
    store = stores()
    wide = counted(10_000)
    await asyncio.gather(*[take(store, wide) for _ in range(700)])
    assert store.state() == "up"


def test_it_gives_threads_a_client_that_never_waits_for_ever(server):
    with sync_client(server.url()) as client:
        assert client.ping()
        assert client.connection_pool.connection_kwargs["socket_timeout"] is not None
    with sync_client(server.url(), answers=False) as client:
        assert client.connection_pool.connection_kwargs["socket_timeout"] is None


async def test_it_finds_out_that_redis_is_away_without_being_used(stores, server, monkeypatch):
    """Whoever asks for its state hears no old news."""
    monkeypatch.setattr(redis_store, "RETRY_S", 0.0)
    store = stores()
    await store.look()
    assert store.state() == "up"
    server.stop()
    try:
        await store.look()
        assert store.state().startswith("down")
    finally:
        server.start()
    await store.look()
    await until(lambda: store.state() == "up")
