"""Periodic jobs: each runs nowhere twice at a time, and a row says how it went (JobRun).

    @shared_task(name="analytics.tasks.purge_receipts")
    @job("purge-receipts", title="Purge receipts", does="Deletes receipts of segments that are long gone.")
    def purge_receipts() -> str:
        ...
        return "12 receipts purged"

What the function returns is the result, unless `told` makes a sentence of it; None or "" says that there was
nothing to do, and leaves the last result as it is. A job can be run at any time, and again after any failure:
what it has done already it finds done. Its name is that of its entry in the schedule.

A job that runs every few seconds writes its row at most every QUIET_S, unless something has changed.
"""

import threading
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import wraps
from typing import Any, NamedTuple, ParamSpec, TypeVar

import structlog
from django.db import DatabaseError, transaction
from django.db.models import F
from django.utils import timezone

from config.job_lock import alone
from config.models import JobRun

QUIET_S = 30.0
MAX_TEXT = 300

log = structlog.get_logger()

Arguments = ParamSpec("Arguments")
Value = TypeVar("Value")


class Job(NamedTuple):
    """What people are told of a job."""

    name: str
    title: str
    does: str


JOBS: dict[str, Job] = {}

# Runs that no row counts yet.
_unwritten: Counter[str] = Counter()
_counting = threading.Lock()


def job(
    name: str, *, title: str, does: str, told: Callable[[Any], str] = str
) -> Callable[[Callable[Arguments, Value]], Callable[Arguments, Value | None]]:
    """Make a function a job. It returns None where it did not run, because it is running elsewhere."""
    described = JOBS[name] = Job(name, title, does)

    def decorate(function: Callable[Arguments, Value]) -> Callable[Arguments, Value | None]:
        @wraps(function)
        def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Value | None:
            with alone(name) as mine:
                if not mine:
                    log.debug("job_runs_elsewhere", job=name)
                    return None
                return _recorded(described, lambda: function(*args, **kwargs), told)

        return run

    return decorate


def counted(number: int, noun: str) -> str:
    """Say a number of things: "1 receipt", "12 receipts"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def remember(name: str, **facts: Any) -> None:
    """Keep what a job has to know the next time. For within its run: nobody else runs it meanwhile."""
    row, _ = JobRun.objects.get_or_create(pk=name, defaults={"started_at": timezone.now()})
    JobRun.objects.filter(pk=name).update(memory={**row.memory, **facts})


def remembered(name: str) -> dict[str, Any]:
    """Return what a job has kept."""
    found = JobRun.objects.filter(pk=name).values_list("memory", flat=True).first()
    return dict(found or {})


def _recorded(described: Job, work: Callable[[], Value], told: Callable[[Any], str]) -> Value:
    name, began = described.name, timezone.now()
    before = _try(name, lambda: _begun(name, began))
    try:
        value = work()
    except BaseException as problem:
        said = f"{type(problem).__name__}: {problem}"[:MAX_TEXT]
        _try(name, lambda: _failed(name, began, said))
        raise
    result = "" if value is None else told(value)[:MAX_TEXT]
    with _counting:
        _unwritten[name] += 1
    if not _says_so(before, result):
        _try(name, lambda: _done(name, began, result))
    return value


def _begun(name: str, at: datetime) -> JobRun | None:
    """Return the row as it was. Nobody else writes it before the run has ended."""
    row = JobRun.objects.filter(pk=name).first()
    if row is None:
        JobRun.objects.get_or_create(pk=name, defaults={"started_at": at})
    elif at - row.started_at >= timedelta(seconds=QUIET_S):
        JobRun.objects.filter(pk=name).update(state=JobRun.State.RUNNING, started_at=at)
        return None
    return row


def _says_so(row: JobRun | None, result: str) -> bool:
    """Does the row say that already, and since lately?"""
    if row is None or row.state != JobRun.State.DONE or row.finished_at is None:
        return False
    lately = timezone.now() - row.finished_at < timedelta(seconds=QUIET_S)
    return lately and result in {"", row.result}


def _done(name: str, began: datetime, result: str) -> None:
    with _counting:
        runs = _unwritten.pop(name, 0)
    JobRun.objects.filter(pk=name).update(
        state=JobRun.State.DONE,
        started_at=began,
        finished_at=timezone.now(),
        **({"result": result} if result else {}),
        problem="",
        failing_since=None,
        runs=F("runs") + runs,
    )


def _failed(name: str, began: datetime, problem: str) -> None:
    with _counting:
        runs = _unwritten.pop(name, 0) + 1
    with transaction.atomic():
        row = JobRun.objects.select_for_update().get(pk=name)
        row.state, row.problem = JobRun.State.FAILED, problem
        row.started_at, row.finished_at = began, timezone.now()
        row.failing_since = row.failing_since or began
        row.runs, row.failures = row.runs + runs, row.failures + 1
        row.save(
            update_fields=[
                *("state", "problem", "started_at", "finished_at"),
                *("failing_since", "runs", "failures"),
            ]
        )


def _try(name: str, write: Callable[[], Value]) -> Value | None:
    """Write to the row. That it cannot be written is no failure of the job."""
    try:
        return write()
    except (DatabaseError, JobRun.DoesNotExist) as problem:
        log.warning("job_not_recorded", job=name, error=type(problem).__name__)
        return None
