import threading

import pytest
from celery import shared_task
from celery.schedules import crontab

from analytics import tasks
from analytics.ticker import Ticker


class Task:
    """Always due; runs until it is let go."""

    def __init__(self, name: str, *, fails: bool = False) -> None:
        self.name = name
        self.fails = fails
        self.go = threading.Event()
        self.started = threading.Semaphore(0)
        self.runs = 0

    def take_due(self) -> bool:
        return True

    def run(self) -> None:
        self.runs += 1
        self.started.release()
        if self.fails:
            raise ValueError("vendor is away")
        assert self.go.wait(10)


def finish(ticker: Ticker) -> None:
    for thread in ticker._running.values():
        thread.join(10)


def test_a_slow_task_never_runs_beside_itself_and_delays_no_other():
    slow, other = Task("slow"), Task("other")
    other.go.set()
    ticker = Ticker([slow, other])
    ticker.tick()
    assert slow.started.acquire(timeout=10)
    assert other.started.acquire(timeout=10)
    ticker._running["other"].join(10)
    ticker.tick()
    assert other.started.acquire(timeout=10)
    assert (slow.runs, other.runs) == (1, 2)
    slow.go.set()
    finish(ticker)
    ticker.tick()
    assert slow.started.acquire(timeout=10)
    finish(ticker)


def test_an_error_is_told_and_the_task_runs_again(monkeypatch):
    told = []

    class Log:
        def error(self, event, **fields):
            told.append((event, fields["task"], fields["error"]))

    monkeypatch.setattr("analytics.ticker.log", Log())
    failing = Task("failing", fails=True)
    ticker = Ticker([failing])
    for _ in range(2):
        ticker.tick()
        finish(ticker)
    assert told == [("periodic_task_failed", "failing", "ValueError: vendor is away")] * 2


def test_it_ends_with_the_shipper():
    stop = threading.Event()
    ticker = Ticker([])
    before = threading.active_count()
    ticker.start(stop)
    stop.set()
    for thread in threading.enumerate():
        if thread.name == "ticker":
            thread.join(10)
    assert threading.active_count() == before


@pytest.fixture
def schedule():
    """Sets Celery's own beat schedule for a test."""
    conf = tasks.write_request_logs.app.conf
    before = conf.beat_schedule

    def configure(entries):
        conf.beat_schedule = entries
        return {task.name: task for task in tasks.scheduled()}

    yield configure
    conf.beat_schedule = before


def test_it_reads_the_schedule_of_celery_beat_and_runs_its_tasks_here(schedule):
    ran = []

    @shared_task(name="tests.tick")
    def tick(word, *, times):
        ran.append(word * times)

    found = schedule(
        {
            "often": {"task": "tests.tick", "schedule": 15.0, "args": ("a",), "kwargs": {"times": 2}},
            "at-new-year": {"task": "tests.tick", "schedule": crontab("0", "0", "1", "1")},
        }
    )
    assert found["often"].take_due(), "an interval is due at the start"
    assert not found["often"].take_due(), "and then after its length"
    assert not found["at-new-year"].take_due(), "a moment of the calendar is not due at the start"
    found["often"].run()
    assert ran == ["aa"]


def test_a_task_that_nobody_wrote_is_an_error_of_that_task(schedule):
    with pytest.raises(Exception, match=r"no\.such\.task"):
        schedule({"missing": {"task": "no.such.task", "schedule": 1.0}})["missing"].run()
