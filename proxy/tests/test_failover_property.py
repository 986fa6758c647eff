"""The retry loop against a simple model (failover_model), through several requests one after another."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.errors import CONTENT_FILTERED, CONTEXT_EXCEEDED, UpstreamError
from providers.tests.samples import make_upstream
from proxy import failover
from proxy.errors import GatewayError, Inexpressible
from proxy.failover import Course, Terms
from proxy.fleet.registry import Fleet
from proxy.tests.failover_model import CONTEXT, FILTER, OUTCOMES, SPREAD, Model, Request, Target, problem_of
from proxy.tests.virtual_time import run

TIMES = st.sampled_from([0.0, 0.25, 1.0, 4.0])


def upstream_of(target):
    """Return the upstream of a model's target, behind a gate for one call."""
    name, _, model = target.id.partition("/")
    first, *others = [
        replace(each, account=replace(each.account, credential=credential))
        for credential in target.credentials
        for each in [make_upstream(name, model, max_concurrency=1)]
    ]
    return replace(first, spares=tuple(others))


@st.composite
def routes(draw):
    """Draw some targets of a few accounts, and who is asked when they cannot hold or say something."""
    targets = []
    for number in range(draw(st.integers(1, 4))):
        account = draw(st.sampled_from(["a", "b", "c"]))
        credentials = ("", "second", "third")[: draw(st.integers(1, 3))]
        targets.append(Target(f"{account}/{number}", account, credentials))
    others = [Target(f"d/{number}", "d", ("", "second")) for number in range(2)]
    chain = st.lists(st.sampled_from([*targets, *others]), max_size=3, unique_by=lambda each: each.id)
    return targets, {CONTEXT: draw(chain), FILTER: draw(chain)}


@st.composite
def stories(draw):
    """Draw requests: how many attempts each may make, within what time, what happens, and the gap before."""
    request = st.fixed_dictionaries(
        {
            "max_attempts": st.integers(1, 6),
            "within_s": st.sampled_from([0.5, 2.0, 16.0, 512.0]),
            "script": st.lists(st.sampled_from(OUTCOMES), max_size=8),
            "takes_s": TIMES,
            "gap_s": st.sampled_from([0.0, 0.5, 3.0, 32.0, 128.0]),
        }
    )
    return draw(st.lists(request, min_size=1, max_size=4))


class Clock:
    """The fleet's loop: time passes where somebody sleeps or works."""

    def __init__(self):
        self.now = 1000.0

    def time(self):
        return self.now


class Vendors:
    """Do as scripted; `asked` and `ends` are kept of each request, `told` over all of them."""

    def __init__(self, fleet, clock):
        self.fleet, self.clock = fleet, clock
        self.visits, self.told, self.pauses = [], {}, []
        self.asked, self.script, self.takes_s = [], [], 0.0

    async def sleep(self, seconds):
        assert seconds > 0
        self.pauses.append(seconds)
        self.clock.now += seconds

    async def attempt(self, visit):
        credential = visit.upstream.account.credential
        name, now = (visit.target.id, credential), self.clock.now
        assert now >= self.told.get(name, 0.0), "it was asked before the vendor's time"
        self.visits.append(visit)
        self.asked.append((*name, now))
        outcome = self.script.pop(0) if self.script else "ok"
        if outcome == "inexpressible":
            raise problem_of(outcome)
        self.clock.now += self.takes_s
        if outcome == "ok":
            visit.ended()
            return outcome
        if outcome.startswith("429+") and self.heeds(visit):
            self.told[name] = self.clock.now + float(outcome.partition("+")[2])
        raise problem_of(outcome)

    def heeds(self, visit):
        """With breakers switched off a lone credential is asked whatever it was told."""
        return bool(self.fleet._breaker["threshold"] or visit.target.spares)

    async def request(self, upstreams, chains, *, max_attempts, within_s, script, takes_s):
        """Make one request; return its end as the model names it."""
        self.asked, self.pauses, self.script, self.takes_s = [], [], list(script), takes_s
        terms = Terms(
            max_attempts=max_attempts,
            deadline=self.clock.now + within_s,
            on_context_overflow=chains[CONTEXT],
            on_content_filter=chains[FILTER],
        )
        try:
            return await Course(upstreams, self.attempt, fleet=self.fleet, terms=terms).run()
        except UpstreamError as error:
            return error.message
        except Inexpressible:
            return "inexpressible"
        except GatewayError as error:
            return error.code


def judge(vendors, asked, script, request):
    """Check what holds whatever the model says."""
    outcomes = [*script, *["ok"] * len(asked)][: len(asked)]
    attempts = [each for each in outcomes if each != "inexpressible"]
    assert len(attempts) <= request["max_attempts"]
    began = vendors.clock.now if not asked else min(at for *_, at in asked)
    assert all(at <= began + request["within_s"] for *_, at in asked)
    silent = [
        name for (name, *_), outcome in zip(asked, outcomes, strict=True) if outcome in ("timeout", "408")
    ]
    for name in silent:
        last = max(place for place, (other, *_) in enumerate(asked) if other == name)
        assert outcomes[last] in ("timeout", "408"), "a silent target was asked again"
        assert silent.count(name) == 1
    assert all(visit._over for visit in vendors.visits)
    assert all(standing.busy == 0 for standing in vendors.fleet.known())
    assert all(gate.in_flight == 0 for gate in vendors.fleet._gates.values())


@pytest.fixture
def patched(monkeypatch):
    """Let the loop sleep and draw as it is told: set `sleep` and `share` of what this returns."""
    told = SimpleNamespace(sleep=None, share=1.0)

    async def sleep(seconds):
        await told.sleep(seconds)

    def uniform(low, high):
        return low + told.share * (high - low)

    monkeypatch.setattr(failover, "asyncio", SimpleNamespace(sleep=sleep))
    monkeypatch.setattr(failover, "random", SimpleNamespace(uniform=uniform))
    monkeypatch.setattr(failover, "SPREAD", SPREAD)
    return told


def test_it_does_as_the_model_says(patched):
    @settings(max_examples=400)
    @given(
        route=routes(),
        story=stories(),
        breaker=st.tuples(st.integers(0, 3), st.sampled_from([2.0, 64.0]), st.sampled_from([1.0, 32.0])),
        share=st.sampled_from([0.0, 0.25, 1.0]),
    )
    def holds(route, story, breaker, share):
        run(told(route, story, breaker, share))

    async def told(route, story, breaker, share):
        clock = Clock()
        threshold, window_s, half_open_after_s = breaker
        fleet = Fleet(threshold=threshold, window_s=window_s, half_open_after_s=half_open_after_s)
        fleet.loop = cast("Any", clock)
        vendors, model = Vendors(fleet, clock), Model(threshold, window_s, half_open_after_s, share)
        patched.sleep, patched.share = vendors.sleep, share
        targets, chains = route
        upstreams = [upstream_of(each) for each in targets]
        chained = {name: [upstream_of(each) for each in chain] for name, chain in chains.items()}
        for step in story:
            request = dict(step)
            gap_s = request.pop("gap_s")
            clock.now += gap_s
            model.now += gap_s
            end = await vendors.request(upstreams, chained, **request)
            expected = Request(model, targets, chains, **{**request, "script": list(request["script"])})
            assert vendors.asked == expected.asked
            assert end == expected.end
            assert vendors.pauses == expected.pauses
            assert clock.now == model.now
            judge(vendors, vendors.asked, request["script"], request)

    holds()


def test_its_two_chains_are_those_of_these_codes():
    larger, milder = (make_upstream("larger"),), (make_upstream("milder"),)
    terms = Terms(max_attempts=1, deadline=0.0, on_context_overflow=larger, on_content_filter=milder)
    assert terms.chain(CONTEXT_EXCEEDED) is larger
    assert terms.chain(CONTENT_FILTERED) is milder
    assert terms.chain("other") == terms.chain(None) == ()
