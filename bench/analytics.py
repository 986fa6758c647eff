"""How fast segments are booked, and how fast people's screens are at size, on a PostgreSQL of its own.

`python -m bench.analytics` in the measured database's environment does the work and prints JSON; the part
`analytics` of `make bench` runs it.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from bench.measures import Bench
from bench.processes import CannotMeasure
from bench.table import Row

SEGMENT = 1_000
BOOKED_AT_LEAST = 5_000  # rows a second, of one worker
TIMES = 5
MODELS = ("gpt-4o", "gpt-4o-mini", "claude-haiku-4-5")


def analytics(bench: Bench) -> Iterator[Row]:
    """Measure ingest by one worker, on PostgreSQL and SQLite, and the reading of a log of many rows."""
    from tests.servers import postgres  # noqa: PLC0415 - needs PostgreSQL's programs

    rows = bench.sizes.all_requests * 50
    with postgres("fsync=off", "shared_buffers=1GB", "max_wal_size=8GB", "synchronous_commit=off") as server:
        where = {"PostgreSQL": server.create("analytics"), "SQLite": ""}
        for name, url in where.items():
            found = _run(bench.home / f"analytics-{name}", url, "ingest", str(bench.sizes.settled_requests))
            speed = found["rows_per_s"]
            yield Row(
                what=f"rows booked a second by one worker, with sums: {name}",
                measured=f"{speed:,.0f}",
                target=f">= {BOOKED_AT_LEAST:,}" if name == "PostgreSQL" else "",
                met=speed >= BOOKED_AT_LEAST if name == "PostgreSQL" else None,
                figures=found,
            )
        found = _run(bench.home / "analytics-read", server.create("read"), "read", str(rows))
        for what, took in found.items():
            yield Row(what=f"{rows:,} requests: {what}", measured=f"{took:,.1f} ms", figures={"ms": took})


def _run(home: Path, url: str, what: str, count: str) -> dict[str, float]:
    home.mkdir(parents=True, exist_ok=True)
    env = {**os.environ, "GATEWAY_DATA_DIR": str(home), "DATABASE_URL": url}
    ran = subprocess.run(
        [sys.executable, "-m", "bench.analytics", what, count],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode:
        raise CannotMeasure(ran.stderr[-2000:])
    found: dict[str, float] = json.loads(ran.stdout.splitlines()[-1])
    return found


# ---------------------------------------------------------------- in the process of its own


def ingest(count: int) -> dict[str, float]:
    """Book `count` records of 20 keys in segments, as a worker does, and return rows a second."""
    from analytics.tasks import write_request_logs  # noqa: PLC0415 - Django must be set up first
    from analytics.tests.spool_files import done, text  # noqa: PLC0415
    from proxy.completion import Attempt  # noqa: PLC0415

    now = time.time() - 3600
    segments = []
    for number in range(max(count // SEGMENT, 1)):
        lines = [
            done(
                f"b{number}-{line}",
                at=now + number + line / SEGMENT,
                key_id=line % 20 + 1,
                tenant_id=line % 5 + 1,
                model=MODELS[line % 3],
                tags={"team": f"t{line % 4}"},
                ttft_ms=300.0,
                attempts=[Attempt("openai", MODELS[line % 3], 0.2, 11.5, 200, "ok")],
            )
            for line in range(SEGMENT)
        ]
        segments.append((f"s{number}", SEGMENT, text(*lines), ""))
    began = time.perf_counter()
    for segment in segments:
        write_request_logs(*segment)
    return {"rows_per_s": len(segments) * SEGMENT / (time.perf_counter() - began)}


def read(count: int) -> dict[str, float]:
    """Make a history of `count` requests, unless there is one; return how long reading takes (ms)."""
    from django.core.management import call_command  # noqa: PLC0415 - Django must be set up first
    from django.db import connection  # noqa: PLC0415

    from analytics import demo_cast  # noqa: PLC0415

    if not demo_cast.is_there():
        call_command("seed_demo", requests=count, stdout=sys.stderr)
        with connection.cursor() as cursor:
            cursor.execute("VACUUM ANALYZE")
    return {what: _middle_ms(work) for what, work in _screens().items()}


def _screens() -> dict[str, Callable[[], Any]]:
    from django.utils import timezone  # noqa: PLC0415

    from analytics.models import RequestLog  # noqa: PLC0415
    from analytics.usage import Period, Where, by, by_time, totals  # noqa: PLC0415
    from config.keyset import Cursor, KeysetPaginator  # noqa: PLC0415
    from keys.models import Tenant  # noqa: PLC0415

    tenant = Tenant.objects.get(name="demo-globex")
    now, everything = timezone.now(), RequestLog.objects.all()
    deep = Cursor(older=True, at=now - timedelta(days=25), pk=0)

    def page(rows: Any, cursor: Cursor | None = None, *, looks: bool = False) -> Callable[[], Any]:
        looked_through = everything if looks else None
        return lambda: KeysetPaginator(
            rows, 50, moment="at", cursor=cursor, looked_through=looked_through
        ).page(1)

    def figures(period: Period, where: Where) -> Callable[[], Any]:
        def look() -> None:
            totals(period, where, latency=True)
            by_time(period, where)
            for dimension in ("model", "key"):
                by(dimension, period, where)

        return look

    days = Period.days(30, now=now, zone=ZoneInfo(tenant.timezone))
    return {
        "log, first page": page(everything),
        "log, page of a tenant": page(everything.filter(tenant_ref=tenant.pk)),
        "log, page 25 days back": page(everything, deep),
        "log, dear ones (looks through 50,000)": page(
            everything.filter(cost_nanousd__gte=10**11), looks=True
        ),
        "log, one request id": lambda: list(everything.filter(request_id="req-demo-1-99")[:51]),
        "tenant's 30 days, four figures": figures(days, Where(tenant_id=tenant.pk)),
        "operator's 30 days, four figures": figures(Period.days(30, now=now), Where()),
    }


def _middle_ms(work: Callable[[], Any]) -> float:
    took = []
    for _ in range(TIMES):
        began = time.perf_counter()
        work()
        took.append((time.perf_counter() - began) * 1000)
    return round(statistics.median(took), 1)


def main() -> None:
    """Do one of both and print what was found as JSON."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gatewaysite.settings")
    import django  # noqa: PLC0415

    django.setup()
    from django.core.management import call_command  # noqa: PLC0415

    call_command("migrate", verbosity=0)
    found = {"ingest": ingest, "read": read}[sys.argv[1]](int(sys.argv[2]))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
