"""One attempt's ends, and what an upstream's standing keeps of each."""

from dataclasses import replace

import pytest

from providers.errors import Owner, UpstreamError
from providers.own_credential import showing
from providers.tests.samples import make_upstream
from proxy.fleet.breaker import State
from proxy.fleet.cooling import GUESS_S
from proxy.fleet.registry import Fleet
from proxy.tests.virtual_time import run

LIMITED = make_upstream("a", max_concurrency=2)
A = replace(
    LIMITED,
    spares=tuple(replace(LIMITED, account=replace(LIMITED.account, credential=each)) for each in "bc"),
)


def error(owner, **fields):
    return UpstreamError("no", owner=owner, **fields)


class Visits:
    """Visits of one upstream behind a gate. Use it inside a running loop."""

    def __init__(self, threshold=1):
        self.fleet = Fleet(threshold=threshold, window_s=60.0, half_open_after_s=30.0)
        self.loop = self.fleet.loop
        self.gate = self.fleet.gate(A.account)
        self.standing = self.fleet.standing(A)

    def begin(self, upstream=A):
        assert self.gate.enter_now()
        return self.fleet.begin(A, upstream, gate=self.gate, tokens=100)

    @property
    def under_way(self):
        return (self.standing.busy, self.gate.in_flight)

    def pick(self, tokens=100):
        return self.standing.pick(A, self.loop.time(), tokens=tokens)


def told(story):
    async def in_loop():
        story(Visits())

    run(in_loop())


ENDS = {
    "ended": lambda visit: visit.ended(),
    "left": lambda visit: visit.left(),
    "health": lambda visit: visit.failed(error(Owner.HEALTH)),
    "caller": lambda visit: visit.failed(error(Owner.CALLER)),
    "credential": lambda visit: visit.failed(error(Owner.CREDENTIAL)),
    "capacity": lambda visit: visit.failed(error(Owner.CAPACITY)),
}


@pytest.mark.parametrize("content", [False, True])
@pytest.mark.parametrize("second", ENDS)
@pytest.mark.parametrize("first", ENDS)
def test_it_ends_once_whatever_follows(first, second, content):
    def story(visits):
        visit = visits.begin()
        assert visits.under_way == (1, 1)
        if content:
            visit.content()
        ENDS[first](visit)
        assert visits.under_way == (0, 0)
        state = visits.standing.breaker.state(visits.loop.time())
        down = (bool(visits.standing.cooling), bool(visits.standing.refused))
        ENDS[second](visit)
        assert visits.under_way == (0, 0)
        assert visits.standing.breaker.state(visits.loop.time()) is state
        assert (bool(visits.standing.cooling), bool(visits.standing.refused)) == down

    told(story)


@pytest.mark.parametrize("end", ["caller", "credential", "capacity", "left"])
def test_it_holds_nothing_against_its_health_that_is_none_of_its_health(end):
    def story(visits):
        ENDS[end](visits.begin())
        assert visits.standing.breaker.state(visits.loop.time()) is State.CLOSED

    told(story)


@pytest.mark.parametrize("content", [False, True])
def test_it_counts_a_failure_before_or_after_the_first_content(content):
    def story(visits):
        visit = visits.begin()
        if content:
            visit.content()
        visit.failed(error(Owner.HEALTH))
        assert visits.pick().open
        assert visits.pick().at == visits.loop.time() + 30

    told(story)


@pytest.mark.parametrize(
    ("end", "state"),
    [("ended", State.CLOSED), ("health", State.OPEN), ("left", State.HALF_OPEN), ("caller", State.HALF_OPEN)],
)
def test_it_is_a_probe_where_the_breaker_is_half_open(end, state):
    def story(visits):
        visits.begin().failed(error(Owner.HEALTH))
        visits.loop.now += 30
        probe = visits.begin()
        assert visits.pick().open  # one at a time
        ENDS[end](probe)
        assert visits.standing.breaker.state(visits.loop.time()) is state
        assert visits.pick().open is (state is State.OPEN)

    told(story)


def test_a_stream_that_has_begun_closes_the_breaker():
    def story(visits):
        visits.begin().failed(error(Owner.HEALTH))
        visits.loop.now += 30
        probe = visits.begin()
        probe.content()
        assert visits.standing.breaker.state(visits.loop.time()) is State.CLOSED
        assert visits.under_way == (1, 1)
        probe.left()
        assert visits.under_way == (0, 0)

    told(story)


def test_it_learns_how_long_answers_and_first_contents_take():
    def story(visits):
        for _ in range(200):
            visit = visits.begin()
            visits.loop.now += 2
            visit.ended()
            stream = visits.begin()
            visits.loop.now += 1
            stream.content()
            visits.loop.now += 50
            stream.ended()
        assert visits.standing.total.p(0.95) == pytest.approx(2, rel=0.2)
        assert visits.standing.ttft.p(0.95) == pytest.approx(1, rel=0.2)

    told(story)


def test_it_takes_the_next_credential_of_one_that_is_limited_or_refused():
    def story(visits):
        assert visits.pick().upstream is A
        visits.begin().failed(error(Owner.CAPACITY, retry_after_s=10.0))
        second = visits.pick()
        assert (second.upstream.account.credential, second.last_resort) == ("b", False)
        visits.begin(second.upstream).failed(error(Owner.CREDENTIAL))
        third = visits.pick()
        assert (third.upstream.account.credential, third.last_resort) == ("c", False)
        visits.begin(third.upstream).failed(error(Owner.CAPACITY))
        # The refused and the one that we guess of are better than the one that the vendor has told us of.
        last = visits.pick()
        assert (last.upstream.account.credential, last.last_resort) == ("b", True)
        visits.loop.now += 10
        assert visits.pick() == (A, visits.loop.time(), False, False)

    told(story)


def test_it_says_when_the_first_credential_may_be_used_again():
    def story(visits):
        for upstream, told_s in ((A, 30.0), (A.spares[0], 20.0), (A.spares[1], 40.0)):
            visits.begin(upstream).failed(error(Owner.CAPACITY, retry_after_s=told_s))
        assert visits.pick() == (None, visits.loop.time() + 20, False, False)

    told(story)


def test_it_leaves_a_refused_credential_alone_for_all_models_of_its_account():
    def story(visits):
        other = replace(A, id="a/other", model="other")
        visits.begin().failed(error(Owner.CREDENTIAL))
        pick = visits.fleet.standing(other).pick(other, visits.loop.time(), tokens=1)
        assert pick.upstream.account.credential == "b"
        visits.loop.now += GUESS_S
        assert visits.fleet.standing(other).pick(other, visits.loop.time(), tokens=1).upstream is other

    told(story)


def test_it_leaves_a_limited_credential_alone_for_that_model_only():
    def story(visits):
        other = replace(A, id="a/other", model="other")
        visits.begin().failed(error(Owner.CAPACITY, retry_after_s=10.0))
        assert visits.fleet.standing(other).pick(other, visits.loop.time(), tokens=1).upstream is other

    told(story)


def limits(remaining, reset="60s"):
    return {
        "x-ratelimit-remaining-requests": str(remaining),
        "x-ratelimit-limit-requests": "100",
        "x-ratelimit-reset-requests": reset,
    }


def test_it_waits_for_a_quota_or_takes_another_credential():
    def story(visits):
        visit = visits.begin()
        visit.heard(limits(0))
        visit.ended()
        assert visits.pick().upstream.account.credential == "b"
        alone = replace(A, spares=())
        pick = visits.standing.pick(alone, visits.loop.time(), tokens=100)
        assert pick.upstream is None
        assert visits.loop.time() < pick.at <= visits.loop.time() + 60

    told(story)


@pytest.mark.parametrize("end", ["left", "health"])
def test_a_call_that_no_answer_came_to_is_forgotten_with_the_next_answer(end):
    def story(visits):
        first = visits.begin()
        first.heard(limits(2))
        first.ended()
        ENDS[end](visits.begin())
        visits.standing.breaker.reset()
        visits.loop.now += 1
        third = visits.begin()
        third.heard(limits(1))
        third.ended()
        assert visits.pick().upstream is A

    told(story)


def test_it_forgets_on_request_what_speaks_against_an_upstream():
    def story(visits):
        visits.begin().failed(error(Owner.HEALTH))
        visits.fleet.begin(A, A).failed(error(Owner.CREDENTIAL))
        visits.fleet.begin(A, A).failed(error(Owner.CAPACITY, retry_after_s=60))
        visits.standing.quota("").learn(limits(0), visits.loop.time())
        visits.standing.reset()
        assert visits.pick() == (A, visits.loop.time(), False, False)

    told(story)


# ---------------------------------------------------------------- clients' own credentials

OWN = replace(A, account=showing(A.account, "sk-own-0123456789-of-the-client"), spares=())


@pytest.mark.parametrize("owner", [Owner.CREDENTIAL, Owner.CAPACITY])
def test_what_a_clients_own_credential_is_told_says_nothing_of_ours(owner):
    def story(visits):
        heard = []
        visits.fleet.failed = heard.append
        for _ in range(3):
            assert visits.gate.enter_now()
            visit = visits.fleet.begin(OWN, OWN, gate=visits.gate, tokens=100)
            visit.heard({"x-ratelimit-remaining-requests": "0", "retry-after": "60"})
            visit.failed(error(owner, retry_after_s=60.0))
        standing = visits.standing
        assert (heard, bool(standing.cooling), bool(standing.refused), standing.quotas) == (
            [],
            False,
            False,
            {},
        )
        assert visits.pick().upstream is A
        assert visits.under_way == (0, 0)

    told(story)


def test_a_clients_own_credential_waits_for_no_limit_of_ours():
    def story(visits):
        for each in (A, *A.spares):
            visits.begin(each).failed(error(Owner.CAPACITY, retry_after_s=60.0))
        now = visits.loop.time()
        assert visits.pick().upstream is None
        assert visits.standing.pick(OWN, now, tokens=100).upstream is OWN
        assert visits.standing.ready(OWN, now)

    told(story)


def test_a_call_by_a_clients_own_credential_is_not_counted_against_our_quota():
    def story(visits):
        visits.begin().heard({"x-ratelimit-remaining-requests": "1", "x-ratelimit-limit-requests": "9"})
        assert visits.gate.enter_now()
        visits.fleet.begin(OWN, OWN, gate=visits.gate, tokens=100)
        assert visits.pick().upstream is A

    told(story)


def test_a_vendor_that_fails_a_client_fails_us():
    def story(visits):
        heard = []
        visits.fleet.failed = heard.append
        assert visits.gate.enter_now()
        visit = visits.fleet.begin(OWN, OWN, gate=visits.gate, tokens=100)
        visit.failed(error(Owner.HEALTH))
        assert heard == [visits.standing]
        assert visits.pick().open
        assert visits.standing.pick(OWN, visits.loop.time(), tokens=100).open

    told(story)
