"""Response middlewares that fail, at every place: what is left out, and what is not let out."""

import asyncio

import orjson
import pytest

from providers.events import Event, Kind, TextEvent
from providers.tests.samples import DONE, answer, chunk, sse
from proxy import relay
from proxy.asgi import lane
from proxy.middleware import chain
from proxy.middleware.base import Watch
from proxy.middleware.redaction import Redaction
from proxy.tests.fakes import (
    FakeResponse,
    Log,
    chat_request,
    says,
    streams,
    until,
)
from proxy.tests.middlewares import FORMATS, Breaking, Recorder, ask, post, records, settled
from proxy.tests.test_middleware_wiring import GONE, MAIL, OK, SPLIT, SPLIT_STREAM, text_of


@pytest.fixture(autouse=True)
def log(monkeypatch):
    told = Log()
    for module in (chain, relay):
        monkeypatch.setattr(module, "log", told)
    return told


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("where", ["begin", "head", "answer", "events"])
async def test_one_that_only_looks_is_left_out(gated, where, stream, cached):
    recorder = Recorder()
    breaking = Breaking("nowhere", changes=False)
    gateway = gated(streams(SPLIT_STREAM) if stream else says("Hi."), response=[breaking, recorder])
    if cached:
        await ask(gateway, stream=stream)
        recorder.told.clear()
    breaking.where = where
    client = await ask(gateway, stream=stream)
    assert client.status == 200
    assert recorder.ends == [OK]
    assert recorder.only.count("head") == 1
    fails = where != ("answer" if stream else "events")
    assert len(chain.log.of("response_middleware")) == fails
    assert client.headers["x-gateway-cache"] == ("hit" if cached else "miss")
    assert text_of(client) == f"Write to {MAIL} now" if stream else client.json["choices"]


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("where", ["begin", "head", "answer"])
async def test_one_that_changes_whole_answers_fails_them(gated, where, cached):
    recorder, breaking = Recorder(), Breaking("nowhere")
    gateway = gated(says(f"I am {MAIL}"), response=[breaking, recorder])
    if cached:
        await ask(gateway)
        recorder.told.clear()
    breaking.where = where
    client = await ask(gateway)
    assert (client.status, client.json["error"]["code"]) == (500, "middleware_failed")
    assert MAIL.encode() not in client.body
    assert recorder.ends == ["end error 500"]
    done = records(gateway)[-1]
    assert (done["status"], done["error_code"]) == (500, "middleware_failed")
    assert len(gateway.transport.requests) == (0 if where == "begin" and not cached else 1)


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("where", ["begin", "head", "events"])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/responses"])
async def test_one_that_changes_streams_fails_them(gated, path, where, cached):
    recorder, breaking = Recorder(), Breaking("nowhere")
    gateway = gated(streams(*SPLIT, sse(chunk(finish="stop")), DONE), response=[breaking, recorder])
    body = {**FORMATS[path], "stream": True}
    if cached:
        await post(path, body)
        await settled(gateway)
        recorder.told.clear()
    breaking.where = where
    client = await post(path, body)
    await settled(gateway)
    assert client.status == (200 if where == "events" else 500)
    assert b"middleware" in client.body
    assert b"ada@" not in client.body
    assert b"DONE" not in client.body
    assert b"message_stop" not in client.body
    assert b"response.completed" not in client.body
    assert recorder.ends == ["end error 500"]
    assert records(gateway)[-1]["error_code"] == "middleware_failed"
    if gateway.transport.responses and not cached:
        assert gateway.transport.responses[-1].closed
    assert gateway.meter.in_flight == 0


@pytest.mark.parametrize("before", [[], [Redaction()]])
async def test_one_that_fails_in_the_middle_lets_nothing_go_that_it_has_not_seen(gated, before):
    recorder = Recorder()
    gateway = gated(
        streams(*SPLIT, sse(chunk(finish="stop")), DONE),
        response=[*before, Breaking("events", after=2), recorder],
    )
    client = await ask(gateway, stream=True)
    *said, last = client.events
    assert last["error"]["code"] == "middleware_failed"
    assert b"example.com" not in client.body
    assert b"[DONE]" not in client.body
    assert recorder.ends == ["end error 500"]
    assert recorder.only.count("head") == 1
    assert said
    (response,) = gateway.transport.responses
    assert response.closed
    (done,) = records(gateway)
    assert done["usage"]["estimated"]


async def test_one_that_fails_at_a_streams_error_tells_its_own(gated):
    """It was asked what it had withheld, and nobody knows."""
    recorder = Recorder()
    gateway = gated(streams(*SPLIT[:2], GONE), response=[Breaking("events", after=1), recorder])
    client = await ask(gateway, stream=True)
    assert client.events[-1]["error"]["code"] == "middleware_failed"
    assert recorder.ends == ["end error 500"]
    assert gateway.meter.in_flight == 0


async def test_one_that_fails_harms_no_other_that_follows(gated):
    gate, count = asyncio.Event(), []

    class FailsTheFirst(Breaking):
        def begin(self, context):
            count.append(context)
            return Breaking("answer") if len(count) == 1 else Breaking("nowhere")

    gateway = gated(FakeResponse(gate.wait(), orjson.dumps(answer("Hi."))), response=[FailsTheFirst("")])
    clients = [chat_request() for _ in range(2)]
    running = [asyncio.ensure_future(client.run(lane)) for client in clients]
    await until(lambda: len(count) == 2)
    gate.set()
    await asyncio.gather(*running)
    await settled(gateway)
    assert [client.status for client in clients] == [500, 200]
    assert len(gateway.transport.requests) == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_one_that_fails_at_a_followers_head_lets_go_of_the_flight(gated, stream):
    gate, count = asyncio.Event(), []

    class FailsTheSecond(Breaking):
        def begin(self, context):
            count.append(context)
            return Breaking("head") if len(count) == 2 else Breaking("nowhere")

    first = SPLIT[1]
    script = (
        streams(first, gate.wait(), SPLIT_STREAM)
        if stream
        else FakeResponse(gate.wait(), orjson.dumps(answer("Hi.")))
    )
    gateway = gated(script, response=[FailsTheSecond("")])
    clients = [chat_request(stream=stream) for _ in range(2)]
    running = [asyncio.ensure_future(client.run(lane)) for client in clients]
    await until(lambda: len(count) == 2)
    (flight,) = gateway.flights._flying.values()
    gate.set()
    await asyncio.gather(*running)
    await settled(gateway)
    assert [client.status for client in clients] == [200, 500]
    assert not flight.followed


class Generating(Watch):
    """Returns a generator, as people write it."""

    changes_events = True
    wants_whole = False

    def begin(self, _context):
        return self

    def events(self, events):
        for event in events:
            yield event
            if event.kind is Kind.CONTENT:
                yield TextEvent("!")


async def test_what_a_generator_yields_goes_out(gated):
    gateway = gated(streams(SPLIT_STREAM), response=[Generating(), Recorder()])
    client = await ask(gateway, stream=True)
    assert text_of(client) == "Write to ada@!exam!ple.com now!"


@pytest.mark.parametrize("stream", [False, True])
async def test_one_that_returns_nothing_fails_the_answer(gated, stream):
    class Forgetful(Generating):
        def events(self, _events):
            return None

        def answer(self, _answer):
            return None

    gateway = gated(streams(SPLIT_STREAM) if stream else says("Hi."), response=[Forgetful()])
    client = await ask(gateway, stream=stream)
    error = (client.events[-1] if stream else client.json)["error"]
    assert error["code"] == "middleware_failed"


async def test_events_that_cannot_be_written_fail_the_answer(gated):
    class Odd(Generating):
        def events(self, _events):
            return [Event(Kind.CONTENT, choices=[{"index": 0, "delta": {"content": object()}}])]

    for script in (streams(SPLIT_STREAM), streams(*SPLIT[:1], SPLIT[1], GONE)):
        gateway = gated(script, response=[Odd()], cache_mode="none")
        client = await ask(gateway, stream=True)
        assert client.events[-1]["error"]["code"] == "internal_error"
        assert gateway.meter.in_flight == 0
