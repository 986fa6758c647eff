"""The Redis store of served gateways: shared by workers, lost without an error, found again."""

from collections.abc import Iterator

import httpx
import pytest

from tests.gateway import Gateway, running_gateway
from tests.servers import RedisServer, eventually, redis
from tests.traffic import traffic
from tests.upstream import OTHER_KEY, QUIET, TEAM_KEY, FakeVendor, bearer, chat, unique, wired

CHAT = "/v1/chat/completions"

pytestmark = pytest.mark.broker


@pytest.fixture(scope="module")
def store() -> Iterator[RedisServer]:
    with redis() as server:
        yield server


@pytest.fixture(scope="module")
def served(vendor: FakeVendor, store: RedisServer) -> Iterator[Gateway]:
    variables = {**QUIET, "CACHE_MODE": "redis", "REDIS_URL": store.url()}
    with running_gateway(variables, workers=2, files=wired(vendor)) as gateway:
        yield gateway


def ask(gateway: Gateway, model: str, *, key: str = TEAM_KEY, stream: bool = False) -> httpx.Response:
    # A new connection each time, so that either worker may get it.
    response = httpx.post(
        f"{gateway.url}{CHAT}", json=chat(f"replay/{model}", stream=stream), headers=bearer(key), timeout=30
    )
    assert response.status_code == 200, response.text
    return response


def cache_of(response: httpx.Response) -> str:
    return response.headers["x-gateway-cache"]


def store_state(gateway: Gateway) -> str:
    found: str = httpx.get(f"{gateway.url}/health", timeout=30).json()["store"]["state"]
    return found


def test_workers_share_the_cache(served: Gateway, vendor: FakeVendor) -> None:
    model = unique()
    assert cache_of(ask(served, model)) == "miss"
    # It is stored in the background, after the answer.
    eventually(lambda: cache_of(ask(served, model)) == "hit", what="the first hit")
    asked = len(vendor.asked(model))
    answers = [ask(served, model, stream=number % 2 == 0) for number in range(20)]
    assert {cache_of(answer) for answer in answers} == {"hit"}
    assert all("age" in answer.headers for answer in answers)
    assert len(vendor.asked(model)) == asked
    assert cache_of(ask(served, model, key=OTHER_KEY)) == "miss"


def test_an_entry_in_redis_expires_by_itself(served: Gateway, store: RedisServer) -> None:
    model = unique()
    ask(served, model)
    eventually(lambda: cache_of(ask(served, model)) == "hit", what="the first hit")
    with store.client() as client:
        keys = list(client.scan_iter("gw:cache:*"))
        assert keys
        assert all(0 < client.pttl(key) <= 3_600_000 for key in keys)
        # Nothing of a request can be read from a key's name.
        assert not any(model.encode() in key for key in keys)


def test_redis_goes_and_comes_back(served: Gateway, store: RedisServer) -> None:
    model = unique()
    ask(served, model)
    eventually(lambda: cache_of(ask(served, model)) == "hit", what="the first hit")
    with traffic(served, chat("replay/synthetic"), headers=bearer(TEAM_KEY), clients=8) as running:
        running.go_on()
        store.stop()
        running.go_on(200)
        assert cache_of(ask(served, model)) == "miss"
        assert cache_of(ask(served, model, stream=True)) == "miss"
        eventually(lambda: store_state(served) != "up", what="the outage in /health")
        assert httpx.get(f"{served.url}/ready").status_code == 200
        store.start()
        running.go_on(200)
        eventually(lambda: cache_of(ask(served, model)) == "hit", what="a hit after the outage")
    assert set(running.statuses) == {200}, "a request failed"
    lines = [line for line in served.log().splitlines() if '"event":"redis"' in line]
    down = [line for line in lines if '"up":false' in line]
    assert 1 <= len(down) <= 2, "one line for each worker that noticed"
    assert '"level":"error"' not in "".join(lines)


def test_redis_that_hangs_costs_nobody_an_answer(served: Gateway, store: RedisServer) -> None:
    eventually(lambda: {store_state(served) for _ in range(10)} == {"up"}, what="both workers' recovery")
    before = served.log().count('"event":"redis"')
    with traffic(served, chat("replay/synthetic"), headers=bearer(TEAM_KEY), clients=8) as running:
        running.go_on()
        store.freeze()
        try:
            running.go_on(100)
        finally:
            store.thaw()
        eventually(lambda: {store_state(served) for _ in range(10)} == {"up"}, what="both workers' recovery")
        running.go_on()
    assert set(running.statuses) == {200}, "a request failed"
    assert served.log().count('"event":"redis"') - before <= 4


def test_it_starts_without_its_redis(vendor: FakeVendor) -> None:
    with redis() as gone:
        # What a limit had left nobody has seen yet: by its share a worker would let nothing through.
        limits = {"RPM_LIMIT": "100000", "STORE_OUTAGE": "allow"}
        variables = {**QUIET, "CACHE_MODE": "redis", "REDIS_URL": gone.url(), **limits}
        gone.stop()
        with running_gateway(variables, workers=2, files=wired(vendor)) as gateway:
            model = unique()
            assert [cache_of(ask(gateway, model)) for _ in range(4)] == ["miss"] * 4
            gone.start()
            eventually(lambda: cache_of(ask(gateway, model)) == "hit", what="the first hit")
