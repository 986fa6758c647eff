"""A stream that breaks off is gone on with by the next target, from the lane to the record."""

import asyncio

import orjson
import pytest

from providers.errors import Owner, UpstreamError
from providers.tests.samples import DONE, chunk, sse, usage_chunk
from proxy import exchange
from proxy.asgi import lane
from proxy.continuation import GO_ON
from proxy.renderers import KEEP_ALIVE
from proxy.tests.fakes import (
    SECRET,
    SSE_HEADERS,
    Client,
    FakeResponse,
    Log,
    chat_request,
    make_snapshot,
    price_row,
    provider_row,
    refuses,
    route_row,
    spool_lines,
    streams,
    target_row,
    until,
)

GONE = UpstreamError("gone", owner=Owner.HEALTH, code="upstream_reset")
STALLED = UpstreamError("silent", owner=Owner.HEALTH, code="upstream_timeout", timeout="idle")
ROLE = sse(chunk({"role": "assistant", "content": ""}))


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setattr(exchange, "log", Log())


def text(words):
    return sse(chunk({"content": words}))


def ends(prompt, completion, *, finish="stop"):
    return sse(chunk(finish=finish)) + sse(usage_chunk(prompt, completion)) + DONE


def breaks(*words, error=GONE):
    return streams(ROLE, *[text(each) for each in words], error)


def goes_on(*words, prompt=20, completion=4):
    return streams(ROLE, *[text(each) for each in words], ends(prompt, completion))


def claude(*words, error=None):
    """Return Anthropic's stream."""

    def said(kind, **fields):
        return b"event: %s\ndata: %s\n\n" % (kind.encode(), orjson.dumps({"type": kind, **fields}))

    pieces = [
        said("message_start", message={"id": "msg", "usage": {"input_tokens": 30, "output_tokens": 1}}),
        said("content_block_start", index=0, content_block={"type": "text", "text": ""}),
        *[said("content_block_delta", index=0, delta={"type": "text_delta", "text": each}) for each in words],
    ]
    if error is not None:
        return FakeResponse(*pieces, error, headers=SSE_HEADERS)
    pieces += [
        said("content_block_stop", index=0),
        said("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 6}),
        said("message_stop"),
    ]
    return FakeResponse(*pieces, headers=SSE_HEADERS)


class Continuing:
    """A gateway whose route goes on with broken streams: on openai first, then on the second target."""

    def __init__(self, serving, *script, second="mistral", prices=True, **env):
        self.second = second
        self.gateway = serving(*script, snapshot=self._snapshot(prices=prices), **env)

    def _snapshot(self, *, prices):
        second = self.second
        dialect = second if second in ("mistral", "anthropic") else "openai"
        rows = ["openai", provider_row(second, id=2, dialect=dialect)]
        route = route_row("gpt-4o", "openai", target_row(f"{second}/other"), continue_streams=True)
        cost = {"input_nanousd_per_mtok": 10**10, "output_nanousd_per_mtok": 10**11}
        priced = [price_row("openai", "gpt-4o"), price_row(second, "other", id=2, **cost)] if prices else []
        return lambda callers: make_snapshot(*rows, callers=callers, routes=[route], prices=priced)

    async def ask(self, **fields):
        client = chat_request(stream=True, **fields)
        await client.run(lane)
        while self.gateway._tasks:
            await asyncio.gather(*self.gateway._tasks, return_exceptions=True)
        return client

    @property
    def record(self):
        (done,) = [
            line for line in spool_lines(self.gateway.env.data_dir / "spool") if line["kind"] == "done"
        ]
        return done

    def sent(self, place):
        """Return the body of a request to a vendor."""
        return orjson.loads(self.gateway.transport.requests[place][1].body)

    def idle(self):
        assert all(each.busy == 0 for each in self.gateway.fleet.known())
        assert all(each.closed or each.finished or each.over for each in self.gateway.transport.responses)


def words(client):
    chunks = [each for each in client.events if each != "[DONE]"]
    return "".join(
        choice["delta"].get("content") or "" for each in chunks for choice in each.get("choices", ())
    )


async def test_it_makes_one_answer_of_two_streams(serving):
    running = Continuing(serving, breaks("The sky", " is"), goes_on(" blue", "."))
    client = await running.ask(stream_options={"include_usage": True})
    assert words(client) == "The sky is blue."
    assert client.body.count(b"data: [DONE]") == 1
    assert client.body.endswith(DONE)
    chunks = client.events[:-1]
    assert len({each["id"] for each in chunks}) == 1
    finishes = [choice["finish_reason"] for each in chunks for choice in each["choices"]]
    assert [each for each in finishes if each] == ["stop"]
    roles = [choice["delta"] for each in chunks for choice in each["choices"] if "role" in choice["delta"]]
    assert len(roles) == 1
    assert b": continued by mistral/other\n\n" in client.body
    running.idle()


async def test_it_asks_the_next_one_to_begin_with_what_there_is(serving):
    running = Continuing(serving, breaks("The sky", " is "), goes_on("  blue", "."))
    client = await running.ask()
    last = running.sent(1)["messages"][-1]
    assert last == {"role": "assistant", "content": "The sky is", "prefix": True}
    assert words(client) == "The sky is blue."


async def test_it_asks_anthropic_the_same_way(serving):
    running = Continuing(serving, breaks("The sky", " is "), claude(" ", " blue."), second="anthropic")
    client = await running.ask(max_tokens=100)
    last = running.sent(1)["messages"][-1]
    assert last["role"] == "assistant"
    assert "The sky is" in str(last["content"])
    assert "is '" not in str(last["content"])
    assert words(client) == "The sky is blue."
    assert running.sent(1)["max_tokens"] == 100 - len("The sky is ") // 4


async def test_it_instructs_one_that_takes_no_beginning(serving):
    running = Continuing(serving, breaks("The sky", " is "), goes_on("blue."), second="vllm")
    client = await running.ask(max_tokens=2)
    assert running.sent(1)["messages"][-2:] == [
        {"role": "assistant", "content": "The sky is "},
        {"role": "user", "content": GO_ON},
    ]
    limits = {running.sent(1).get(name) for name in ("max_tokens", "max_completion_tokens")} - {None}
    assert limits == {1}
    assert words(client) == "The sky is blue."


async def test_it_instructs_one_that_refuses_a_beginning(serving):
    running = Continuing(serving, breaks("The sky"), refuses(400), goes_on(" is blue."))
    client = await running.ask()
    assert running.sent(2)["messages"][-1] == {"role": "user", "content": GO_ON}
    assert words(client) == "The sky is blue."
    assert [each["outcome"] for each in running.record["attempts"]] == ["upstream_reset", "caller", "ok"]


async def test_it_goes_on_from_anthropic(serving):
    running = Continuing(
        serving, refuses(503), claude("The sky", error=GONE), goes_on(" is blue."), second="anthropic"
    )
    client = await running.ask()
    assert words(client) == "The sky is blue."
    first = running.record["attempts"][1]
    assert (first["usage"]["prompt"], first["usage"]["estimated"]) == (30, True)


async def test_it_goes_on_in_anthropics_format(serving):
    Continuing(serving, breaks("The sky"), goes_on(" is blue."))
    body = {
        "model": "gpt-4o",
        "max_tokens": 99,
        "messages": [{"role": "user", "content": "hi"}],
        "stream": True,
    }
    client = Client("POST", "/v1/messages", orjson.dumps(body), authorization=f"Bearer {SECRET}")
    await client.run(lane)
    told = [
        orjson.loads(each.partition(b"data: ")[2]) for each in client.body.split(b"\n\n") if b"data: " in each
    ]
    kinds = [each["type"] for each in told]
    assert (kinds.count("message_start"), kinds[-1]) == (1, "message_stop")
    assert "".join(each["delta"].get("text", "") for each in told if "delta" in each) == "The sky is blue."
    assert kinds.count("content_block_start") == 1


async def test_it_tells_the_client_the_usage_of_all_and_bills_each_at_its_own_price(serving):
    running = Continuing(serving, breaks("The sky", " is"), goes_on(" blue.", prompt=20, completion=4))
    client = await running.ask(stream_options={"include_usage": True})
    record = running.record
    first, second = record["attempts"]
    assert (first["outcome"], second["outcome"]) == ("upstream_reset", "ok")
    assert first["usage"]["estimated"] is True
    assert (second["usage"]["prompt"], second["usage"]["completion"]) == (20, 4)
    assert first["cost_nanousd"] == first["usage"]["prompt"] * 1000 + first["usage"]["completion"] * 2000
    assert second["cost_nanousd"] == 20 * 10_000 + 4 * 100_000
    assert record["cost_nanousd"] == first["cost_nanousd"] + second["cost_nanousd"]
    assert record["price_id"] is None
    for count in ("prompt", "completion"):
        assert record["usage"][count] == first["usage"][count] + second["usage"][count]
    (told,) = [each["usage"] for each in client.events[:-1] if each.get("usage")]
    assert told["prompt_tokens"] == record["usage"]["prompt"]
    assert told["completion_tokens"] == record["usage"]["completion"]
    assert (record["provider"], record["model"], record["outcome"]) == ("mistral", "other", "ok")


async def test_it_knows_no_cost_where_one_price_is_unknown(serving):
    running = Continuing(serving, breaks("The sky"), goes_on(" is blue."), prices=False)
    await running.ask()
    assert running.record["cost_nanousd"] is None
    assert running.record["usage"]["completion"] > 4


async def test_it_keeps_nothing_of_it(serving):
    running = Continuing(serving, breaks("The sky"), goes_on(" is blue."), breaks("A"), goes_on("B"))
    assert words(await running.ask()) == "The sky is blue."
    client = chat_request(stream=True)
    await client.run(lane)
    assert client.headers["x-gateway-cache"] == "miss"


async def test_it_goes_on_more_than_once_within_its_attempts(serving):
    script = (breaks("The"), breaks(" sky"), goes_on(" is blue."))
    running = Continuing(serving, *script, max_retries=3)
    assert words(await running.ask()) == "The sky is blue."
    # Not by who has just broken off while there is another.
    assert [each["provider"] for each in running.record["attempts"]] == ["openai", "mistral", "openai"]
    costs = [each["cost_nanousd"] for each in running.record["attempts"]]
    assert running.record["cost_nanousd"] == sum(costs)


async def test_it_makes_no_more_attempts_than_a_request_may(serving):
    running = Continuing(serving, breaks("The"), breaks(" sky"), max_retries=2)
    client = await running.ask()
    assert [each["provider"] for each in running.record["attempts"]] == ["openai", "mistral"]
    assert client.events[-1]["error"]["code"] == "upstream_reset"
    assert b"[DONE]" not in client.body


@pytest.mark.parametrize("answer", [refuses(400, "no prefill"), refuses(503), refuses(401), GONE])
async def test_it_tells_the_failure_that_there_was_whatever_becomes_of_going_on(serving, answer):
    broke = UpstreamError("The answer broke off.", owner=Owner.HEALTH, code="upstream_broke")
    running = Continuing(serving, breaks("The sky", " is", error=broke), answer, max_retries=9)
    client = await running.ask()
    assert words(client) == "The sky is"
    assert client.events[-1]["error"]["code"] == "upstream_broke"
    assert "openai" in client.events[-1]["error"]["message"]
    assert b"[DONE]" not in client.body
    record = running.record
    assert (record["outcome"], record["error_code"]) == ("error", "upstream_broke")
    assert (record["provider"], record["model"]) == ("openai", "gpt-4o")
    first, *others = record["attempts"]
    assert first["outcome"] == "upstream_broke"
    assert {each["outcome"] for each in others} != {"upstream_broke"}
    assert record["cost_nanousd"] == first["cost_nanousd"] > 0
    assert record["usage"] == first["usage"]
    running.idle()


async def test_it_asks_nobody_again_who_has_fallen_silent(serving):
    running = Continuing(serving, breaks("The sky", error=STALLED), refuses(503), max_retries=9)
    client = await running.ask()
    assert running.gateway.transport.asked == ["openai/gpt-4o", "mistral/other"]
    assert client.events[-1]["error"]["code"] == "upstream_timeout"


async def test_it_waits_for_nobody_who_could_go_on(serving):
    running = Continuing(serving, breaks("The sky", error=STALLED), goes_on("never"))
    standing = running.gateway.fleet.named("mistral/other", "mistral")
    standing.cooling.cool("", now=running.gateway.fleet.loop.time(), told_s=30.0)
    client = await running.ask()
    assert running.gateway.transport.asked == ["openai/gpt-4o"]
    assert client.events[-1]["error"]["code"] == "upstream_timeout"


@pytest.mark.parametrize(
    "pieces",
    [
        [sse(chunk({"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": "{"}}]}))],
        [text("hm"), sse(chunk({"tool_calls": [{"index": 0, "function": {"arguments": "{"}}]}))],
        [sse(chunk({"refusal": "I will not"}))],
        [sse(chunk({"reasoning_content": "Let me think"}))],
        [text("whole"), sse(chunk(finish="stop"))],
        [text("  ")],
    ],
)
async def test_it_never_goes_on_with_what_nobody_could_go_on_with(serving, pieces):
    running = Continuing(serving, streams(ROLE, *pieces, GONE), goes_on("never"))
    client = await running.ask()
    assert running.gateway.transport.asked == ["openai/gpt-4o"]
    assert client.events[-1]["error"]["code"] == "upstream_reset"


@pytest.mark.parametrize("fields", [{"n": 2}])
async def test_it_never_goes_on_with_several_choices(serving, fields):
    running = Continuing(serving, breaks("a"), goes_on("never"))
    await running.ask(**fields)
    assert running.gateway.transport.asked == ["openai/gpt-4o"]


async def test_it_counts_each_stream_that_broke_off_once(serving):
    running = Continuing(serving, breaks("The"), breaks(" sky"), refuses(503), max_retries=3)
    told = []
    running.gateway.meter.truncated = told.append
    await running.ask()
    assert told == ["openai", "mistral"]


@pytest.mark.parametrize("answered", [False, True])
async def test_it_bills_what_there_was_when_the_client_leaves_meanwhile(serving, answered):
    """While the next one is asked, or goes on already: what the first has cost is booked once."""
    never = asyncio.get_running_loop().create_future()

    async def waits():
        await never

    class Never:
        def __await__(self):
            return never.__await__()

    second = streams(ROLE, text(" is"), Never()) if answered else waits
    running = Continuing(serving, breaks("The sky"), second)
    client = chat_request(stream=True)
    task = asyncio.create_task(client.run(lane))
    await until(lambda: len(running.gateway.transport.requests) == 2)
    if answered:
        await until(lambda: b" is" in client.body)
    client.left.set()
    await task
    record = running.record
    assert record["outcome"] == "cancelled"
    first, last = record["attempts"]
    assert (first["outcome"], last["outcome"]) == ("upstream_reset", "ok" if answered else "cancelled")
    assert first["usage"]["completion"] > 0
    assert record["cost_nanousd"] == first["cost_nanousd"] + last["cost_nanousd"]
    assert last["usage"]["completion"] == (1 if answered else 0)
    running.idle()


async def test_the_client_gets_comments_while_another_is_asked_to_go_on(serving):
    go = asyncio.Event()

    async def slowly():
        await go.wait()
        return goes_on(" is blue.")

    running = Continuing(serving, breaks("The sky"), slowly, stream_keep_alive_s=0.01)
    client = chat_request(stream=True)
    task = asyncio.create_task(client.run(lane))
    await until(lambda: client.body.count(KEEP_ALIVE) >= 2)
    go.set()
    await task
    assert words(client) == "The sky is blue."
    assert client.body.endswith(DONE)
    assert running.record["outcome"] == "ok"
