"""Redis and the database go and come back under load: every answer is whole, and booked once."""

from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest

from tests.gateway import Gateway, running_gateway
from tests.servers import Postgres, RedisServer, eventually, postgres, redis
from tests.sizes import at_full_size, sized, times
from tests.steady import Steady, assert_booked_once, steady
from tests.upstream import QUIET, FakeVendor, wired

MORE = sized("answers at each stage of an outage", 50, full=500)
pytestmark = [pytest.mark.postgres, pytest.mark.broker, *at_full_size(300)]


@dataclass
class Installation:
    gateway: Gateway
    database: Postgres
    store: RedisServer

    def states(self) -> set[tuple[bool, bool]]:
        """Return whether the database and the store are up, as the web processes say on new connections."""
        said = [httpx.get(f"{self.gateway.url}/health", timeout=30).json() for _ in range(10)]
        return {(each["database"] == "up", each["store"]["state"] == "up") for each in said}

    def wait_for(self, *, database: bool, store: bool) -> None:
        eventually(lambda: self.states() == {(database, store)}, within_s=60, what="the change in /health")


@pytest.fixture(scope="module")
def installed(vendor: FakeVendor) -> Iterator[Installation]:
    """Two web processes that count a limit in Redis at every request: nobody comes near it."""
    with postgres() as database, redis() as store:
        variables = {
            **QUIET,
            "DATABASE_URL": database.create("gateway"),
            "REDIS_URL": store.url(),
            "RPM_LIMIT": "1000000",
        }
        with running_gateway(variables, workers=2, files=wired(vendor)) as gateway:
            yield Installation(gateway, database, store)


def counted(store: RedisServer) -> list[bytes]:
    with store.client() as client:
        return list(client.scan_iter("gw:limit:*"))


def assert_unharmed(running: Steady) -> None:
    assert running.troubles == []
    assert running.refused == 0
    assert set(running.statuses) == {200}


@times("outages of Redis", full=5)
def test_redis_stops_and_starts_while_it_counts(installed: Installation, time: int) -> None:
    with steady(installed.gateway, "replay/synthetic") as running:
        running.go_on(MORE)
        assert counted(installed.store)
        installed.store.stop()
        running.go_on(4 * MORE)
        installed.wait_for(database=True, store=False)
        assert httpx.get(f"{installed.gateway.url}/ready", timeout=30).status_code == 200
        installed.store.start()
        eventually(lambda: counted(installed.store), what="counters in a Redis that has forgotten all")
        installed.wait_for(database=True, store=True)
        running.go_on(MORE)
    assert_unharmed(running)
    assert_booked_once(installed.gateway, running)


@times("outages of the database and Redis", full=5)
def test_both_stop_and_start(installed: Installation, time: int) -> None:
    with steady(installed.gateway, "replay/synthetic") as running:
        running.go_on(MORE)
        installed.database.stop()
        running.go_on(MORE)
        installed.store.stop()
        installed.wait_for(database=False, store=False)
        running.go_on(4 * MORE)
        installed.database.start()
        running.go_on(MORE)
        installed.store.start()
        installed.wait_for(database=True, store=True)
        running.go_on(MORE)
    assert_unharmed(running)
    assert_booked_once(installed.gateway, running)
