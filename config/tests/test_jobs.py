"""Periodic jobs: alone, on record, and as often on record as somebody could want to know."""

import threading
from datetime import timedelta

import pytest
from django.db import connection, connections
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from config import jobs
from config.jobs import JOBS, job, remember, remembered
from config.models import JobRun

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def registry(monkeypatch, settings, tmp_path):
    monkeypatch.setattr(jobs, "JOBS", dict(JOBS))
    monkeypatch.setattr(jobs, "_unwritten", type(jobs._unwritten)())


def made(work, name="test-job", **options):
    return job(name, title="Test", does="Tests.", **options)(work)


def row() -> JobRun:
    return JobRun.objects.get(pk="test-job")


def test_it_records_what_a_run_did():
    assert made(lambda: "3 things done")() == "3 things done"
    assert (row().state, row().result, row().problem, row().runs) == ("done", "3 things done", "", 1)
    assert row().finished_at is not None


def test_it_makes_a_sentence_of_a_number_and_keeps_the_last_where_there_was_nothing_to_do():
    numbers = iter([2, 0])
    counting = made(lambda: next(numbers), told=lambda n: f"{n} done" if n else "")
    assert (counting(), counting()) == (2, 0)
    assert row().result == "2 done"


def test_it_records_a_failure_until_a_run_goes_well():
    fails = True

    def work():
        if fails:
            raise ValueError("vendor is away")
        return "done again"

    failing = made(work)
    for _ in range(2):
        with pytest.raises(ValueError, match="away"):
            failing()
    first = row()
    assert (first.state, first.problem, first.failures, first.runs) == (
        "failed",
        "ValueError: vendor is away",
        2,
        2,
    )
    assert first.failing_since is not None
    fails = False
    failing()
    healed = row()
    assert (healed.state, healed.problem, healed.failing_since) == ("done", "", None)
    assert (healed.result, healed.failures, healed.runs) == ("done again", 2, 3)


def test_of_two_runners_one_runs_it():
    inside, go, ran = threading.Event(), threading.Event(), []

    def work():
        ran.append(threading.current_thread().name)
        inside.set()
        assert go.wait(10)
        return "once"

    slow = made(work)

    def first():
        slow()
        connections.close_all()

    thread = threading.Thread(target=first, name="first")
    thread.start()
    try:
        assert inside.wait(10)
        assert slow() is None
    finally:
        go.set()
        thread.join(10)
    assert ran == ["first"]
    assert row().runs == 1
    inside.clear()
    assert slow() == "once"  # and the lock is free again


def test_a_frequent_job_writes_seldom_and_loses_no_count():
    quick = made(lambda: "the same")
    quick()
    with CaptureQueriesContext(connection) as captured:
        for _ in range(5):
            quick()
    assert [query["sql"] for query in captured.captured_queries if query["sql"].startswith("UPDATE")] == []
    long_ago = timezone.now() - timedelta(seconds=31)
    JobRun.objects.update(started_at=long_ago, finished_at=long_ago)
    quick()
    assert row().runs == 7


def test_a_changed_result_is_written_at_once():
    results = iter(["one", "two"])
    changing = made(lambda: next(results))
    changing()
    changing()
    assert row().result == "two"


def test_a_run_that_died_is_no_hindrance():
    JobRun.objects.create(
        name="test-job", state=JobRun.State.RUNNING, started_at=timezone.now() - timedelta(hours=1)
    )
    made(lambda: "done")()
    assert (row().state, row().result) == ("done", "done")


def test_it_remembers_for_the_next_run():
    remember("test-job", day="2026-01-01")
    remember("test-job", told=["a"])
    assert remembered("test-job") == {"day": "2026-01-01", "told": ["a"]}
    assert remembered("another") == {}
