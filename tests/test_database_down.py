"""PostgreSQL goes away while the gateway serves, and while it starts: traffic does not notice."""

import os
import signal
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.gateway import Gateway, running_gateway
from tests.records import logged
from tests.servers import Postgres, eventually, postgres
from tests.traffic import traffic
from tests.upstream import DISABLED_KEY, QUIET, TEAM_KEY, FakeVendor, bearer, chat, data_lines, wired

CHAT = "/v1/chat/completions"

pytestmark = pytest.mark.postgres


@pytest.fixture(scope="module")
def database() -> Iterator[Postgres]:
    with postgres() as server:
        yield server


@pytest.fixture(scope="module")
def served(vendor: FakeVendor, database: Postgres) -> Iterator[Gateway]:
    variables = {**QUIET, "DATABASE_URL": database.create("gateway")}
    with running_gateway(variables, files=wired(vendor)) as gateway:
        yield gateway


@pytest.fixture
def stopped(served: Gateway, database: Postgres) -> Iterator[None]:
    """The database is down for the length of a test."""
    assert_serves(served, "before")
    logged(served, "before")
    eventually(lambda: list(served.data_dir.glob("snapshot-*.kept")), what="the kept snapshot")
    database.stop()
    eventually(lambda: health(served)["database"] == "down", what="the outage in /health")
    yield
    database.start()
    eventually(lambda: health(served)["database"] == "up", within_s=40, what="the recovery in /health")


def health(gateway: Gateway) -> dict[str, str]:
    found: dict[str, str] = httpx.get(f"{gateway.url}/health", timeout=30).json()
    return found


def assert_serves(gateway: Gateway, request_id: str) -> None:
    headers = {**bearer(TEAM_KEY), "x-request-id": request_id}
    with httpx.Client(base_url=gateway.url, timeout=30) as client:
        answer = client.post(CHAT, json=chat("replay/synthetic"), headers=headers)
        assert answer.status_code == 200
        stream = client.post(CHAT, json=chat("replay/synthetic", stream=True), headers=bearer(TEAM_KEY))
        assert data_lines(stream.text.splitlines())[-1] == "[DONE]"
        assert client.post(CHAT, json=chat("demo/echo"), headers=bearer(DISABLED_KEY)).status_code == 401
        assert client.get("/v1/models", headers=bearer(TEAM_KEY)).status_code == 200
        assert client.get("/ready").status_code == 200


def test_an_outage_changes_nothing_for_traffic(served: Gateway, database: Postgres) -> None:
    with traffic(served, chat("replay/synthetic"), headers=bearer(TEAM_KEY)) as running:
        running.go_on()
        database.stop()
        eventually(lambda: health(served)["database"] == "down", what="the outage in /health")
        running.go_on()
        assert_serves(served, "during")
        database.start()
        eventually(lambda: health(served)["database"] == "up", within_s=40, what="the recovery in /health")
        running.go_on()
    assert set(running.statuses) == {200}
    # What was answered in between is in the books.
    assert logged(served, "during", within_s=60)["outcome"] == "ok"


def test_a_worker_that_restarts_during_an_outage_serves_what_was_kept(
    served: Gateway, stopped: None, database: Postgres
) -> None:
    served.kill()
    served.start()
    assert_serves(served, "restarted")
    assert "serving_kept_configuration" in served.log()
    assert health(served)["database"] == "down"


def test_a_database_that_hangs_changes_nothing_either(
    served: Gateway, database: Postgres, request: pytest.FixtureRequest
) -> None:
    """It accepts connections and never answers: only a timeout tells."""
    assert_serves(served, "before-the-hang")
    database.freeze()
    request.addfinalizer(database.thaw)
    with traffic(served, chat("replay/synthetic"), headers=bearer(TEAM_KEY)) as running:
        running.go_on()
        (worker,) = served.children("web")
        os.kill(worker, signal.SIGKILL)
        # The listening socket outlives the worker: requests wait for its successor.
        killed_at = time.monotonic()
        running.first(after=killed_at, status=200, within_s=30)
        running.go_on()
    assert running.statuses[200] > running.statuses[0]
    assert set(running.statuses) <= {200, 0}, "a refusal; 0 are the connections of the killed worker"
    assert running.statuses[0] <= 4
    database.thaw()
    assert logged(served, "before-the-hang", within_s=60)["outcome"] == "ok"


def test_it_follows_changes_again_after_the_outage(served: Gateway) -> None:
    assert logged(served, "restarted", within_s=60)["outcome"] == "ok"
    secret = served.manage("create_key", "--tenant", "team", "--name", "after-the-outage").splitlines()
    key = next(line for line in reversed(secret) if line.startswith("sk-gw-"))
    eventually(
        lambda: httpx.get(f"{served.url}/v1/models", headers=bearer(key)).status_code == 200,
        what="the new key",
    )
