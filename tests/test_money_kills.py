"""SIGKILL of everything under load, again and again: nobody's money is lost, doubled or overspent.

Web workers, shipper, Celery worker, Redis (which forgets all) and PostgreSQL (which recovers) die in a random
order at random moments; the next round does not wait until all of them have caught up. The vendor's own log
says what was served. GATEWAY_SOAK=1 runs it at full size.
"""

import contextlib
import itertools
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from config.money import nanousd
from tests.gateway import Gateway, running_gateway
from tests.records import rows
from tests.servers import Postgres, RedisServer, celery_worker, eventually, postgres, redis
from tests.sizes import at_full_size, sized, tell
from tests.traffic import PAUSE_S, clients_running
from tests.upstream import QUIET, TEAM_KEY, FakeVendor, bearer, chat, unique, wired

ROUNDS = sized("rounds in which everything is killed", 3, full=20)
CHAT = "/v1/chat/completions"
PROMPT, INPUT, OUTPUT = 7, nanousd("1.00") // 10**6, nanousd("2.00") // 10**6  # tokens; nano-dollars a token
FEW = 100_000_000  # nano-dollars, of which a round's budget has few: about 200 answers
MANY = nanousd("1000")
# What was with a broker that has died is published again after a minute, and after two if that dies too.
PATIENCE_S = 300.0
FATES = ("", "", "", "~ttfb=150", "~gap_ms=20", "~fail=1x503")
UNANSWERED = {"ok", "interrupted", "cancelled", "error"}

pytestmark = [*at_full_size(420), pytest.mark.postgres, pytest.mark.broker]


@dataclass(frozen=True)
class Asked:
    """A request: by which key, for which of the vendor's models, and how many tokens that answers with."""

    key: str
    model: str
    tokens: int

    @property
    def cost(self) -> int:
        """What it costs, in nano-dollars."""
        return PROMPT * INPUT + self.tokens * OUTPUT


@dataclass
class Load:
    """Clients that ask under ids of their own, and know what they have had whole."""

    gateway: Gateway
    key: str = ""  # the round's, of a small budget; every other request is by TEAM_KEY
    asked: dict[str, Asked] = field(default_factory=dict)
    answered: set[str] = field(default_factory=set)
    refused: dict[str, Counter[str]] = field(default_factory=dict)
    stopping: threading.Event = field(default_factory=threading.Event)
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def ask_for_ever(self) -> None:
        while not self.stopping.is_set():
            with httpx.Client(base_url=self.gateway.url, timeout=60) as client:
                try:
                    while not self.stopping.wait(PAUSE_S):
                        self._ask(client, next(self.numbers))
                except httpx.TransportError:
                    time.sleep(0.02)  # the process is gone; nothing tells when the next one is there

    def more(self, count: int) -> None:
        """Wait for as many more whole answers."""
        wanted = len(self.answered) + count
        eventually(lambda: len(self.answered) >= wanted, within_s=90, what=f"{count} more answers")

    def _ask(self, client: httpx.Client, number: int) -> None:
        tokens, key = 1 + number % 50, self.key if number % 2 else TEAM_KEY
        fate = FATES[number // 2 % len(FATES)]
        model = unique(f"synthetic~prompt={PROMPT}~tokens={tokens}{fate}")
        request_id = f"kills-{number}"
        self.asked[request_id] = Asked(key, model, tokens)
        stream = number % 3 == 0
        body = chat(f"replay/{model}", max_tokens=tokens, stream=stream)
        headers = {**bearer(key), "x-request-id": request_id}
        with client.stream("POST", CHAT, json=body, headers=headers) as answer:
            if stream and number % 10 == 0 and answer.status_code == 200:
                return  # it leaves as soon as it begins
            text = answer.read().decode()
        if answer.status_code != 200:
            self.refused.setdefault(key, Counter())[answer.json()["error"]["code"]] += 1
            self.stopping.wait(0.05)
        elif "data: [DONE]" in text if stream else text.endswith("}"):
            self.answered.add(request_id)


class Victims:
    """All processes of an installation, each killed and brought back in a way of its own."""

    def __init__(
        self,
        gateway: Gateway,
        database: Postgres,
        store: RedisServer,
        *,
        workers: contextlib.ExitStack,
        load: Load,
    ) -> None:
        """Begin with a Celery worker."""
        self._gateway, self._database, self._store = gateway, database, store
        self._workers, self._load = workers, load
        self.killed: Counter[str] = Counter()
        self._celery(ready=True)

    def kill_all_in_turn(self, rng: random.Random) -> None:
        """Kill each of them once, under load."""
        kills: list[Callable[[random.Random], None]] = [
            self._kill_web,
            self._kill_shipper,
            self._kill_celery,
            self._kill_redis,
            self._kill_postgres,
        ]
        rng.shuffle(kills)
        for kill in kills:
            self._load.more(rng.randint(1, 60))
            kill(rng)

    def _kill_web(self, rng: random.Random) -> None:
        workers = eventually(lambda: self._gateway.children("web"), within_s=60, what="a web process")
        for pid in rng.sample(workers, rng.randint(1, len(workers))):
            self._kill("web workers", pid)

    def _kill_shipper(self, rng: random.Random) -> None:  # noqa: ARG002 - as the others
        (shipper,) = eventually(lambda: self._gateway.children("ship"), within_s=60, what="the shipper")
        self._kill("shippers", shipper)

    def _kill_celery(self, rng: random.Random) -> None:
        self._workers.pop_all().close()
        self.killed["Celery workers"] += 1
        self._load.more(rng.randint(0, 30))
        self._celery()

    def _kill_redis(self, rng: random.Random) -> None:
        self._store.stop()
        self.killed["Redis servers"] += 1
        self._load.more(rng.randint(0, 30))
        self._store.start()

    def _kill_postgres(self, rng: random.Random) -> None:
        self._database.kill()
        self.killed["PostgreSQL servers"] += 1
        self._load.more(rng.randint(0, 30))
        self._database.start()

    def _kill(self, what: str, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)
        self.killed[what] += 1

    def _celery(self, *, ready: bool = False) -> None:
        self._workers.enter_context(celery_worker(self._gateway.env, ready=ready))


@pytest.fixture
def secrets() -> Sequence[str]:
    """A key for each round."""
    return [f"the-key-of-round-{number}-0123456789" for number in range(ROUNDS)]


def configured(vendor: FakeVendor, secrets: Sequence[str]) -> dict[str, str]:
    """Return the configuration: a key with a large budget, and one with a small one for each round."""
    amounts = {TEAM_KEY: MANY, **dict.fromkeys(secrets, FEW)}
    keys = [
        {
            "name": secret,
            "tenant": "team",
            "secret": secret,
            "budgets": [{"amount_usd": f"{amount / 1e9:.9f}", "window": "total"}],
        }
        for secret, amount in amounts.items()
    ]
    price = {"provider": "replay", "model": "*", "input_usd_per_mtok": "1", "output_usd_per_mtok": "2"}
    return wired(vendor, keys=keys, prices=[price])


def test_no_kill_of_anything_costs_or_saves_a_nano_dollar(vendor: FakeVendor, secrets: Sequence[str]) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")  # noqa: T201 - shown where the test fails
    rng = random.Random(seed)
    with postgres() as database, redis() as store, contextlib.ExitStack() as workers:
        variables = {
            **QUIET,
            "DATABASE_URL": database.create("gateway"),
            "REDIS_URL": store.url(0),
            "CELERY_BROKER_URL": store.url(1),
        }
        with running_gateway(variables, workers=2, files=configured(vendor, secrets)) as gateway:
            load = Load(gateway)
            victims = Victims(gateway, database, store, workers=workers, load=load)
            for secret in secrets:
                load.key = secret
                load.stopping.clear()
                with clients_running(load.ask_for_ever, load.stopping, 8):
                    victims.kill_all_in_turn(rng)
                    load.more(20)
            assert_nobody_was_refused_in_vain(load)
            books = Books(gateway, load, vendor)
            books.wait()
            books.assert_each_answer_is_there_once()
            books.assert_what_was_served_is_told()
            for secret in (TEAM_KEY, *secrets):
                assert_counters_are_the_ledgers(gateway, secret, MANY if secret == TEAM_KEY else FEW)
            for what, count in [*victims.killed.items(), *books.counts().items()]:
                tell(f"everything is killed: {what}", count)


class Books:
    """What log and ledger say in the end, by request id."""

    def __init__(self, gateway: Gateway, load: Load, vendor: FakeVendor) -> None:
        """Know what the vendor has served."""
        self._gateway, self._load = gateway, load
        served = {each["body"].get("model") for each in vendor.everything() if isinstance(each["body"], dict)}
        self.served = {each for each, asked in load.asked.items() if asked.model in served}
        self.logged: dict[str, list[Mapping[str, Any]]] = {}
        self.entries: dict[str, list[Mapping[str, Any]]] = {}

    def wait(self) -> None:
        """Read them once they have all that was served."""
        assert self._load.answered <= self.served
        eventually(lambda: self._read() >= self.served, within_s=PATIENCE_S, what="the rows of all requests")
        ids = {row["completion_id"]: each for each, found in self.logged.items() for row in found}
        for entry in rows(self._gateway, "SELECT * FROM keys_ledgerentry"):
            self.entries.setdefault(ids[entry["completion_id"]], []).append(entry)

    def assert_each_answer_is_there_once(self) -> None:
        """Of what was answered whole there is one row and one entry, by the vendor's own count."""
        assert [each for each, found in self.logged.items() if len(found) > 1] == []
        for each in self._load.answered:
            asked, (row,) = self._load.asked[each], self.logged[each]
            assert (row["outcome"], row["usage_estimated"]) == ("ok", False), row
            (entry,) = self.entries[each]
            assert (entry["kind"], entry["estimated"]) == ("spent", False), entry
            assert (entry["prompt_tokens"], entry["completion_tokens"]) == (PROMPT, asked.tokens), entry
            assert entry["cost_nanousd"] == asked.cost

    def assert_what_was_served_is_told(self) -> None:
        """Of what else was served there is a row that says how it ended, and at most one entry."""
        for each in self.served - self._load.answered:
            (row,) = self.logged[each]
            assert row["outcome"] in UNANSWERED, row
            entries = self.entries.get(each, [])
            assert len(entries) <= 1, entries
            if row["outcome"] in {"ok", "interrupted"}:
                assert [entry["kind"] for entry in entries] == [
                    "spent" if row["outcome"] == "ok" else "interrupted"
                ]
            assert all(entry["cost_nanousd"] > 0 for entry in entries)

    def counts(self) -> Mapping[str, int]:
        """Return how many there were of each."""
        outcomes = Counter(found[0]["outcome"] for each, found in self.logged.items() if each in self.served)
        entries = sum(map(len, self.entries.values()))
        return {
            "served by the vendor": len(self.served),
            "answered whole": len(self._load.answered),
            **{f"logged as {outcome}": count for outcome, count in sorted(outcomes.items())},
            "entries of the ledger": entries,
        }

    def _read(self) -> set[str]:
        self.logged = {}
        for row in rows(
            self._gateway, "SELECT * FROM analytics_requestlog WHERE request_id LIKE ?", "kills-%"
        ):
            self.logged.setdefault(row["request_id"], []).append(row)
        return set(self.logged)


def assert_nobody_was_refused_in_vain(load: Load) -> None:
    """Assert that a large budget has refused nobody, and a small one only what it had no room for."""
    assert set(load.refused.pop(TEAM_KEY, ())) <= {"store_unavailable"}
    for codes in load.refused.values():
        assert set(codes) <= {"insufficient_quota", "store_unavailable"}


def assert_counters_are_the_ledgers(gateway: Gateway, secret: str, limit: int) -> None:
    """Assert that a key's budget is not overspent, nothing of it held, and all its sums are one."""

    def told() -> dict[str, int]:
        found = httpx.get(f"{gateway.url}/v1/limits", headers=bearer(secret), timeout=30).json()
        (budget,) = found["budgets"]
        return {name: nanousd(budget[f"{name}_usd"]) for name in ("spent", "held")}

    sql = (
        "SELECT COALESCE(SUM(entry.cost_nanousd), 0) AS spent, MAX(budget_window.spent_nanousd) AS counted "
        "FROM keys_apikey JOIN keys_budget ON keys_budget.key_id = keys_apikey.id "
        "LEFT JOIN keys_budgetwindow AS budget_window ON budget_window.budget_id = keys_budget.id "
        "LEFT JOIN keys_ledgerentry AS entry ON entry.key_ref = keys_apikey.id WHERE keys_apikey.name = ?"
    )
    (sums,) = rows(gateway, sql, secret)
    spent = int(sums["spent"])
    assert 0 < spent <= limit
    assert sums["counted"] == spent
    eventually(
        lambda: told() == {"spent": spent, "held": 0},
        within_s=90,
        what=f"counters that say {spent}, not {told()}",
    )
