"""Two attempts at a time, in virtual time: who wins, and what becomes of the other."""

import asyncio

import pytest

from providers.errors import Owner, UpstreamError
from providers.tests.samples import make_upstream
from proxy.errors import Inexpressible
from proxy.failover import Course, Terms
from proxy.fleet.registry import Fleet
from proxy.limit_errors import BudgetExhausted
from proxy.tests.virtual_time import run

A, B, C = make_upstream("a"), make_upstream("b"), make_upstream("c")
SLOW_S = 10.0


def down(**fields):
    return UpstreamError("no", **{"owner": Owner.HEALTH, "status": 503, **fields})


def mistaken():
    return down(owner=Owner.CALLER, status=400)


class Racing:
    """Vendors that take their time: `times` are seconds, and what then comes, by account."""

    def __init__(self, **times):
        self.loop = asyncio.get_running_loop()
        self.fleet = Fleet(threshold=0, window_s=60.0, half_open_after_s=30.0)
        self.times = times
        self.asked, self.told, self.ends = [], [], {}

    # The race.

    def delay_s(self, visit):
        return SLOW_S if visit.target.account.name in self.times else None

    def won(self, visit):
        self.told.append(("won", visit.target.account.name))

    def lost(self, visit, result):
        self.told.append(("lost", visit.target.account.name, result))

    def left(self, result):
        self.told.append(("left", result))

    # The vendors.

    async def attempt(self, visit):
        name = visit.target.account.name
        self.asked.append((name, self.loop.time() - 1000.0))
        takes_s, result = self.times[name]
        try:
            await asyncio.sleep(takes_s)
        except asyncio.CancelledError:
            self.ends[name] = "cancelled"
            raise
        if isinstance(result, Exception):
            raise result
        visit.ended()
        return result

    async def ask(self, *upstreams, max_attempts=3, within_s=600.0):
        terms = Terms(max_attempts=max_attempts, deadline=self.loop.time() + within_s)
        return await Course(upstreams, self.attempt, fleet=self.fleet, terms=terms, race=self).run()

    async def over(self):
        """See that nothing is left."""
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert all(each.busy == 0 for each in self.fleet.known())


def told(story):
    """Run a story in virtual time, and see that no task's end went unheard."""
    unheard = []

    async def heard():
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: unheard.append(context["message"])
        )
        await story()

    run(heard())
    assert unheard == []


def test_it_asks_one_that_answers_in_time_alone():
    async def story():
        racing = Racing(a=(9.0, "from a"), b=(0.0, "from b"))
        assert await racing.ask(A, B) == "from a"
        assert (racing.asked, racing.told) == ([("a", 0.0)], [("won", "a")])
        await racing.over()

    told(story)


def test_it_asks_a_second_one_when_the_first_is_slow_and_takes_the_first_answer():
    async def story():
        racing = Racing(a=(60.0, "from a"), b=(5.0, "from b"))
        assert await racing.ask(A, B) == "from b"
        assert racing.asked == [("a", 0.0), ("b", SLOW_S)]
        assert racing.told == [("won", "b"), ("lost", "a", None)]
        assert racing.loop.time() == 1015.0
        await racing.over()
        assert racing.ends == {"a": "cancelled"}

    told(story)


def test_it_takes_the_first_ones_answer_when_that_comes_first_after_all():
    async def story():
        racing = Racing(a=(12.0, "from a"), b=(5.0, "from b"))
        assert await racing.ask(A, B) == "from a"
        assert racing.told == [("won", "a"), ("lost", "b", None)]
        await racing.over()
        assert racing.ends == {"b": "cancelled"}

    told(story)


def test_it_takes_the_first_ones_of_two_answers_at_once_and_tells_of_the_other():
    async def story():
        racing = Racing(a=(15.0, "from a"), b=(5.0, "from b"))
        assert await racing.ask(A, B) == "from a"
        assert racing.told == [("won", "a"), ("lost", "b", "from b")]
        await racing.over()

    told(story)


def test_it_says_nothing_of_one_that_failed_in_the_moment_of_the_others_answer():
    async def story():
        racing = Racing(a=(15.0, "from a"), b=(5.0, down()))
        assert await racing.ask(A, B) == "from a"
        assert racing.told == [("won", "a")]
        await racing.over()

    told(story)


@pytest.mark.parametrize("failure", [down, lambda: Inexpressible("no")])
def test_it_waits_for_the_other_when_one_fails(failure):
    async def story():
        racing = Racing(a=(12.0, failure()), b=(5.0, "from b"))
        assert await racing.ask(A, B) == "from b"
        assert racing.told == [("won", "b")]
        racing = Racing(a=(60.0, "from a"), b=(5.0, failure()))
        assert await racing.ask(A, B) == "from a"
        assert racing.told == [("won", "a")]
        await racing.over()

    told(story)


def test_it_goes_on_as_ever_when_both_fail():
    async def story():
        racing = Racing(a=(12.0, down()), b=(5.0, down(timeout="total")), c=(1.0, "from c"))
        assert await racing.ask(A, B, C) == "from c"
        assert [name for name, _ in racing.asked] == ["a", "b", "c"]
        racing = Racing(a=(15.0, down()), b=(5.0, down(timeout="total")))
        with pytest.raises(UpstreamError):  # in the same moment; then the first again, and not the silent one
            await racing.ask(A, B, max_attempts=3)
        assert [name for name, _ in racing.asked] == ["a", "b", "a"]
        await racing.over()

    told(story)


def test_it_gives_the_other_up_when_the_request_itself_is_wrong():
    async def story():
        racing = Racing(a=(12.0, mistaken()), b=(5.0, "from b"))
        with pytest.raises(UpstreamError) as raised:
            await racing.ask(A, B)
        assert raised.value.status == 400
        assert racing.told == [("lost", "b", None)]
        await racing.over()

    told(story)


def test_it_counts_nobody_who_could_not_be_asked():
    async def story():
        racing = Racing(a=(60.0, down()), b=(1.0, Inexpressible("no")), c=(1.0, "from c"))
        assert await racing.ask(A, B, C, max_attempts=2) == "from c"
        assert [name for name, _ in racing.asked] == ["a", "b", "c"]
        await racing.over()

    told(story)


@pytest.mark.parametrize(("upstreams", "most"), [((A, B), 1), ((A,), 3)])
def test_it_asks_no_second_one_where_it_may_not_or_there_is_none(upstreams, most):
    async def story():
        racing = Racing(a=(60.0, "from a"), b=(1.0, "from b"))
        assert await racing.ask(*upstreams, max_attempts=most) == "from a"
        assert racing.asked == [("a", 0.0)]
        await racing.over()

    told(story)


def test_it_asks_no_second_one_after_the_deadline():
    async def story():
        racing = Racing(a=(60.0, "from a"), b=(1.0, "from b"))
        assert await racing.ask(A, B, within_s=SLOW_S) == "from a"
        assert racing.asked == [("a", 0.0)]

    told(story)


def test_it_does_not_hedge_one_whose_times_it_does_not_know():
    async def story():
        racing = Racing(a=(60.0, "from a"), b=(1.0, "from b"))
        racing.delay_s = lambda _: None
        assert await racing.ask(A, B) == "from a"
        assert (racing.asked, racing.told) == ([("a", 0.0)], [])

    told(story)


@pytest.mark.parametrize("after_s", [5.0, SLOW_S, 12.0])
def test_it_gives_both_up_with_the_client(after_s):
    async def story():
        racing = Racing(a=(60.0, "from a"), b=(60.0, "from b"))
        asking = asyncio.create_task(racing.ask(A, B))
        await asyncio.sleep(after_s)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert racing.told == []
        await racing.over()
        assert set(racing.ends.values()) == {"cancelled"}

    told(story)


def test_it_lets_go_of_what_came_in_the_moment_that_the_client_left():
    async def story():
        racing = Racing(a=(12.0, "from a"), b=(2.0, "from b"))
        asking = asyncio.create_task(racing.ask(A, B))
        racing.loop.call_at(1012.0, racing.loop.call_soon, asking.cancel)
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert sorted(racing.told) == [("left", "from a"), ("left", "from b")]
        await racing.over()

    told(story)


def test_a_second_one_for_which_a_budget_has_no_room_costs_the_first_nothing():
    async def story():
        racing = Racing(a=(15.0, "from a"), b=(0.0, BudgetExhausted("no room")))
        assert await racing.ask(A, B) == "from a"
        assert racing.told == [("won", "a")]
        await racing.over()

    told(story)


def test_it_tells_of_the_budget_where_the_first_one_fails_too():
    async def story():
        racing = Racing(a=(15.0, down()), b=(6.0, BudgetExhausted("no room")))
        with pytest.raises(BudgetExhausted):
            await racing.ask(A, B)
        await racing.over()

    told(story)
