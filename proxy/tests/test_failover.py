import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from providers.errors import AUTH_FAILED, Owner, UpstreamError
from providers.tests.samples import make_upstream
from proxy import failover
from proxy.errors import Inexpressible
from proxy.fleet.registry import Fleet

A, B, C = make_upstream("a"), make_upstream("b"), make_upstream("c")


def broken(**fields):
    return UpstreamError("no", **{"owner": Owner.HEALTH, "status": 503, **fields})


def limited(retry_after_s=None):
    return broken(owner=Owner.CAPACITY, status=429, retry_after_s=retry_after_s)


def timed_out():
    return broken(status=None, timeout="first content")


def refused():
    return broken(owner=Owner.CREDENTIAL, status=401, code=AUTH_FAILED)


def inexpressible(param="seed"):
    return Inexpressible("The vendor cannot say it.", param=param)


def mistaken():
    return broken(owner=Owner.CALLER, status=400)


class Vendors:
    """Fails as scripted, then answers; `pauses` are what the loop slept before each further try."""

    def __init__(self, monkeypatch, *failures, takes_s=0.0):
        self.now = 1000.0
        self.asked = []
        self.pauses = []
        self._failures = list(failures)
        self._takes_s = takes_s
        self.fleet = Fleet(threshold=0, window_s=60.0, half_open_after_s=30.0)
        self.fleet.loop = cast("Any", self)
        monkeypatch.setattr(failover, "asyncio", SimpleNamespace(sleep=self._sleep))
        monkeypatch.setattr(failover, "random", SimpleNamespace(uniform=lambda *ends: ends[1]))
        monkeypatch.setattr(failover, "SPREAD", 0.0)

    def time(self):
        return self.now

    async def _sleep(self, seconds):
        self.pauses.append(seconds)
        self.now += seconds

    async def attempt(self, visit):
        name = visit.upstream.account.name
        self.asked.append(name)
        self.now += self._takes_s
        if self._failures:
            raise self._failures.pop(0)
        visit.ended()
        return name

    async def run(self, *upstreams, max_attempts=3, within_s=600.0):
        terms = failover.Terms(max_attempts=max_attempts, deadline=self.now + within_s)
        return await failover.Course(upstreams, self.attempt, fleet=self.fleet, terms=terms).run()


@pytest.fixture
def vendors(monkeypatch):
    return lambda *failures, **options: Vendors(monkeypatch, *failures, **options)


async def test_it_returns_the_first_success(vendors):
    running = vendors()
    assert await running.run(A, B) == "a"
    assert running.asked == ["a"]


@pytest.mark.parametrize(
    ("failures", "asked"),
    [
        ([broken()], ["a", "b"]),
        ([broken(), broken()], ["a", "b", "c"]),
        ([timed_out(), limited(), refused()], ["a", "b", "c", "b"]),
        ([broken(), timed_out(), broken()], ["a", "b", "c", "a"]),
        # In the second round only those that may do better.
        ([timed_out(), broken(), broken()], ["a", "b", "c", "b"]),
        ([refused(), broken(), broken()], ["a", "b", "c", "b"]),
        ([timed_out(), refused(), broken(), broken()], ["a", "b", "c", "c", "c"]),
        ([broken()] * 4, ["a", "b", "c", "a", "b"]),
    ],
)
async def test_it_tries_the_targets_in_order(vendors, failures, asked):
    running = vendors(*failures)
    assert await running.run(A, B, C, max_attempts=10) == asked[-1]
    assert running.asked == asked


@pytest.mark.parametrize(
    ("failures", "asked"),
    [
        # The caller's mistake is the same everywhere.
        ([mistaken()], ["a"]),
        ([broken(), mistaken()], ["a", "b"]),
        ([broken(retryable=False)], ["a"]),
        # Nobody is left who may do better.
        ([timed_out(), timed_out()], ["a", "b"]),
        ([refused(), refused()], ["a", "b"]),
        ([refused(), timed_out()], ["a", "b"]),
        ([broken(status=408), broken(status=408)], ["a", "b"]),
    ],
)
async def test_it_gives_up_when_another_try_makes_no_sense(vendors, failures, asked):
    last = failures[-1]
    running = vendors(*failures)
    with pytest.raises(UpstreamError) as raised:
        await running.run(A, B, max_attempts=10)
    assert raised.value is last
    assert running.asked == asked
    assert running.pauses == []


@pytest.mark.parametrize("failure", [timed_out, refused])
async def test_it_does_not_try_a_single_silent_or_refusing_target_twice(vendors, failure):
    running = vendors(failure(), failure())
    with pytest.raises(UpstreamError):
        await running.run(A)
    assert running.asked == ["a"]


@pytest.mark.parametrize("most", [1, 2, 3, 5])
async def test_it_makes_no_more_attempts_than_allowed(vendors, most):
    running = vendors(*[broken() for _ in range(10)])
    with pytest.raises(UpstreamError):
        await running.run(A, B, max_attempts=most)
    assert len(running.asked) == most


async def test_it_raises_what_the_last_one_said_not_an_earlier_one(vendors):
    """The first refuses our credential, the second is down: the caller hears of the second."""
    running = vendors(refused(), broken(), broken())
    with pytest.raises(UpstreamError) as raised:
        await running.run(A, B)
    assert running.asked == ["a", "b", "b"]
    assert raised.value.status == 503


async def test_it_asks_the_next_target_at_once_and_backs_off_before_a_new_round(vendors):
    running = vendors(*[broken() for _ in range(6)])
    with pytest.raises(UpstreamError):
        await running.run(A, B, max_attempts=6)
    assert len(running.pauses) == 2
    assert 0 < running.pauses[0] < running.pauses[1] <= failover.BACKOFF_CAP_S


async def test_it_never_backs_off_for_longer_than_the_cap(vendors):
    running = vendors(*[broken() for _ in range(30)])
    with pytest.raises(UpstreamError):
        await running.run(A, max_attempts=30, within_s=10_000)
    assert len(running.pauses) == 29
    assert max(running.pauses) == failover.BACKOFF_CAP_S


async def test_it_waits_as_long_as_the_vendor_asked(vendors):
    running = vendors(limited(7.0))
    assert await running.run(A) == "a"
    assert running.pauses == [7.0]


async def test_it_does_not_make_the_next_target_wait_for_the_limited_one(vendors):
    running = vendors(limited(7.0))
    assert await running.run(A, B) == "b"
    assert running.pauses == []


async def test_it_waits_only_inside_the_deadline(vendors):
    running = vendors(limited(7.0), limited(7.0))
    with pytest.raises(UpstreamError) as raised:
        await running.run(A, within_s=7.0)
    assert raised.value.retry_after_s == 7.0
    assert running.asked == ["a"]
    assert running.pauses == []


async def test_it_starts_no_attempt_after_the_deadline(vendors):
    running = vendors(broken(), broken(), takes_s=6.0)
    with pytest.raises(UpstreamError):
        await running.run(A, B, C, within_s=10.0)
    assert running.asked == ["a", "b"]


async def test_it_lets_the_clients_departure_through(vendors):
    running = vendors(asyncio.CancelledError())
    with pytest.raises(asyncio.CancelledError):
        await running.run(A, B)
    assert running.asked == ["a"]


async def test_it_takes_a_fault_of_ours_for_no_failure_of_theirs(vendors):
    running = vendors(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        await running.run(A, B)
    assert running.asked == ["a"]


async def test_it_passes_over_a_target_that_cannot_be_asked_this(monkeypatch):
    vendors = Vendors(monkeypatch, inexpressible(), broken())
    assert await vendors.run(A, B, C, max_attempts=2) == "c"
    assert (vendors.asked, vendors.pauses) == (["a", "b", "c"], [])


async def test_it_says_what_the_first_target_cannot_be_asked_when_none_can(monkeypatch):
    vendors = Vendors(monkeypatch, inexpressible("seed"), inexpressible("n"))
    with pytest.raises(Inexpressible) as raised:
        await vendors.run(A, B)
    assert raised.value.param == "seed"


async def test_it_goes_back_to_a_failed_target_past_one_that_cannot_be_asked(monkeypatch):
    vendors = Vendors(monkeypatch, broken(), inexpressible())
    assert await vendors.run(A, B) == "a"
    assert vendors.asked == ["a", "b", "a"]


async def test_it_tells_a_vendors_failure_rather_than_what_another_cannot_be_asked(monkeypatch):
    vendors = Vendors(monkeypatch, timed_out(), inexpressible())
    with pytest.raises(UpstreamError) as raised:
        await vendors.run(A, B)
    assert raised.value.timeout
