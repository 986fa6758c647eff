"""Strict budgets across kills, restarts and replacements: never overspent, the ledger's sums afterwards.

A process is asked for its sums by a request that cannot fit: the refusal says what is left.
"""

import contextlib
import os
import re
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import httpx
import pytest
from redis import Redis as RedisClient

from tests.gateway import Gateway, running_gateway
from tests.records import rows
from tests.servers import eventually, postgres, redis
from tests.sizes import at_full_size, sized
from tests.traffic import clients_running
from tests.upstream import QUIET, TEAM_KEY, FakeVendor, bearer, chat, wired

CHAT = "/v1/chat/completions"
# 7 tokens at a dollar per million and 5 at two: what each answer costs, in nano-dollars.
COST = 7 * 1000 + 5 * 2000
LIMIT = 60 * COST
KILLS = sized("kills of a web process before a budget is spent", 3, full=20)

pytestmark = at_full_size(180)

PRICE = {"provider": "replay", "model": "*", "input_usd_per_mtok": "1", "output_usd_per_mtok": "2"}


def priced(vendor: FakeVendor, *budgets: Mapping[str, object]) -> Mapping[str, str]:
    """Return the configuration of a gateway whose key has budgets."""
    key = {"name": "team-key", "tenant": "team", "secret": TEAM_KEY, "budgets": list(budgets)}
    return wired(vendor, keys=[key], prices=[PRICE])


TOTAL = {"amount_usd": f"{LIMIT / 1e9:.9f}", "window": "total"}


def ask(client: httpx.Client, *, model: str = "synthetic", max_tokens: int = 5) -> httpx.Response:
    # All are of one length: the name counts in what a call may cost at most.
    body = chat(f"replay/{model}~prompt=7~tokens=5", max_tokens=max_tokens)
    return client.post(CHAT, json=body, headers=bearer(TEAM_KEY))


def asked(gateway: Gateway, **options: int) -> httpx.Response:
    with httpx.Client(base_url=gateway.url, timeout=30) as client:
        return ask(client, **options)


def left(gateway: Gateway) -> int:
    """Return what is left of the budget, by the counters of whoever answers."""
    refusal = asked(gateway, max_tokens=10**9)
    assert refusal.status_code == 429, refusal.text
    assert refusal.json()["error"]["code"] == "insufficient_quota"
    found = re.search(r"\$([\d.]+) is left", refusal.json()["error"]["message"])
    assert found, refusal.text
    return round(float(found[1]) * 1e9)


def spent(gateway: Gateway) -> int:
    """Return what the ledger says."""
    (row,) = rows(gateway, "SELECT coalesce(sum(cost_nanousd), 0) AS spent FROM keys_ledgerentry")
    return int(row["spent"])


def shipped(gateway: Gateway) -> bool:
    spool = gateway.data_dir / "spool"
    with contextlib.suppress(FileNotFoundError):  # shipped just now
        return not any(
            path.suffix in {".seg", ".open"} and path.read_bytes().strip(b"\0") for path in spool.iterdir()
        )
    return False


def assert_sums_are_the_ledgers(gateway: Gateway) -> None:
    eventually(lambda: shipped(gateway), within_s=60, what="all of the spool in the ledger")
    ledger = spent(gateway)
    assert 0 < ledger <= LIMIT
    windows = rows(gateway, "SELECT spent_nanousd FROM keys_budgetwindow")
    assert [row["spent_nanousd"] for row in windows] == [ledger]
    assert LIMIT - left(gateway) == ledger


def spend_all(gateway: Gateway) -> int:
    """Ask one after another until the budget refuses, and return how many were answered."""
    answered = 0
    with httpx.Client(base_url=gateway.url, timeout=30) as client:
        while (response := ask(client)).status_code == 200:
            answered += 1
    assert response.status_code == 429, response.text
    return answered


def spend(gateway: Gateway, count: int) -> None:
    with httpx.Client(base_url=gateway.url, timeout=30) as client:
        assert [ask(client).status_code for _ in range(count)] == [200] * count


@dataclass
class Crowd:
    """Clients that ask until the budget refuses."""

    gateway: Gateway
    answered: int = 0
    refused: threading.Event = field(default_factory=threading.Event)
    stopping: threading.Event = field(default_factory=threading.Event)

    def ask_for_ever(self) -> None:
        while not self.stopping.is_set():
            with httpx.Client(base_url=self.gateway.url, timeout=30) as client:
                try:
                    while not self.stopping.is_set():
                        self._ask(client)
                except httpx.TransportError:
                    time.sleep(0.02)  # the process is gone; nothing tells when the next one is there

    def more(self, count: int) -> None:
        """Wait for as many more answers, or a refusal."""
        wanted = self.answered + count
        eventually(lambda: self.answered >= wanted or self.refused.is_set(), within_s=60, what="answers")

    def _ask(self, client: httpx.Client) -> None:
        response = ask(client, model="synthetic~delay=20")
        if response.status_code == 200:
            self.answered += 1
        elif response.status_code == 429:
            self.refused.set()
            self.stopping.wait(0.05)


@contextlib.contextmanager
def crowd(gateway: Gateway) -> Iterator[Crowd]:
    running = Crowd(gateway)
    with clients_running(running.ask_for_ever, running.stopping, 6):
        yield running


def kill_web(gateway: Gateway) -> None:
    (web,) = gateway.children("web")
    os.kill(web, signal.SIGKILL)
    eventually(lambda: gateway.children("web") not in ([], [web]), within_s=60, what="the next web process")


def test_a_budget_survives_kills_in_the_middle_of_traffic(vendor: FakeVendor) -> None:
    with running_gateway(QUIET, files=priced(vendor, TOTAL)) as gateway:
        with crowd(gateway) as running:
            for _ in range(KILLS):
                running.more(LIMIT // COST // (KILLS + 3))
                kill_web(gateway)
            assert running.refused.wait(60)
        assert running.answered * COST <= LIMIT
        assert_sums_are_the_ledgers(gateway)


def test_it_refuses_at_the_same_request_whether_or_not_it_was_restarted(vendor: FakeVendor) -> None:
    """Nothing is shipped meanwhile: what was spent before is in the spool alone."""
    arguments = ("--no-shipper",)
    with running_gateway(QUIET, files=priced(vendor, TOTAL), arguments=arguments) as gateway:
        expected = spend_all(gateway)
    with running_gateway(QUIET, files=priced(vendor, TOTAL), arguments=arguments) as gateway:
        spend(gateway, 20)
        kill_web(gateway)
        spend(gateway, 10)
        gateway.stop()
        gateway.start()
        assert spend_all(gateway) == expected - 30
        assert spent(gateway) == 0
        assert LIMIT - left(gateway) == expected * COST


def test_a_budget_made_in_the_middle_of_a_month_counts_what_was_spent_before(vendor: FakeVendor) -> None:
    with running_gateway(QUIET, files=priced(vendor)) as gateway:
        spend(gateway, 20)
        eventually(lambda: spent(gateway) >= 20 * COST, what="the ledger of twenty answers")
        spend(gateway, 5)  # perhaps in the spool alone
        gateway.manage(
            "shell",
            "-c",
            "from keys.models import *;"
            f"Budget.objects.create(key=ApiKey.objects.get(name='team-key'), amount_nanousd={LIMIT})",
        )
        eventually(lambda: asked(gateway, max_tokens=10**9).status_code == 429, what="the budget in force")
        counted = (LIMIT - left(gateway)) // COST
        before = rows(gateway, "SELECT count(*) AS n FROM keys_ledgerentry")[0]["n"]
        assert counted >= max(before, 25)
        spend_all(gateway)
        assert_sums_are_the_ledgers(gateway)


def test_a_replacement_overspends_nothing(vendor: FakeVendor) -> None:
    with running_gateway({**QUIET, "GRACE_PERIOD": "20s"}, files=priced(vendor, TOTAL)) as gateway:
        with crowd(gateway) as running:
            running.more(5)
            gateway.process.popen.send_signal(signal.SIGHUP)
            eventually(lambda: gateway.log().count('"process_beside"') >= 2, within_s=60, what="both of them")
            assert running.refused.wait(60)
            eventually(lambda: "serve.all_replaced" in gateway.log(), within_s=60, what="the replacement")
        assert running.answered * COST <= LIMIT
        assert_sums_are_the_ledgers(gateway)
        assert "process_beside_silent" not in gateway.log()


@pytest.mark.postgres
def test_a_restart_without_the_database_goes_on_with_the_budget(vendor: FakeVendor) -> None:
    with postgres() as database:
        variables = {**QUIET, "DATABASE_URL": database.create("gateway")}
        with running_gateway(variables, files=priced(vendor, TOTAL)) as gateway:
            spend(gateway, 20)
            eventually(lambda: spent(gateway) == 20 * COST, what="the ledger of twenty answers")
            eventually(lambda: list(gateway.data_dir.glob("snapshot-*.kept")), what="the kept snapshot")
            eventually(lambda: list(gateway.data_dir.glob("sums-*.kept")), what="the kept sums")
            database.stop()
            spend(gateway, 10)
            gateway.kill()
            gateway.start()
            assert "budgets_by_kept_sums" in gateway.log()
            assert LIMIT - left(gateway) == 30 * COST
            spend_all(gateway)
            database.start()
            assert_sums_are_the_ledgers(gateway)


@pytest.mark.broker
def test_an_empty_redis_is_told_what_is_spent(vendor: FakeVendor) -> None:
    """Nothing of it is in the ledger: the spool alone knows."""
    with redis() as store:
        variables = {**QUIET, "REDIS_URL": store.url()}
        files, arguments = priced(vendor, TOTAL), ("--no-shipper",)
        with running_gateway(variables, workers=2, files=files, arguments=arguments) as gateway:
            spend(gateway, 20)
            with RedisClient.from_url(store.url()) as client:
                client.flushall()
            assert left(gateway) <= LIMIT - 20 * COST
            spend(gateway, 5)
            assert left(gateway) <= LIMIT - 25 * COST
            # What the workers held because nobody knew comes off again.
            eventually(lambda: left(gateway) == LIMIT - 25 * COST, within_s=60, what="the right sum")
