"""The same call made several times at once is asked of the vendor once: who leads, who follows, who pays."""

import asyncio

import orjson
import pytest

from keys.caller import Caller
from keys.secret import digest
from providers.errors import Owner, UpstreamError
from providers.tests.samples import DONE, chunk, sse, usage_chunk
from proxy import exchange
from proxy.asgi import lane
from proxy.renderers import KEEP_ALIVE
from proxy.tests.fakes import (
    Log,
    chat_request,
    make_snapshot,
    price_row,
    refuses,
    says,
    spool_lines,
    streams,
    until,
)

GONE = UpstreamError("gone", owner=Owner.HEALTH, code="upstream_reset")
OTHER = "another-key-of-24-characters"
END = sse(chunk(finish="stop")) + sse(usage_chunk()) + DONE


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setattr(exchange, "log", Log())


def text(words):
    return sse(chunk({"content": words}))


class Flying:
    """A gateway whose vendor answers when told to (`go`), and requests to it that are under way."""

    def __init__(self, serving, *script, **env):
        self.going = [asyncio.Event() for _ in script]
        steps = [self._step(*each) for each in zip(script, self.going, strict=True)]
        self.gateway = serving(*steps, snapshot=self._snapshot, **{"max_retries": 1, **env})
        self.tasks = {}

    def _snapshot(self, callers):
        known = {**callers, digest(OTHER): Caller(3, 4, "other", "other")}
        return make_snapshot("openai", "vllm", callers=known, prices=[price_row("openai", "gpt-4o")])

    @staticmethod
    def _step(answer, go):
        async def step():
            await go.wait()
            if isinstance(answer, Exception):
                raise answer
            return answer

        return step

    async def start(self, *, waits=True, **fields):
        """Start a request; return its client when it waits for the vendor, or for who does."""
        client = chat_request(**fields)
        self.tasks[client] = asyncio.create_task(client.run(lane))
        if waits:
            await self.turns()
        return client

    @staticmethod
    async def turns():
        for _ in range(30):
            await asyncio.sleep(0)

    async def over(self):
        """Wait until all is over, and see that nothing is left."""
        await asyncio.gather(*self.tasks.values())
        while self.gateway._tasks:
            await asyncio.gather(*self.gateway._tasks, return_exceptions=True)
        assert self.gateway.flights._flying == {}
        assert self.gateway.meter.in_flight == 0
        assert all(each.busy == 0 for each in self.gateway.fleet.known())
        return sorted(self.records, key=lambda each: int(each["id"].rpartition("-")[2], 16))

    @property
    def records(self):
        lines = spool_lines(self.gateway.env.data_dir / "spool")
        return [line for line in lines if line["kind"] == "done"]

    @property
    def asked(self):
        return len(self.gateway.transport.requests)


def said(client):
    """Return what a client was told, streamed or not."""
    if client.headers["content-type"].startswith("application/json"):
        return client.json["choices"][0]["message"]["content"]
    chunks = [each for each in client.events if each != "[DONE]"]
    return "".join(choice["delta"].get("content") or "" for each in chunks for choice in each["choices"])


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("second", [False, True])
async def test_it_shares_one_call_between_json_and_streams(serving, first, second):
    answer = streams(text("Hello"), text(" there."), END) if first else says("Hello there.")
    flying = Flying(serving, answer)
    leader = await flying.start(stream=first)
    follower = await flying.start(stream=second)
    assert follower.messages == []
    flying.going[0].set()
    records = await flying.over()
    assert flying.asked == 1
    assert said(leader) == said(follower) == "Hello there."
    assert follower.whole
    assert (b"[DONE]" in follower.body) is second
    assert [each["cache"] for each in records] == ["miss", "hit"]
    assert (leader.headers["x-gateway-cache"], follower.headers["x-gateway-cache"]) == ("miss", "hit")
    lead, followed = records
    assert followed["cost_nanousd"] == 0 < lead["cost_nanousd"]
    assert followed["usage"] == lead["usage"]
    assert (followed["provider"], followed["model"]) == ("openai", "gpt-4o")
    assert (followed["attempts"], len(lead["attempts"])) == ([], 1)
    assert [each["outcome"] for each in records] == ["ok", "ok"]


async def test_a_late_joiner_gets_what_there_is_and_then_what_comes(serving):
    more = asyncio.get_running_loop().create_future()
    flying = Flying(serving, streams(text("One"), text(" two"), more, text(" three."), END))
    flying.going[0].set()
    leader = await flying.start(stream=True)
    await until(lambda: b" two" in leader.body)
    late = await flying.start(stream=True)
    await until(lambda: b" two" in late.body)
    assert said(late) == "One two"
    more.set_result(None)
    await flying.over()
    assert said(late) == said(leader) == "One two three."
    assert late.body.endswith(DONE)
    assert flying.asked == 1


@pytest.mark.parametrize("wants", [(True, False), (False, True)])
async def test_each_gets_the_usage_only_if_it_asked_for_it(serving, wants):
    more = asyncio.get_running_loop().create_future()
    flying = Flying(serving, streams(text("One"), more, END))
    flying.going[0].set()
    options = [{"stream_options": {"include_usage": True}} if each else {} for each in wants]
    clients = [await flying.start(stream=True, **each) for each in options]
    more.set_result(None)
    await flying.over()
    assert flying.asked == 1
    assert [b'"prompt_tokens"' in client.body for client in clients] == list(wants)


@pytest.mark.parametrize("stream", [False, True])
async def test_it_flies_on_for_its_followers_when_its_own_client_leaves(serving, stream):
    more = asyncio.get_running_loop().create_future()
    answer = streams(text("One"), more, text(" two."), END) if stream else says("One two.")
    flying = Flying(serving, answer)
    leader = await flying.start(stream=stream)
    follower = await flying.start(stream=stream)
    if stream:
        flying.going[0].set()
        await until(lambda: b"One" in follower.body)
    leader.left.set()
    await flying.turns()
    more.set_result(None)
    flying.going[0].set()
    records = await flying.over()
    assert said(follower) == "One two."
    left, followed = records
    assert (left["status"], left["outcome"], left["error_code"]) == (499, "cancelled", "client_left")
    assert left["usage"]["estimated"] is False
    assert left["cost_nanousd"] > 0
    assert (followed["outcome"], followed["cost_nanousd"]) == ("ok", 0)
    # What was paid for is kept.
    again = await flying.start(stream=stream)
    assert again.headers["x-gateway-cache"] == "hit"


@pytest.mark.parametrize("stream", [False, True])
async def test_it_is_given_up_when_all_have_left(serving, stream):
    never = asyncio.get_running_loop().create_future()
    answer = streams(text("One"), never, END)
    flying = Flying(serving, answer)
    leader = await flying.start(stream=stream)
    followers = [await flying.start(stream=stream) for _ in range(2)]
    if stream:
        flying.going[0].set()
        await until(lambda: b"One" in followers[1].body)
    for client in (leader, *followers):
        assert not flying.tasks[leader].done()
        client.left.set()
        await flying.turns()
    records = await flying.over()
    assert [each["outcome"] for each in records] == ["cancelled"] * 3
    assert [bool(each["cost_nanousd"]) for each in records] == [True, False, False]
    assert all(each.closed for each in flying.gateway.transport.responses)
    assert flying.asked == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_its_followers_go_their_own_way_behind_a_new_leader_when_it_fails(serving, stream):
    answer = streams(text("Hi."), END) if stream else says("Hi.")
    flying = Flying(serving, refuses(503), answer)
    clients = [await flying.start(stream=stream) for _ in range(5)]
    flying.going[0].set()
    await flying.turns()
    assert flying.asked == 2
    flying.going[1].set()
    records = await flying.over()
    assert clients[0].status == 503
    assert [said(each) for each in clients[1:]] == ["Hi."] * 4
    assert [each["cache"] for each in records] == ["miss", "miss", "hit", "hit", "hit"]
    assert flying.asked == 2


async def test_nobodys_failure_is_shared_for_long(serving):
    flying = Flying(serving, refuses(503), refuses(503), says("Hi."))
    clients = [await flying.start() for _ in range(4)]
    for go in flying.going:
        go.set()
        await flying.turns()
    await flying.over()
    assert [each.status for each in clients] == [503, 503, 200, 200]


async def test_who_has_begun_hears_that_the_stream_broke_off(serving):
    more = asyncio.get_running_loop().create_future()
    flying = Flying(serving, streams(text("One"), more, GONE), says("Whole."))
    leader = await flying.start(stream=True)
    begun = await flying.start(stream=True)
    waiting = await flying.start()
    flying.going[0].set()
    flying.going[1].set()
    await until(lambda: b"One" in begun.body)
    more.set_result(None)
    records = await flying.over()
    for client in (leader, begun):
        assert client.events[-1]["error"]["code"] == "upstream_reset"
        assert b"[DONE]" not in client.body
    assert said(waiting) == "Whole."
    assert [each["outcome"] for each in records] == ["error", "error", "ok"]
    assert [each["cost_nanousd"] == 0 for each in records] == [False, True, False]


async def test_what_may_not_be_kept_is_shared_all_the_same_and_not_kept(serving):
    flying = Flying(
        serving,
        says(
            "Hm.",
            choices=[
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": "Hm."},
                    "finish_reason": "content_filter",
                }
            ],
        ),
        says("Again."),
    )
    clients = [await flying.start() for _ in range(2)]
    flying.going[0].set()
    flying.going[1].set()
    await flying.over()
    assert flying.asked == 1
    assert [said(each) for each in clients] == ["Hm.", "Hm."]
    again = await flying.start()
    await flying.over()
    assert again.headers["x-gateway-cache"] == "miss"


async def test_a_stream_too_large_to_keep_reaches_those_who_stream(serving):
    flying = Flying(serving, streams(text("One"), text("x" * 400), END), says("Own."), cache_max_bytes=1000)
    leader = await flying.start(stream=True)
    follower = await flying.start(stream=True)
    whole = await flying.start()
    flying.going[0].set()
    flying.going[1].set()
    await flying.over()
    assert said(follower) == said(leader) == "One" + "x" * 400
    assert said(whole) == "Own."


@pytest.mark.parametrize("control", ["no-store", "no-cache"])
async def test_who_wants_no_cache_neither_leads_nor_follows(serving, control):
    flying = Flying(serving, says("One."), says("Two."), says("Three."))
    headers = {"cache_control": control}
    clients = [await flying.start(headers=headers), await flying.start(), await flying.start(headers=headers)]
    for go in flying.going:
        go.set()
    await flying.over()
    assert flying.asked == 3
    assert len({said(each) for each in clients}) == 3


async def test_two_tenants_never_share(serving):
    flying = Flying(serving, says("One."), says("Two."))
    clients = [await flying.start(), await flying.start(key=OTHER)]
    for go in flying.going:
        go.set()
    await flying.over()
    assert [said(each) for each in clients] == ["One.", "Two."]


async def test_a_follower_gets_comments_in_a_silence(serving):
    more = asyncio.get_running_loop().create_future()
    flying = Flying(serving, streams(text("One"), more, END), stream_keep_alive_s=0.01)
    flying.going[0].set()
    await flying.start(stream=True)
    follower = await flying.start(stream=True)
    await until(lambda: follower.body.count(KEEP_ALIVE) >= 2)
    more.set_result(None)
    await flying.over()
    assert follower.body.endswith(DONE)


async def test_a_follower_that_leaves_is_recorded_and_nobody_else_is_disturbed(serving):
    more = asyncio.get_running_loop().create_future()
    flying = Flying(serving, streams(text("One"), more, text(" two."), END))
    flying.going[0].set()
    leader = await flying.start(stream=True)
    follower = await flying.start(stream=True)
    waiting = await flying.start()
    follower.left.set()
    waiting.left.set()
    await flying.turns()
    more.set_result(None)
    records = await flying.over()
    assert said(leader) == "One two."
    assert [each["outcome"] for each in records] == ["ok", "cancelled", "cancelled"]
    assert [each["cost_nanousd"] or 0 for each in records[1:]] == [0, 0]


async def test_it_follows_anthropics_own_format(serving):
    more = asyncio.get_running_loop().create_future()
    flying = Flying(serving, streams(text("One"), more, END))
    flying.going[0].set()
    body = orjson.dumps(
        {"model": "gpt-4o", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}], "stream": True}
    )
    clients = []
    for _ in range(2):
        client = chat_request(path="/v1/messages")
        client._pieces = [{"type": "http.request", "body": body, "more_body": False}]
        flying.tasks[client] = asyncio.create_task(client.run(lane))
        await flying.turns()
        clients.append(client)
    more.set_result(None)
    await flying.over()
    assert flying.asked == 1
    kinds = [[line for line in client.body.split(b"\n") if line.startswith(b"event: ")] for client in clients]
    assert kinds[0] == kinds[1]
    assert kinds[0][-1] == b"event: message_stop"


async def waits_with_comments(flying):
    """Start a leader and a follower whose first comments have gone out."""
    leader = await flying.start(stream=True)
    follower = await flying.start(stream=True)
    await until(lambda: follower.body.count(KEEP_ALIVE) >= 2)
    return leader, follower


@pytest.mark.parametrize("answer", [lambda: streams(text("Hi."), END), lambda: says("Hi.")])
async def test_a_follower_gets_comments_before_there_is_anything(serving, answer):
    flying = Flying(serving, answer(), stream_keep_alive_s=0.01)
    _, follower = await waits_with_comments(flying)
    flying.going[0].set()
    records = await flying.over()
    assert said(follower) == "Hi."
    assert follower.body.endswith(DONE)
    assert [each["cache"] for each in records] == ["miss", "hit"]
    assert (records[1]["provider"], records[1]["cost_nanousd"], flying.asked) == ("openai", 0, 1)


async def test_a_follower_gets_comments_while_a_whole_answer_is_made(serving):
    flying = Flying(serving, says("Hi."), stream_keep_alive_s=0.01)
    await flying.start()
    follower = await flying.start(stream=True)
    await until(lambda: follower.body.count(KEEP_ALIVE) >= 2)
    flying.going[0].set()
    records = await flying.over()
    assert said(follower) == "Hi."
    assert [each["cache"] for each in records] == ["miss", "hit"]


async def test_a_follower_goes_its_own_way_even_after_its_first_comments(serving):
    flying = Flying(serving, refuses(503), streams(text("Hi."), END), stream_keep_alive_s=0.01)
    leader, follower = await waits_with_comments(flying)
    third = await flying.start(stream=True)
    await until(lambda: third.body.count(KEEP_ALIVE) >= 2)
    flying.going[0].set()
    flying.going[1].set()
    records = await flying.over()
    assert leader.events[-1]["error"]["code"] == "upstream_error"
    assert said(follower) == said(third) == "Hi."
    assert follower.body.endswith(DONE)
    assert [each["outcome"] for each in records] == ["error", "ok", "ok"]
    assert flying.asked == 2


async def test_a_followers_own_failure_is_an_event_after_its_first_comments(serving):
    flying = Flying(serving, refuses(503), refuses(500), stream_keep_alive_s=0.01)
    _, follower = await waits_with_comments(flying)
    flying.going[0].set()
    flying.going[1].set()
    records = await flying.over()
    assert follower.status == 200
    assert follower.events[-1]["error"]["code"] == "upstream_error"
    assert b"[DONE]" not in follower.body
    assert [each["outcome"] for each in records] == ["error", "error"]


@pytest.mark.parametrize("fails", [False, True])
async def test_a_follower_may_leave_after_its_first_comments(serving, fails):
    flying = Flying(serving, refuses(503), says("never"), stream_keep_alive_s=0.01)
    leader, follower = await waits_with_comments(flying)
    if fails:
        flying.going[0].set()
        await until(lambda: flying.asked == 2)
    follower.left.set()
    await flying.turns()
    leader.left.set()
    records = await flying.over()
    assert [each["outcome"] for each in records] == ["error" if fails else "cancelled", "cancelled"]
