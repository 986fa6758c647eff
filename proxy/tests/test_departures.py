"""The client leaves at any moment: whatever was going on, there is one record and nothing is left open."""

import asyncio

import orjson
import pytest

from proxy.asgi import lane
from proxy.tests.fakes import SECRET, Client, FakeResponse, FakeTransport, refuses, says, silent, streams
from proxy.tests.test_forwarding import FORM_TYPE, file
from proxy.tests.test_multipart import END, part

TURNS = 40
KEY = {"authorization": f"Bearer {SECRET}"}
FORM = part(b"model", b"openai/m") + part(b"file", b"x" * 70_000) + END


class Turn:
    """A turn of the loop; unlike a coroutine it may stay unused."""

    def __await__(self):
        yield


def json_client(path, **fields):
    body = {"model": "openai/m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 9, **fields}
    return Client("POST", path, orjson.dumps(body), **KEY)


def form_client():
    pieces = [FORM[at : at + 20_000] for at in range(0, len(FORM), 20_000)]
    return Client("POST", "/v1/audio/transcriptions", pieces, content_type=FORM_TYPE, **KEY)


def slowly(response):
    """Return an answer that takes some turns of the loop to begin."""

    async def answered():
        for _ in range(5):
            await Turn()
        return response

    return answered


def text():
    stream = streams()
    (whole,) = stream._script
    return FakeResponse(whole[:400], Turn(), whole[400:], headers=stream.headers)


SCENES = {
    "chat": (lambda: json_client("/v1/chat/completions"), lambda: [slowly(says())]),
    "a stream": (lambda: json_client("/v1/chat/completions", stream=True), lambda: [slowly(text())]),
    "messages": (lambda: json_client("/v1/messages", stream=True), lambda: [slowly(text())]),
    "responses": (
        lambda: json_client("/v1/responses", input="x", stream=True),
        lambda: [slowly(refuses(503))],
    ),
    "speech": (lambda: json_client("/v1/audio/speech"), lambda: [slowly(file(b"a", Turn(), b"b"))]),
    "a form": (form_client, lambda: [slowly(file(b"{}", kind="application/json"))]),
    "a form refused": (form_client, lambda: [slowly(refuses(500)), slowly(refuses(500))]),
}


@pytest.mark.parametrize("scene", SCENES)
async def test_it_records_one_end_whenever_the_client_leaves(serving, monkeypatch, scene):
    asks, script = SCENES[scene]
    gateway = serving(cache_mode="none", max_retries=1)
    gateway._log_request = silent
    recorded, done = [], gateway.spool.append_done

    def append_done(identity, line):
        recorded.append(orjson.loads(line)["outcome"])
        done(identity, line)

    monkeypatch.setattr(gateway.spool, "append_done", append_done)
    outcomes, tasks = set(), asyncio.all_tasks()
    for turns in range(TURNS):
        recorded.clear()
        vendor = gateway.transport = FakeTransport(*script())
        await leaves_after(turns, asks())
        assert len(recorded) == 1, turns
        assert gateway.spool.in_flight == gateway.meter.in_flight == 0
        assert not gateway._tasks
        assert asyncio.all_tasks() == tasks, turns
        if recorded == ["cancelled"]:
            assert all(response.closed for response in vendor.responses), turns
        outcomes.update(recorded)
    assert len(outcomes) == 2  # it left in time, and too late


async def leaves_after(turns, client):
    running = asyncio.ensure_future(client.run(lane))
    for _ in range(turns):
        await Turn()
    client.left.set()
    async with asyncio.timeout(5):
        await running
    for _ in range(20):
        await Turn()
