"""The Redis store on a real Redis server."""

import asyncio
import time

import pytest

from providers.usage import Usage
from proxy.cache import EVENTS, JSON, Entry
from proxy.store import redis as redis_store
from proxy.store.base import Limit
from proxy.store.memory import MemoryStore
from proxy.store.redis import RedisStore, sync_client
from proxy.tests.fakes import Log, until
from tests.servers import redis

pytestmark = pytest.mark.broker
PER_MINUTE = Limit("ip:1", "ANON_IP_RPM", 3, 60.0)


@pytest.fixture(scope="module")
def server():
    with redis() as running:
        yield running


@pytest.fixture
def log(monkeypatch):
    recorder = Log()
    monkeypatch.setattr(redis_store, "log", recorder)
    return recorder


@pytest.fixture
async def stores(server, log):
    """Make stores of one server, as several workers would."""
    server.forget()
    made = []

    def make(**options):
        made.append(RedisStore(server.url(), **options))
        return made[-1]

    yield make
    for store in made:
        await store.close()


def entry(body=b"{}", form=JSON):
    return Entry(form, body, "openai", "gpt-4o", time.time(), Usage(3, 4))


async def get(store, key=b"k"):
    return (await store.admit(cache_key=key, limits=[], now=time.time())).entry


async def take(store, *limits):
    return await store.admit(cache_key=b"", limits=limits, now=time.time())


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
    assert (await one.admit(cache_key=b"k", limits=[PER_MINUTE], now=time.time())).entry


# ---------------------------------------------------------------- limits


@pytest.mark.parametrize("amount", [1, 3, 7, 60])
async def test_it_counts_exactly_across_workers(stores, amount):
    limit = Limit("ip:1", "ANON_IP_RPM", amount, 3600.0)
    workers = [stores(), stores(), stores()]
    admissions = await asyncio.gather(*[take(workers[each % 3], limit) for each in range(amount + 10)])
    assert sum(each.refused_by is None for each in admissions) == amount
    refused = [each for each in admissions if each.refused_by is not None]
    assert all(each.refused_by is limit for each in refused)
    assert all(0 < each.retry_after_s <= 3600 / amount for each in refused)


async def test_it_takes_from_all_limits_or_from_none(stores):
    store = stores()
    wide, narrow = Limit("global", "RPM_LIMIT", 5, 3600.0), Limit("ip:1", "ANON_IP_RPM", 2, 3600.0)
    refusals = [(await take(store, wide, narrow)).refused_by for _ in range(6)]
    assert refusals == [None, None, narrow, narrow, narrow, narrow]
    assert [(await take(store, wide)).refused_by for _ in range(4)] == [None, None, None, wide]


async def test_it_lets_through_again_after_the_wait(stores):
    store = stores()
    limit = Limit("ip:1", "x", 1, 0.05)
    assert (await take(store, limit)).refused_by is None
    refusal = await take(store, limit)
    assert refusal.refused_by is limit
    await asyncio.sleep(refusal.retry_after_s + 0.002)
    assert (await take(store, limit)).refused_by is None


async def test_it_leaves_no_counter_behind(stores, server):
    await take(stores(), Limit("ip:1", "x", 5, 2.0))
    with server.client() as client:
        assert 0 < client.pttl("gw:limit:ip:1/5") <= 2001


async def test_it_answers_from_the_cache_only_who_is_let_through(stores):
    store = stores()
    store.put(b"k", entry(), ttl_s=100)
    await store._batch.finish(within_s=5)
    limit = Limit("ip:1", "x", 1, 3600.0)
    first = await store.admit(cache_key=b"k", limits=[limit], now=time.time())
    second = await store.admit(cache_key=b"k", limits=[limit], now=time.time())
    assert (bool(first.entry), second.entry, second.refused_by) == (True, None, limit)


# ---------------------------------------------------------------- outages


async def test_it_goes_on_without_redis_and_says_so_once(log):
    with redis() as server:
        store = RedisStore(server.url())
        assert store.state() == "up"
        server.stop()
        for _ in range(5):
            store.put(b"k", entry(), ttl_s=100)
            admission = await store.admit(cache_key=b"k", limits=[PER_MINUTE], now=time.time())
            assert (admission.entry, admission.refused_by) == (None, None)
        assert store.state().startswith("down")
        assert [line["up"] for line in log.of("redis")] == [False]
        # Still down: looked at again, in the background, without another line.
        store._down_until = 0.0
        await take(store, PER_MINUTE)
        await take(store, PER_MINUTE)
        await asyncio.wait(store._tasks, timeout=5)
        assert len(log.of("redis")) == 1
        server.start()
        store._down_until = 0.0
        await take(store, PER_MINUTE)
        await until(lambda: store.state() == "up")
        assert [line["up"] for line in log.of("redis")] == [False, True]
        assert [(await take(store, PER_MINUTE)).refused_by for _ in range(4)] == [
            None,
            None,
            None,
            PER_MINUTE,
        ]
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
    await take(store, PER_MINUTE)
    assert store._tasks
    await store.close()
    assert not store._tasks


async def test_it_serves_its_own_cache_while_the_counters_are_away(log):
    store = RedisStore("redis://127.0.0.1:9/0", local=MemoryStore(max_bytes=10_000))
    store.put(b"k", entry(), ttl_s=100)
    for _ in range(2):
        assert (await store.admit(cache_key=b"k", limits=[PER_MINUTE], now=time.time())).entry
    await store.close()


async def test_it_does_not_wait_long_for_a_redis_that_is_silent(log):
    """Accepts and never answers: one request pays for it, within seconds, and the rest go on without."""
    held = []
    silent = await asyncio.start_server(lambda *streams: held.append(streams), "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    store = RedisStore(f"redis://127.0.0.1:{port}/0")
    async with asyncio.timeout(5 * redis_store.TIMEOUT_S):
        assert (await take(store, PER_MINUTE)).refused_by is None
    assert store.state().startswith("down")
    await store.close()
    silent.close()
    for _, writer in held:
        writer.close()


async def test_it_goes_on_when_more_come_at_once_than_there_are_connections(stores):
    """Redis is well: a burst must not be taken for an outage, which would open all limits."""
    store = stores()
    wide = Limit("global", "RPM_LIMIT", 10_000, 3600.0)
    await asyncio.gather(*[take(store, wide) for _ in range(700)])
    assert store.state() == "up"


async def test_it_holds_nothing(stores):
    store = stores()
    assert store.name == "redis"
    assert await store.settle("boot-0-1") is False


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
