"""Makes a large log on PostgreSQL and measures the pages that people wait for.

`python -m bench.history ROWS COPIES` in the environment of an empty database. ROWS requests are made up by
`seed_demo`, booked as any are, and copied within the database with other keys, and so are their sums. The
ledger is not: no page that is measured reads it.
"""

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from importlib import import_module
from types import SimpleNamespace
from typing import Any

TIMES = 5
COPIED_KEYS = 1_000  # a copy's keys are numbered so much higher
LOG, SUMS = "analytics_requestlog", "analytics_usagerollup"
CALLERS = "(60, 1440)"


def make(rows: int, copies: int) -> dict[str, Any]:
    """Make it; return how much there is, and how long parts of it took."""
    from django.core.management import call_command  # noqa: PLC0415 - Django must be set up first

    began = time.monotonic()
    call_command("seed_demo", requests=rows, stdout=sys.stderr)
    seeded = time.monotonic()
    _copy(LOG, "TRUE", {"completion_id": "{} || '-' || {copy}", "request_id": "{} || '-' || {copy}"}, copies)
    _copy(SUMS, f"grain IN {CALLERS}", {}, copies)
    copied = time.monotonic()
    wide_sums = import_module("analytics.migrations.0005_wide_sums")
    _migrate(wide_sums.forget)
    forgotten = time.monotonic()
    _migrate(wide_sums.add_up)
    widened = time.monotonic()
    _run("VACUUM ANALYZE")
    return {
        "log_rows": _count(LOG),
        "sums": _count(SUMS),
        "seeded_s": seeded - began,
        "copied_s": copied - seeded,
        "widened_s": widened - forgotten,
        "vacuumed_s": time.monotonic() - widened,
    }


def _copy(table: str, which: str, changed: dict[str, str], copies: int) -> None:
    """Copy a table's rows to keys that there are none of yet."""
    from django.db import connection  # noqa: PLC0415

    with connection.cursor() as cursor:
        names = [each.name for each in connection.introspection.get_table_description(cursor, table)]
        names.remove("id")
        changed = {"key_ref": f"{{}} + {COPIED_KEYS} * {{copy}}", **changed}
        _run(f"CREATE UNLOGGED TABLE copied AS SELECT * FROM {table} WHERE {which}")
        again = _dropped_indexes(table)
        for copy in range(1, copies):
            values = [changed.get(name, "{}").format(name, copy=copy) for name in names]
            _run(f"INSERT INTO {table} ({', '.join(names)}) SELECT {', '.join(values)} FROM copied")
        _run("DROP TABLE copied")
        for statement in again:
            _run(statement)


def _dropped_indexes(table: str) -> list[str]:
    """Drop the indexes that hold no constraint; return what makes them again, faster than row by row."""
    from django.db import connection  # noqa: PLC0415

    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = %s "
            "AND indexdef NOT LIKE 'CREATE UNIQUE%%'",
            [table],
        )
        found = cursor.fetchall()
    for name, _ in found:
        _run(f"DROP INDEX {name}")
    # That of a table of partitions is said to be of the table alone; it is of all.
    return [statement.replace(" ON ONLY ", " ON ") for _, statement in found]


def _migrate(work: Callable[[Any, Any], None]) -> None:
    from django.db import connection, transaction  # noqa: PLC0415

    with transaction.atomic():
        work(None, SimpleNamespace(connection=connection))


def _run(statement: str) -> None:
    from django.db import connection  # noqa: PLC0415

    with connection.cursor() as cursor:
        cursor.execute(statement)


def _count(table: str) -> int:
    from django.db import connection  # noqa: PLC0415

    with connection.cursor() as cursor:
        cursor.execute(f"SELECT COUNT(*) FROM {table}")
        (found,) = cursor.fetchone()
        return int(found)


def pages() -> dict[str, dict[str, float]]:
    """Return how long each page takes as Django answers it, its queries, and how long those take."""
    from django.contrib.auth.models import User  # noqa: PLC0415
    from django.test import Client  # noqa: PLC0415

    client = Client()
    client.force_login(User.objects.create_superuser("bench"))
    return {what: _measured(client, url) for what, url in _addresses().items()}


def _addresses() -> dict[str, str]:
    from django.utils import timezone  # noqa: PLC0415

    from analytics.models import RequestLog  # noqa: PLC0415
    from config.keyset import Cursor  # noqa: PLC0415

    log = "/admin/analytics/requestlog/?"
    deep = Cursor(older=True, at=timezone.now() - timedelta(days=25), pk=0)
    one = RequestLog.objects.order_by("-at", "-id").first()
    assert one is not None
    return {
        "log, first page": log,
        "log, page of a tenant": f"{log}tenant=demo-globex",
        "log, page 25 days back": f"{log}p={deep}",
        "log, dear ones (looks through 50,000)": f"{log}cost_nanousd_from=100",
        "log, one request id": f"{log}q={one.request_id}",
        "log, one request": f"/admin/analytics/requestlog/{one.pk}/change/",
        "operator's home, 24 hours": "/admin/?range=24h",
        "operator's home, 30 days": "/admin/?range=30d",
        "a tenant's dashboard, 24 hours": "/dashboard/demo-globex/?range=24h",
        "a tenant's dashboard, 30 days": "/dashboard/demo-globex/?range=30d",
        "a tenant's dashboard, 30 days, half-hour zone": "/dashboard/demo-initech/?range=30d",
        "a tenant's requests": "/dashboard/demo-globex/requests/",
        "a tenant's errors, 30 days": "/dashboard/demo-globex/errors/?range=30d",
    }


def _measured(client: Any, url: str) -> dict[str, float]:
    from django.db import connection  # noqa: PLC0415
    from django.test.utils import CaptureQueriesContext  # noqa: PLC0415

    answer = client.get(url)
    if answer.status_code != 200:
        raise RuntimeError(f"{url} answers {answer.status_code}")
    took, in_database, queries = [], [], 0
    for _ in range(TIMES):
        began = time.perf_counter()
        with CaptureQueriesContext(connection) as captured:
            client.get(url)
        took.append((time.perf_counter() - began) * 1000)
        in_database.append(sum(float(each["time"]) for each in captured.captured_queries) * 1000)
        queries = len(captured)
    return {
        "ms": statistics.median(took),
        "queries": queries,
        "in_database_ms": statistics.median(in_database),
        "load": os.getloadavg()[0],
    }


def main() -> None:
    """Make it, look at it, and print what was found as JSON."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gatewaysite.settings")
    import django  # noqa: PLC0415

    django.setup()
    from django.conf import settings  # noqa: PLC0415
    from django.core.management import call_command  # noqa: PLC0415

    settings.ALLOWED_HOSTS = ["*"]
    call_command("migrate", verbosity=0)
    found = make(int(sys.argv[1]), int(sys.argv[2]))
    print(json.dumps({**found, "pages": pages()}))


if __name__ == "__main__":
    main()
