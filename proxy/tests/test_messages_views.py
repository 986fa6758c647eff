"""Anthropic's paths through the lane, before a scripted vendor of OpenAI's format."""

import orjson
import pytest

from providers.dialects import DIALECTS
from providers.dialects.openai.dialect import OpenAI
from providers.events import Answer
from providers.tests.samples import TEXT_STREAM, answer
from providers.wires import COUNT_TOKENS
from proxy import exchange, views
from proxy.asgi import lane
from proxy.tests.fakes import (
    SECRET,
    Client,
    FakeResponse,
    Log,
    make_snapshot,
    price_row,
    refuses,
    says,
    spool_lines,
    streams,
)

KEY = {"x_api_key": SECRET, "anthropic_version": "2023-06-01"}
BODY = {"model": "gpt-4o", "max_tokens": 50, "messages": [{"role": "user", "content": "hello"}]}
SEARCH = {"type": "web_search_20250305", "name": "web_search"}


@pytest.fixture(autouse=True)
def log(monkeypatch):
    monkeypatch.setattr(exchange, "log", Log())


async def ask(path="/v1/messages", *, method="POST", headers=None, query="", raw=None, **fields):
    body = orjson.dumps({**BODY, **fields}) if raw is None else raw
    return await Client(method, path, body, query=query, **(KEY if headers is None else headers)).run(lane)


async def count(**fields):
    return await ask("/v1/messages/count_tokens", max_tokens=None, **fields)


def recorded(gateway):
    (line,) = [each for each in spool_lines(gateway.env.data_dir / "spool") if each["kind"] == "done"]
    return line


def kinds(client):
    return [line[7:] for line in client.body.decode().splitlines() if line.startswith("event: ")]


def told(client):
    """Return the data of each event."""
    return [orjson.loads(line[6:]) for line in client.body.splitlines() if line.startswith(b"data: ")]


def is_error(client, status, kind, words=""):
    assert client.status == status
    assert set(client.json) == {"type", "error", "request_id"}
    assert (client.json["type"], client.json["error"]["type"]) == ("error", kind)
    assert set(client.json["error"]) == {"type", "message"}
    assert words in client.json["error"]["message"]
    return True


# ---------------------------------------------------------------- messages


async def test_it_answers_with_a_message(serving):
    gateway = serving(says("Hi."))
    client = await ask(headers={**KEY, "x_request_id": "mine"})
    assert client.status == 200
    assert client.json["content"] == [{"type": "text", "text": "Hi."}]
    assert (client.json["model"], client.json["stop_reason"]) == ("gpt-4o", "end_turn")
    assert (client.json["usage"]["input_tokens"], client.json["usage"]["output_tokens"]) == (5, 2)
    assert client.headers["request-id"] == client.headers["x-request-id"] == "mine"
    ((_, sent),) = gateway.transport.requests
    assert sent.path == "/chat/completions"
    assert orjson.loads(sent.body) == {
        "model": "gpt-4o",
        "messages": BODY["messages"],
        "max_completion_tokens": 50,
    }
    assert recorded(gateway)["endpoint"] == "messages"


@pytest.mark.parametrize(
    "headers", [KEY, {"authorization": f"Bearer {SECRET}"}, {**KEY, "anthropic_beta": "a,b"}]
)
async def test_it_streams_a_message(serving, headers):
    gateway = serving(streams())
    client = await ask(headers=headers, stream=True, query="beta=true")
    assert client.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert "request-id" in client.headers
    assert kinds(client)[:3] == ["message_start", "ping", "content_block_start"]
    assert kinds(client)[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert told(client)[-2]["usage"]["output_tokens"] == 2
    ((_, sent),) = gateway.transport.requests
    assert orjson.loads(sent.body)["stream_options"] == {"include_usage": True}
    usage = recorded(gateway)["usage"]
    assert (usage["prompt"], usage["completion"]) == (5, 2)


@pytest.mark.parametrize(("first", "second"), [(True, False), (False, True), (True, True), (False, False)])
async def test_it_shares_cached_answers_between_streams_and_messages(serving, first, second):
    gateway = serving(streams() if first else says("Hello there."))
    await ask(stream=first)
    again = await ask(stream=second)
    assert again.headers["x-gateway-cache"] == "hit"
    assert len(gateway.transport.requests) == 1
    if second:
        texts = [each["delta"].get("text", "") for each in told(again) if "delta" in each]
        assert "".join(texts) == "Hello there."
        assert told(again)[0]["message"]["usage"]["input_tokens"] == 5
        assert kinds(again)[-1] == "message_stop"
    else:
        assert again.json["content"] == [{"type": "text", "text": "Hello there."}]
        assert again.json["usage"]["output_tokens"] == 2


async def test_it_caches_apart_what_betas_change(serving):
    gateway = serving(says(), says())
    await ask()
    await ask(headers={**KEY, "anthropic_beta": "new"})
    assert len(gateway.transport.requests) == 2


async def test_it_ends_a_stream_that_breaks_in_an_error_event(serving):
    serving(streams(TEXT_STREAM[: TEXT_STREAM.index(b"there")]))
    client = await ask(stream=True)
    assert kinds(client)[-1] == "error"
    assert told(client)[-1]["error"]["type"] == "api_error"
    assert "message_stop" not in kinds(client)


# ---------------------------------------------------------------- counting


async def test_it_guesses_tokens_without_asking_a_vendor(serving):
    gateway = serving(says())
    client = await count(system="Be brief.", tools=[{"name": "f", "input_schema": {"type": "object"}}])
    assert client.status == 200
    assert set(client.json) == {"input_tokens"}
    assert client.json["input_tokens"] > 10
    assert client.headers["x-gateway-estimated"] == "true"
    assert (client.headers["x-gateway-model"], client.headers["x-gateway-attempts"]) == ("gpt-4o", "0")
    assert gateway.transport.requests == []
    line = recorded(gateway)
    assert (line["endpoint"], line["outcome"], line["attempts"]) == ("count_tokens", "ok", [])
    assert (line["usage"]["prompt"], line["cost_nanousd"]) == (0, None)


async def test_it_counts_each_time_anew(serving):
    serving()
    await count()
    again = await count()
    assert again.headers["x-gateway-cache"] == "bypass"


async def test_it_lets_a_vendor_count_that_can(serving, monkeypatch):
    class Counting(OpenAI):
        counts_tokens = True

        def encode(self, call, upstream):
            return super().encode(call, upstream)._replace(path="/count", wire=COUNT_TOKENS)

        def decode(self, body, call):
            assert call.wire == COUNT_TOKENS
            return Answer(body=body, wire=COUNT_TOKENS, usage=None, finish_reasons=())

    monkeypatch.setitem(DIALECTS, "openai", Counting())
    prices = [price_row("openai", "gpt-4o")]
    gateway = serving(
        FakeResponse(b'{"input_tokens":14}'),
        snapshot=lambda callers: make_snapshot("openai", callers=callers, prices=prices),
    )
    client = await count()
    assert client.body == b'{"input_tokens":14}'
    assert "x-gateway-estimated" not in client.headers
    assert [request.path for _, request in gateway.transport.requests] == ["/count"]
    line = recorded(gateway)
    assert (line["usage"]["prompt"], line["cost_nanousd"], len(line["attempts"])) == (0, 0, 1)


async def test_it_counts_nothing_of_what_it_could_not_ask(serving):
    serving()
    assert is_error(await count(tools=[SEARCH]), 400, "invalid_request_error", "tools[0]")


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"max_tokens": 0}, "'max_tokens'"),
        ({"raw": b"{"}, "not valid JSON"),
        ({"tools": [SEARCH]}, "web_search_20250305"),
        ({"container": "c"}, "'container'"),
    ],
)
async def test_it_refuses_in_anthropics_envelope(serving, fields, words):
    gateway = serving()
    assert is_error(await ask(**fields), 400, "invalid_request_error", words)
    assert gateway.transport.requests == []


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
async def test_it_wants_a_key_and_a_post(serving, path):
    serving()
    assert is_error(await ask(path, headers={}), 401, "authentication_error", "x-api-key")
    for method in ("GET", "PUT", "HEAD"):
        client = await ask(path, method=method)
        assert client.headers["allow"] == "POST"
        assert client.status == 405
        assert method == "HEAD" or is_error(client, 405, "invalid_request_error", "POST")
    preflight = await ask(path, method="OPTIONS")
    assert (preflight.status, preflight.body) == (204, b"")


async def test_it_knows_nothing_below_its_paths(serving):
    serving()
    client = await ask("/v1/messages/batches", headers={**KEY, "x_request_id": "mine"})
    assert is_error(client, 404, "not_found_error", "/v1/messages/batches")
    assert client.json["request_id"] == client.headers["request-id"] == "mine"


@pytest.mark.parametrize(
    ("status", "seen"),
    [
        (400, (400, "invalid_request_error")),
        (401, (502, "api_error")),
        (404, (404, "not_found_error")),
        (429, (429, "rate_limit_error")),
        (500, (502, "api_error")),
        (503, (503, "overloaded_error")),
        (529, (502, "api_error")),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_it_tells_a_vendors_failure(serving, status, seen, stream):
    serving(refuses(status, "so it is"), max_retries=1)
    client = await ask(stream=stream)
    assert is_error(client, seen[0], seen[1], "" if status == 401 else "so it is")
    assert client.json["request_id"] == client.headers["request-id"] == client.headers["x-request-id"]
    assert (status != 429) or client.headers["retry-after"] == "60"


async def test_it_tells_a_large_body_and_a_fault_of_its_own(serving, monkeypatch):
    serving(max_body_bytes=10)
    assert is_error(await ask(), 413, "request_too_large")
    serving(max_body_bytes=10**6)
    monkeypatch.setattr(views, "gateway", lambda: 1 // 0)
    monkeypatch.setattr(views, "log", Log())
    assert is_error(await ask(), 500, "api_error", "was logged")


async def test_it_speaks_openais_envelope_elsewhere(serving):
    serving()
    client = await ask("/v1/chat/completions", headers={})
    assert set(client.json["error"]) == {"message", "type", "param", "code"}
    assert "request-id" not in client.headers


async def test_it_keeps_the_answers_of_both_formats_apart(serving):
    gateway = serving(says("a"), says("b"))
    await ask()
    body = orjson.dumps({"model": "gpt-4o", "messages": BODY["messages"]})
    other = await Client("POST", "/v1/chat/completions", body, **KEY).run(lane)
    assert other.json["object"] == answer()["object"]
    assert len(gateway.transport.requests) == 2
