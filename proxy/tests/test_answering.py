"""A stream whose first content lets itself be waited for: the head goes out with a comment, and then?"""

import asyncio

import pytest

from providers.errors import Owner, UpstreamError
from providers.tests.samples import TEXT_STREAM, chunk, sse, usage_chunk
from proxy import answering, exchange
from proxy.answering import gateway_headers
from proxy.asgi import lane
from proxy.renderers import KEEP_ALIVE
from proxy.tests.fakes import (
    FakeResponse,
    Log,
    chat_request,
    make_completion,
    refuses,
    spool_lines,
    streams,
    until,
)

SEEN = TEXT_STREAM.replace(sse(usage_chunk()), b"")
GONE = UpstreamError("gone", owner=Owner.HEALTH, code="upstream_reset")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(exchange, "log", Log())


class Slow:
    """A vendor that answers when told to."""

    def __init__(self, serving, **env):
        self.answer = asyncio.get_running_loop().create_future()
        self.gateway = serving(self._answer, max_retries=1, **{"stream_keep_alive_s": 0.01, **env})
        self.client = chat_request(stream=True)
        self.task = asyncio.create_task(self.client.run(lane))

    async def _answer(self):
        return await self.answer

    async def head(self):
        """Wait until the head and a comment have gone out."""
        await until(lambda: len(self.client.messages) >= 2)
        assert self.client.status == 200
        assert self.client.body.startswith(KEEP_ALIVE)

    async def ended(self):
        await self.task
        while self.gateway._tasks:
            await asyncio.gather(*self.gateway._tasks, return_exceptions=True)
        (done,) = [
            line for line in spool_lines(self.gateway.env.data_dir / "spool") if line["kind"] == "done"
        ]
        return done


async def test_it_holds_the_head_for_the_first_content(serving):
    slow = Slow(serving)
    slow.answer.set_result(streams())
    await slow.task
    assert slow.client.body == SEEN


async def test_it_sends_comments_while_the_vendor_thinks(serving):
    slow = Slow(serving)
    await until(lambda: slow.client.body.count(KEEP_ALIVE) >= 2)
    slow.answer.set_result(streams())
    done = await slow.ended()
    assert slow.client.body.endswith(KEEP_ALIVE + SEEN)
    assert (done["outcome"], done["usage"]["completion"]) == ("ok", 2)
    assert done["ttft_ms"] > 10


@pytest.mark.parametrize(
    ("answer", "code", "status"),
    [(lambda: refuses(503, "down"), "upstream_error", 503), (lambda: streams(GONE), "upstream_reset", 502)],
)
async def test_it_can_only_tell_of_a_failure_in_the_stream_by_then(serving, answer, code, status):
    slow = Slow(serving)
    await slow.head()
    slow.answer.set_result(answer())
    done = await slow.ended()
    assert slow.client.status == 200
    assert slow.client.events[-1]["error"]["code"] == code
    assert (done["status"], done["outcome"], done["error_code"]) == (status, "error", code)


async def test_it_tells_of_a_fault_of_ours_in_the_stream_by_then(serving, monkeypatch):
    log = Log()
    monkeypatch.setattr(answering, "log", log)
    slow = Slow(serving)
    await slow.head()
    slow.answer.set_exception(ZeroDivisionError())
    done = await slow.ended()
    assert slow.client.events[-1]["error"]["code"] == "internal_error"
    assert (done["status"], done["error_code"]) == (500, "internal_error")
    assert log.problems == ["opening"]


async def test_it_gives_up_opening_when_the_client_leaves_before_the_head(serving, monkeypatch):
    slow = Slow(serving, stream_keep_alive_s=100.0)
    await until(lambda: slow.gateway.transport.requests)
    slow.client.left.set()
    done = await slow.ended()
    assert slow.answer.cancelled()
    assert slow.client.messages == []
    assert done["outcome"] == "cancelled"


async def test_it_gives_up_opening_when_the_client_leaves_after_the_head(serving):
    slow = Slow(serving)
    await slow.head()
    slow.client.left.set()
    done = await slow.ended()
    assert slow.answer.cancelled()
    assert done["outcome"] == "cancelled"
    assert done["usage"]["estimated"] is True


async def test_it_closes_what_opened_in_the_very_moment_the_client_left(serving):
    """The stream is there, but nobody waits for it any more."""
    slow = Slow(serving)
    await slow.head()
    response = streams(sse(chunk({"content": "a"})), asyncio.get_running_loop().create_future())
    slow.answer.set_result(response)
    slow.client.left.set()
    done = await slow.ended()
    assert response.closed
    assert done["outcome"] == "cancelled"


async def test_it_closes_what_opened_in_the_very_moment_the_client_left_before_the_head(serving, monkeypatch):
    slow = Slow(serving, stream_keep_alive_s=100.0)
    await until(lambda: slow.gateway.transport.requests)
    response = streams(sse(chunk({"content": "a"})), asyncio.get_running_loop().create_future())
    slow.answer.set_result(response)
    slow.client.left.set()
    done = await slow.ended()
    assert response.closed
    assert done["outcome"] == "cancelled"


async def test_it_ends_at_once_when_the_client_leaves_between_two_pieces(serving):
    """Nothing waits for the garbage collector to close the relay inside."""
    slow = Slow(serving)
    await slow.head()
    response = streams(sse(chunk({"content": "a"})), asyncio.get_running_loop().create_future())
    slow.answer.set_result(response)
    await until(lambda: b'"a"' in slow.client.body)
    slow.client.left.set()
    done = await slow.ended()
    assert response.closed
    assert (done["outcome"], done["usage"]["completion"]) == ("cancelled", 1)


async def test_it_is_over_when_the_head_cannot_be_sent(serving):
    """The connection broke between the view and its first byte."""
    response = streams(sse(chunk({"content": "a"})), asyncio.get_running_loop().create_future())
    gateway = serving(response)
    client = chat_request(stream=True)

    async def broken(_):
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await lane(client.scope, client.receive, broken)
    assert response.closed
    assert [
        line["outcome"] for line in spool_lines(gateway.env.data_dir / "spool") if line["kind"] == "done"
    ] == ["cancelled"]


async def test_it_is_over_when_the_head_of_a_late_stream_cannot_be_sent(serving):
    for failure in (None, refuses(503)):
        gateway = serving(
            asyncio.get_running_loop().create_future if failure is None else failure_later(failure),
            stream_keep_alive_s=0.01,
        )
        client = chat_request(stream=True)

        async def broken(_):
            await asyncio.sleep(0.02)
            raise ConnectionResetError

        with pytest.raises(ConnectionResetError):
            await lane(client.scope, client.receive, broken)
        while gateway._tasks:
            await asyncio.gather(*gateway._tasks, return_exceptions=True)
        last = [line for line in spool_lines(gateway.env.data_dir / "spool") if line["kind"] == "done"][-1]
        assert last["outcome"] == "cancelled"


def failure_later(failure):
    async def answer():
        await asyncio.sleep(0.02)
        return failure

    return answer


async def test_it_replays_nothing_to_a_client_that_is_gone(serving):
    gateway = serving(streams())
    await chat_request(stream=True).run(lane)
    client = chat_request(stream=True)

    async def broken(_):
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await lane(client.scope, client.receive, broken)
    last = [line for line in spool_lines(gateway.env.data_dir / "spool") if line["kind"] == "done"][-1]
    assert (last["cache"], last["cost_nanousd"]) == ("hit", 0)


async def test_it_gives_a_request_the_time_of_its_most_patient_target(serving):
    gateway = serving(FakeResponse(b"{}", status=503), max_retries=1)
    client = await chat_request().run(lane)
    assert client.status == 503
    assert gateway.transport.asked == ["openai/gpt-4o"]


def test_it_says_only_what_it_knows():
    assert gateway_headers(make_completion()) == {"x-request-id": "req-1"}
    assert gateway_headers(make_completion(cache="hit", provider="p", model="m")) == {
        "x-request-id": "req-1",
        "x-gateway-provider": "p",
        "x-gateway-model": "m",
        "x-gateway-cache": "hit",
        "x-gateway-attempts": "0",
    }
