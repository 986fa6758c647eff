"""Requests that more than one attempt has been paid for: hedged ones, and those that a filter has stopped."""

import asyncio

import orjson
import pytest

from providers.errors import Owner, UpstreamError
from providers.tests.samples import DONE, answer, chunk, sse, usage_chunk
from proxy import exchange
from proxy.asgi import lane
from proxy.tests.fakes import (
    FakeResponse,
    Log,
    chat_request,
    make_snapshot,
    price_row,
    refuses,
    route_row,
    says,
    spool_lines,
    streams,
    target_row,
    until,
)

GONE = UpstreamError("gone", owner=Owner.HEALTH, code="upstream_reset")


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setattr(exchange, "log", Log())


def streamed(text, *, prompt=5, completion=2):
    return streams(
        sse(chunk({"content": text})), sse(chunk(finish="stop")) + sse(usage_chunk(prompt, completion)) + DONE
    )


class Vendor:
    """Two vendors of one route: each answers when it is told to go."""

    def __init__(self, serving, first, second, *, hedge=True, roles=("normal", "normal"), **env):
        self.going = [asyncio.Event(), asyncio.Event()]
        steps = [self._step(*each) for each in zip((first, second), self.going, strict=True)]
        targets = [target_row("openai", role=roles[0]), target_row("vllm/other", role=roles[1])]
        route = route_row("gpt-4o", *targets, hedge=hedge)
        dear = {"input_nanousd_per_mtok": 10**10, "output_nanousd_per_mtok": 10**11}
        prices = [price_row("openai", "gpt-4o"), price_row("vllm", "other", id=2, **dear)]
        self.gateway = serving(
            *steps,
            snapshot=lambda callers: make_snapshot(
                "openai", "vllm", callers=callers, routes=[route], prices=prices
            ),
            **env,
        )
        if hedge:
            standing = self.gateway.fleet.named("openai/gpt-4o", "openai")
            for _ in range(20):
                standing.ttft.observe(0.01)
                standing.total.observe(0.01)

    @staticmethod
    def _step(response, go):
        async def step():
            await go.wait()
            if isinstance(response, Exception):
                raise response
            return response

        return step

    def start(self, **fields):
        self.client = chat_request(**fields)
        self.task = asyncio.create_task(self.client.run(lane))

    async def both(self):
        """Wait until both have been asked."""
        await until(lambda: len(self.gateway.transport.requests) == 2)

    async def over(self):
        await self.task
        while self.gateway._tasks:
            await asyncio.gather(*self.gateway._tasks, return_exceptions=True)
        await asyncio.sleep(0)
        assert all(each.busy == 0 for each in self.gateway.fleet.known())
        lines = spool_lines(self.gateway.env.data_dir / "spool")
        (record,) = [line for line in lines if line["kind"] == "done"]
        spent = [each["cost_nanousd"] for each in record["attempts"] if "cost_nanousd" in each]
        assert not spent or sum(spent) == record["cost_nanousd"]
        return record


@pytest.mark.parametrize("stream", [False, True])
async def test_both_are_recorded_and_paid_for_when_the_second_is_faster(serving, stream):
    second = streamed("Hi.") if stream else says("Hi.")
    vendor = Vendor(serving, says("late"), second)
    vendor.start(stream=stream)
    await vendor.both()
    vendor.going[1].set()
    record = await vendor.over()
    assert (record["provider"], record["model"], record["outcome"]) == ("vllm", "other", "ok")
    assert vendor.client.headers["x-gateway-provider"] == "vllm"
    assert vendor.client.headers["x-gateway-attempts"] == "2"
    loser, winner = record["attempts"]
    assert (loser["outcome"], winner["outcome"]) == ("hedged", "ok")
    assert (loser["usage"]["estimated"], loser["usage"]["completion"]) == (True, 0)
    assert loser["cost_nanousd"] == loser["usage"]["prompt"] * 1000 > 0
    assert winner["cost_nanousd"] == 5 * 10_000 + 2 * 100_000
    assert record["usage"]["prompt"] == loser["usage"]["prompt"] + 5
    assert record["price_id"] is None


@pytest.mark.parametrize("stream", [False, True])
async def test_the_first_may_win_after_all(serving, stream):
    first = streamed("Hi.") if stream else says("Hi.")
    vendor = Vendor(serving, first, says("late"))
    vendor.start(stream=stream)
    await vendor.both()
    vendor.going[0].set()
    record = await vendor.over()
    assert (record["provider"], record["model"]) == ("openai", "gpt-4o")
    assert vendor.client.headers["x-gateway-provider"] == "openai"
    winner, loser = record["attempts"]
    assert (winner["outcome"], loser["outcome"]) == ("ok", "hedged")
    assert winner["cost_nanousd"] == 5 * 1000 + 2 * 2000
    assert loser["cost_nanousd"] == loser["usage"]["prompt"] * 10_000


@pytest.mark.parametrize("stream", [False, True])
async def test_a_hedge_that_fails_costs_nothing(serving, stream):
    first = streamed("Hi.") if stream else says("Hi.")
    vendor = Vendor(serving, first, refuses(503))
    vendor.start(stream=stream)
    await vendor.both()
    vendor.going[1].set()
    for _ in range(30):
        await asyncio.sleep(0)
    vendor.going[0].set()
    record = await vendor.over()
    winner, failed = record["attempts"]
    assert (winner["outcome"], failed["status"]) == ("ok", 503)
    assert all("usage" not in each for each in record["attempts"])
    assert record["cost_nanousd"] == 9000
    assert record["price_id"] == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_both_are_paid_for_when_the_client_leaves(serving, stream):
    vendor = Vendor(serving, says("late"), says("late"))
    vendor.start(stream=stream)
    await vendor.both()
    vendor.client.left.set()
    record = await vendor.over()
    assert record["outcome"] == "cancelled"
    assert [each["outcome"] for each in record["attempts"]] == ["cancelled", "cancelled"]
    first, second = record["attempts"]
    assert first["cost_nanousd"] == first["usage"]["prompt"] * 1000 > 0
    assert second["cost_nanousd"] == second["usage"]["prompt"] * 10_000 > 0


@pytest.mark.parametrize("stream", [False, True])
async def test_a_request_that_is_not_slow_is_not_hedged(serving, stream):
    vendor = Vendor(serving, streamed("Hi.") if stream else says("Hi."), says("never"))
    vendor.going[0].set()
    vendor.start(stream=stream)
    record = await vendor.over()
    assert len(record["attempts"]) == 1
    assert "usage" not in record["attempts"][0]
    assert (record["cost_nanousd"], record["price_id"]) == (9000, 1)


async def test_a_winner_that_breaks_off_is_told_as_ever(serving):
    broken = streams(sse(chunk({"content": "Hi"})), GONE)
    vendor = Vendor(serving, says("late"), broken)
    vendor.start(stream=True)
    await vendor.both()
    vendor.going[1].set()
    record = await vendor.over()
    assert vendor.client.events[-1]["error"]["code"] == "upstream_reset"
    loser, winner = record["attempts"]
    assert (loser["outcome"], winner["outcome"]) == ("hedged", "upstream_reset")
    assert winner["usage"]["completion"] > 0


def filtered(*, stream):
    if stream:
        return streams(sse(chunk(finish="content_filter")) + sse(usage_chunk(7, 0)) + DONE)
    choice = {"index": 0, "message": {"role": "assistant", "content": ""}, "finish_reason": "content_filter"}
    usage = {"prompt_tokens": 7, "completion_tokens": 0, "total_tokens": 7}
    return FakeResponse(orjson.dumps(answer("", choices=[choice], usage=usage)))


@pytest.mark.parametrize("stream", [False, True])
async def test_what_a_filter_has_stopped_is_paid_for_too(serving, stream):
    second = streamed("Hi.") if stream else says("Hi.")
    vendor = Vendor(
        serving, filtered(stream=stream), second, hedge=False, roles=("normal", "on_content_filter")
    )
    for go in vendor.going:
        go.set()
    vendor.start(stream=stream)
    record = await vendor.over()
    stopped, answered = record["attempts"]
    assert (stopped["outcome"], answered["outcome"]) == ("content_filter", "ok")
    assert stopped["cost_nanousd"] == 7 * 1000
    assert record["usage"]["prompt"] == 7 + 5


@pytest.mark.parametrize("stream", [False, True])
async def test_what_a_filter_has_stopped_is_paid_for_when_nobody_answers(serving, stream):
    vendor = Vendor(
        serving,
        filtered(stream=stream),
        refuses(503),
        hedge=False,
        roles=("normal", "on_content_filter"),
        max_retries=2,
    )
    for go in vendor.going:
        go.set()
    vendor.start(stream=stream)
    record = await vendor.over()
    assert vendor.client.status == 503
    assert record["cost_nanousd"] == 7 * 1000
