"""SIGKILL under load: whatever was answered is in the books afterwards, once; what was running is told.

GATEWAY_SOAK=1 runs it at full size.
"""

import contextlib
import itertools
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.gateway import Gateway, running_gateway
from tests.records import logged, rows
from tests.servers import celery_worker, eventually, postgres, redis
from tests.sizes import SOAK, at_full_size, sized
from tests.traffic import PAUSE_S, clients_running
from tests.upstream import QUIET, TEAM_KEY, FakeVendor, bearer, chat, unique, wired

KILLS = sized("kills of each process under load", 3, full=30)
CALM = sized("answers between two kills", 40, full=300)
# What a killed Celery worker had in hand is published again after a minute without a receipt.
PATIENCE_S = 240 if SOAK else 60
CHAT = "/v1/chat/completions"

pytestmark = at_full_size(180)


@dataclass
class Load:
    """Clients that ask under ids of their own, and know which answers they have had whole."""

    gateway: Gateway
    answered: set[str] = field(default_factory=set)
    broken: set[str] = field(default_factory=set)
    refused: Counter[int] = field(default_factory=Counter)
    models: dict[str, str] = field(default_factory=dict)
    stopping: threading.Event = field(default_factory=threading.Event)
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def ask_for_ever(self) -> None:
        while not self.stopping.is_set():
            with httpx.Client(base_url=self.gateway.url, timeout=30) as client:
                try:
                    while not self.stopping.wait(0 if SOAK else PAUSE_S):
                        self._ask(client)
                except httpx.TransportError:
                    time.sleep(0.02)  # the process is gone; nothing tells when the next one is there

    def calm(self, more: int = CALM) -> None:
        """Wait for as many more whole answers."""
        wanted = len(self.answered) + more
        eventually(lambda: len(self.answered) >= wanted, within_s=60, what=f"{more} more answers")

    def _ask(self, client: httpx.Client) -> None:
        number = next(self.numbers)
        request_id, model = f"load-{number}", unique("synthetic~prompt=7~tokens=5")
        self.models[request_id] = model
        self.broken.add(request_id)
        headers = {**bearer(TEAM_KEY), "x-request-id": request_id}
        response = client.post(CHAT, json=chat(f"replay/{model}", stream=number % 3 == 0), headers=headers)
        whole = "data: [DONE]" in response.text if number % 3 == 0 else response.text.endswith("}")
        if response.status_code != 200:
            self.refused[response.status_code] += 1
        elif whole:
            self.answered.add(request_id)
            self.broken.discard(request_id)


@contextlib.contextmanager
def load(gateway: Gateway, *, clients: int = 4) -> Iterator[Load]:
    running = Load(gateway)
    with clients_running(running.ask_for_ever, running.stopping, clients):
        yield running


@contextlib.contextmanager
def hanging(gateway: Gateway, vendor: FakeVendor, count: int = 3) -> Iterator[list[str]]:
    """Calls that their vendor never answers; each is with its vendor when the block begins."""
    models = [unique("synthetic~hang=head") for _ in range(count)]

    def ask(model: str) -> None:
        body = chat(f"replay/{model}", "A question of about thirty tokens. " * 5, stream=True)
        headers = {**bearer(TEAM_KEY), "x-request-id": model[-60:]}
        try:
            httpx.post(f"{gateway.url}{CHAT}", json=body, headers=headers, timeout=60)
        except httpx.TransportError:
            return

    threads = [threading.Thread(target=ask, args=(model,), daemon=True) for model in models]
    for thread in threads:
        thread.start()
    eventually(lambda: all(vendor.asked(model) for model in models), what="the calls at the vendor")
    yield models
    for thread in threads:
        thread.join(60)


def kill_web(gateway: Gateway) -> None:
    os.kill(random.choice(gateway.children("web")), signal.SIGKILL)


def kill_shipper(gateway: Gateway) -> None:
    (shipper,) = gateway.children("ship")
    os.kill(shipper, signal.SIGKILL)


def kill_all(gateway: Gateway) -> None:
    gateway.kill()
    gateway.start()


def kill_in_turn(gateway: Gateway, running: Load, kills: tuple[Callable[[Gateway], None], ...]) -> None:
    for kill in itertools.islice(itertools.cycle(kills), KILLS):
        running.calm()
        kill(gateway)
        eventually(
            lambda: gateway.children("web") and gateway.children("ship"), within_s=60, what="the restart"
        )
    running.calm()


def log_of(gateway: Gateway, prefix: str) -> list[dict[str, Any]]:
    return rows(gateway, "SELECT * FROM analytics_requestlog WHERE request_id LIKE ?", f"{prefix}%")


def assert_all_in_the_books(gateway: Gateway, running: Load, vendor: FakeVendor) -> None:
    expected = running.answered
    eventually(
        lambda: expected <= {row["request_id"] for row in log_of(gateway, "load-")},
        within_s=PATIENCE_S,
        what=f"the rows of {len(expected)} answers",
    )
    assert set(running.refused) <= {503}, running.refused
    found = log_of(gateway, "load-")
    ids = Counter(row["request_id"] for row in found)
    assert [request_id for request_id, count in ids.items() if count > 1] == []
    by_id = {row["request_id"]: row for row in found}
    wrong = [by_id[each] for each in expected if by_id[each]["outcome"] != "ok"]
    assert wrong == [], "answered whole, but not booked as such"
    assert all(by_id[each]["completion_tokens"] == 5 for each in expected)
    # Of the others, whatever reached the vendor is told, as what it was.
    asked = {each["body"].get("model") for each in vendor.everything() if isinstance(each["body"], dict)}
    lost = {each for each in running.broken if running.models[each] in asked}
    eventually(
        lambda: lost <= {row["request_id"] for row in log_of(gateway, "load-")},
        within_s=PATIENCE_S,
        what="the rows of what broke off",
    )
    outcomes = {row["outcome"] for row in log_of(gateway, "load-") if row["request_id"] in lost}
    assert outcomes <= {"interrupted", "ok", "cancelled", "error"}
    # The ledger agrees with the log, entry by entry.
    booked = Counter(
        row["completion_id"] for row in rows(gateway, "SELECT completion_id FROM keys_ledgerentry")
    )
    assert max(booked.values()) == 1
    assert {by_id[each]["completion_id"] for each in expected} <= set(booked)


def assert_interrupted(gateway: Gateway, models: list[str]) -> None:
    for model in models:
        row = logged(gateway, model[-60:], within_s=PATIENCE_S)
        assert row["outcome"] == "interrupted"
        assert row["usage_estimated"]
        assert row["prompt_tokens"] > 0
        (entry,) = rows(
            gateway, "SELECT * FROM keys_ledgerentry WHERE completion_id = ?", row["completion_id"]
        )
        assert (entry["kind"], bool(entry["estimated"])) == ("interrupted", True)


def test_a_kill_loses_no_answer_on_the_embedded_installation(vendor: FakeVendor) -> None:
    with running_gateway(QUIET, files=wired(vendor)) as gateway:
        with load(gateway) as running:
            with hanging(gateway, vendor) as first:
                kill_web(gateway)
            running.calm()
            with hanging(gateway, vendor) as second:
                kill_all(gateway)
            kill_in_turn(gateway, running, (kill_shipper, kill_web, kill_all))
        assert_all_in_the_books(gateway, running, vendor)
        assert_interrupted(gateway, first + second)
        assert_spool_empty(gateway)


@pytest.mark.postgres
@pytest.mark.broker
def test_a_kill_loses_no_answer_on_the_full_installation(vendor: FakeVendor) -> None:
    with postgres() as database, redis() as store:
        variables = {
            **QUIET,
            "DATABASE_URL": database.create("gateway"),
            "REDIS_URL": store.url(0),
            "CELERY_BROKER_URL": store.url(1),
        }
        with (
            running_gateway(variables, workers=2, files=wired(vendor)) as gateway,
            contextlib.ExitStack() as workers,
        ):
            workers.enter_context(celery_worker(gateway.env))

            def kill_celery(_: Gateway) -> None:
                workers.pop_all().close()
                workers.enter_context(celery_worker(gateway.env))

            with load(gateway, clients=8) as running:
                with hanging(gateway, vendor) as models:
                    kill_all(gateway)
                kills = (kill_shipper, kill_web, kill_celery)
                kill_in_turn(gateway, running, kills if SOAK else kills[:2])
            assert_all_in_the_books(gateway, running, vendor)
            assert_interrupted(gateway, models)
            assert_spool_empty(gateway)


def test_an_outage_of_the_database_loses_no_answer(vendor: FakeVendor) -> None:
    """Killed while the database is away: the spool alone knows what was answered."""
    with postgres() as database:
        variables = {**QUIET, "DATABASE_URL": database.create("gateway")}
        with running_gateway(variables, files=wired(vendor)) as gateway:
            with load(gateway) as running:
                running.calm()
                database.stop()
                running.calm()
                kill_all(gateway)
                running.calm()
                kill_shipper(gateway)
                running.calm()
                database.start()
                running.calm()
            assert_all_in_the_books(gateway, running, vendor)
            assert_spool_empty(gateway)


def assert_spool_empty(gateway: Gateway) -> None:
    """No line is left behind; empty segments are those of living workers, and of some that died idle."""
    spool = gateway.data_dir / "spool"

    def leftovers() -> list[str]:
        found = [entry for entry in os.scandir(spool) if entry.name.endswith((".seg", ".open"))]
        with contextlib.suppress(FileNotFoundError):  # shipped just now: look again
            return [entry.name for entry in found if Path(entry.path).read_bytes().strip(b"\0")]
        return ["?"]

    deadline = time.monotonic() + PATIENCE_S
    while left := leftovers():
        assert time.monotonic() < deadline, left
        time.sleep(0.1)
    health = httpx.get(f"{gateway.url}/health", timeout=30).json()
    assert health["spool"]["segments"] == 0
