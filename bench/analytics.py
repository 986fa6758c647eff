"""How fast segments are booked, and how fast people's pages are at size, on a PostgreSQL of its own.

    ingest.py     a broker, a Celery worker, and how many rows a second it books
    history.py    ten million requests and their sums, and how long pages take

Both run as processes of their own, in the environment of the database that is measured, and print JSON.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bench import processes
from bench.measures import Bench
from bench.processes import CannotMeasure
from bench.table import Row

BOOKED_AT_LEAST = 5_000  # rows a second, of one worker
SUSTAINED_S = 30.0
# Keys that take part: each has three models, so a segment adds to three times as many sums.
KEYS = (20, 200)
IN_PROCESS = 20_000  # rows
COPIES = 25  # of a made-up history, in the large log


def analytics(bench: Bench) -> Iterator[Row]:
    """Measure ingest by one worker, and the reading of a log of many rows."""
    from tests.servers import postgres  # noqa: PLC0415 - needs PostgreSQL's programs

    sizes = bench.sizes
    settings = ("shared_buffers=1GB", "max_wal_size=8GB")
    # As it is installed: each transaction is on disk before it is over.
    with postgres("fsync=on", *settings) as server, processes.redis(bench.home) as broker:
        for number, keys in enumerate(KEYS):
            database = server.create(f"worker-{keys}")
            home = bench.home / f"analytics-worker-{keys}"
            # A queue of its own: the one before is left when the worker has been busy for long enough.
            queue = f"{broker.rpartition('/')[0]}/{number}"
            found = _run("ingest", home, database, queue, "worker", sizes.settled_requests * 6, keys)
            yield _by_worker(found, keys)
        for name, database in (("PostgreSQL", server.create("process")), ("SQLite", "")):
            count = min(IN_PROCESS, sizes.settled_requests)
            found = _run("ingest", bench.home / f"analytics-{name}", database, "", "process", count, KEYS[0])
            yield Row(
                what=f"rows booked a second, without a broker: {name}",
                measured=f"{found['rows_per_s']:,.0f}",
                figures=found,
            )
    rows = sizes.all_requests * 50
    # Made in a hurry, then vacuumed at once.
    hurried = ("fsync=off", "synchronous_commit=off", "maintenance_work_mem=1GB", "autovacuum=off")
    with postgres(*settings, *hurried) as server:
        home = bench.home / "analytics-read"
        found = _run("history", home, server.create("read"), "", rows // COPIES, COPIES)
    yield Row(
        what=f"{rows:,} requests: the log, and the sums",
        measured=f"{found['log_rows']:,} rows, {found['sums']:,} sums",
        figures=found,
    )
    yield Row(
        what=f"adding up {found['sums']:,} sums by tenant and model (the migration)",
        measured=f"{found['widened_s']:.1f} s",
    )
    for what, page in found["pages"].items():
        yield Row(
            what=f"{rows:,} requests: {what}",
            measured=f"{page['ms']:,.0f} ms, {page['queries']} queries ({page['in_database_ms']:,.0f} ms)",
            figures=page,
        )


def _by_worker(found: Mapping[str, Any], keys: int) -> Row:
    """Return the row of a worker; only one that was busy long enough has shown anything."""
    speed, took = found["rows_per_s"], found["took_s"]
    judged = keys == KEYS[0] and took >= SUSTAINED_S
    return Row(
        what=f"rows booked a second by a worker, {keys} keys, {took:.0f} s",
        reference=f"slowest {found['slice_s']:.0f} s: {found['slowest_slice']:,.0f}",
        measured=f"{speed:,.0f}",
        by_cpu=f"{found['worker_us']:.0f} us",
        target=f">= {BOOKED_AT_LEAST:,}" if keys == KEYS[0] else "",
        met=speed >= BOOKED_AT_LEAST if judged else None,
        figures=found,
    )


def _run(part: str, home: Path, database: str, broker: str, *arguments: object) -> dict[str, Any]:
    home.mkdir(parents=True, exist_ok=True)
    env = processes.environment(home, DATABASE_URL=database, CELERY_BROKER_URL=broker, LOG_LEVEL="warning")
    command = [sys.executable, "-m", f"bench.{part}", *map(str, arguments)]
    printed = processes.run(part, command, env=env).splitlines()
    if not printed:
        raise CannotMeasure(f"{part} said nothing")
    found: dict[str, Any] = json.loads(printed[-1])
    return found
