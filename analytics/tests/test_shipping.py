"""The shipper as a process, on real databases and brokers, while everything around it is killed.

Each story ends with the same question: is every line in the database, once, in the log, in the
ledger and in the budget's sum?
"""

import os
import shutil
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from analytics.tests.spool_files import done, opened, write
from tests.rabbit import rabbitmq
from tests.servers import (
    CHECKOUT,
    MANAGE,
    Child,
    Postgres,
    RedisServer,
    celery_worker,
    child,
    eventually,
    gateway_env,
    manage,
    postgres,
    redis,
)

COST = 42_000
LINES = 40
# A shipper that starts: imports, a connection and a first look at the directory.
START_S = 30


class Site:
    """A data directory with its database, and the processes that serve it."""

    def __init__(self, data_dir: Path, env: Mapping[str, str], query: Callable[[str], list[Any]]) -> None:
        self.spool = data_dir / "spool"
        self.env = dict(env)
        self.query = query
        self.written = 0

    def write(self, segments: int) -> None:
        """Close so many segments of LINES completions each."""
        for _ in range(segments):
            first, self.written = self.written, self.written + LINES
            lines = [line for n in range(first, self.written) for line in (opened(f"c{n}"), done(f"c{n}"))]
            write(self.spool, self.written // LINES, lines)

    def override_settings(self, python: str) -> None:
        folder = self.spool.parent
        (folder / "site_settings.py").write_text(f"from gatewaysite.settings import *\n{python}\n")
        self.env |= {"DJANGO_SETTINGS_MODULE": "site_settings", "PYTHONPATH": str(folder)}

    def shipper(self, *arguments: str) -> AbstractContextManager[Child]:
        return child("shipper", [*MANAGE, "ship", "--receipt-timeout", "1", *arguments], env=self.env)

    def files(self) -> list[Path]:
        return [path for path in self.spool.iterdir() if path.suffix in {".seg", ".open"}]

    def receipts(self) -> int:
        return int(self.query("SELECT count(*) FROM analytics_spoolreceipt")[0][0])

    def some_shipped(self, at_least: int) -> None:
        eventually(lambda: self.receipts() >= at_least, within_s=START_S, what="shipping some segments")

    def all_shipped(self) -> None:
        eventually(lambda: not self.files(), within_s=START_S, what="shipping all segments")

    def expect_everything_once(self) -> None:
        logged = self.query("SELECT count(*), count(DISTINCT completion_id) FROM analytics_requestlog")
        booked = self.query("SELECT count(*), sum(cost_nanousd) FROM keys_ledgerentry")
        windows = self.query("SELECT spent_nanousd FROM keys_budgetwindow")
        assert logged == [(self.written, self.written)]
        assert booked == [(self.written, self.written * COST)]
        assert windows == [(self.written * COST,)]


# A budget of everyone's for all time, in plain SQL: one process start less.
BUDGET = (
    "INSERT INTO keys_budget "
    '(amount_nanousd, "window", mode, model, enabled, alert_percents, refuse_unpriced) '
    "VALUES (1, 'total', 'strict', '', true, '[]', false)"
)


# ---------------------------------------------------------------- embedded: SQLite, no broker


@pytest.fixture(scope="module")
def migrated(tmp_path_factory) -> Path:
    data_dir: Path = tmp_path_factory.mktemp("migrated")
    env = gateway_env(data_dir)
    manage("migrate", "--verbosity", "0", env=env)
    with sqlite3.connect(data_dir / "gateway.sqlite3") as connection:
        connection.execute(BUDGET)
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return data_dir / "gateway.sqlite3"


@pytest.fixture
def embedded(tmp_path, migrated) -> Site:
    shutil.copy(migrated, tmp_path)
    env = gateway_env(tmp_path)

    def query(statement: str) -> list[Any]:
        connection = sqlite3.connect(tmp_path / "gateway.sqlite3", timeout=10)
        try:
            return connection.execute(statement).fetchall()
        finally:
            connection.close()

    return Site(tmp_path, env, query)


def test_embedded_every_line_arrives_once_though_the_shipper_is_killed_again_and_again(embedded):
    embedded.write(200)
    for at_least in (10, 80):
        with embedded.shipper() as shipper:
            embedded.some_shipped(at_least)
            shipper.kill()
    assert embedded.files(), "it was killed with work left"
    with embedded.shipper() as shipper:
        embedded.all_shipped()
        embedded.write(1)
        assert shipper.stop() == 0
    assert embedded.files() == [], "what was closed before the end is shipped"
    embedded.expect_everything_once()


def test_embedded_a_locked_database_is_waited_for_and_told_once(embedded):
    embedded.override_settings('DATABASES["default"]["OPTIONS"]["timeout"] = 0.2')
    lock = sqlite3.connect(embedded.spool.parent / "gateway.sqlite3", isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    embedded.write(3)
    with embedded.shipper() as shipper:
        shipper.wait_for("shipping_paused")
        time.sleep(1)
        lock.execute("ROLLBACK")
        lock.close()
        embedded.all_shipped()
        shipper.wait_for("shipping_resumed")
        assert shipper.output.count("shipping_paused") == 1
        assert "Traceback" not in shipper.output
    embedded.expect_everything_once()


def test_embedded_a_second_shipper_takes_over_when_the_first_is_killed(embedded):
    with embedded.shipper() as first, embedded.shipper() as second:
        eventually(lambda: "shipper_waits" in first.output + second.output, within_s=START_S)
        waiting, working = (first, second) if "shipper_waits" in first.output else (second, first)
        working.kill()
        embedded.write(2)
        embedded.all_shipped()
        assert waiting.alive
    embedded.expect_everything_once()


WRITER = """
    import os, sys
    from pathlib import Path
    from analytics.tests.spool_files import done, opened
    from proxy.spool import Spool

    spool = Spool(Path(sys.argv[1]), boot="fedcba9876", worker=0, reserve_bytes=0)
    spool.append_open("cut-off", opened("cut-off"))
    for n in range(10**9):
        spool.append_open(f"w{n}", opened(f"w{n}"))
        spool.append_done(f"w{n}", done(f"w{n}"))
        os.write(1, b"w%d\\n" % n)
"""


def test_embedded_every_answer_of_a_killed_writer_arrives_and_its_open_call_is_estimated(embedded):
    """The real writer, killed while it writes: what it said was written is there."""
    with embedded.shipper():
        writer = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(WRITER), str(embedded.spool)],
            cwd=CHECKOUT,
            env=embedded.env,
            stdout=subprocess.PIPE,
        )
        assert writer.stdout is not None
        said = [writer.stdout.readline() for _ in range(6000)]
        writer.kill()
        said += writer.stdout.readlines()
        writer.stdout.close()
        writer.wait()
        embedded.all_shipped()
    whole = [line.decode().strip() for line in said if line.endswith(b"\n")]
    logged = {row[0] for row in embedded.query("SELECT completion_id FROM analytics_requestlog")}
    assert logged.issuperset(whole)
    # At most the one it was about to say may be there too, finished or cut off.
    assert len(logged - set(whole) - {"cut-off"}) <= 1
    interrupted = embedded.query("SELECT completion_id FROM keys_ledgerentry WHERE kind = 'interrupted'")
    assert ("cut-off",) in interrupted


def test_ship_once_ships_what_is_there_and_ends(embedded):
    embedded.write(30)
    write(embedded.spool, 1, [opened("x"), b'{"torn'], boot="fedcba9876", suffix=".open")
    write(embedded.spool, 2, [b"nonsense\n"], boot="fedcba9876")
    with embedded.shipper("--once") as shipper:
        assert shipper.popen.wait(START_S) == 0
        for event in ("calls_interrupted", "spool_line_torn", "spool_lines_rejected"):
            assert shipper.output.count(event) == 1
    assert embedded.files() == []
    assert (embedded.spool / "rejected" / "fedcba9876-0-00000002.lines").read_bytes() == b"nonsense\n"


def test_embedded_the_shipper_ticks_the_schedule(embedded, tmp_path):
    """The settings' own schedule, in the process that users run."""
    embedded.override_settings(
        'CELERY_BEAT_SCHEDULE = {"purge": {"task": "analytics.tasks.purge_receipts", "schedule": 3600.0}}'
    )
    with sqlite3.connect(tmp_path / "gateway.sqlite3") as connection:
        connection.execute(
            "INSERT INTO analytics_spoolreceipt (segment, lines, at) VALUES ('old', 1, '2020-01-01 00:00:00')"
        )
    connection.close()
    with embedded.shipper():
        eventually(lambda: embedded.receipts() == 0, within_s=START_S, what="the purge")


# ---------------------------------------------------------------- PostgreSQL, a broker, a Celery worker


@pytest.fixture(scope="module")
def database_server() -> Iterator[Postgres]:
    with postgres() as server:
        url = server.create("migrated")
        env = {**os.environ, "DATABASE_URL": url}
        manage("migrate", "--verbosity", "0", env=env)
        server.sql(BUDGET, database="migrated")
        yield server


@pytest.fixture(scope="module")
def broker() -> Iterator[RedisServer]:
    with redis() as server:
        yield server


@pytest.fixture
def full(tmp_path, database_server, broker, request) -> Site:
    name = f"t{time.monotonic_ns()}"
    database_server.sql(f'CREATE DATABASE "{name}" TEMPLATE migrated')
    broker.forget()
    env = gateway_env(tmp_path, DATABASE_URL=database_server.url(name), CELERY_BROKER_URL=broker.url())
    return Site(tmp_path, env, lambda statement: database_server.sql(statement, database=name))


@contextmanager
def held_up(site: Site) -> Iterator[None]:
    """Hold every task up in the middle of its transaction, after its receipt and before its rows."""
    with psycopg.connect(site.env["DATABASE_URL"]) as connection:
        connection.execute("LOCK TABLE analytics_requestlog IN ACCESS EXCLUSIVE MODE")
        yield


def blocked(site: Site) -> bool:
    return bool(
        site.query(
            "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
    )


def test_full_every_line_arrives_once_though_worker_and_shipper_are_killed_in_the_middle(full):
    full.write(60)
    with full.shipper() as shipper, celery_worker(full.env, ready=False) as worker:
        full.some_shipped(20)
        with held_up(full):
            eventually(lambda: blocked(full), what="a task in the middle of its transaction")
            worker.kill()
            shipper.kill()
        assert full.files()
    with full.shipper() as shipper, celery_worker(full.env, ready=False):
        full.all_shipped()
        assert shipper.stop() == 0
    full.expect_everything_once()


def test_full_a_broker_that_forgets_or_goes_away_loses_nothing(full, broker):
    full.write(12)
    with full.shipper() as shipper:
        eventually(lambda: _queued(broker) >= 8, within_s=START_S, what="publishing")
        broker.forget()
        broker.stop()
        full.write(4)
        shipper.wait_for("shipping_paused")
        time.sleep(1)
        assert shipper.output.count("shipping_paused") == 1
        assert "Traceback" not in shipper.output
        broker.start()
        with celery_worker(full.env, ready=False):
            full.all_shipped()
            shipper.wait_for("shipping_resumed")
    full.expect_everything_once()


def test_full_a_database_outage_loses_nothing(full, database_server):
    full.write(10)
    with full.shipper() as shipper, celery_worker(full.env) as worker:
        full.some_shipped(5)
        database_server.stop()
        full.write(20)
        shipper.wait_for("shipping_paused")
        time.sleep(1)
        assert shipper.output.count("shipping_paused") == 1
        database_server.start()
        full.all_shipped()
        shipper.wait_for("shipping_resumed")
        assert worker.alive
        assert shipper.stop() == 0
    full.expect_everything_once()


def test_full_a_rabbitmq_that_restarts_loses_nothing(full):
    """Its connections outlive it on both sides; the first publish after that must not be the last."""
    with rabbitmq() as rabbit:
        full.env["CELERY_BROKER_URL"] = rabbit.url()
        full.write(5)
        with full.shipper() as shipper, celery_worker(full.env, ready=False) as worker:
            full.all_shipped()
            rabbit.stop()
            full.write(5)
            shipper.wait_for("shipping_paused")
            rabbit.start()
            full.all_shipped()
            shipper.wait_for("shipping_resumed")
            assert shipper.output.count("shipping_paused") == 1
            assert "Traceback" not in shipper.output
            assert worker.alive
    full.expect_everything_once()


RACE = """
    import sys, threading
    import django
    django.setup()
    from django.db import connection
    from analytics.booking import book
    from analytics.tests.spool_files import done, text

    # Eight deliveries at once: each segment four times, and neighbours share half of their lines.
    def deliver(number):
        try:
            for segment in range(10):
                lines = [done(f"c{n}") for n in range(segment * 20, segment * 20 + 40)]
                book(f"s{segment}-{number % 2}", len(lines), done=text(*lines), interrupted="")
        finally:
            connection.close()

    threads = [threading.Thread(target=deliver, args=(number,)) for number in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
"""


def test_full_deliveries_at_once_count_once(full):
    env = {**full.env, "DJANGO_SETTINGS_MODULE": "gatewaysite.settings"}
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(RACE)],
        cwd=CHECKOUT,
        env=env,
        check=False,
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stderr) == (0, "")
    full.written = 220
    full.expect_everything_once()
    assert full.receipts() == 20


def _queued(broker: RedisServer) -> int:
    with broker.client() as connection:
        return int(connection.llen("celery"))
