"""The queue beside the hot path: bounded, in order, and never in anybody's way."""

import threading

import pytest

from proxy.metrics import BACKGROUND
from proxy.middleware.background import Background


def counted(queue, outcome):
    return BACKGROUND.labels(queue=queue, outcome=outcome)._value.get()


def test_it_works_in_order_and_in_batches():
    done, hold, first = [], threading.Event(), threading.Event()

    def work(things):
        first.set()
        assert hold.wait(10)
        done.append(list(things))

    queue = Background("test_order", work, batch=3)
    assert queue.put(0)
    assert first.wait(10)
    for thing in range(1, 6):
        queue.put(thing)
    hold.set()
    queue.close(10)
    assert done == [[0], [1, 2, 3], [4, 5]]
    assert counted("test_order", "done") == 6


def test_what_does_not_fit_is_dropped_and_counted():
    hold, inside = threading.Event(), threading.Event()

    def work(things):
        inside.set()
        assert hold.wait(10)

    queue = Background("test_full", work, capacity=2)
    queue.put(0)
    assert inside.wait(10)
    assert [queue.put(thing) for thing in range(4)] == [True, True, False, False]
    assert counted("test_full", "dropped") == 2
    hold.set()
    queue.close(10)
    assert counted("test_full", "done") == 3


def test_it_goes_on_after_a_failure():
    done = []

    def work(things):
        if things[0] == "bad":
            raise RuntimeError
        done.extend(things)

    queue = Background("test_failure", work)
    queue.put("bad")
    queue.put("good")
    queue.close(10)
    assert done == ["good"]
    assert counted("test_failure", "failed") == 1


def test_closing_waits_for_company_no_longer_and_it_may_be_used_again():
    done = []
    queue = Background("test_again", done.extend, batch=100, gather_s=3600)
    queue.put(1)
    queue.close(10)
    queue.put(2)
    queue.close(10)
    assert done == [1, 2]


def test_closing_does_not_wait_for_ever():
    hold, inside = threading.Event(), threading.Event()

    def work(things):
        inside.set()
        assert hold.wait(10)

    queue = Background("test_closing", work)
    queue.put(1)
    assert inside.wait(10)
    queue.close(0.01)
    assert queue.put(2) is False
    hold.set()


def test_nothing_starts_before_it_is_used():
    before = threading.active_count()
    queue = Background("test_idle", pytest.fail)
    queue.close(10)
    assert threading.active_count() == before
