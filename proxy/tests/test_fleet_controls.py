import asyncio

import pytest

from proxy.fleet.breaker import State
from proxy.fleet.controls import Controls
from proxy.fleet.registry import Fleet
from proxy.snapshot import Control
from proxy.tests.virtual_time import run

NAME, STARTED_AT = "openai/gpt", 5000.0
NOTHING: dict[str, Control] = {}


class Controlled:
    def __init__(self):
        self.fleet = Fleet(threshold=1, window_s=60.0, half_open_after_s=30.0)
        self.reset = []
        self.controls = Controls(self.fleet, since=STARTED_AT, reset=self._reset)
        self.standing = self.fleet.named(NAME, "openai")

    def _reset(self, standing):
        self.reset.append(standing.id)
        standing.reset()

    def ask(self, *, held=False, reset_at=None):
        self.controls.apply({NAME: Control(held_open=held, reset_at=reset_at)})

    def is_in(self, state):
        return self.standing.breaker.state(self.fleet.loop.time()) is state

    def fail(self):
        breaker, now = self.standing.breaker, self.fleet.loop.time()
        breaker.failed(breaker.start(now), now, reason="x")


def test_it_holds_open_until_it_is_let_go():
    async def story():
        controlled = Controlled()
        controlled.ask(held=True)
        assert controlled.standing.breaker.held
        await asyncio.sleep(1000)
        assert controlled.is_in(State.OPEN)
        controlled.ask(held=True)
        assert controlled.is_in(State.OPEN)
        controlled.ask(held=False)
        assert controlled.is_in(State.CLOSED)
        controlled.ask(held=True)
        controlled.controls.apply(NOTHING)
        assert controlled.is_in(State.CLOSED)

    run(story())


def test_it_holds_one_that_nobody_has_asked_yet():
    async def story():
        controlled = Controlled()
        controlled.controls.apply({"mistral/large": Control(held_open=True, reset_at=None)})
        standing = controlled.fleet.found("mistral/large")
        assert standing is not None
        assert standing.breaker.held
        assert controlled.is_in(State.CLOSED)

    run(story())


def test_it_resets_once():
    async def story():
        controlled = Controlled()
        controlled.controls.apply(NOTHING)
        controlled.fail()
        controlled.ask(reset_at=STARTED_AT + 1)
        assert controlled.is_in(State.CLOSED)
        controlled.fail()
        controlled.ask(reset_at=STARTED_AT + 1)
        assert controlled.is_in(State.OPEN)
        controlled.ask(reset_at=STARTED_AT + 2)
        assert controlled.is_in(State.CLOSED)
        assert controlled.reset == [NAME, NAME]

    run(story())


@pytest.mark.parametrize(("reset_at", "resets"), [(STARTED_AT - 1, False), (STARTED_AT + 1, True)])
def test_it_leaves_to_others_what_was_asked_before_it_started(reset_at, resets):
    async def story():
        controlled = Controlled()
        controlled.fail()
        controlled.ask(reset_at=reset_at)
        assert bool(controlled.reset) is resets

    run(story())


def test_it_minds_no_clock_that_goes_slow():
    """The operator's machine may be behind: what is new since the first look is asked of us."""

    async def story():
        controlled = Controlled()
        controlled.controls.apply(NOTHING)
        controlled.fail()
        controlled.ask(reset_at=STARTED_AT - 10)
        assert controlled.is_in(State.CLOSED)

    run(story())


def test_it_holds_what_was_held_after_its_reset():
    async def story():
        controlled = Controlled()
        controlled.fail()
        controlled.ask(held=True, reset_at=STARTED_AT + 1)
        assert controlled.reset == [NAME]
        assert controlled.standing.breaker.held
        controlled.ask(held=False, reset_at=STARTED_AT + 1)
        assert controlled.is_in(State.CLOSED), "it was reset below the hold"

    run(story())


def test_it_makes_nothing_up_of_an_upstream_that_is_not_known():
    async def story():
        controlled = Controlled()
        controlled.controls.apply(NOTHING)
        controlled.controls.apply({"never/asked": Control(held_open=False, reset_at=STARTED_AT + 1)})
        assert controlled.reset == []
        assert controlled.fleet.found("never/asked") is None

    run(story())
