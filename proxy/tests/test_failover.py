import asyncio
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from providers.errors import AUTH_FAILED, CONTENT_FILTERED, CONTEXT_EXCEEDED, Owner, UpstreamError
from providers.tests.samples import make_upstream
from proxy import failover
from proxy.errors import Inexpressible, RateLimited, Unavailable
from proxy.fleet.registry import Fleet
from proxy.tests.virtual_time import run

A, B, C, D = (make_upstream(name) for name in "abcd")


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
        self.in_short = False  # by `first_success`, which comes to the same
        self._failures = list(failures)
        self._takes_s = takes_s
        self.fleet = Fleet(threshold=1000, window_s=60.0, half_open_after_s=30.0)
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

        def course():
            return failover.Course(upstreams, self.attempt, fleet=self.fleet, terms=terms)

        if not self.in_short:
            return await course().run()
        return await failover.first_success(
            upstreams, self.attempt, fleet=self.fleet, tokens=terms.tokens, course=course
        )


@pytest.fixture(params=[False, True], ids=["course", "in-short"])
def vendors(monkeypatch, request):
    def made(*failures, **options):
        running = Vendors(monkeypatch, *failures, **options)
        running.in_short = request.param
        return running

    return made


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


async def test_it_says_try_later_rather_than_what_another_cannot_be_asked(monkeypatch):
    """The one that could say it is left alone at the moment: the request itself is not at fault."""
    vendors = Vendors(monkeypatch, inexpressible())
    vendors.fleet.standing(B).breaker.hold_open()
    with pytest.raises(Unavailable) as raised:
        await vendors.run(A, B)
    assert raised.value.code == "circuit_open"


async def test_it_says_when_the_first_breaker_lets_a_probe_through(monkeypatch):
    vendors = Vendors(monkeypatch)
    for target, seconds in ((A, 20.0), (B, 10.0)):
        breaker = vendors.fleet.standing(target).breaker
        breaker._threshold = 1
        breaker.open_for(seconds, vendors.now)
    with pytest.raises(Unavailable) as raised:
        await vendors.run(A, B)
    assert (raised.value.code, raised.value.headers) == ("circuit_open", {"retry-after": "10"})
    assert (vendors.asked, vendors.pauses) == ([], [])


async def test_it_looks_again_at_one_whose_breaker_was_open(monkeypatch):
    vendors = Vendors(monkeypatch, broken(retry_after_s=8.0), broken(retry_after_s=8.0))
    breaker = vendors.fleet.standing(B).breaker
    breaker._threshold = 1
    breaker.open_for(5.0, vendors.now)
    assert await vendors.run(A, B) == "b"
    assert (vendors.asked, vendors.pauses) == (["a", "a", "b"], [8.0])


def too_long():
    return broken(owner=Owner.CALLER, status=400, code=CONTEXT_EXCEEDED)


@pytest.mark.parametrize(
    ("failures", "chain", "asked"),
    [
        ([too_long()], [C], ["a", "c"]),
        ([broken(), too_long()], [C], ["a", "b", "c"]),
        # Once only, and never to those that have said so already, or were silent.
        ([too_long(), too_long()], [C, D], ["a", "c"]),
        ([too_long()], [A], ["a"]),
        ([too_long()], [A, C], ["a", "c"]),
        ([timed_out(), too_long()], [A, D], ["a", "b", "d"]),
        # A vendor's word holds there as well.
        ([broken(retry_after_s=9.0), too_long(), broken()], [A, D], ["a", "b", "d", "d"]),
        ([broken(retry_after_s=0.125), too_long()], [A], ["a", "b", "a"]),
        ([too_long()], [], ["a"]),
        ([broken(owner=Owner.CALLER, status=400, code=CONTENT_FILTERED)], [C], ["a"]),
    ],
)
async def test_it_goes_on_to_larger_models_with_what_does_not_fit(monkeypatch, failures, chain, asked):
    last, answers = failures[-1], len(asked) > len(failures)
    vendors = Vendors(monkeypatch, *failures)
    terms = failover.Terms(max_attempts=9, deadline=vendors.now + 60, on_context_overflow=chain)
    running = failover.Course([A, B], vendors.attempt, fleet=vendors.fleet, terms=terms).run()
    if answers:
        assert await running == asked[-1]
    else:
        with pytest.raises(UpstreamError) as raised:
            await running
        assert raised.value is last
    assert vendors.asked == asked


def limited_to_one(name, **fields):
    return make_upstream(name, max_concurrency=1, **fields)


async def test_it_asks_who_is_free_before_it_stands_in_a_line(monkeypatch):
    vendors, full = Vendors(monkeypatch), limited_to_one("a")
    gate = vendors.fleet.gate(full.account)
    assert gate.enter_now()
    assert await vendors.run(full, B) == "b"
    assert gate.in_flight == 1


class Queues:
    """A real loop's fleet, behind gates that are full."""

    def __init__(self, *full):
        self.fleet = Fleet(threshold=1, window_s=60.0, half_open_after_s=30.0)
        self.gates = [self.fleet.gate(each.account) for each in full]
        for gate in self.gates:
            assert gate.enter_now()
        self.refusals, self.waits = [], []
        self.fleet.turned_away = self.refusals.append
        self.fleet.queued = lambda name, wait_s: self.waits.append((name, wait_s))
        self.asked = []
        self.failures = []

    async def attempt(self, visit):
        self.asked.append(visit.target.account.name)
        if self.failures:
            raise self.failures.pop(0)
        visit.ended()
        return visit.target.account.name

    def course(self, *upstreams, within_s=600.0, max_attempts=3):
        terms = failover.Terms(
            max_attempts=max_attempts, deadline=self.fleet.loop.time() + within_s, tenant=1
        )
        return failover.Course(upstreams, self.attempt, fleet=self.fleet, terms=terms).run()


def test_it_waits_in_line_for_its_turn():
    async def story():
        full = limited_to_one("a")
        queues = Queues(full)
        queues.fleet.loop.call_later(5.0, queues.gates[0].leave)
        assert await queues.course(full) == "a"
        assert queues.waits == [("a", 5.0)]
        assert queues.gates[0].in_flight == 0

    run(story())


def test_it_says_busy_when_there_is_no_place_in_any_line():
    async def story():
        first, second = limited_to_one("a", max_queue=0), limited_to_one("b", queue_timeout_s=4.0)
        queues = Queues(first, second)
        with pytest.raises(Unavailable) as raised:
            await queues.course(first, second)
        assert (raised.value.code, raised.value.headers) == ("provider_busy", {"retry-after": "1"})
        assert queues.fleet.loop.time() == 1004.0
        assert queues.refusals == ["a", "b"]
        assert [gate.in_flight for gate in queues.gates] == [1, 1]

    run(story())


def test_it_waits_in_line_no_longer_than_the_deadline_and_then_asks_nobody():
    async def story():
        first, second = limited_to_one("a"), limited_to_one("b")
        queues = Queues(first, second)
        queues.fleet.loop.call_at(1003.0, queues.gates[1].leave)  # too late
        with pytest.raises(Unavailable) as raised:
            await queues.course(first, second, within_s=3.0)
        assert raised.value.code == "provider_busy"
        assert (queues.asked, queues.fleet.loop.time()) == ([], 1003.0)

    run(story())


def test_it_goes_back_to_one_that_failed_past_one_without_a_place():
    async def story():
        full = limited_to_one("b", max_queue=0)
        queues = Queues(full)
        queues.fleet._breaker["threshold"] = 0
        queues.failures = [broken()]
        assert await queues.course(A, full) == "a"
        assert queues.asked == ["a", "a"]
        queues.failures = [broken(), broken()]
        with pytest.raises(UpstreamError):  # what went wrong says more than who was busy
            await queues.course(A, full, max_attempts=2)

    run(story())


def test_it_gives_its_place_back_when_nothing_can_be_asked_by_then():
    """While it waited the vendor has told somebody else to wait: that is a matter of another round."""

    async def story():
        full = limited_to_one("a")
        queues = Queues(full)

        def leave():
            queues.fleet.standing(full).cooling.cool("", now=1005.0, told_s=1000.0)
            queues.gates[0].leave()

        queues.fleet.loop.call_later(5.0, leave)
        with pytest.raises(RateLimited) as raised:
            await queues.course(full)
        assert raised.value.code == "upstream_rate_limited"
        assert int(raised.value.headers["retry-after"]) >= 1000
        assert (queues.asked, queues.gates[0].in_flight) == ([], 0)

    run(story())


def test_it_leaves_the_line_with_the_client():
    async def story():
        full = limited_to_one("a")
        queues = Queues(full)
        asking = asyncio.create_task(queues.course(full))
        await asyncio.sleep(1)
        assert queues.gates[0].waiting == 1
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert (queues.gates[0].waiting, queues.gates[0].in_flight) == (0, 1)

    run(story())


def test_it_goes_on_without_a_gate_that_a_new_configuration_has_taken_down():
    async def story():
        full = limited_to_one("a")
        queues = Queues(full)
        asking = asyncio.create_task(queues.course(full))
        await asyncio.sleep(1)
        queues.fleet.configure({"a": A.account})
        assert await asking == "a"
        assert queues.gates[0].in_flight == 1  # the one inside

    run(story())


def with_spares(upstream, *credentials):
    spares = [replace(upstream, account=replace(upstream.account, credential=each)) for each in credentials]
    return replace(upstream, spares=tuple(spares))


@pytest.mark.parametrize("failure", [refused, limited, lambda: limited(30.0)])
async def test_it_takes_another_credential_before_it_leaves_the_provider(monkeypatch, failure):
    both, shown = with_spares(A, "second"), []
    vendors = Vendors(monkeypatch, failure(), failure())

    async def attempt(visit):
        shown.append(visit.upstream.account.credential)
        return await vendors.attempt(visit)

    terms = failover.Terms(max_attempts=9, deadline=vendors.now + 5)
    assert await failover.Course([both, B], attempt, fleet=vendors.fleet, terms=terms).run() == "b"
    assert shown == ["", "second", ""]
    assert vendors.asked == ["a", "a", "b"]
    # The next request knows: those that cool are the last resort, or are not asked at all.
    shown.clear()
    assert await failover.Course([both, B], attempt, fleet=vendors.fleet, terms=terms).run() == "b"


async def test_it_is_told_at_once_of_a_limit_that_outlasts_any_line(vendors):
    """Another request was told to come back in 31 seconds: nobody stands in a line for so long."""
    running = vendors(limited(31.0))
    with pytest.raises(UpstreamError):
        await running.run(A, max_attempts=1)
    with pytest.raises(RateLimited) as raised:
        await running.run(A)
    assert (raised.value.code, raised.value.retry_after_s) == ("upstream_rate_limited", 31.0)
    assert (running.asked, running.pauses) == (["a"], [])


async def test_it_waits_for_a_limit_as_long_as_it_would_in_a_line(vendors):
    running = vendors(limited(30.0))
    with pytest.raises(UpstreamError):
        await running.run(A, max_attempts=1)
    assert await running.run(A) == "a"
    assert running.pauses == [30.0]


async def test_it_asks_whatever_became_of_the_last_where_breakers_are_off(vendors):
    running = vendors(limited(31.0), refused())
    running.fleet = Fleet(threshold=0, window_s=60.0, half_open_after_s=30.0)
    running.fleet.loop = cast("Any", running)
    for _ in range(2):
        with pytest.raises(UpstreamError):
            await running.run(A, max_attempts=1)
    assert await running.run(A, B) == "a"
    assert running.pauses == []
