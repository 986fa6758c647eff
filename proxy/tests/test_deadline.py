import asyncio

import pytest

from providers.errors import UpstreamError
from proxy.deadline import Deadlines


def never():
    return asyncio.get_running_loop().create_future()


async def bounded(deadlines, seconds, name="total"):
    with deadlines.until(deadlines.loop.time() + seconds, name):
        await never()


async def test_each_wait_ends_at_its_own_time():
    deadlines, ended = Deadlines(), []

    async def wait(seconds, name):
        with pytest.raises(UpstreamError) as failure:
            await bounded(deadlines, seconds, name)
        ended.append(failure.value.timeout)

    await asyncio.gather(wait(0.06, "total"), wait(0.02, "first content"), wait(0.04, "idle"))
    assert ended == ["first content", "idle", "total"]


async def test_what_has_ended_in_time_is_left_alone():
    deadlines = Deadlines()
    for _ in range(3):
        with deadlines.until(deadlines.loop.time() + 0.01, "total"):
            await asyncio.sleep(0)
    await asyncio.sleep(0.05)
    with pytest.raises(UpstreamError):
        await bounded(deadlines, 0.01)


async def test_a_time_that_has_passed_ends_the_first_wait():
    deadlines = Deadlines()
    with pytest.raises(UpstreamError):
        await bounded(deadlines, -1.0)


async def test_many_waits_set_one_timer(monkeypatch):
    deadlines, loop, timers = Deadlines(), asyncio.get_running_loop(), []
    real = loop.call_at

    def counted(at, *arguments):
        timers.append(real(at, *arguments))
        return timers[-1]

    monkeypatch.setattr(deadlines, "loop", type("Loop", (), {"call_at": staticmethod(counted)}))
    now = loop.time()
    for number in range(100):
        deadlines.add(deadlines.until(now + 60 + number, "total"))
    assert len(timers) == 1
    deadlines.add(deadlines.until(now + 30, "total"))
    assert len(timers) == 2
    assert timers[0].cancelled()
    deadlines.close()
    assert timers[1].cancelled()


async def test_a_cancellation_from_elsewhere_goes_through():
    deadlines = Deadlines()
    waiting = asyncio.create_task(bounded(deadlines, 60.0))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_cancellation_from_elsewhere_wins_over_a_deadline_of_the_same_moment():
    deadlines = Deadlines()
    deadline = deadlines.until(deadlines.loop.time() + 60, "total")

    async def wait():
        with deadline:
            await never()

    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0)
    deadline.fire()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
