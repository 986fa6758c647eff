import pytest
from hypothesis import given
from hypothesis import strategies as st

from keys.limits import CONCURRENT, REQUESTS, TOKENS, Counted, RateRule
from proxy.cache import JSON, Entry, Policy
from proxy.demand import NOTHING
from proxy.store import make_store
from proxy.store.base import Demand, Left
from proxy.store.memory import MemoryStore
from proxy.store.redis import RedisStore
from proxy.tests.fakes import environment

NOW = 1_000_000.0
READ = Policy(b"k", read=True, max_age_s=1e9)
SLOT = Counted(RateRule("rate:2", CONCURRENT, 1), "rate:2//0", by_tokens=False)


def entry(body=b"{}", stored_at=NOW):
    return Entry(JSON, body, "openai", "gpt-4o", stored_at, None)


def sized(size, stored_at=NOW):
    """Return an entry that counts for `size` bytes."""
    return entry(b"x" * (size - entry(b"").size), stored_at)


async def get(store, key=b"k", now=NOW):
    policy = Policy(key, read=bool(key), max_age_s=1e9)
    return (await store.admit(NOTHING, policy, now=now)).entry


def counted(kind=REQUESTS, *, amount):
    rule = RateRule("rate:1", kind, amount, per="minute")
    return Counted(rule, f"rate:1/{kind}/{rule.step_us}", kind == TOKENS)


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


# ---------------------------------------------------------------- with limits


async def test_it_takes_of_a_hit_what_every_request_takes_and_nothing_else():
    store = MemoryStore(max_bytes=10_000)
    store.put(b"k", entry(), ttl_s=10)
    requests, tokens = counted(amount=3), counted(TOKENS, amount=10)
    demand = Demand("1", rates=(requests, tokens), slots=(SLOT,), tokens=8, on_hit=(requests,))
    admission = await store.admit(demand, READ, now=NOW)
    assert (admission.entry, admission.hold) == (entry(), None)
    assert (admission.requests, admission.tokens) == (Left(requests.rule, 2), None)
    used = await store.used([requests, tokens, SLOT], [], now=NOW)
    assert [each.used for each in used] == [1, 0, 0]


async def test_it_answers_no_refused_request_from_the_cache():
    store = MemoryStore(max_bytes=10_000)
    store.put(b"k", entry(), ttl_s=10)
    demand = Demand("1", rates=(counted(amount=2),), on_hit=(counted(amount=2),))
    admissions = [await store.admit(demand, READ, now=NOW) for _ in range(3)]
    assert [bool(each.entry) for each in admissions] == [True, True, False]
    assert admissions[2].refusal is not None


async def test_it_looks_for_no_answer_that_is_too_old():
    store = MemoryStore(max_bytes=10_000)
    store.put(b"k", entry(stored_at=NOW - 5), ttl_s=60)
    assert (await store.admit(NOTHING, READ._replace(max_age_s=5), now=NOW)).entry is None
    assert (await store.admit(NOTHING, READ._replace(max_age_s=6), now=NOW)).entry is not None


# ---------------------------------------------------------------- the rest


async def test_it_holds_nothing_open():
    store = MemoryStore(max_bytes=0)
    assert (store.name, store.state()) == ("memory", "up")
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
