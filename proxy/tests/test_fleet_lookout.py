import asyncio
import time

import pytest

from providers.errors import Owner, UpstreamError
from providers.tests.samples import make_upstream
from proxy.fleet import lookout
from proxy.fleet.breaker import State
from proxy.fleet.lookout import Condition, Lookout
from proxy.fleet.registry import Fleet
from proxy.tests.virtual_time import run

A = make_upstream("a")
THRESHOLD, WINDOW_S, HALF_OPEN_AFTER_S = 2, 60.0, 30.0


class Watched:
    """A fleet and who looks at it; `runs` are the steps of a test in virtual time."""

    def __init__(self):
        self.fleet = Fleet(threshold=THRESHOLD, window_s=WINDOW_S, half_open_after_s=HALF_OPEN_AFTER_S)
        self.lookout = Lookout(self.fleet)
        self.fleet.changed = self.fleet.failed = self._look

    def _look(self, standing):
        self.lookout.look(standing)

    def fail(self, upstream=A, **fields):
        error = UpstreamError("no", **{"owner": Owner.HEALTH, "code": "upstream_error", **fields})
        self.fleet.begin(upstream, upstream).failed(error)

    def now(self):
        return self.lookout._epoch_s + self.fleet.loop.time()

    @property
    def seen(self):
        return {each.upstream: each for each in self.lookout.conditions()}


def test_it_sees_a_failure_at_once():
    async def story():
        watched = Watched()
        assert watched.lookout.conditions() == []
        watched.fail()
        seen = watched.seen[A.id]
        assert (seen.state, seen.failures, seen.reason) == (State.CLOSED, 1, "upstream_error")
        assert seen.ails
        assert seen.provider == A.id.partition("/")[0]

    run(story())


def test_it_sees_a_breaker_open_and_half_open_by_time_alone():
    async def story():
        watched = Watched()
        for _ in range(THRESHOLD):
            watched.fail()
        seen = watched.seen[A.id]
        assert seen.state is State.OPEN
        assert seen.open_until == watched.now() + HALF_OPEN_AFTER_S
        assert abs(seen.open_until - time.time() - HALF_OPEN_AFTER_S) < 5
        assert seen.state_at(seen.open_until - 0.1) is State.OPEN
        assert seen.state_at(seen.open_until) is State.HALF_OPEN
        await asyncio.sleep(HALF_OPEN_AFTER_S + lookout.LOOK_EVERY_S)
        assert watched.seen[A.id].state is State.HALF_OPEN

    run(story())


def test_it_looks_until_all_is_well_and_no_longer():
    """While all is well it costs nothing: no timer runs."""

    async def story():
        watched = Watched()
        watched.fail()
        await asyncio.sleep(WINDOW_S - lookout.LOOK_EVERY_S)
        assert watched.seen
        await asyncio.sleep(3 * lookout.LOOK_EVERY_S)
        assert not watched.seen
        assert watched.lookout.ailing() == []
        assert watched.lookout._timer is None

    run(story())


def test_it_sees_what_cools_until_it_has_cooled():
    async def story():
        watched = Watched()
        watched.fail(owner=Owner.CAPACITY, retry_after_s=7.0)
        seen = watched.seen[A.id]
        assert (seen.state, seen.failures) == (State.CLOSED, 0)
        assert seen.cooling_until == watched.now() + 7.0
        await asyncio.sleep(7.0 + lookout.LOOK_EVERY_S)
        assert not watched.seen

    run(story())


def test_it_sees_a_refused_credential_as_the_accounts_trouble():
    async def story():
        watched = Watched()
        watched.fail(owner=Owner.CREDENTIAL)
        seen = watched.seen[A.id]
        assert seen.refused_until == watched.now() + 60.0
        assert not seen.ails

    run(story())


def test_it_sees_nothing_in_a_mistake_of_the_callers():
    async def story():
        watched = Watched()
        watched.fail(owner=Owner.CALLER)
        assert not watched.seen

    run(story())


def test_it_sees_who_is_held_without_an_end():
    async def story():
        watched = Watched()
        watched.fleet.standing(A).breaker.hold_open()
        seen = watched.seen[A.id]
        assert (seen.state, seen.held, seen.open_until) == (State.OPEN, True, None)
        await asyncio.sleep(1000)
        assert watched.seen[A.id] == seen
        watched.fleet.standing(A).breaker.release_hold()
        assert not watched.seen
        watched.lookout.close()

    run(story())


def test_it_looks_at_thousands_in_several_turns(monkeypatch):
    monkeypatch.setattr(lookout, "AT_ONCE", 10)

    async def story():
        watched = Watched()
        for number in range(35):
            watched.fail(make_upstream(f"m{number}"))
        assert len(watched.seen) == 35
        await asyncio.sleep(WINDOW_S + 2 * lookout.LOOK_EVERY_S)
        assert not watched.seen

    run(story())


def test_it_is_closed_with_its_process():
    async def story():
        watched = Watched()
        watched.fail()
        watched.lookout.close()
        await asyncio.sleep(2 * WINDOW_S)
        assert watched.seen, "it has looked once more"

    run(story())


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"code": "upstream_reset", "status": 502}, "upstream_reset"),
        ({"code": None, "status": 529}, "http_529"),
        ({"code": None}, "failed"),
        ({"code": "x" * 1000}, "x" * 100),
    ],
)
def test_it_names_the_last_failure_by_a_code(fields, reason):
    async def story():
        watched = Watched()
        watched.fail(**fields)
        assert watched.seen[A.id].reason == reason

    run(story())


def test_it_finds_nothing_ailing_in_the_well():
    assert not Condition(upstream="a/b").ails
    assert Condition(upstream="a/b").state_at(time.time()) is State.CLOSED
