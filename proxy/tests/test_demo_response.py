"""The demo's answers as the transport sees them: their pauses, their timeouts and their ends."""

import asyncio

import orjson
import pytest

from providers.demo import DemoReply, End
from providers.errors import Owner, UpstreamError
from providers.faults import Faults
from providers.tests.samples import make_account
from providers.upstream import UpstreamRequest
from proxy.deadline import Deadlines
from proxy.demo_response import DemoResponse, ask_demo
from proxy.tests.fakes import until

LONG = 60.0
SOON = 0.01


def answer(*pieces, end=End.WHOLE):
    """Return an answer of (pause, bytes) pieces."""
    return DemoResponse(DemoReply(200, "text/event-stream", iter(pieces), end=end))


def asking(faults=None, *, draw=0.0, stream=False):
    body = {"model": "lorem", "stream": stream, "messages": [{"role": "user", "content": "3 words 0ms"}]}
    account = make_account("demo", base_url="demo://", faults=faults)
    return ask_demo(account, UpstreamRequest("/chat/completions", orjson.dumps(body), {}), draw=lambda: draw)


def soon():
    return asyncio.get_running_loop().time() + SOON


async def fails(awaitable):
    with pytest.raises(UpstreamError) as raised:
        await awaitable
    return raised.value


async def test_it_waits_before_each_piece(monkeypatch):
    waits = []

    async def wait(_, **options):
        waits.append(options["timeout"])

    monkeypatch.setattr("proxy.demo_response.asyncio.wait", wait)
    response = answer((0.0, b"role"), (0.05, b"one"), (0.07, b"two"))
    assert await response.read() == b"roleonetwo"
    assert waits == pytest.approx([0.05, 0.07])


async def test_it_comes_to_its_end():
    response = answer((0.0, b"all"))
    response.watch(name="total", at=soon() + LONG, idle_s=LONG)
    assert [await response.piece(), await response.piece(), await response.piece()] == [b"all", b"", b""]
    assert response.over
    await response.finish()


# ---------------------------------------------------------------- timeouts


@pytest.mark.parametrize("name", ["first content", "total"])
async def test_it_is_silent_no_longer_than_the_timeout_allows(name):
    response = answer((LONG, b"late"))
    response.watch(name=name, at=soon())
    error = await fails(response.piece())
    assert (error.timeout, error.code, error.owner) == (name, "upstream_timeout", Owner.HEALTH)


async def test_it_is_silent_between_pieces_no_longer_than_idle():
    response = answer((0.0, b"first"), (LONG, b"late"))
    response.watch(name="first content", at=soon() + LONG)
    assert await response.piece() == b"first"
    response.watch(name="total", at=soon() + LONG, idle_s=SOON)
    assert (await fails(response.piece())).timeout == "idle"


async def test_it_ends_at_the_total_however_often_it_says_something():
    response = answer(*[(0.0, b"more")] * 10_000)
    response.watch(name="total", at=asyncio.get_running_loop().time())
    assert (await fails(response.read())).timeout == "total"


@pytest.mark.parametrize("limits", [{"at": SOON}, {"at": LONG, "idle_s": SOON}])
async def test_it_stalls_until_a_timeout_fires(limits):
    response = answer((0.0, b"one"), end=End.STALLED)
    assert await response.piece() == b"one"
    now = asyncio.get_running_loop().time()
    response.watch(name="total", **{**limits, "at": now + limits["at"]})
    assert (await fails(response.piece())).timeout == ("idle" if "idle_s" in limits else "total")


async def test_a_whole_answer_stalls_until_its_reader_stops_waiting():
    deadlines = Deadlines()
    response = await asking(Faults(stall_after=1))
    with pytest.raises(UpstreamError) as raised, deadlines.until(soon(), "total"):
        await response.read()
    assert raised.value.timeout == "total"
    deadlines.close()


# ---------------------------------------------------------------- leaving


@pytest.mark.parametrize("pause_s", [LONG, float("inf")])
async def test_it_can_be_left_while_it_is_silent(pause_s):
    response = answer((pause_s, b"never"))
    waiting = asyncio.create_task(response.piece())
    await asyncio.sleep(0)
    response.close()
    assert (await fails(waiting)).code == "upstream_invalid_response"
    response.close()


async def test_nothing_comes_of_it_after_it_was_left():
    response = answer((0.0, b"one"), (0.0, b"two"))
    response.close()
    assert (await fails(response.piece())).code == "upstream_invalid_response"


async def test_its_reader_can_be_cancelled():
    response = answer(end=End.STALLED)
    waiting = asyncio.create_task(response.piece())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    others = asyncio.all_tasks() - {asyncio.current_task()}
    await until(lambda: all(task.done() for task in others))


# ---------------------------------------------------------------- faults


async def test_it_loses_the_connection_as_a_vendor_does():
    response = await asking(Faults(cut_after=2), stream=True)
    pieces = [await response.piece() for _ in range(3)]
    assert b'"content":"ipsum "' in pieces[-1]
    error = await fails(response.piece())
    assert (error.owner, error.code, error.retryable) == (Owner.HEALTH, "upstream_invalid_response", True)
    assert "broke off" in error.message


async def test_a_whole_answer_is_lost_in_its_middle():
    assert (await fails((await asking(Faults(cut_after=1))).read())).code == "upstream_invalid_response"


async def test_it_fails_the_requests_that_have_drawn_it():
    faults = Faults(percent=30, status=503, retry_after_s=9)
    struck, spared = await asking(faults, draw=0.29), await asking(faults, draw=0.3)
    assert (struck.status, struck.headers["retry-after"]) == (503, "9")
    assert (spared.status, "retry-after" in spared.headers) == (200, False)
    assert (await asking()).status == 200


async def test_its_head_is_late(monkeypatch):
    pauses = []

    async def sleep(seconds):
        pauses.append(seconds)

    monkeypatch.setattr("proxy.demo_response.asyncio.sleep", sleep)
    assert (await asking(Faults(latency_ms=1500, status=429))).status == 429
    assert (await asking(Faults(percent=50, latency_ms=1500), draw=0.9)).status == 200
    assert pauses == [1.5]


async def test_the_wait_for_its_head_has_a_bound():
    deadlines = Deadlines()
    with pytest.raises(UpstreamError) as raised, deadlines.until(soon(), "first content"):
        await asking(Faults(latency_ms=60_000))
    assert raised.value.timeout == "first content"
    deadlines.close()
