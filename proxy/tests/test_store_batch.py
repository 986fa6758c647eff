import asyncio

import pytest

from proxy.store import batch as module
from proxy.store.batch import Batcher


async def test_it_sends_what_one_turn_asks_for_in_one_round_trip():
    trips = []

    async def execute(commands):
        trips.append([command[0] for command in commands])
        return list(commands)

    batcher = Batcher(execute)
    assert await asyncio.gather(*[batcher.send(number) for number in range(5)]) == [(n,) for n in range(5)]
    assert trips == [[0, 1, 2, 3, 4]]


async def test_it_gathers_while_round_trips_are_under_way():
    gate, trips = asyncio.Event(), []

    async def execute(commands):
        trips.append(len(commands))
        await gate.wait()
        return list(commands)

    batcher = Batcher(execute)
    answers = []
    for _ in range(module.MAX_UNDER_WAY + 20):
        answers.append(batcher.send("GET"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert trips == [1] * module.MAX_UNDER_WAY
    gate.set()
    await asyncio.gather(*answers)
    assert trips == [1] * module.MAX_UNDER_WAY + [20]


async def test_it_answers_each_with_its_own_failure():
    async def execute(commands):
        return [ValueError("no") if command[0] == "bad" else "ok" for command in commands]

    batcher = Batcher(execute)
    good, bad = batcher.send("good"), batcher.send("bad")
    assert await good == "ok"
    with pytest.raises(ValueError, match="no"):
        await bad


async def test_it_tells_everyone_of_a_failed_round_trip_and_goes_on():
    failures = [OSError("gone")]

    async def execute(commands):
        if failures:
            raise failures.pop()
        return ["ok"] * len(commands)

    batcher = Batcher(execute)
    lost = [batcher.send("GET") for _ in range(3)]
    for each in await asyncio.gather(*lost, return_exceptions=True):
        assert isinstance(each, OSError)
    assert await batcher.send("GET") == "ok"


async def test_it_passes_over_who_has_left():
    async def execute(commands):
        return ["ok"] * len(commands)

    batcher = Batcher(execute)
    left, stays = batcher.send("GET"), batcher.send("GET")
    left.cancel()
    assert await stays == "ok"


async def test_one_batch_at_a_time_keeps_the_order_and_leaves_nobody_behind():
    trips = []

    async def execute(commands):
        trips.append([command[0] for command in commands])
        await asyncio.sleep(0)
        return list(commands)

    batcher = Batcher(execute, under_way=1)
    for number in range(5):  # each is sent by who has just been answered
        assert await batcher.send(number) == (number,)
    first = batcher.send("a")
    await asyncio.sleep(0)
    await asyncio.gather(batcher.send("b"), batcher.send("c"), first)
    assert trips == [[0], [1], [2], [3], [4], ["a"], ["b", "c"]]
