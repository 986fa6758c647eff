"""Circuit breakers of served gateways: what opens one, who learns of it, and what operators can do."""

import os
import re
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from tests.admin_session import AdminSession
from tests.gateway import Gateway, running_gateway
from tests.records import rows
from tests.servers import RedisServer, eventually, redis
from tests.upstream import TEAM_KEY, FakeVendor, bearer, chat, unique, wired

THRESHOLD = 5
PROMISED_S = 1.0
AT_ONCE = 8
STATES = "proxy/upstreamstate"
ENVIRONMENT = {"CACHE_MODE": "none", "MAX_RETRIES": "1", "CB_ERROR_THRESHOLD": str(THRESHOLD)}
VENDOR_THINKS_MS, HALF_OPEN_AFTER_S = 1500, 2

pytestmark = pytest.mark.broker


class Worker:
    """One web process, by a connection that is kept open to it."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def ask(self, model: str) -> httpx.Response:
        return self._client.post("/v1/chat/completions", json=chat(model))

    def provider(self, name: str = "replay") -> dict[str, Any]:
        found: dict[str, Any] = self._client.get("/health").json()["providers"][name]
        return found

    def state(self, model: str) -> str:
        """Return what its breaker does with a model's calls."""
        state: str = self.provider().get("upstreams", {}).get(model, {"state": "closed"})["state"]
        return state

    def wait_for(self, state: str, model: str) -> None:
        eventually(lambda: self.state(model) == state, what=f"the state {state} of {model}")

    def is_held(self, model: str) -> bool:
        return "held" in self.provider().get("upstreams", {}).get(model, {})

    @property
    def version(self) -> int:
        """The configuration that it has in force."""
        found: int = self._client.get("/health").json()["configuration"]["version"]
        return found

    @property
    def number(self) -> str:
        """Its number among the workers, which the id of a request tells."""
        return self.ask("demo/echo").headers["x-request-id"].split("-")[1]


def connected(gateway: Gateway, stack: ExitStack) -> Worker:
    client = httpx.Client(base_url=gateway.url, headers=bearer(TEAM_KEY), timeout=30)
    return Worker(stack.enter_context(client))


def both(gateway: Gateway, stack: ExitStack) -> tuple[Worker, Worker]:
    """Return a connection to each of two workers: who accepts one is chance."""
    found: dict[str, Worker] = {}

    def look() -> bool:
        worker = connected(gateway, stack)
        found.setdefault(worker.number, worker)
        return len(found) == 2

    eventually(look, within_s=60, what="a connection to each worker")
    return found["0"], found["1"]


def soon(condition: Callable[[], Any], what: str) -> None:
    """Wait for what has been promised to happen within a second."""
    eventually(condition, within_s=PROMISED_S, what=what)


def metrics(gateway: Gateway) -> str:
    return httpx.get(f"{gateway.url}/metrics", timeout=30).text


def failing(times: int = 999) -> str:
    return unique(f"replay/synthetic~fail={times}x503")


def open_it(worker: Worker, model: str) -> None:
    for _ in range(THRESHOLD):
        assert worker.state(model) == "closed"
        answer = worker.ask(model)
        assert (answer.status_code, answer.headers["x-gateway-attempts"]) == (503, "1")
        assert answer.json()["error"]["code"] != "circuit_open"
    assert worker.state(model) == "open"


# ---------------------------------------------------------------- one worker


@pytest.fixture(scope="module")
def alone(vendor: FakeVendor) -> Iterator[Gateway]:
    variables = {**ENVIRONMENT, "CB_HALF_OPEN_TIMEOUT": f"{HALF_OPEN_AFTER_S}s"}
    with running_gateway(variables, files=wired(vendor)) as gateway:
        yield gateway


def test_it_opens_refuses_probes_and_closes(alone: Gateway, vendor: FakeVendor) -> None:
    model = unique(f"replay/synthetic~fail={THRESHOLD}x503~ttfb={VENDOR_THINKS_MS}")
    with ExitStack() as stack:
        worker = connected(alone, stack)
        open_it(worker, model)
        refused = worker.ask(model)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "circuit_open")
        assert 0 < int(refused.headers["retry-after"]) <= HALF_OPEN_AFTER_S
        assert len(vendor.asked(model)) == THRESHOLD, "the vendor was asked although it is open"
        worker.wait_for("half_open", model)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            clients = [connected(alone, stack) for _ in range(AT_ONCE)]
            answers = list(pool.map(lambda each: each.ask(model), clients))
        assert sorted(each.status_code for each in answers) == [200, *[503] * (AT_ONCE - 1)]
        assert len(vendor.asked(model)) == THRESHOLD + 1, "more than one probe"
        assert worker.state(model) == "closed"
        assert worker.ask(model).status_code == 200
    assert 'gateway_breaker_opened_total{provider="replay"} 1.0' in metrics(alone)
    assert 'gateway_breaker_state{provider="replay"} 0.0' in metrics(alone)


def test_it_opens_again_when_the_probe_fails(alone: Gateway, vendor: FakeVendor) -> None:
    model = failing()
    with ExitStack() as stack:
        worker = connected(alone, stack)
        open_it(worker, model)
        worker.wait_for("half_open", model)
        assert worker.ask(model).json()["error"]["code"] != "circuit_open"
        assert worker.state(model) == "open"
        assert worker.ask(model).json()["error"]["code"] == "circuit_open"
        assert len(vendor.asked(model)) == THRESHOLD + 1
        assert httpx.get(f"{alone.url}/ready").status_code == 200


# ---------------------------------------------------------------- two workers


@pytest.fixture(scope="module")
def store() -> Iterator[RedisServer]:
    with redis() as server:
        yield server


@pytest.fixture(scope="module")
def shared(vendor: FakeVendor, store: RedisServer) -> Iterator[Gateway]:
    """Two workers whose breakers, once open, stay so for longer than the tests last."""
    variables = {
        **ENVIRONMENT,
        "REDIS_URL": store.url(),
        "CB_TIME_WINDOW": "600s",
        "CB_HALF_OPEN_TIMEOUT": "600s",
    }
    with running_gateway(variables, workers=2, files=wired(vendor)) as gateway:
        yield gateway


@pytest.fixture
def workers(shared: Gateway) -> Iterator[tuple[Worker, Worker]]:
    with ExitStack() as stack:
        yield both(shared, stack)


@pytest.fixture(scope="module")
def operator(shared: Gateway) -> Iterator[AdminSession]:
    session = AdminSession(shared)
    yield session
    session.close()


def version(gateway: Gateway) -> int:
    found: int = rows(gateway, "SELECT version FROM config_configversion")[0]["version"]
    return found


def wait_for_row(gateway: Gateway, model: str, state: str) -> dict[str, Any]:
    sql = "SELECT * FROM proxy_upstreamstate WHERE upstream = ? AND state = ?"
    return eventually(lambda: rows(gateway, sql, model, state), what=f"the row of {model}, {state}")[0]


def test_a_worker_learns_within_a_second_what_another_has_opened(
    shared: Gateway, workers: tuple[Worker, Worker], vendor: FakeVendor
) -> None:
    one, other = workers
    model = failing()
    open_it(one, model)
    soon(lambda: other.state(model) == "open", "the other's breaker")
    refused = other.ask(model)
    assert refused.json()["error"]["code"] == "circuit_open"
    assert 590 < int(refused.headers["retry-after"]) <= 600
    assert len(vendor.asked(model)) == THRESHOLD
    opened = 'gateway_breaker_opened_total{provider="replay"}'
    eventually(lambda: opened in metrics(shared), what="the opening in the metrics")
    assert f"{opened} 1.0" in metrics(shared), "who was told has not opened it"
    assert 'gateway_breaker_state{provider="replay"} 2.0' in metrics(shared)


def test_a_worker_learns_what_a_vendor_has_told_another(
    workers: tuple[Worker, Worker], vendor: FakeVendor
) -> None:
    one, other = workers
    model = unique("replay/synthetic~fail=9x429~retry_after=900")
    assert one.ask(model).status_code == 429
    soon(lambda: "cooling_s" in other.provider()["upstreams"].get(model, {}), "the other's patience")
    refused = other.ask(model)
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "upstream_rate_limited")
    # Those that wait for the same moment are sent there over a while after it.
    assert 890 < int(refused.headers["retry-after"]) <= 990
    assert len(vendor.asked(model)) == 1


def test_a_worker_that_starts_learns_what_is_open(shared: Gateway, vendor: FakeVendor) -> None:
    model = failing()
    with ExitStack() as stack:
        one, other = both(shared, stack)
        open_it(one, model)
        other.wait_for("open", model)
    for pid in shared.children("web"):
        os.kill(pid, signal.SIGKILL)
    with ExitStack() as stack:
        for worker in both(shared, stack):
            worker.wait_for("open", model)
            assert worker.ask(model).json()["error"]["code"] == "circuit_open"
    assert len(vendor.asked(model)) == THRESHOLD


def test_it_outlives_a_change_of_the_configuration(
    shared: Gateway, workers: tuple[Worker, Worker], operator: AdminSession
) -> None:
    model = failing()
    open_it(workers[0], model)
    before = version(shared)
    operator.save(operator.change_path("providers/provider", "replay"), idle_timeout_s="55")
    eventually(lambda: all(each.version > before for each in workers), what="the new configuration")
    assert {each.state(model) for each in workers} == {"open"}


def test_the_admin_shows_it_and_resets_it(
    shared: Gateway, workers: tuple[Worker, Worker], operator: AdminSession, vendor: FakeVendor
) -> None:
    model = failing()
    before = version(shared)
    open_it(workers[0], model)
    row = wait_for_row(shared, model, "open")
    assert (row["reason"], row["open_until"] is None) == ("http_503", False)
    assert re.fullmatch(r".+/[01]", row["worker"])
    assert version(shared) == before, "a report is no change of the configuration"
    workers[1].wait_for("open", model)
    operator.act(STATES, "reset_selected", model)
    soon(lambda: {each.state(model) for each in workers} == {"closed"}, "the reset")
    assert workers[1].ask(model).json()["error"]["code"] != "circuit_open"
    assert len(vendor.asked(model)) == THRESHOLD + 1
    wait_for_row(shared, model, "closed")


def test_the_admin_holds_open_what_is_well_and_lets_it_go(
    shared: Gateway, workers: tuple[Worker, Worker], operator: AdminSession, vendor: FakeVendor
) -> None:
    model = unique("replay/synthetic")
    assert workers[0].ask(model).status_code == 200
    wait_for_row(shared, model, "closed")
    operator.act(STATES, "hold_selected", model)
    soon(lambda: all(each.is_held(model) for each in workers), "the hold")
    for each in workers:
        refused = each.ask(model)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "circuit_open")
    assert len(vendor.asked(model)) == 1
    operator.act(STATES, "let_go_selected", model)
    soon(lambda: not any(each.is_held(model) for each in workers), "the end of the hold")
    assert {each.ask(model).status_code for each in workers} == {200}


def test_it_is_everyones_own_while_redis_is_down_and_all_know_when_it_is_back(
    workers: tuple[Worker, Worker], store: RedisServer
) -> None:
    one, other = workers
    model = failing()
    store.stop()
    try:
        open_it(one, model)
        assert one.ask(model).json()["error"]["code"] == "circuit_open"
        assert other.ask(model).json()["error"]["code"] != "circuit_open"
    finally:
        store.start()
    other.wait_for("open", model)
