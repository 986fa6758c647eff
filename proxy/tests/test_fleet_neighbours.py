import asyncio

from hypothesis import given
from hypothesis import strategies as st

from providers.errors import Owner, UpstreamError
from providers.tests.samples import make_upstream
from proxy.fleet.breaker import State
from proxy.fleet.neighbours import Neighbours
from proxy.fleet.news import Kind, News
from proxy.fleet.registry import Fleet
from proxy.tests.virtual_time import VirtualLoop, run

A = make_upstream("a")
HALF_OPEN_AFTER_S = 30.0


class Worker:
    """One of several; what they tell goes through `channel`, in one order for all."""

    def __init__(self, name, channel, *, threshold=1):
        self.fleet = Fleet(threshold=threshold, window_s=60.0, half_open_after_s=HALF_OPEN_AFTER_S)
        self.looked = []
        self.neighbours = Neighbours(
            self.fleet, by=name, tell=channel.append, looked=lambda each: self.looked.append(each.id)
        )
        self.fleet.changed, self.fleet.failed = self.neighbours.turned, self.neighbours.failed

    def fail(self, **fields):
        visit = self.fleet.begin(A, A)
        visit.failed(UpstreamError("no", **{"owner": Owner.HEALTH, "code": "upstream_error", **fields}))

    def answer(self):
        self.fleet.begin(A, A).ended()

    @property
    def breaker(self):
        return self.fleet.standing(A).breaker

    @property
    def state(self):
        return self.breaker.state(self.fleet.loop.time())


class Room:
    """Two workers, and the channel between them."""

    def __init__(self, **options):
        self.channel = []
        self.one, self.other = (
            Worker("one", self.channel, **options),
            Worker("other", self.channel, **options),
        )

    def deliver(self):
        told = list(self.channel)
        self.channel.clear()
        for news in told:
            for worker in (self.one, self.other):
                worker.neighbours.heard(news)
        assert self.channel == [], "news of others was told again"
        return told


def test_it_opens_what_another_has_opened_for_what_is_left_of_it():
    async def story():
        room = Room()
        room.one.fail()
        (news,) = room.channel
        assert (news.kind, news.upstream, news.for_s) == (Kind.OPEN, A.id, HALF_OPEN_AFTER_S)
        room.channel[0] = news.after(10.0)
        room.deliver()
        assert room.other.state is State.OPEN
        assert room.other.breaker.reason == "upstream_error"
        assert room.other.breaker.retry_at(1000.0) == 1000.0 + HALF_OPEN_AFTER_S - 10
        assert room.one.breaker.retry_at(1000.0) == 1000.0 + HALF_OPEN_AFTER_S, "its own news changes nothing"
        assert room.other.looked == [A.id]

    run(story())


def test_it_closes_what_anothers_probe_has_closed():
    async def story():
        room = Room()
        room.one.fail()
        room.deliver()
        await asyncio.sleep(HALF_OPEN_AFTER_S)
        room.other.answer()
        (news,) = room.deliver()
        assert news.kind is Kind.CLOSED
        assert (room.one.state, room.other.state) == (State.CLOSED, State.CLOSED)

    run(story())


def test_it_opens_again_with_anothers_failed_probe():
    async def story():
        room = Room()
        room.one.fail()
        room.deliver()
        await asyncio.sleep(HALF_OPEN_AFTER_S)
        room.other.fail()
        room.deliver()
        assert (room.one.state, room.other.state) == (State.OPEN, State.OPEN)

    run(story())


def test_it_tells_what_a_vendor_has_told():
    async def story():
        room = Room()
        room.one.fail(owner=Owner.CAPACITY, retry_after_s=20.0)
        room.deliver()
        pick = room.other.fleet.standing(A).pick(A, 1000.0, tokens=0)
        assert (pick.upstream, pick.at) == (None, 1020.0)

    run(story())


def test_it_keeps_guesses_and_mistakes_to_itself():
    async def story():
        room = Room()
        room.one.fail(owner=Owner.CAPACITY)
        room.one.fail(owner=Owner.CREDENTIAL)
        room.one.fail(owner=Owner.CALLER)
        assert room.channel == []

    run(story())


def test_it_tells_nothing_of_holds():
    """Every worker has them from its configuration; and what is below a hold is for all as it was."""

    async def story():
        room = Room()
        room.one.breaker.hold_open()
        room.one.breaker.release_hold()
        assert room.channel == []
        room.one.fail()
        room.deliver()
        room.one.breaker.hold_open()
        room.one.breaker.release_hold()
        room.deliver()
        assert (room.one.state, room.other.state) == (State.OPEN, State.OPEN)

    run(story())


def test_it_keeps_a_hold_whatever_it_hears():
    async def story():
        room = Room()
        room.other.breaker.hold_open()
        room.one.fail()
        room.one.breaker.reset()
        assert [news.kind for news in room.deliver()] == [Kind.OPEN, Kind.CLOSED]
        assert room.other.breaker.held

    run(story())


def test_it_tells_of_a_reset():
    async def story():
        room = Room()
        room.one.fail()
        room.one.fail(owner=Owner.CAPACITY, retry_after_s=20.0)
        room.deliver()
        standing = room.one.fleet.standing(A)
        room.one.neighbours.forgets(standing)
        standing.reset()
        told = {news.kind: news.for_s for news in room.deliver()}
        assert told == {Kind.COOL: 0.0, Kind.CLOSED: 0.0}
        assert room.other.state is State.CLOSED

    run(story())


def test_it_repeats_what_holds():
    async def story():
        room = Room()
        room.one.fail()
        room.one.fail(owner=Owner.CAPACITY, retry_after_s=20.0)
        room.channel.clear()  # Redis was down
        room.one.neighbours.repeat([room.one.fleet.standing(A)])
        assert [news.kind for news in room.channel] == [Kind.OPEN, Kind.COOL]
        room.deliver()
        assert room.other.state is State.OPEN

    run(story())


def test_it_knows_nothing_of_those_that_are_closed_elsewhere():
    async def story():
        room = Room()
        room.one.neighbours.heard(News(Kind.CLOSED, "never/asked", "third"))
        room.one.neighbours.heard(News(Kind.COOL, "never/asked", "third"))
        assert room.one.fleet.found("never/asked") is None
        room.one.neighbours.heard(News(Kind.OPEN, "never/asked", "third", for_s=5.0))
        standing = room.one.fleet.found("never/asked")
        assert standing is not None
        assert standing.breaker.state(1000.0) is State.OPEN

    run(story())


def test_it_opens_nothing_where_breakers_are_off():
    async def story():
        room = Room(threshold=0)
        room.one.neighbours.heard(News(Kind.OPEN, A.id, "third", for_s=5.0))
        assert room.one.state is State.CLOSED

    run(story())


STEPS = st.lists(
    st.sampled_from(["one fails", "other fails", "one answers", "other answers", "time", "news"])
)


@given(STEPS)
def test_all_end_up_in_the_same_state_whatever_crosses(steps):
    """News may cross on its way; when all of it has arrived, both let through or neither does."""
    loop = VirtualLoop()

    async def story():
        room = Room()
        for step in steps:
            if step == "time":
                await asyncio.sleep(HALF_OPEN_AFTER_S)
            elif step == "news":
                room.deliver()
            else:
                worker = room.one if step.startswith("one") else room.other
                if worker.breaker.allows(loop.time()):
                    worker.fail() if step.endswith("fails") else worker.answer()
        room.deliver()
        assert (room.one.state is State.CLOSED) == (room.other.state is State.CLOSED)

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(story())
