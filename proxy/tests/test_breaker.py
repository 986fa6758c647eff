import math

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from proxy.fleet.breaker import NO_SAY, Breaker, State

THRESHOLD, WINDOW_S, HALF_OPEN_AFTER_S = 3, 60.0, 30.0


class Told(list[State]):
    """What `changed` heard: the states, at the time in `now`."""

    now = 0.0

    def __call__(self, breaker):
        self.append(breaker.state(self.now))


@pytest.fixture
def told():
    return Told()


@pytest.fixture
def breaker(told):
    return make(told)


def make(told=None, *, threshold=THRESHOLD):
    return Breaker(threshold=threshold, window_s=WINDOW_S, half_open_after_s=HALF_OPEN_AFTER_S, changed=told)


def fail(breaker, now, *, times=1):
    for _ in range(times):
        breaker.failed(breaker.start(now), now, reason="upstream_error")


def opened(breaker, now=0.0):
    fail(breaker, now, times=THRESHOLD)
    assert breaker.state(now) == State.OPEN
    return breaker


def test_it_opens_at_the_threshold(breaker, told):
    """The last failure of `threshold` within the window opens it, and that is told once."""
    fail(breaker, 0.0, times=THRESHOLD - 1)
    assert breaker.state(0.0) == State.CLOSED
    assert breaker.allows(0.0)
    assert breaker.failures(0.0) == THRESHOLD - 1
    assert told == []
    fail(breaker, 59.0)
    told.now = 59.0
    assert breaker.state(59.0) == State.OPEN
    assert not breaker.allows(59.0)
    assert breaker.retry_at(59.0) == 89.0
    assert breaker.reason == "upstream_error"
    assert len(told) == 1


def test_it_forgets_failures_older_than_the_window(breaker):
    """However many failures come one after the other, slowly enough they open nothing."""
    for number in range(50):
        fail(breaker, number * WINDOW_S / (THRESHOLD - 1))
    assert breaker.state(50 * WINDOW_S) == State.CLOSED
    assert breaker.failures(50 * WINDOW_S) < THRESHOLD


def test_a_success_undoes_no_failure(breaker):
    """Half of the answers being good does not make an upstream healthy."""
    for _ in range(THRESHOLD):
        breaker.succeeded(breaker.start(1.0))
        fail(breaker, 1.0)
    assert breaker.state(1.0) == State.OPEN


def test_it_lets_one_probe_through(breaker, told):
    """Half-open, one attempt may start; its success closes the breaker and forgets the failures."""
    opened(breaker)
    assert not breaker.allows(29.9)
    assert breaker.state(30.0) == State.HALF_OPEN
    assert breaker.retry_at(30.0) == 30.0
    told.now = 30.0
    probe = breaker.start(30.0)
    assert not breaker.allows(30.0)
    assert breaker.state(30.0) == State.HALF_OPEN
    breaker.succeeded(probe)
    assert breaker.state(30.0) == State.CLOSED
    assert breaker.failures(30.0) == 0
    assert told == [State.OPEN, State.HALF_OPEN, State.CLOSED]


def test_a_failed_probe_opens_it_again(breaker, told):
    """It waits as long again, and goes on counting for how long the upstream has been away."""
    opened(breaker)
    told.now = 40.0
    fail(breaker, 40.0)
    assert breaker.state(69.9) == State.OPEN
    assert breaker.allows(70.0)
    assert breaker.opened_for_s(70.0) == 70.0
    assert told == [State.OPEN, State.HALF_OPEN, State.OPEN]


def test_a_released_probe_gives_its_place_to_the_next(breaker, told):
    """A client that leaves says nothing of the upstream; the next attempt is the probe."""
    opened(breaker)
    probe = breaker.start(30.0)
    breaker.released(probe)
    assert breaker.state(30.0) == State.HALF_OPEN
    assert breaker.allows(30.0)
    breaker.succeeded(breaker.start(30.0))
    assert breaker.state(30.0) == State.CLOSED
    assert len(told) == 3


def test_a_forgotten_probe_blocks_nothing_for_ever(breaker):
    """Its place is free again after the time that opens a breaker half."""
    opened(breaker)
    breaker.start(30.0)
    assert not breaker.allows(59.9)
    assert breaker.allows(60.0)
    breaker.succeeded(breaker.start(60.0))
    assert breaker.state(60.0) == State.CLOSED


def test_a_probe_slower_than_its_place_keeps_its_say(breaker):
    """A vendor that always takes longer than a probe has its place for must be able to come back."""
    opened(breaker)
    slow = breaker.start(30.0)
    breaker.start(60.0)
    breaker.succeeded(slow)
    assert breaker.state(75.0) == State.CLOSED


def test_a_probe_that_lost_its_place_does_not_free_the_place_of_the_next(breaker):
    """What was the first's is the second's now."""
    opened(breaker)
    slow = breaker.start(30.0)
    breaker.start(60.0)
    breaker.released(slow)
    assert not breaker.allows(61.0)


def test_late_successes_do_not_close_it(breaker, told):
    """Fifty under way when it opens: what they find says nothing of now, open or half-open."""
    late = [breaker.start(0.0) for _ in range(50)]
    opened(breaker)
    breaker.succeeded(late.pop())
    assert breaker.state(1.0) == State.OPEN
    breaker.start(30.0)
    for ticket in late:
        breaker.succeeded(ticket)
    assert breaker.state(31.0) == State.HALF_OPEN
    assert not breaker.allows(31.0)
    assert len(told) == 2


def test_late_failures_do_not_keep_it_open(breaker):
    """They neither prolong its time, nor end the probe, nor count once a probe has closed it."""
    late = [breaker.start(0.0) for _ in range(50)]
    opened(breaker)
    breaker.failed(late.pop(), 20.0, reason="late")
    assert breaker.retry_at(20.0) == 30.0
    probe = breaker.start(30.0)
    breaker.failed(late.pop(), 31.0, reason="late")
    assert breaker.state(31.0) == State.HALF_OPEN
    breaker.succeeded(probe)
    for ticket in late:
        breaker.failed(ticket, 32.0, reason="late")
    assert breaker.state(32.0) == State.CLOSED
    assert breaker.failures(32.0) == 0
    assert breaker.reason == "upstream_error"


def test_a_late_release_does_not_free_the_probes_place(breaker):
    """Only the probe itself gives it back."""
    late = breaker.start(0.0)
    opened(breaker)
    breaker.start(30.0)
    breaker.released(late)
    breaker.released(NO_SAY)
    assert not breaker.allows(31.0)


def test_an_attempt_that_was_not_allowed_has_no_say(breaker):
    """As the last resort an open upstream may be tried; that is no probe."""
    opened(breaker)
    assert breaker.start(1.0) == NO_SAY
    breaker.succeeded(NO_SAY)
    breaker.failed(NO_SAY, 2.0, reason="last resort")
    assert breaker.state(2.0) == State.OPEN
    assert breaker.retry_at(2.0) == 30.0


def test_threshold_zero_never_opens(told):
    """Off is off, whatever fails here or opens elsewhere."""
    breaker = make(told, threshold=0)
    fail(breaker, 0.0, times=1000)
    breaker.open_for(60.0, 0.0)
    assert breaker.allows(0.0)
    assert told == []


def test_an_operator_holds_open_even_what_is_off(told):
    """The hold is a person's decision, not the breaker's."""
    breaker = make(told, threshold=0)
    breaker.hold_open()
    assert not breaker.allows(1e9)
    breaker.release_hold()
    assert breaker.allows(1e9)
    assert told == [State.OPEN, State.CLOSED]


def test_it_opens_as_another_worker_has(breaker, told):
    """For as long as told, never shorter than it is open already; and it tells nobody."""
    breaker.open_for(20.0, 5.0, reason="learned")
    assert breaker.state(24.9) == State.OPEN
    assert breaker.state(25.0) == State.HALF_OPEN
    assert breaker.reason == "learned"
    breaker.open_for(10.0, 10.0, reason="shorter")
    assert breaker.retry_at(10.0) == 25.0
    breaker.open_for(30.0, 10.0)
    assert breaker.retry_at(10.0) == 40.0
    assert breaker.reason == "learned"
    assert told == []


def test_another_workers_opening_outdates_the_probe_of_this_one(breaker):
    """The probe started before that worker's last failure."""
    opened(breaker)
    probe = breaker.start(30.0)
    breaker.open_for(10.0, 31.0)
    assert breaker.state(31.0) == State.OPEN
    breaker.succeeded(probe)
    assert breaker.state(31.0) == State.OPEN
    assert breaker.retry_at(31.0) == 41.0


def test_an_opening_that_is_over_changes_nothing(breaker):
    """News may be late."""
    breaker.open_for(0.0, 5.0)
    breaker.open_for(-3.0, 5.0)
    assert breaker.state(5.0) == State.CLOSED


def test_a_hold_lets_no_probe_through(breaker, told):
    """Once released it goes on from where it was."""
    opened(breaker)
    breaker.hold_open()
    breaker.hold_open()
    assert breaker.state(100.0) == State.OPEN
    assert not breaker.allows(100.0)
    assert breaker.retry_at(100.0) == math.inf
    breaker.release_hold()
    breaker.release_hold()
    assert breaker.state(20.0) == State.OPEN
    assert breaker.state(100.0) == State.HALF_OPEN
    assert len(told) == 3


def test_a_hold_frees_the_place_of_a_probe_under_way(breaker):
    """That probe has no say any more, so the next one need not wait for it."""
    opened(breaker)
    probe = breaker.start(30.0)
    breaker.hold_open()
    breaker.succeeded(probe)
    breaker.release_hold()
    assert breaker.state(31.0) == State.HALF_OPEN
    assert breaker.allows(31.0)


def test_a_reset_closes_and_forgets(breaker, told):
    """Attempts that were under way then do not open it again."""
    late = [breaker.start(0.0) for _ in range(THRESHOLD)]
    opened(breaker)
    breaker.hold_open()
    breaker.reset()
    for ticket in late:
        breaker.failed(ticket, 1.0, reason="late")
    assert breaker.state(1.0) == State.CLOSED
    assert not breaker.held
    assert breaker.reason == ""
    assert breaker.failures(1.0) == 0
    assert breaker.opened_for_s(1.0) == 0.0
    breaker.reset()
    assert told == [State.OPEN, State.OPEN, State.CLOSED]


# ---------------------------------------------------------------- against a model

# Exact in floating point, and at the boundaries often.
SECONDS = st.sampled_from([0.0, 0.5, 10.0, 29.5, HALF_OPEN_AFTER_S, 59.5, WINDOW_S])


class Attempt:
    """One in the model: its identity is all that it has."""


class BreakerAgainstModel(RuleBasedStateMachine):
    """The model remembers everything, and recomputes all from it: no tickets, no rings."""

    attempts = Bundle("attempts")

    def __init__(self):
        super().__init__()
        self.told = []
        self.breaker = make(self._hear)
        self.now = 0.0
        self.have_say = set()  # attempts whose verdict counts
        self.failed_at = []
        self.opened_at = None
        self.waits_until = 0.0  # open before, half-open from
        self.probe = None
        self.place_free_at = 0.0
        self.held = False
        self.reason = ""
        self.expected = []

    def _hear(self, breaker):
        self.told.append(breaker.state(self.now))

    # The model.

    def model_state(self):
        if self.held:
            return State.OPEN
        if self.opened_at is None:
            return State.CLOSED
        return State.OPEN if self.now < self.waits_until else State.HALF_OPEN

    def model_allows(self):
        state = self.model_state()
        place_free = self.probe is None or self.now >= self.place_free_at
        return state == State.CLOSED or (state == State.HALF_OPEN and place_free)

    def recent(self):
        return min(THRESHOLD, sum(self.now - at < WINDOW_S for at in self.failed_at))

    def silence(self):
        self.have_say, self.probe = set(), None

    def model_open(self, seconds):
        self.opened_at = self.now if self.opened_at is None else self.opened_at
        self.waits_until = self.now + seconds
        self.silence()

    def model_close(self):
        self.opened_at, self.failed_at = None, []
        self.silence()

    def hears(self):
        self.expected.append(self.model_state())

    # What happens.

    @rule(seconds=SECONDS)
    def time_passes(self, seconds):
        self.now += seconds

    @rule()
    def its_time_comes(self):
        """To the very moment from which the next attempt may start."""
        if not self.held and not self.model_allows():
            self.now = max(self.waits_until, self.place_free_at if self.probe else 0.0)

    @rule(target=attempts)
    def start(self):
        attempt, allowed = Attempt(), self.model_allows()
        if allowed:
            self.have_say.add(attempt)
        if allowed and self.opened_at is not None:
            first = self.probe is None
            self.probe, self.place_free_at = attempt, self.now + HALF_OPEN_AFTER_S
            if first:
                self.hears()
        return attempt, self.breaker.start(self.now)

    @rule(started=consumes(attempts))
    def succeed(self, started):
        attempt, ticket = started
        if attempt in self.have_say and self.opened_at is not None:
            self.model_close()
            self.hears()
        self.breaker.succeeded(ticket)

    @rule(started=consumes(attempts), reason=st.sampled_from(["status", "timeout"]))
    def fail(self, started, reason):
        attempt, ticket = started
        if attempt in self.have_say:
            self.reason = reason
            self.failed_at.append(self.now)
            if self.opened_at is not None or self.recent() == THRESHOLD:
                self.model_open(HALF_OPEN_AFTER_S)
                self.hears()
        self.breaker.failed(ticket, self.now, reason=reason)

    @rule()
    def fail_to_the_brim(self):
        """A burst: what single steps seldom make."""
        for _ in range(THRESHOLD):
            self.fail(self.start(), "burst")

    @rule(started=consumes(attempts))
    def release(self, started):
        attempt, ticket = started
        if attempt is self.probe:
            self.place_free_at = self.now
        self.breaker.released(ticket)

    @rule(seconds=SECONDS)
    def learn_of_an_opening(self, seconds):
        open_longer = (
            self.opened_at is not None
            and self.waits_until >= self.now + seconds
            and self.now < self.waits_until
        )
        if seconds and not open_longer:
            self.model_open(seconds)
        self.breaker.open_for(seconds, self.now)

    @rule()
    def hold(self):
        if not self.held:
            self.held = True
            self.silence()
            self.hears()
        self.breaker.hold_open()

    @precondition(lambda self: self.held)
    @rule()
    def release_hold(self):
        self.held = False
        self.hears()
        self.breaker.release_hold()

    @rule()
    def reset(self):
        before = (self.held, self.opened_at)
        self.held, self.reason = False, ""
        self.model_close()
        if before != (False, None):
            self.hears()
        self.breaker.reset()

    # What must hold.

    @invariant()
    def it_does_as_the_model(self):
        breaker, now = self.breaker, self.now
        assert breaker.state(now) == self.model_state()
        assert breaker.allows(now) == self.model_allows()
        assert breaker.failures(now) == self.recent()
        assert breaker.opened_for_s(now) == (0.0 if self.opened_at is None else now - self.opened_at)
        assert (breaker.held, breaker.reason) == (self.held, self.reason)
        assert self.told == self.expected

    @invariant()
    def it_names_the_moment_from_which_it_allows(self):
        retry_at = self.breaker.retry_at(self.now)
        assert retry_at >= self.now
        assert self.breaker.allows(self.now) == (retry_at == self.now)
        if retry_at < math.inf:
            assert self.breaker.allows(retry_at)
            assert not self.breaker.allows(retry_at - 0.25) or retry_at == self.now

    @invariant()
    def only_a_hold_blocks_it_for_long(self):
        far = self.now + max(HALF_OPEN_AFTER_S, WINDOW_S)
        assert self.breaker.allows(far) != self.held


TestBreakerAgainstModel = BreakerAgainstModel.TestCase
TestBreakerAgainstModel.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def test_it_closes_as_another_worker_has(breaker, told):
    """What others have told is no news to them; attempts under way have no say any more."""
    opened(breaker)
    late = breaker.start(HALF_OPEN_AFTER_S)
    told.clear()
    breaker.close()
    assert breaker.state(HALF_OPEN_AFTER_S) == State.CLOSED
    assert breaker.failures(HALF_OPEN_AFTER_S) == 0
    breaker.failed(late, HALF_OPEN_AFTER_S, reason="x")
    assert breaker.failures(HALF_OPEN_AFTER_S) == 0
    assert told == []


def test_it_stays_held_when_another_worker_closes(breaker):
    opened(breaker)
    breaker.hold_open()
    breaker.close()
    assert breaker.state(0.0) == State.OPEN
    breaker.release_hold()
    assert breaker.state(0.0) == State.CLOSED


def test_it_knows_how_long_failures_keep_it_open(breaker):
    assert breaker.opens_for_s(0.0) == 0.0
    opened(breaker)
    breaker.hold_open()
    assert breaker.opens_for_s(10.0) == HALF_OPEN_AFTER_S - 10
    assert breaker.opens_for_s(HALF_OPEN_AFTER_S + 1) == 0.0
    breaker.release_hold()
    breaker.start(HALF_OPEN_AFTER_S)
    assert breaker.opens_for_s(HALF_OPEN_AFTER_S) == 0.0
