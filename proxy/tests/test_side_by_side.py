"""Two in-process stores of one directory: what they admit together, and what they know when one has gone."""

import asyncio
import os
import subprocess
import sys

import pytest

from keys.limits import Ceiling, Purse
from proxy.cache import BYPASS
from proxy.demand import purse_of
from proxy.store.base import Demand, Ledgered
from proxy.store.beside import Beside
from proxy.store.side_by_side import SideBySideStore
from tests.servers import CHECKOUT

NOW = 1_800_000_000.0
LIMIT = 1000


def purse(number: int = 1) -> Purse:
    return purse_of(Ceiling(number, LIMIT, "month"), NOW)


KEY = purse().key


@pytest.fixture
async def stores(tmp_path):
    made = []

    def make(name):
        made.append(SideBySideStore(Beside(tmp_path, name), max_bytes=0))
        return made[-1]

    yield make
    for store in made:
        if store._looks is not None and not store._looks.cancelled():
            await store.close()


def demand(identity, worst=100):
    return Demand(identity, purses=(purse(),), worst=worst, expected=worst)


async def admit(store, identity, worst=100):
    return await store.admit(demand(identity, worst), BYPASS, now=NOW)


async def stand(store):
    store.beside.read(store)
    (used,) = await store.used((), [purse()], now=NOW)
    return used.used, used.held


def meet(*stores):
    """Have each look around twice: once to be seen, once to read what was said."""
    for _ in range(2):
        for store in stores:
            store.beside.look(store)


async def test_it_admits_at_once_while_it_is_alone(stores):
    store = stores("a")
    assert store.beside.alone
    assert store.beside.met.is_set()
    assert store.admit_now(demand("1"), BYPASS, now=NOW).hold is not None


async def test_whoever_comes_is_told_what_is_spent_and_held(stores):
    first = stores("a")
    first.raise_spent({KEY: Ledgered(300, 20)})
    held = await admit(first, "1", 150)
    ended = await admit(first, "2")
    first.settle(ended.hold, tokens=0, costs=[70], now=NOW)
    second = stores("b")
    assert not second.beside.met.is_set()
    meet(first, second)
    assert second.beside.met.is_set()
    assert await stand(second) == (370, 150)
    assert second.sums() == {KEY: Ledgered(370, 20)}
    first.settle(held.hold, tokens=0, costs=[140], now=NOW)
    assert await stand(second) == (510, 0) == await stand(first)


async def test_together_they_admit_no_more_than_fits(stores):
    first, second = stores("a"), stores("b")
    meet(first, second)
    both = [
        admit(store, f"{name}{number}")
        for number in range(9)
        for name, store in (("a", first), ("b", second))
    ]
    admissions = await asyncio.gather(*both)
    assert sum(each.hold is not None for each in admissions) == LIMIT // 100
    assert await stand(first) == await stand(second) == (0, LIMIT)
    for each, store in zip(admissions, [first, second] * 9, strict=True):
        if each.hold is not None:
            store.settle(each.hold, tokens=0, costs=[60], now=NOW)
    assert await stand(first) == await stand(second) == (600, 0)


async def test_a_hold_that_grows_or_is_given_back_is_known_to_the_other(stores):
    first, second = stores("a"), stores("b")
    meet(first, second)
    hold = (await admit(first, "1")).hold
    assert await first.raise_hold(hold, worst=100, expected=100, now=NOW) is None
    assert await stand(second) == (0, 200)
    other = (await admit(second, "2")).hold
    assert await second.raise_hold(other, worst=750, expected=1, now=NOW) is not None
    first.give_back(hold, now=NOW)
    assert await stand(second) == (0, 100)
    assert await stand(first) == (0, 100)


async def test_it_waits_while_another_has_its_turn(stores):
    first, second = stores("a"), stores("b")
    meet(first, second)
    assert first.beside.take_turn()
    waiting = asyncio.create_task(admit(second, "1"))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not waiting.done()
    first.beside.end_turn()
    assert (await waiting).hold is not None


async def test_it_goes_on_alone_when_the_other_has_left(stores, tmp_path):
    first, second = stores("a"), stores("b")
    meet(first, second)
    left = await admit(first, "1")
    ended = await admit(first, "2")
    first.settle(ended.hold, tokens=0, costs=[40], now=NOW)
    await first.close()
    second.beside.look(second)
    assert left.hold is not None
    assert await stand(second) == (40, 0)
    assert second.beside.alone
    assert [path.name for path in tmp_path.glob("*.purses")] == ["b.purses"]
    assert second.admit_now(demand("3"), BYPASS, now=NOW).hold is not None


async def test_what_the_ledger_says_counts_nothing_twice(stores):
    """It knows of an answer by the time that it is asked: so does whoever raises its sums to it."""
    first, second = stores("a"), stores("b")
    meet(first, second)
    hold = (await admit(first, "1")).hold
    first.settle(hold, tokens=0, costs=[80], now=NOW)
    second.raise_spent({KEY: Ledgered(80)})
    assert await stand(second) == (80, 0)


async def test_a_process_that_was_killed_is_no_longer_there(stores, tmp_path):
    script = (
        "import asyncio, os, signal\n"
        "from pathlib import Path\n"
        "from proxy.store.beside import Beside\n"
        f"Beside(Path({str(tmp_path)!r}), 'killed')\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    await asyncio.to_thread(subprocess.run, [sys.executable, "-c", script], cwd=CHECKOUT, check=False)
    assert (tmp_path / "killed.purses").exists()
    store = stores("a")
    assert store.beside.alone
    assert not (tmp_path / "killed.purses").exists()


async def test_what_was_written_half_is_passed_over(stores):
    first, second = stores("a"), stores("b")
    meet(first, second)
    os.write(first.beside._file, b'{"kind":"hel')
    assert await stand(second) == (0, 0)
    os.write(first.beside._file, b"\n")
    await admit(first, "1")
    assert await stand(second) == (0, 100)
