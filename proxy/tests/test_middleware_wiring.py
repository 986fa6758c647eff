"""Answers before the eyes of the response middlewares: every way out."""

import asyncio
from collections import Counter

import orjson
import pytest

from providers.errors import Owner, UpstreamError
from providers.tests.samples import DONE, answer, chunk, sse, usage_chunk
from proxy import races, relay
from proxy.asgi import at_once, lane
from proxy.middleware import chain
from proxy.middleware.chain import Chains
from proxy.middleware.redaction import Redaction
from proxy.tests.fakes import (
    FakeResponse,
    Log,
    chat_request,
    make_snapshot,
    provider_row,
    refuses,
    route_row,
    says,
    streams,
    until,
)
from proxy.tests.middlewares import FORMATS, Breaking, ChangingRecorder, Recorder, ask, post, records, settled

GONE = UpstreamError("gone", owner=Owner.HEALTH, code="upstream_reset")
MAIL = "ada@example.com"
SPLIT = [sse(chunk({"role": "assistant", "content": ""}))] + [
    sse(chunk({"content": piece})) for piece in ("Write to ada@", "exam", "ple.com now")
]
SPLIT_STREAM = b"".join([*SPLIT, sse(chunk(finish="stop")), sse(usage_chunk()), DONE])
OK = "end ok 200"
# Where words come back.
SPEAKING = [
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/messages",
    "/v1/responses",
    "/api/chat",
    "/api/chat/stream",
]


@pytest.fixture(autouse=True)
def log(monkeypatch):
    told = Log()
    for module in (chain, relay):
        monkeypatch.setattr(module, "log", told)
    return told


def routed(*routes, **parts):
    return lambda callers: make_snapshot("openai", "vllm", callers=callers, routes=list(routes), **parts)


def text_of(client):
    return "".join(
        choice["delta"].get("content") or ""
        for event in client.events
        if event != "[DONE]"
        for choice in event.get("choices", ())
    )


@pytest.mark.parametrize("kind", [Recorder, ChangingRecorder])
async def test_a_whole_answer_is_seen_once(gated, kind):
    recorder = kind()
    gateway = gated(says("Hi."), response=[recorder])
    client = await ask(gateway)
    assert client.headers["x-seen"] == "yes"
    assert recorder.only == ["begin", "answer", "head", OK]
    assert recorder.whole["choices"][0]["message"]["content"] == "Hi."


@pytest.mark.parametrize("kind", [Recorder, ChangingRecorder])
async def test_a_stream_is_seen_once(gated, kind):
    recorder = kind()
    gateway = gated(streams(*SPLIT, sse(chunk(finish="stop")), sse(usage_chunk()), DONE), response=[recorder])
    client = await ask(gateway, stream=True)
    assert client.headers["x-seen"] == "yes"
    first, second, *_ = recorder.only
    assert (first, second) == ("begin", "head")
    assert Counter(recorder.only) == {
        "begin": 1, "head": 1, "META": 1, "CONTENT": 3, "FINISH": 1, "USAGE": 1, "DONE": 1, OK: 1
    }  # fmt: skip
    assert recorder.only[-2:] == ["DONE", OK]
    assert text_of(client) == recorder.whole["choices"][0]["message"]["content"]


@pytest.mark.parametrize("kind", [Recorder, ChangingRecorder])
@pytest.mark.parametrize("first", [False, True])
async def test_a_hit_is_seen_once_in_either_form(gated, kind, first):
    recorder = kind()
    script = streams(SPLIT_STREAM) if first else says(f"Write to {MAIL} now")
    gateway = gated(script, response=[recorder])
    await ask(gateway, stream=first)
    recorder.told.clear()
    hit = await ask(gateway)
    assert hit.headers["x-gateway-cache"] == "hit"
    assert hit.headers["x-seen"] == "yes"
    assert recorder.only == ["begin", "answer", "head", OK]
    whole = recorder.whole
    recorder.told.clear()
    hit = await ask(gateway, stream=True)
    assert hit.headers["x-gateway-cache"] == "hit"
    assert recorder.only[:2] == ["begin", "head"]
    assert recorder.only[-2:] == ["DONE", OK]
    assert text_of(hit) == f"Write to {MAIL} now"
    for told in (whole, recorder.whole):
        assert told["choices"][0]["message"]["content"] == f"Write to {MAIL} now"
    assert [each["outcome"] for each in records(gateway)] == ["ok"] * 3


async def test_a_hit_is_not_answered_out_of_anybodys_sight(gated):
    recorder = Recorder()
    gateway = gated(says("Hi."), response=[recorder])
    for _ in range(4):
        client = chat_request()
        assert at_once(client.scope, client._pieces[0]["body"]) is None
        await client.run(lane)
    await settled(gateway)
    assert recorder.ends == [OK] * 4


@pytest.mark.parametrize("stream", [False, True])
async def test_those_who_follow_another_are_seen_each_for_itself(gated, stream):
    recorder, gate = Recorder(), asyncio.Event()
    body = orjson.dumps(answer("Hi."))
    script = (
        streams(SPLIT[1], gate.wait(), SPLIT[2], SPLIT_STREAM) if stream else FakeResponse(gate.wait(), body)
    )
    gateway = gated(script, response=[recorder, Redaction()])
    clients = [chat_request(stream=stream) for _ in range(3)]
    running = [asyncio.ensure_future(client.run(lane)) for client in clients]
    await until(lambda: len(recorder.told) == 3)
    gate.set()
    await asyncio.gather(*running)
    await settled(gateway)
    assert len(gateway.transport.requests) == 1
    assert recorder.ends == [OK] * 3
    for seen in recorder.told.values():
        assert (seen.count("begin"), seen.count("head"), seen[-1]) == (1, 1, OK)
        assert seen.count("answer") == (0 if stream else 1)
    assert len({client.body for client in clients}) == (3 if stream else 1)  # ids are each one's own
    assert len({text_of(client) if stream else b"" for client in clients}) == 1
    assert all(MAIL.encode() not in client.body for client in clients)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_vendors_error_ends_an_answer(gated, stream):
    recorder = Recorder()
    gateway = gated(refuses(400, "no"), response=[recorder])
    assert (await ask(gateway, stream=stream)).status == 400
    assert recorder.only == ["begin", "end error 400"]
    assert recorder.whole is None


@pytest.mark.parametrize("kind", [Recorder, ChangingRecorder])
async def test_a_stream_that_breaks_off_is_seen_to_its_end(gated, kind):
    recorder = kind()
    gateway = gated(streams(*SPLIT, GONE), response=[recorder])
    client = await ask(gateway, stream=True)
    assert client.events[-1]["error"]["code"] == "upstream_reset"
    assert recorder.only[:2] == ["begin", "head"]
    assert recorder.only[-2:] == ["ERROR", "end error 502"]
    assert recorder.whole["choices"][0]["message"]["content"] == f"Write to {MAIL} now"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/responses", "/v1/completions"])
async def test_what_is_withheld_comes_before_a_streams_error(gated, path):
    gateway = gated(streams(SPLIT[0], sse(chunk({"content": "Ask ada@exam"})), GONE), response=[Redaction()])
    client = await post(path, {**FORMATS[path], "stream": True})
    await settled(gateway)
    body = client.body
    assert b"ada@exam" in body  # half an address is none
    assert body.index(b"ada@exam") < body.index(b"upstream_reset" if path != "/v1/messages" else b"api_error")
    assert b"[DONE]" not in body


async def test_those_who_follow_get_what_is_withheld_too(gated):
    gate = asyncio.Event()
    recorder = Recorder()
    script = streams(
        SPLIT[0], sse(chunk({"content": "Ask "})), gate.wait(), sse(chunk({"content": "ada@exam"})), GONE
    )
    gateway = gated(script, response=[Redaction(), recorder])
    clients = [chat_request(stream=True) for _ in range(2)]
    running = [asyncio.ensure_future(client.run(lane)) for client in clients]
    await until(lambda: len(recorder.told) == 2 and all(client.messages for client in clients))
    gate.set()
    await asyncio.gather(*running)
    await settled(gateway)
    assert [text_of(client) for client in clients] == ["Ask ada@exam"] * 2
    assert all(client.events[-1]["error"]["code"] == "upstream_reset" for client in clients)
    assert recorder.ends == ["end error 502"] * 2


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_ends_an_answer(gated, stream):
    recorder, never = Recorder(), asyncio.Event()
    script = streams(*SPLIT, never.wait()) if stream else FakeResponse(never.wait())
    gateway = gated(script, response=[recorder])
    client = chat_request(stream=stream)
    running = asyncio.ensure_future(client.run(lane))
    await until(lambda: client.messages[1:] if stream else gateway.transport.responses)
    client.left.set()
    await running
    await settled(gateway)
    assert recorder.ends == ["end cancelled 499"]
    assert recorder.only.count("head") == (1 if stream else 0)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_hedged_answer_is_seen_once(gated, monkeypatch, stream):
    for race in (races.AnswerRace, races.StreamRace):
        monkeypatch.setattr(race, "delay_s", lambda _race, _visit: 0.0)
    recorder, never = Recorder(), asyncio.Event()
    snapshot = routed(route_row("gpt-4o", "openai", "vllm", hedge=True))
    script = (
        (streams(never.wait()), streams(SPLIT_STREAM))
        if stream
        else (FakeResponse(never.wait()), says("Hi."))
    )
    gateway = gated(*script, response=[recorder], snapshot=snapshot)
    client = await ask(gateway, stream=stream)
    assert client.status == 200
    assert len(gateway.transport.requests) == 2
    assert recorder.only.count("head") == 1
    assert recorder.only.count("DONE" if stream else "answer") == 1
    assert recorder.ends == [OK]


async def test_a_continued_stream_is_one_answer(gated):
    recorder = ChangingRecorder()
    snapshot = routed(route_row("gpt-4o", "openai", "vllm", continue_streams=True))
    first = streams(SPLIT[0], sse(chunk({"content": "Write to ada@exam"})), GONE)
    rest = streams(sse(chunk({"content": "ple.com now"})), sse(chunk(finish="stop")), DONE)
    gateway = gated(first, rest, response=[Redaction(), recorder], snapshot=snapshot)
    client = await ask(gateway, stream=True)
    assert text_of(client) == "Write to [EMAIL] now"
    assert client.events[-1] == "[DONE]"
    assert recorder.only[-1] == OK
    assert recorder.only.count("head") == recorder.only.count("DONE") == 1
    assert "ERROR" not in recorder.only


# ---------------------------------------------------------------- what the vendor's own format says


ANTHROPIC = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4-5",
    "content": [{"type": "text", "text": f"Write to {MAIL} now"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 5, "output_tokens": 2},
}


def anthropic(callers):
    row = provider_row("anthropic", dialect="anthropic", base_url="http://anthropic.test")
    return make_snapshot(row, callers=callers)


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/chat/completions"])
@pytest.mark.parametrize("stream", [False, True])
async def test_the_end_tells_the_canonical_form_of_whatever_was_said(gated, path, stream):
    """From the vendor and from the cache, where both speak a format of their own."""
    recorder = Recorder()
    body = {**FORMATS[path], "model": "claude-sonnet-4-5"}
    gateway = gated(FakeResponse(orjson.dumps(ANTHROPIC)), response=[recorder], snapshot=anthropic)
    for cached in ("miss", "hit"):
        recorder.told.clear()
        client = await post(path, {**body, "stream": stream and cached == "hit"})
        await settled(gateway)
        assert client.headers["x-gateway-cache"] == cached
        assert MAIL.encode() in client.body
        assert recorder.whole["choices"][0]["message"]["content"] == f"Write to {MAIL} now"
        assert recorder.whole["object"] == "chat.completion"
        assert recorder.whole["choices"][0]["finish_reason"] == "stop"
        assert recorder.whole["usage"]["total_tokens"] == 7


async def test_a_vendors_bytes_pass_those_who_only_look(gated):
    gateway = gated(streams(SPLIT_STREAM), response=[Recorder()])
    client = await ask(gateway, stream=True, stream_options={"include_usage": True})
    assert client.body == SPLIT_STREAM


@pytest.mark.parametrize("path", SPEAKING)
async def test_no_format_is_let_through_unredacted(gated, path):
    """In whichever format the client asks, whole or in pieces, the first time and from the cache."""
    row = {
        "cache_ttl_s": None,
        "cache_epoch": 0,
        "default_provider__name": "openai",
        "default_model": "gpt-4o",
    }
    options = {"response": [Redaction()], "snapshot": routed(settings=[row])}
    gateway = gated(says(f"Write to {MAIL} now"), **options)
    asked = {} if path.startswith("/api/") else {"stream": False}
    bodies = [(await post(path, {**FORMATS[path], **asked})).body for _ in range(3)]
    if path != "/api/chat":
        gateway = gated(streams(*SPLIT, sse(chunk(finish="stop")), DONE), **options)
        asked = {} if path.startswith("/api/") else {"stream": True}
        bodies += [(await post(path, {**FORMATS[path], **asked})).body for _ in range(3)]
    assert len(gateway.transport.requests) == 1
    assert all(b"[EMAIL]" in body for body in bodies)
    assert not any(b"ada@" in body or b"example.com" in body for body in bodies)


async def test_what_only_a_vendor_can_say_is_refused_where_answers_are_changed(gated):
    recorder = Recorder()
    gateway = gated(response=[Redaction(), recorder])
    client = await post("/v1/responses", {**FORMATS["/v1/responses"], "previous_response_id": "resp_1"})
    await settled(gateway)
    assert (client.status, client.json["error"]["code"]) == (400, "not_changeable")
    assert client.json["error"]["param"] == "previous_response_id"
    assert gateway.transport.requests == []
    assert recorder.ends == ["end error 400"]


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/messages/count_tokens"])
async def test_answers_without_words_are_seen_too(gated, path):
    recorder = Recorder()
    vectors = {"object": "list", "data": [{"index": 0, "embedding": [1.0]}], "model": "m", "usage": {}}
    gateway = gated(FakeResponse(orjson.dumps(vectors)), response=[Redaction(), recorder])
    client = await post(path, FORMATS[path])
    await settled(gateway)
    assert client.status == 200
    assert client.headers["x-seen"] == "yes"
    assert recorder.only == ["begin", "answer", "head", OK]


@pytest.mark.parametrize("stream", [False, True])
async def test_an_entry_that_nobody_can_read_is_shown_to_nobody(gated, monkeypatch, stream):
    recorder = Recorder()
    gateway = gated(streams(SPLIT_STREAM) if stream else says("Hi."), response=[recorder])
    kept = []
    with monkeypatch.context() as patch:
        patch.setattr(gateway.store, "put", lambda key, entry, **_: kept.append((key, entry)))
        await ask(gateway, stream=stream)
    ((key, entry),) = kept
    broken = entry.body.replace(b'"exam"' if stream else b'"Hi."', b'"' * 6)
    gateway.store.put(key, entry._replace(body=broken), ttl_s=60)
    recorder.told.clear()
    client = await ask(gateway, stream=stream)
    assert (client.status, client.headers["x-gateway-cache"]) == (200, "miss")
    assert recorder.ends == [OK]
    assert recorder.only.count("head") == 1
    assert recorder.only.count("DONE" if stream else "answer") == 1


# ---------------------------------------------------------------- nothing configured


class Untouchable:
    """Has no attributes to look at, and is false."""

    def __bool__(self):
        return False

    def __getattr__(self, name):
        raise AssertionError(f"somebody asked for {name}")


@pytest.mark.parametrize("stream", [False, True])
async def test_nothing_configured_is_asked_nothing_but_whether_it_is_there(gated, stream):
    """Not for an answer, nor for one from the cache, a refusal, or a forwarded request."""
    gateway = gated(streams(SPLIT_STREAM) if stream else says("Hi."))
    was, gateway.middleware = gateway.middleware, Chains(Untouchable(), Untouchable())
    for _ in range(3):
        assert (await chat_request(stream=stream).run(lane)).status == 200
    assert (await chat_request(model="").run(lane)).status == 400
    assert (await post("/v1/moderations", {"model": "openai/m", "input": "hi"})).status == 200
    client = chat_request(stream=stream)
    if not stream:
        assert at_once(client.scope, client._pieces[0]["body"]) is not None
    gateway.middleware = was
    await settled(gateway)


# ---------------------------------------------------------------- errors


class Stamping(Recorder):
    """Puts a header on errors."""

    def error(self, headers):
        headers["x-stamp"] = "error"


class Stumbling(Recorder):
    def error(self, _headers):
        raise RuntimeError("secret words")


@pytest.mark.parametrize(
    ("status", "path", "fields"),
    [
        (401, "/v1/chat/completions", {"key": "nobody"}),
        (400, "/v1/chat/completions", {"model": ""}),
        (404, "/v1/nothing", {}),
        (405, "/v1/models", {}),
        (413, "/v1/messages", {"messages": "x" * 2000}),
        (422, "/v1/chat/completions", {}),
        (422, "/v1/chat/completions", {"stream": True}),
        (422, "/v1/moderations", {"model": "openai/m"}),
    ],
)
async def test_errors_have_the_headers_of_those_who_say_so(gated, status, path, fields):
    """Wherever they come from; one that fails there is left out."""
    gateway = gated(refuses(422), response=[Stumbling(), Stamping()], max_body_bytes=1000)
    client = await ask(gateway, path=path, **fields)
    assert client.status == status
    assert client.headers["x-stamp"] == "error"
    assert client.json["error"]["message"]
    assert "x-seen" not in client.headers


# ---------------------------------------------------------------- what is passed on unread


@pytest.mark.parametrize("kind", ["application/json", "text/event-stream", "audio/mpeg"])
async def test_what_is_passed_on_has_a_head_and_an_end(gated, kind):
    recorder = ChangingRecorder()
    vendor = FakeResponse(b'{"a": "ada@', b'example.com"}', headers={"content-type": kind})
    gateway = gated(vendor, response=[Redaction(), recorder])
    client = await post("/v1/audio/speech", {"model": "openai/m", "input": "hi"})
    await settled(gateway)
    assert client.body == b'{"a": "ada@example.com"}'
    assert client.headers["x-seen"] == "yes"
    assert recorder.only == ["begin", "head", OK]
    assert recorder.whole is None


async def test_what_is_passed_on_and_fails_has_an_end(gated):
    recorder = Recorder()
    gateway = gated(refuses(422), response=[recorder])
    assert (await post("/v1/moderations", {"model": "openai/m", "input": "hi"})).status == 422
    await settled(gateway)
    assert recorder.only == ["begin", "end error 422"]


@pytest.mark.parametrize("kind", ["application/json", "audio/mpeg"])
@pytest.mark.parametrize("where", ["begin", "head"])
async def test_one_that_fails_at_the_head_of_what_is_passed_on_refuses_it(gated, where, kind):
    recorder = Recorder()
    vendor = FakeResponse(b"{}", headers={"content-type": kind})
    gateway = gated(vendor, response=[Breaking(where), recorder])
    client = await post("/v1/audio/speech", {"model": "openai/m", "input": "hi"})
    await settled(gateway)
    assert (client.status, client.json["error"]["code"]) == (500, "middleware_failed")
    assert recorder.ends == ["end error 500"]
    assert gateway.meter.in_flight == 0
    assert all(each.closed for each in gateway.transport.responses if kind == "audio/mpeg")
