"""Requests with an Idempotency-Key, from the lane to the record, before a scripted vendor."""

import asyncio
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from keys.caller import Caller
from keys.secret import digest
from providers.tests.test_openai_responses import MESSAGE, STREAM, response
from proxy import asgi
from proxy.asgi import lane
from proxy.idempotency import keyed, naming
from proxy.tests.fakes import (
    SECRET,
    SSE_HEADERS,
    FakeResponse,
    chat_request,
    make_snapshot,
    provider_row,
    refuses,
    route_row,
    says,
    settings_row,
    spool_lines,
    streams,
    until,
)
from proxy.tests.test_departures import Turn, leaves_after, slowly
from proxy.tests.test_forwarding import Client, client, file, gone, ok
from proxy.tests.test_multipart import BOUNDARY, END, part

# A stream in two pieces, of which the first has content.
WHOLE = streams()._script[0]
BEGINNING, REST = WHOLE[: len(WHOLE) // 2], WHOLE[len(WHOLE) // 2 :]
OTHER = "another-key-of-24-characters"
CALLERS = {digest(SECRET): Caller(1, 2, "ci", "test"), digest(OTHER): Caller(9, 2, "other", "othe")}
# In everything but these a replay is what went out.
OWN = ("x-request-id", "request-id", "x-gateway-cache", "x-gateway-attempts", "idempotency-replayed")


@pytest.fixture
def once(serving):
    """Serve without the cache: an answer that comes twice comes from its key."""

    def once(*script, callers=None, **env):
        def snapshot(_):
            return make_snapshot(
                provider_row("openai"),
                provider_row("vllm"),
                callers=CALLERS if callers is None else callers,
                routes=[route_row("m", "openai/m")],
                settings=[settings_row(default_provider__name="openai", default_model="m")],
            )

        return serving(*script, snapshot=snapshot, **{"cache_mode": "none", "max_retries": 1, **env})

    return once


def asking(idempotency_key="k", **fields):
    headers = {"idempotency-key": idempotency_key, **fields.pop("headers", {})}
    return chat_request(**{"model": "openai/m", **fields, "headers": headers})


async def ask(*arguments, **fields):
    return await asking(*arguments, **fields).run(lane)


def records(gateway):
    return [line for line in spool_lines(gateway.spool._directory) if line["kind"] == "done"]


def gated(response):
    """Return an answer that waits to be let go, and what lets it go."""
    gate = asyncio.Event()

    async def answered():
        await gate.wait()
        return response

    return answered, gate


def own(headers):
    return {
        name: value
        for name, value in headers.items()
        if name not in OWN and not name.startswith("x-ratelimit-")
    }


def assert_replay(first, again):
    assert again.body == first.body
    assert again.status == first.status
    assert own(again.headers) == own(first.headers) | (
        {} if "content-length" not in again.headers else {"content-length": str(len(first.body))}
    )
    assert again.headers["idempotency-replayed"] == "true"
    assert again.headers["x-gateway-cache"] == "hit"
    assert again.headers["x-gateway-attempts"] == "0"
    assert again.headers["x-request-id"] != first.headers["x-request-id"]


# ---------------------------------------------------------------- the same again

TEXT_COMPLETION = {
    "object": "text_completion",
    "choices": [{"index": 0, "text": "x", "finish_reason": "stop"}],
}
ENDPOINTS: dict[str, tuple[str, dict[str, Any], Callable[[], FakeResponse]]] = {
    "chat": ("/v1/chat/completions", {}, says),
    "chat stream": ("/v1/chat/completions", {"stream": True}, streams),
    "completions": ("/v1/completions", {"prompt": "hi"}, lambda: ok(TEXT_COMPLETION)),
    "messages": ("/v1/messages", {"max_tokens": 9}, says),
    "messages stream": ("/v1/messages", {"max_tokens": 9, "stream": True}, streams),
    "responses": ("/v1/responses", {"input": "hi"}, lambda: ok(response(MESSAGE))),
    "responses stream": ("/v1/responses", {"input": "hi", "stream": True}, lambda: streams(STREAM)),
    "moderations": ("/v1/moderations", {"input": "hi"}, ok),
    "speech": ("/v1/audio/speech", {"input": "hi"}, lambda: file(b"a", b"b")),
    "simple chat": ("/api/chat", {"message": "hi"}, says),
    "simple stream": ("/api/chat/stream", {"message": "hi"}, streams),
}


@pytest.mark.parametrize("name", ENDPOINTS)
async def test_it_gives_the_answer_again_to_the_byte(once, name):
    path, fields, answer = ENDPOINTS[name]
    gateway = once(answer(), gone())
    first = await ask(path=path, **fields)
    assert (first.status, first.whole) == (200, True)
    again = await ask(path=path, **fields)
    assert again.whole
    assert_replay(first, again)
    assert len(gateway.transport.requests) + len(gateway.transport.forwarded) == 1
    one, two = records(gateway)
    alike = ("endpoint", "requested_model", "route", "provider", "model", "stream", "usage", "status")
    assert [two[each] for each in alike] == [one[each] for each in alike]
    assert (two["cache"], two["cost_nanousd"], two["attempts"], two["outcome"]) == ("hit", 0, [], "ok")
    assert one["cache"] == "bypass"


async def test_it_makes_one_call_of_many_at_once(once):
    answer, gate = gated(says("Once."))
    gateway = once(answer, gone())
    running = [asyncio.ensure_future(ask()) for _ in range(50)]
    await until(lambda: gateway.transport.requests)
    gate.set()
    clients = await asyncio.gather(*running)
    assert {each.status for each in clients} == {200}
    assert len({each.body for each in clients}) == 1
    assert sum("idempotency-replayed" in each.headers for each in clients) == 49
    assert len(gateway.transport.requests) == 1
    assert [each["cache"] for each in records(gateway)].count("bypass") == 1
    assert not gateway.turns._taken


async def test_it_has_those_who_come_during_a_stream_wait_for_its_end(once):
    gate = asyncio.Event()
    gateway = once(streams(BEGINNING, gate.wait(), REST), gone())
    first, second = asking(stream=True), asking(stream=True)
    running = [asyncio.ensure_future(each.run(lane)) for each in (first, second)]
    await until(lambda: first.body)
    assert not second.messages
    gate.set()
    await asyncio.gather(*running)
    assert_replay(first, second)
    assert len(gateway.transport.requests) == 1


async def test_it_costs_nothing_without_a_key_and_is_off_without_a_time(once):
    gateway = once(says("One."), says("Two."), idempotency_ttl_s=0)
    assert [(await ask()).json["choices"][0]["message"]["content"] for _ in range(2)] == ["One.", "Two."]
    assert gateway.turns is None


async def test_it_forgets_when_the_time_is_up(once, monkeypatch):
    gateway = once(says("One."), says("Two."), idempotency_ttl_s=100)
    await ask()
    kept = gateway.store.claims._kept
    ((key, (expires_at, held)),) = kept.items()
    kept[key] = (expires_at - 100, held)
    assert (await ask()).json["choices"][0]["message"]["content"] == "Two."


async def test_it_counts_a_replay_against_the_limits(once):
    once(says(), rpm_limit=2)
    assert [(await ask()).status for _ in range(3)] == [200, 200, 429]


# ---------------------------------------------------------------- whose key it is


async def test_it_never_shares_a_key(once):
    """Nor across API keys of one tenant, nor across paths."""
    gateway = once(says("One."), says("Two."), says("Three."))
    replies = [await ask(), await ask(key=OTHER), await ask(path="/v1/completions", prompt="hi")]
    assert {each.status for each in replies} == {200}
    assert len(gateway.transport.requests) == 3


async def test_it_tells_clients_without_an_api_key_by_their_address(once):
    gateway = once(says("One."), says("Two."), allow_anonymous=True)

    async def said(address):
        asked = asking(key="")
        asked.scope["client"] = (address, 4711)
        return (await asked.run(lane)).json["choices"][0]["message"]["content"]

    assert [await said(each) for each in ("10.0.0.1", "10.0.0.2", "10.0.0.1")] == ["One.", "Two.", "One."]
    assert len(gateway.transport.requests) == 2


async def test_it_gives_a_stored_answer_to_nobody_whose_key_is_refused(once):
    gateway = once(says())
    await ask()
    gateway.snapshot = make_snapshot(
        "openai", callers={digest(SECRET): Caller(1, 2, "ci", "test", enabled=False)}
    )
    refused, unknown = await ask(), await ask(key="nobody")
    assert (refused.status, refused.json["error"]["code"]) == (401, "api_key_disabled")
    assert unknown.status == 401


@pytest.mark.parametrize("value", ["", "x" * 256, "two words", "caf\xe9", "a\tb"])
async def test_it_refuses_what_is_no_key(once, value):
    gateway = once(says())
    refused = await ask(value)
    error = refused.json["error"]
    assert (refused.status, error["code"]) == (400, "invalid_idempotency_key")
    assert error["param"] == "Idempotency-Key"
    assert not gateway.transport.requests
    assert (await ask("x" * 255)).status == 200


# ---------------------------------------------------------------- another request


@pytest.mark.parametrize("running", [False, True])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
async def test_it_refuses_another_request_under_a_key(once, path, running):
    answer, gate = gated(says())
    gateway = once(answer)
    first = asyncio.ensure_future(ask(path=path, max_tokens=9))
    await until(lambda: gateway.transport.requests)
    if not running:
        gate.set()
        await first
    other = await ask(path=path, max_tokens=8)
    gate.set()
    await first
    assert other.status == 409
    error = other.json["error"]
    assert error["type"] == "invalid_request_error"
    assert ("code" in error, "request_id" in other.json) == (path != "/v1/messages", path == "/v1/messages")
    assert "another request" in error["message"]
    assert other.headers["x-should-retry"] == "false"
    assert len(gateway.transport.requests) == 1
    (record,) = [each for each in records(gateway) if each["status"] == 409]
    assert (record["error_code"], record["key_id"]) == ("idempotency_key_reused", 1)
    assert (await ask(path=path, max_tokens=9)).headers["idempotency-replayed"] == "true"


@pytest.mark.parametrize("more", [{"query": "a=1"}, {"x_gateway_provider": "vllm"}, {"openai_beta": "x"}])
async def test_it_reads_what_else_shapes_an_answer_as_part_of_the_request(once, more):
    once(ok(), ok())
    body = {"model": "m", "input": "x"}
    first = await client("POST", "/v1/moderations", body, idempotency_key="k").run(lane)
    other = await client("POST", "/v1/moderations", body, idempotency_key="k", **more).run(lane)
    assert (first.status, other.status) == (200, 409)


# ---------------------------------------------------------------- ends without an answer


@pytest.mark.parametrize("stream", [False, True])
async def test_it_takes_a_retry_after_a_failure_for_a_new_attempt(once, stream):
    broken = streams(BEGINNING, gone()) if stream else refuses(500)
    once(broken, streams() if stream else says())
    failed, whole_answer, again = [await ask(stream=stream) for _ in range(3)]
    assert (failed.status, b"error" in failed.body) == (200 if stream else 502, True)
    assert "idempotency-replayed" not in whole_answer.headers
    assert_replay(whole_answer, again)


async def test_it_lets_the_next_in_line_go_when_the_first_has_failed(once):
    answer, gate = gated(refuses(500))
    gateway = once(answer, refuses(503), says("Third."), gone())
    running = [asyncio.ensure_future(ask()) for _ in range(5)]
    await until(lambda: gateway.transport.requests)
    gate.set()
    clients = await asyncio.gather(*running)
    assert sorted(each.status for each in clients) == [200, 200, 200, 502, 503]
    assert len(gateway.transport.requests) == 3


async def test_it_tells_those_who_wait_too_long_to_come_again(once, monkeypatch):
    monkeypatch.setattr(keyed, "WAIT_S", 0.01)
    answer, gate = gated(says())
    gateway = once(answer)
    first = asyncio.ensure_future(ask())
    await until(lambda: gateway.transport.requests)
    waited = await ask()
    assert (waited.status, waited.json["error"]["code"]) == (409, "idempotency_key_in_use")
    assert waited.headers["retry-after"] == "5"
    gate.set()
    assert (await first).status == 200


async def test_it_says_of_a_large_answer_that_it_is_not_kept(once):
    """Another call would be another charge: that is for the client to decide."""
    for answer, stream in ((says("x" * 9000), False), (streams(), True)):
        gateway = once(answer, says(), cache_max_bytes=4 * 500)
        first, again = await ask(stream=stream), await ask(stream=stream)
        assert (first.status, first.whole) == (200, True)
        assert (again.status, again.json["error"]["code"]) == (409, "idempotency_answer_not_kept")
        assert again.headers["x-should-retry"] == "false"
        assert len(gateway.transport.requests) == 1


async def test_it_says_the_same_of_what_it_cannot_read(once):
    gateway = once(says())
    await ask()
    kept = gateway.store.claims._kept
    ((key, (expires_at, held)),) = kept.items()
    for damaged in (b"{}\n{}", b"7\n", b"\xff"):
        kept[key] = (expires_at, held._replace(answer=damaged))
        assert (await ask()).json["error"]["code"] == "idempotency_answer_not_kept"


# ---------------------------------------------------------------- the client leaves


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("cache_mode", ["none", "memory"])
async def test_it_finishes_for_a_client_that_comes_back(once, stream, cache_mode):
    """One charge, for a connection that was lost in the middle."""
    gate = asyncio.Event()
    pieces = [BEGINNING, gate.wait(), REST] if stream else [gate.wait(), says()._script[0]]
    answer = FakeResponse(*pieces, headers=SSE_HEADERS if stream else None)
    gateway = once(answer, gone(), cache_mode=cache_mode)
    lost = asking(stream=stream)
    running = asyncio.ensure_future(lost.run(lane))
    await until(lambda: lost.body if stream else gateway.transport.responses)
    lost.left.set()
    back = asyncio.ensure_future(ask(stream=stream))
    for _ in range(20):
        await asyncio.sleep(0)
    gate.set()
    answered = await back
    await running
    assert (answered.status, answered.headers["idempotency-replayed"]) == (200, "true")
    assert len(gateway.transport.requests) == 1
    first, second = records(gateway)
    assert (first["outcome"], first["status"], first["usage"]) == ("cancelled", 499, second["usage"])
    assert not first["usage"]["estimated"]
    assert second["cost_nanousd"] == 0


@pytest.mark.parametrize("cache_mode", ["none", "memory"])
async def test_it_gives_up_for_a_client_that_does_not_come_back(once, cache_mode):
    gate = asyncio.Event()
    gateway = once(FakeResponse(gate.wait()), says("Anew."), cache_mode=cache_mode)
    gateway.turns.linger_s = 0.01
    tasks = asyncio.all_tasks()
    lost = asking()
    running = asyncio.ensure_future(lost.run(lane))
    await until(lambda: gateway.transport.responses)
    lost.left.set()
    await running
    assert gateway.transport.responses[0].closed
    assert [each["outcome"] for each in records(gateway)] == ["cancelled"]
    await until(lambda: asyncio.all_tasks() == tasks)
    assert not gateway.turns._taken
    assert (await ask()).json["choices"][0]["message"]["content"] == "Anew."


async def test_it_goes_on_for_as_long_as_somebody_waits(once):
    gate = asyncio.Event()
    gateway = once(FakeResponse(gate.wait(), says()._script[0]), gone())
    gateway.turns.linger_s = 0.001
    lost, patient = asking(), asking()
    running = [asyncio.ensure_future(each.run(lane)) for each in (lost, patient)]
    await until(lambda: gateway.transport.responses)
    lost.left.set()
    await asyncio.sleep(0.02)
    gate.set()
    await asyncio.gather(*running)
    assert patient.status == 200


async def test_it_lets_a_client_that_waits_leave(once):
    answer, gate = gated(says())
    gateway = once(answer)
    first = asyncio.ensure_future(ask())
    await until(lambda: gateway.transport.requests)
    impatient = asking()
    running = asyncio.ensure_future(impatient.run(lane))
    await asyncio.sleep(0)
    impatient.left.set()
    await running
    assert not impatient.messages
    gate.set()
    assert (await first).status == 200
    assert sorted(each["outcome"] for each in records(gateway)) == ["cancelled", "ok"]


async def test_it_frees_the_key_of_a_client_that_left_before_the_head_went_out(once):
    gateway = once(streams(), streams())
    gateway.turns.linger_s = 0.0
    lost = asking(stream=True)

    async def send(message):
        lost.left.set()
        await asyncio.Event().wait()

    lost.send = send
    await lost.run(lane)
    assert gateway.transport.responses[0].closed
    assert not gateway.turns._taken
    assert "idempotency-replayed" not in (await ask(stream=True)).headers


async def test_it_keeps_an_answer_whose_client_left_while_it_was_sent(once):
    gateway = once(streams(), gone())
    lost = asking(stream=True)

    async def send(message):
        await Client.send(lost, message)
        if message.get("body"):
            lost.left.set()
            await asyncio.Event().wait()

    lost.send = send
    await lost.run(lane)
    assert (await ask(stream=True)).headers["idempotency-replayed"] == "true"
    assert len(gateway.transport.requests) == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_it_leaves_nothing_behind_whenever_the_client_leaves(once, monkeypatch, stream):
    answer = FakeResponse(Turn(), BEGINNING, Turn(), Turn(), REST, headers=SSE_HEADERS)
    gateway = once(slowly(answer if stream else says()))
    gateway.turns.linger_s = 0.0
    recorded, done = [], gateway.spool.append_done

    def append_done(identity, line):
        recorded.append(orjson.loads(line)["outcome"])
        done(identity, line)

    monkeypatch.setattr(gateway.spool, "append_done", append_done)
    tasks = asyncio.all_tasks()
    for turns in range(40):
        await leaves_after(turns, asking(f"key-{turns}", stream=stream))
        await until(lambda: asyncio.all_tasks() == tasks)
        assert not gateway.turns._taken
        assert gateway.spool.in_flight == gateway.meter.in_flight == 0
        assert len(recorded) == turns + 1
    assert set(recorded) == {"ok", "cancelled"}


# ---------------------------------------------------------------- forms


def sending(boundary, sound):
    """Return the client of a form with a file."""
    body = (part(b"model", b"openai/m") + part(b"file", sound) + END).replace(BOUNDARY, boundary)
    pieces = [body[at : at + 7000] for at in range(0, len(body), 7000)]
    content_type = f"multipart/form-data; boundary={boundary.decode()}"
    return client("POST", "/v1/audio/transcriptions", pieces, content_type=content_type, idempotency_key="k")


async def test_it_knows_a_form_again_whatever_its_boundary(once):
    """SDKs make up a new one for every try."""
    gateway = once(ok({"text": "hi"}), gone())
    sound = b"s" * 70_000
    first = await sending(b"one-boundary", sound).run(lane)
    again = await sending(b"the-other-one", sound).run(lane)
    assert_replay(first, again)
    ((_, outgoing, sent),) = gateway.transport.forwarded
    assert sent.count(b"one-boundary") == 3
    assert outgoing.headers["content-type"].endswith("one-boundary")
    assert (await sending(b"third", b"t" * 70_000).run(lane)).status == 409


async def test_it_bounds_a_form_that_it_must_read_as_a_whole(once):
    gateway = once(ok(), max_body_bytes=1000)
    refused = await sending(BOUNDARY, b"s" * 70_000).run(lane)
    error = refused.json["error"]
    assert (refused.status, error["code"], error["param"]) == (413, "body_too_large", "Idempotency-Key")
    assert not gateway.transport.forwarded


async def test_it_does_not_wait_for_ever_for_a_form(once, monkeypatch):
    monkeypatch.setattr(naming, "STALL_S", 0.01)
    once(ok())
    stalled = sending(BOUNDARY, b"s")
    stalled._pieces[-1]["more_body"] = True
    await stalled.run(lane)
    assert (stalled.status, stalled.json["error"]["code"]) == (408, "request_timeout")


# ---------------------------------------------------------------- neighbours


async def test_it_is_never_answered_as_an_encore(once):
    gateway = once(says(), cache_mode="memory")
    for value in ("a", "b", "c", "a"):
        asked = asking(value)
        body = asked._pieces[0]["body"]
        assert asgi.at_once(asked.scope, body) is None
        assert (await asked.run(lane)).status == 200
    assert not gateway.encores._known._known
    assert len(gateway.transport.requests) == 1


async def test_it_lets_browsers_see_that_it_is_a_replay(once):
    once(says())
    first = await ask(headers={"origin": "https://a.example"})
    assert "idempotency-replayed" in first.headers["access-control-expose-headers"]


async def test_it_has_nothing_to_do_with_what_is_no_post(once):
    gateway = once(ok({"data": []}), ok({"data": []}))
    for _ in range(2):
        asked = client("GET", "/v1/files/file-1", query="provider=openai", idempotency_key="two words")
        assert (await asked.run(lane)).status == 200
    assert len(gateway.transport.forwarded) == 2
