"""`/v1/completions` through the lane: one answer for both forms, from the vendor's format or a chat's."""

import orjson
import pytest

from providers.tests.samples import DONE, TEXT_STREAM, sse
from proxy import exchange
from proxy.asgi import lane
from proxy.tests.fakes import (
    SECRET,
    Client,
    FakeResponse,
    Log,
    make_snapshot,
    provider_row,
    refuses,
    route_row,
    says,
    streams,
)

KEY = {"authorization": f"Bearer {SECRET}"}
CHATS = provider_row("vllm", quirks={"completions": False})
WHOLE = {
    "id": "cmpl-1",
    "object": "text_completion",
    "created": 1,
    "model": "davinci",
    "choices": [{"text": "Say hi you", "index": 0, "logprobs": None, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 2, "completion_tokens": 1, "total_tokens": 3},
}
NATIVE = sse({**WHOLE, "usage": None}) + sse({**WHOLE, "choices": []}) + DONE


@pytest.fixture(autouse=True)
def log(monkeypatch):
    monkeypatch.setattr(exchange, "log", Log())


def snapshot(callers):
    return make_snapshot("openai", CHATS, callers=callers, routes=[route_row("both", "openai", "vllm")])


async def ask(model, **fields):
    body = orjson.dumps({"model": model, "prompt": "Say hi", "echo": True, **fields})
    return await Client("POST", "/v1/completions", body, **KEY).run(lane)


def text_of(client):
    if client.headers["content-type"].startswith("application/json"):
        return client.json["choices"][0]["text"]
    assert client.events[-1] == "[DONE]"
    return "".join(choice["text"] for event in client.events[:-1] for choice in event["choices"])


ANSWERS = {
    "native JSON": ("openai/davinci", FakeResponse(orjson.dumps(WHOLE)), False, "Say hi you"),
    "native stream": ("openai/davinci", streams(NATIVE), True, "Say hi you"),
    "native JSON for a stream": ("openai/davinci", FakeResponse(orjson.dumps(WHOLE)), True, "Say hi you"),
    "a chat's JSON": ("vllm/llama", says("Hello there."), False, "Say hiHello there."),
    "a chat's stream": ("vllm/llama", streams(TEXT_STREAM), True, "Say hiHello there."),
    "a chat's JSON for a stream": ("vllm/llama", says("Hello there."), True, "Say hiHello there."),
}


@pytest.mark.parametrize(("model", "response", "stream", "text"), ANSWERS.values(), ids=ANSWERS)
async def test_it_keeps_one_answer_for_both_forms(serving, model, response, stream, text):  # noqa: PLR0917
    gateway = serving(response, snapshot=snapshot)
    clients = [await ask(model, stream=form) for form in (stream, not stream, stream, not stream)]
    assert [client.headers["x-gateway-cache"] for client in clients] == ["miss", "hit", "hit", "hit"]
    assert [text_of(client) for client in clients] == [text] * 4
    assert len(gateway.transport.requests) == 1
    assert all(b"chat.completion" not in client.body for client in clients)


async def test_it_asks_the_next_target_in_that_ones_own_format(serving):
    gateway = serving(refuses(503), says("Hello there."), snapshot=snapshot, max_retries=2)
    client = await ask("both")
    assert text_of(client) == "Say hiHello there."
    assert [request.path for _, request in gateway.transport.requests] == [
        "/completions",
        "/chat/completions",
    ]


async def test_it_names_what_only_the_vendors_own_endpoint_does(serving):
    gateway = serving(snapshot=snapshot)
    client = await ask("vllm/llama", suffix="the end")
    assert (client.status, client.json["error"]["param"]) == (400, "suffix")
    assert gateway.transport.requests == []


async def test_it_tells_of_a_stream_that_breaks_off(serving):
    unfinished = sse({**WHOLE, "choices": [{"text": "a", "index": 0}]})
    serving(streams(unfinished, DONE), snapshot=snapshot)
    client = await ask("openai/davinci", stream=True)
    assert client.events[-1]["error"]["code"] == "upstream_invalid_response"
    assert b"[DONE]" not in client.body
