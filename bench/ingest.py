"""Books segments as an installation does: published to a broker, written by one Celery worker.

`python -m bench.ingest worker ROWS KEYS` in the environment of a database and a broker of their own; all is
published before the worker starts, so that nothing else works while it does. `process` books in this process.
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench import processes
from bench.processes import CannotMeasure, Process

SEGMENT = 1_000  # rows
WARM = 10  # segments that are booked before the clock runs
SLICE_S = 5.0
LOOKED_EACH_S = 0.25
LONG_ENOUGH_S = 45.0
GIVEN_UP_S = 600.0
TENANTS = 5
MODELS = ("gpt-4o", "gpt-4o-mini", "claude-haiku-4-5")
# As docker-compose.yml starts it.
WORKER = (
    *(sys.executable, "-m", "celery", "-A", "gatewaysite", "worker", "--loglevel", "WARNING"),
    *("--concurrency", "2", "--without-mingle", "--without-gossip"),
)


def by_worker(rows: int, keys: int) -> dict[str, float]:
    """Return how fast a worker has booked `rows` of so many keys."""
    from analytics.tasks import publish  # noqa: PLC0415 - Django must be set up first

    count = max(rows // SEGMENT, WARM + 2)
    for shipment in _shipments(count, keys):
        publish(shipment)
    worker = Process("celery", WORKER, home=Path(os.environ["GATEWAY_DATA_DIR"]))
    try:
        return _watch(worker, count)
    finally:
        worker.stop()


def _watch(worker: Process, count: int) -> dict[str, float]:
    """Look at what is booked until all is, or long enough; return how fast it went."""
    pid = worker.popen.pid
    seen: list[tuple[float, int, float]] = []
    deadline = time.monotonic() + GIVEN_UP_S
    while not seen or (seen[-1][1] < count and seen[-1][0] - seen[0][0] < LONG_ENOUGH_S):
        if worker.popen.poll() is not None or time.monotonic() > deadline:
            raise CannotMeasure(f"the worker did not book segments:\n{worker.output[-3000:]}")
        time.sleep(LOOKED_EACH_S)
        booked = _receipts()
        if booked >= WARM:
            seen.append((time.monotonic(), booked, processes.family_cpu_s(pid)))
    (began, first, cpu_first), (ended, last, cpu_last) = seen[0], seen[-1]
    rows = (last - first) * SEGMENT
    return {
        "rows": rows,
        "took_s": ended - began,
        "rows_per_s": rows / (ended - began),
        "slice_s": SLICE_S,
        "slowest_slice": min(_slices(seen), default=rows / (ended - began)),
        "worker_us": (cpu_last - cpu_first) / rows * 1e6,
        "load": os.getloadavg()[0],
    }


def _slices(seen: list[tuple[float, int, float]]) -> Iterator[float]:
    """Yield the rows a second of each whole slice of time."""
    at, booked, _ = seen[0]
    for later, more, _ in seen[1:]:
        if later - at >= SLICE_S:
            yield (more - booked) * SEGMENT / (later - at)
            at, booked = later, more


def _receipts() -> int:
    from analytics.models import SpoolReceipt  # noqa: PLC0415

    return SpoolReceipt.objects.count()


def in_process(rows: int, keys: int) -> dict[str, float]:
    """Return how fast this process books them itself."""
    from analytics.tasks import write_request_logs  # noqa: PLC0415

    shipments = list(_shipments(max(rows // SEGMENT, 1), keys))
    began = time.perf_counter()
    for each in shipments:
        write_request_logs(each.segment, each.lines, each.done, each.interrupted)
    return {
        "rows_per_s": len(shipments) * SEGMENT / (time.perf_counter() - began),
        "load": os.getloadavg()[0],
    }


def _shipments(count: int, keys: int) -> Iterator[Any]:
    """Yield segments of keys that have tags, a price, and a budget of their own and of their tenant's."""
    from analytics.segments import Shipment  # noqa: PLC0415
    from analytics.tests.spool_files import done, text  # noqa: PLC0415
    from proxy.completion import Attempt  # noqa: PLC0415

    callers = _callers(keys)
    begin = time.time() - 3_000
    for number in range(count):
        lines = []
        for line in range(SEGMENT):
            key, tenant, team = callers[line % keys]
            model = MODELS[line // keys % len(MODELS)]
            lines.append(
                done(
                    f"b{number}-{line}",
                    at=begin + number + line / SEGMENT,
                    key_id=key,
                    tenant_id=tenant,
                    requested_model=model,
                    model=model,
                    tags={"team": team},
                    stream=bool(line % 2),
                    ttft_ms=180.0 + line % 700 if line % 2 else None,
                    latency_ms=400.0 + 7 * line,
                    attempts=[Attempt("openai", model, 0.2, 11.5, 200, "ok")],
                )
            )
        yield Shipment(segment=f"s{number}", lines=SEGMENT, done=text(*lines))


def _callers(keys: int) -> list[tuple[int, int, str]]:
    """Make tenants and keys with budgets; return the numbers of each key and of its tenant, and its team."""
    from keys.models import ApiKey, Budget, Tenant  # noqa: PLC0415

    tenants = [Tenant.objects.create(name=f"tenant-{number}") for number in range(TENANTS)]
    for tenant in tenants:
        Budget.objects.create(tenant=tenant, amount_nanousd=10**15, window="month")
    made = []
    for number in range(keys):
        key, _ = ApiKey.issue(tenant=tenants[number % TENANTS], name=f"key-{number}")
        key.save()
        Budget.objects.create(key=key, amount_nanousd=10**15, window="day")
        made.append((key.pk, tenants[number % TENANTS].pk, f"team-{number % 4}"))
    return made


def main() -> None:
    """Do one of both and print what was found as JSON."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gatewaysite.settings")
    import django  # noqa: PLC0415

    django.setup()
    from django.core.management import call_command  # noqa: PLC0415

    call_command("migrate", verbosity=0)
    work = {"worker": by_worker, "process": in_process}[sys.argv[1]]
    print(json.dumps(work(int(sys.argv[2]), int(sys.argv[3]))))


if __name__ == "__main__":
    main()
