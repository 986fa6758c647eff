"""Claims to keys: in one process, and on a real Redis server between several."""

import asyncio
import time

import pytest

from proxy.errors import GatewayError
from proxy.idempotency.turns import Turn, Turns
from proxy.store import make_store
from proxy.store.claims import Claim, Held, LocalClaims
from proxy.store.redis import RedisStore
from proxy.store.redis_claims import LEASE_S, RedisClaims
from proxy.tests.fakes import environment, until
from tests.servers import redis

broker = pytest.mark.broker
NOW = 1_000_000.0
ASKED, OTHER = b"a" * 32, b"b" * 32
NAME = b"gw:once:k"


def claim(owner=b"one", key=b"k", fingerprint=ASKED):
    return Claim(key, fingerprint, owner)


# ---------------------------------------------------------------- one process


async def test_it_keeps_an_answer_until_its_time_is_up():
    claims = LocalClaims(max_bytes=10_000)
    assert await claims.claim(claim(), NOW) is None
    claims.free(claim())
    assert await claims.claim(claim(), NOW) is None
    claims.keep(claim(), b"said", ttl_s=10, now=NOW)
    assert await claims.claim(claim(b"two"), NOW + 9.9) == Held(ASKED, b"said")
    assert await claims.renew(claim()) is False
    assert await claims.claim(claim(key=b"other"), NOW) is None
    assert await claims.claim(claim(), NOW + 10) is None
    assert claims.kept_bytes == 0


async def test_it_makes_room_by_forgetting_the_oldest():
    claims = LocalClaims(max_bytes=3 * 1256)
    for name in (b"1", b"2", b"3", b"4"):
        claims.keep(claim(key=name), b"x" * 1000, ttl_s=10, now=NOW)
    assert [claims.find(name, NOW) is not None for name in (b"1", b"2", b"3", b"4")] == [0, 1, 1, 1]
    claims.keep(claim(key=b"4"), b"y", ttl_s=10, now=NOW)
    assert claims.kept_bytes == 2 * 1256 + 257
    claims.keep(claim(key=b"5"), b"x" * 5000, ttl_s=10, now=NOW)
    assert claims.kept_bytes == 0


def test_it_bounds_what_it_keeps_by_a_quarter_of_the_cache():
    for url in ("", "redis://127.0.0.1:9/0"):
        store = make_store(environment(redis_url=url, cache_max_bytes=4000))
        claims = getattr(store.claims, "_local", store.claims)
        claims.keep(claim(), b"x" * (1000 - 256), ttl_s=10, now=NOW)
        assert claims.kept_bytes == 1000
        claims.keep(claim(), b"x" * 1000, ttl_s=10, now=NOW)
        assert claims.kept_bytes == 0


# ---------------------------------------------------------------- several


@pytest.fixture(scope="module")
def server():
    with redis() as running:
        yield running


@pytest.fixture
async def stores(server):
    """Make stores of one server, as several workers would."""
    server.forget()
    made = []

    def make():
        made.append(RedisStore(server.url(), max_claim_bytes=10_000))
        return made[-1]

    yield make
    for store in made:
        await store.close()


async def settled(store):
    await asyncio.gather(*store._tasks)


@broker
async def test_it_lets_one_of_many_processes_go(stores):
    made = [stores() for _ in range(5)]
    found = await asyncio.gather(
        *[store.claims.claim(claim(b"%d" % place), NOW) for place, store in enumerate(made)]
    )
    assert sorted(each is None for each in found) == [False] * 4 + [True]
    assert {each for each in found if each} == {Held(ASKED, None)}


@broker
async def test_it_shares_the_answer_and_gives_keys_back(stores, server):
    one, two = stores(), stores()
    assert await one.claims.claim(claim(), NOW) is None
    two.claims.free(claim(b"two"))  # not its own
    await settled(two)
    assert await two.claims.claim(claim(b"two"), NOW) == Held(ASKED, None)
    one.claims.free(claim())
    await settled(one)
    assert await two.claims.claim(claim(b"two"), NOW) is None
    two.claims.keep(claim(b"two"), b"any \x00\n bytes", ttl_s=100, now=NOW)
    await settled(two)
    assert await one.claims.claim(claim(b"three", fingerprint=OTHER), NOW) == Held(ASKED, b"any \x00\n bytes")
    one.claims.free(claim())
    await settled(one)
    with server.client() as client:
        assert 99_000 < client.pttl(NAME) <= 100_000


@broker
async def test_it_frees_the_key_of_a_process_that_has_died(stores, server):
    one, two = stores(), stores()
    await one.claims.claim(claim(), NOW)
    with server.client() as client:
        assert 0 < client.pttl(NAME) <= LEASE_S * 1000
        client.pexpire(NAME, 1)
        await until(lambda: not client.exists(NAME))
    assert await two.claims.claim(claim(b"two"), NOW) is None
    one.claims.keep(claim(), b"late", ttl_s=100, now=NOW)  # it was not dead, only slow
    await settled(one)
    assert await one.claims.claim(claim(), NOW) == Held(ASKED, None)


@broker
async def test_it_holds_a_claim_for_as_long_as_it_is_renewed(stores, server):
    one, two = stores(), stores()
    await one.claims.claim(claim(), NOW)
    with server.client() as client:
        client.pexpire(NAME, 5000)
        assert await one.claims.renew(claim()) is False
        assert client.pttl(NAME) > 20_000
        await two.claims.claim(claim(b"two"), NOW)
        assert await one.claims.renew(claim()) is True
        client.flushall()  # it has lost its memory
        assert await one.claims.renew(claim()) is False
        assert client.exists(NAME)


@broker
async def test_it_goes_on_alone_without_redis():
    with redis() as server:
        store = RedisStore(server.url(), max_claim_bytes=10_000)
        assert await store.claims.claim(claim(), NOW) is None
        server.stop()
        store.claims.keep(claim(), b"said", ttl_s=100, now=NOW)
        await settled(store)
        assert store.state() != "up"
        assert await store.claims.claim(claim(b"two"), NOW) == Held(ASKED, b"said")
        assert await store.claims.claim(claim(key=b"new"), NOW) is None
        assert await store.claims.renew(claim()) is False
        store.claims.free(claim(key=b"new"))
        await store.close()


class Moments:
    """A server at which a claim ends between the question and the look."""

    def __init__(self):
        self.answers = [[None, None], [b"OK", b"r"]]

    async def ask(self, *_):
        return self.answers.pop(0)


async def test_it_tries_again_where_a_claim_has_just_ended():
    moments = Moments()
    assert await RedisClaims(moments, local=LocalClaims(max_bytes=0)).claim(claim(), NOW) is None
    assert not moments.answers


# ---------------------------------------------------------------- turns


async def looked(server):
    """Wait until somebody has found the key taken."""
    with server.client() as client:
        await until(lambda: client.exists(b"gw:once-wanted:k"))


async def has_turn(turns, owner, fingerprint=ASKED):
    turn = await turns.take(claim(owner, fingerprint=fingerprint))
    assert isinstance(turn, Turn)
    return turn


@broker
async def test_it_waits_for_another_processes_answer(stores, server):
    one, two = (Turns(stores().claims, ttl_s=100) for _ in range(2))
    turn = await has_turn(one, b"one")
    waiting = [asyncio.ensure_future(two.take(claim(b"%d" % each))) for each in range(3)]
    await looked(server)
    assert not any(each.done() for each in waiting)
    with pytest.raises(GatewayError, match="another request"):
        await two.take(claim(b"x", fingerprint=OTHER))
    turn.keep(b"said")
    assert await asyncio.gather(*waiting) == [b"said"] * 3
    assert await two.take(claim(b"late")) == b"said"
    with pytest.raises(GatewayError, match="another request"):
        await two.take(claim(b"x", fingerprint=OTHER))
    assert not one._taken
    assert not two._taken


@broker
async def test_it_goes_when_another_process_has_failed(stores, server):
    one, two = (Turns(stores().claims, ttl_s=100) for _ in range(2))
    turn = await has_turn(one, b"one")
    waiting = asyncio.ensure_future(two.take(claim(b"two")))
    await looked(server)
    turn.free()
    turn = await waiting
    assert isinstance(turn, Turn)
    turn.free()
    (await has_turn(one, b"three")).free()


@broker
async def test_it_goes_on_for_a_client_that_waits_at_another_process(stores, server):
    one, two = (Turns(stores().claims, ttl_s=100, linger_s=0.05) for _ in range(2))
    given_up = asyncio.Event()
    turn = await has_turn(one, b"one")
    waiting = asyncio.ensure_future(two.take(claim(b"two")))
    await looked(server)
    renewals, renew = asyncio.Queue(), turn._of.claims.renew

    async def renewed(claim):
        wanted = await renew(claim)
        renewals.put_nowait(wanted)
        return wanted

    turn._of.claims.renew = renewed
    assert turn.detain(given_up.set)
    assert [await asyncio.wait_for(renewals.get(), 5) for _ in range(3)] == [True] * 3
    assert not given_up.is_set()
    turn.keep(b"said")
    assert await waiting == b"said"
    assert not turn.detain(given_up.set)


async def test_it_gives_up_when_nobody_comes_back():
    turns = Turns(LocalClaims(max_bytes=1000), ttl_s=100, linger_s=0.0)
    given_up = asyncio.Event()
    turn = await has_turn(turns, b"one")
    assert turn.detain(given_up.set)
    await asyncio.wait_for(given_up.wait(), 5)
    turn.free()
    assert not turns._taken


@broker
async def test_it_renews_its_claim_while_it_runs(stores, monkeypatch, server):
    store = stores()
    store.claims.renew_s = 0.01
    turn = await has_turn(Turns(store.claims, ttl_s=100), b"one")
    with server.client() as client:
        client.pexpire(NAME, 5000)
        deadline = time.monotonic() + 5
        while client.pttl(NAME) < 20_000:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
    turn.free()
