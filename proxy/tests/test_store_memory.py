import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.cache import JSON, Entry
from proxy.store import make_store, memory
from proxy.store.base import Limit
from proxy.store.memory import MemoryStore
from proxy.store.redis import RedisStore
from proxy.tests.fakes import environment

NOW = 1_000_000.0
PER_MINUTE = Limit("ip:1", "ANON_IP_RPM", 2, 60.0)


def entry(body=b"{}", stored_at=NOW):
    return Entry(JSON, body, "openai", "gpt-4o", stored_at, None)


def sized(size, stored_at=NOW):
    """Return an entry that counts for `size` bytes."""
    return entry(b"x" * (size - entry(b"").size), stored_at)


async def get(store, key=b"k", now=NOW):
    return (await store.admit(cache_key=key, limits=[], now=now)).entry


async def take(store, *limits, now=NOW):
    return (await store.admit(cache_key=b"", limits=limits, now=now)).refused_by


# ---------------------------------------------------------------- cache


async def test_it_finds_what_was_put_until_its_time_is_up():
    store = MemoryStore(max_bytes=10_000)
    store.put(b"k", entry(), ttl_s=10)
    assert await get(store, now=NOW + 9.9) == entry()
    assert await get(store, b"other") is None
    assert await get(store, now=NOW + 10) is None
    assert store.cached_bytes == 0


async def test_it_looks_up_only_when_told_to():
    store = MemoryStore(max_bytes=10_000)
    store.put(b"", entry(), ttl_s=10)
    assert await get(store, b"") is None


async def test_it_counts_the_time_to_live_from_when_the_answer_was_made():
    store = MemoryStore(max_bytes=10_000)
    store.put(b"k", entry(stored_at=NOW - 8), ttl_s=10)
    assert await get(store, now=NOW + 1)
    assert await get(store, now=NOW + 2) is None


async def test_it_replaces_and_counts_bytes_once():
    store = MemoryStore(max_bytes=10_000)
    for size in (2000, 1000, 2400):
        store.put(b"k", sized(size), ttl_s=10)
        assert store.cached_bytes == size


async def test_it_drops_what_was_used_longest_ago():
    store = MemoryStore(max_bytes=4000)
    for key in (b"a", b"b", b"c", b"d"):
        store.put(key, sized(1000), ttl_s=10)
    assert await get(store, b"a")
    store.put(b"e", sized(1000), ttl_s=10)
    assert [bool(await get(store, key)) for key in (b"a", b"b", b"c", b"d", b"e")] == [
        True,
        False,
        True,
        True,
        True,
    ]


async def test_it_keeps_no_entry_that_would_empty_the_rest():
    store = MemoryStore(max_bytes=4000)
    store.put(b"k", sized(1000), ttl_s=10)
    store.put(b"large", sized(1001), ttl_s=10)
    assert await get(store, b"large") is None
    assert await get(store)


async def test_it_forgets_the_old_answer_that_a_large_one_replaces():
    """`no-cache` asked for a new answer: the old one must not come back because the new one is too large."""
    store = MemoryStore(max_bytes=4000)
    store.put(b"k", sized(1000), ttl_s=10)
    store.put(b"k", sized(2000), ttl_s=10)
    assert await get(store) is None


@given(st.lists(st.tuples(st.sampled_from([b"a", b"b", b"c"]), st.integers(300, 1200)), max_size=30))
async def test_it_never_holds_more_than_its_bytes(puts):
    store = MemoryStore(max_bytes=3000)
    for key, size in puts:
        store.put(key, sized(size), ttl_s=10)
        assert store.cached_bytes == sum(each.size for _, each in store._entries.values()) <= 3000


# ---------------------------------------------------------------- limits


async def test_it_lets_the_amount_through_and_then_says_when():
    store = MemoryStore(max_bytes=0)
    assert [await take(store, PER_MINUTE) for _ in range(3)] == [None, None, PER_MINUTE]
    refusal = await store.admit(cache_key=b"", limits=[PER_MINUTE], now=NOW)
    assert refusal.retry_after_s == pytest.approx(30)
    assert refusal.entry is None
    assert await take(store, PER_MINUTE, now=NOW + 30.001) is None
    assert await take(store, PER_MINUTE, now=NOW + 30.001) is PER_MINUTE


async def test_it_counts_each_key_for_itself():
    store = MemoryStore(max_bytes=0)
    other = Limit("ip:2", "ANON_IP_RPM", 2, 60.0)
    for _ in range(3):
        await take(store, PER_MINUTE)
    assert await take(store, other) is None


async def test_it_takes_from_all_limits_or_from_none():
    store = MemoryStore(max_bytes=0)
    wide = Limit("global", "RPM_LIMIT", 5, 60.0)
    results = [await take(store, wide, PER_MINUTE) for _ in range(10)]
    assert results == [None, None] + [PER_MINUTE] * 8
    # The refused eight took nothing from the wide limit.
    assert [await take(store, wide) for _ in range(4)] == [None, None, None, wide]


async def test_it_answers_no_refused_request_from_the_cache():
    store = MemoryStore(max_bytes=10_000)
    store.put(b"k", entry(), ttl_s=10)
    admissions = [await store.admit(cache_key=b"k", limits=[PER_MINUTE], now=NOW) for _ in range(3)]
    assert [bool(each.entry) for each in admissions] == [True, True, False]


async def test_it_forgets_counters_that_are_at_rest(monkeypatch):
    monkeypatch.setattr(memory, "MAX_COUNTERS", 10)
    store = MemoryStore(max_bytes=0)
    for number in range(11):
        await take(store, Limit(f"ip:{number}", "x", 2, 60.0))
    await take(store, Limit("late", "x", 2, 60.0), now=NOW + 3600)
    assert list(store._buckets) == ["late/2"]


# ---------------------------------------------------------------- the rest


async def test_it_holds_nothing_open():
    store = MemoryStore(max_bytes=0)
    assert (store.name, store.state()) == ("memory", "up")
    assert await store.settle("boot-0-1") is False
    await store.close()


@pytest.mark.parametrize(
    ("fields", "kind", "shares_cache"),
    [
        ({}, MemoryStore, False),
        ({"redis_url": "redis://127.0.0.1:9/0"}, RedisStore, False),
        ({"redis_url": "redis://127.0.0.1:9/0", "cache_mode": "redis"}, RedisStore, True),
    ],
)
async def test_it_chooses_the_store_once(fields, kind, shares_cache):
    store = make_store(environment(**fields))
    assert type(store) is kind
    if isinstance(store, RedisStore):
        assert (store._local is None) is shares_cache
    await store.close()
