"""A hit that is given again, against the usual way: the same answer, record, log line and counts."""

import gc
import time
from dataclasses import replace

import orjson
import pytest
from prometheus_client import REGISTRY

from keys.caller import Caller
from providers.tests.samples import TEXT_STREAM
from proxy import encore as module
from proxy.asgi import at_once, lane
from proxy.completion import Completion
from proxy.encore import Encore
from proxy.http import MAX_REQUEST_ID
from proxy.tests.fakes import (
    SECRET,
    Client,
    FakeResponse,
    chat_request,
    environment,
    make_snapshot,
    provider_row,
    says,
    settings_row,
    spool_lines,
    streams,
)
from proxy.tests.test_gateway import ask, records

OF_EACH = ("id", "request_id", "at", "latency_ms", "overhead_ms")
BODY = b'{"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}'
LOGGED: list[tuple[bytes, int, str]] = []


@pytest.fixture
def logged(settings):
    LOGGED.clear()
    settings.REQUEST_LOG = f"{__name__}.keep_line"
    return LOGGED


def keep_line(record, attempts, prompt):
    LOGGED.append((record, attempts, prompt))


OBSERVED: list[Completion] = []


def keep_completion(completion):
    OBSERVED.append(completion)


def fail(_):
    raise RuntimeError("of a guest")


def request(body=BODY, *, key=SECRET, path="/v1/chat/completions", method="POST", **fields):
    return Client(method, path, body, **{"authorization": f"Bearer {key}", **fields})


def again(client):
    """Ask as the server does, before it starts the application."""
    return at_once(client.scope, client._pieces[0]["body"])


async def hit(gateway, **fields):
    """Send a request until it has hit the cache in the usual way."""
    clients = [await request(**fields).run(lane) for _ in range(3)]
    assert clients[-1].headers["x-gateway-cache"] == "hit"
    return clients[-1]


def headers_in(reply):
    lines = reply.head.decode("latin-1").split("\r\n")
    assert lines.pop() == ""
    return dict(line.split(": ", 1) for line in lines)


def counted(gateway):
    """Return every count and the number of observations; not what depends on how long it took."""
    gateway.meter.publish()
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in REGISTRY.collect()
        for sample in family.samples
        if sample.name.startswith("gateway_") and sample.name.endswith(("_total", "_count"))
    }


def difference(before, after):
    changes = {name: value - before.get(name, 0) for name, value in after.items()}
    return {name: change for name, change in changes.items() if change}


# ---------------------------------------------------------------- the same as in the usual way


async def test_it_is_in_everything_what_the_usual_way_makes_of_a_hit(serving, logged):
    gateway = serving(says("Hi."), log_prompts=True)
    await hit(gateway, origin="https://a.example")
    counts = [counted(gateway)]
    usual = await request(origin="https://a.example").run(lane)
    counts.append(counted(gateway))
    reply = again(request(origin="https://a.example"))
    counts.append(counted(gateway))

    assert reply.body == usual.body
    headers = headers_in(reply)
    assert list(headers) == [name.decode() for name, _ in usual.messages[0]["headers"]]
    assert headers | {"x-request-id": ""} == usual.headers | {"x-request-id": ""}
    assert headers["access-control-allow-origin"] == "*"

    before, after = records(gateway)[-2:]
    assert list(before) == list(after)
    alike = {name: value for name, value in before.items() if name not in OF_EACH}
    assert alike == {name: value for name, value in after.items() if name not in OF_EACH}
    assert (after["cache"], after["cost_nanousd"], after["attempts"]) == ("hit", 0, [])
    assert after["id"] == after["request_id"] == headers["x-request-id"] != before["id"]
    assert after["latency_ms"] == after["overhead_ms"] > 0
    assert before["at"] <= after["at"] <= time.time()

    (line, attempts, prompt), (line_again, attempts_again, prompt_again) = logged[-2:]
    assert (attempts, prompt) == (attempts_again, prompt_again) == (0, "hi")
    assert orjson.loads(line_again).keys() == orjson.loads(line).keys()
    assert orjson.loads(line_again) | {"kind": "done", "attempts": []} == after

    changes = difference(*counts[:2])
    assert changes
    assert difference(*counts[1:]) == changes
    assert gateway.meter.in_flight == 0


async def test_it_tells_the_id_under_every_name_that_an_answer_has_for_it(serving):
    answer = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude",
        "content": [{"type": "text", "text": "Hi."}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 5, "output_tokens": 2},
    }
    vendor = provider_row("anthropic", dialect="anthropic")
    gateway = serving(
        FakeResponse(orjson.dumps(answer)), snapshot=lambda known: make_snapshot(vendor, callers=known)
    )
    asked = {
        "path": "/v1/messages",
        "body": BODY.replace(b"gpt-4o", b"anthropic/claude").replace(b"{", b'{"max_tokens": 9, ', 1),
    }
    usual = await hit(gateway, **asked)
    reply = again(request(**asked, x_request_id="mine"))
    headers = headers_in(reply)
    assert reply.body == usual.body
    assert headers.keys() == usual.headers.keys()
    assert (headers["x-request-id"], headers["request-id"]) == ("mine", "mine")


@pytest.mark.parametrize(
    ("sent", "echoed"),
    [("mine-1", True), ('quo"te\\', True), ("x" * MAX_REQUEST_ID, True), ("a\tb", False), ("caf\xe9", False)],
)
async def test_it_echoes_the_clients_id(serving, sent, echoed):
    gateway = serving(says("Hi."))
    await hit(gateway)
    reply = again(request(x_request_id=sent, traceparent="00-1-2-01"))
    record = records(gateway)[-1]
    assert headers_in(reply)["x-request-id"] == record["request_id"] == (sent if echoed else record["id"])


async def test_it_tells_how_old_the_answer_is(serving, monkeypatch):
    gateway = serving(says("Hi."))
    await hit(gateway)
    now = time.time()
    monkeypatch.setattr(module.time, "time", lambda: now + 61)
    assert headers_in(again(request()))["age"] in {"61", "62"}


# ---------------------------------------------------------------- what is not the same request


@pytest.mark.parametrize(
    "other",
    [
        {"body": BODY.replace(b"hi", b"ho")},
        {"body": BODY + b" "},
        {"body": b""},
        {"key": "another-key-of-24-characters"},
        {"method": "PUT"},
        {"path": "/v1/chat/completions/"},
        {"query": "a=b"},
        {"address": "10.0.0.1"},
        {"cache_control": "no-store"},
        {"cache_control": "no-cache"},
        {"cache_control": "max-age=60"},
        {"origin": "https://a.example"},
        {"x_something": "else"},
        {"x_request_id": "x" * (MAX_REQUEST_ID + 1)},
    ],
)
async def test_it_takes_no_other_request_for_it(serving, other):
    gateway = serving(says("Hi."))
    await hit(gateway)
    written = len(records(gateway))
    assert again(request(**other)) is None
    assert len(records(gateway)) == written
    assert again(request()) is not None


# ---------------------------------------------------------------- what depends on the moment


async def test_it_forgets_with_the_configuration(serving):
    gateway = serving(says("Hi."))
    await hit(gateway)
    gateway.snapshot = replace(gateway.snapshot, callers={})
    assert again(request()) is None
    assert (await request().run(lane)).status == 401


async def test_it_knows_when_a_key_runs_out(serving, monkeypatch):
    now = time.time()
    gateway = serving(says("Hi."), caller=Caller(1, 2, "ci", "test", expires_at=now + 60))
    await hit(gateway)
    assert again(request()) is not None
    monkeypatch.setattr(module.time, "time", lambda: now + 60)
    assert again(request()) is None
    assert (await request().run(lane)).json["error"]["code"] == "api_key_expired"


async def test_it_knows_when_an_answer_is_too_old(serving, monkeypatch):
    short = [settings_row(cache_ttl_s=30)]
    gateway = serving(
        says("old"), snapshot=lambda known: make_snapshot("openai", callers=known, settings=short)
    )
    await hit(gateway)
    await hit(gateway, cache_control="max-age=10")
    now = time.time()
    monkeypatch.setattr(module.time, "time", lambda: now + 11)
    assert again(request(cache_control="max-age=10")) is None
    assert again(request()) is not None
    monkeypatch.setattr(module.time, "time", lambda: now + 31)
    assert again(request()) is None


async def test_it_knows_when_an_answer_was_replaced(serving):
    gateway = serving(says("old"), says("new"))
    await hit(gateway)
    await request(cache_control="no-cache").run(lane)
    assert again(request()) is None
    assert (await hit(gateway)).json["choices"][0]["message"]["content"] == "new"
    assert b"new" in again(request()).body


async def test_it_keeps_no_answer_that_the_cache_has_let_go(serving):
    gateway = serving(says("Hi."))
    await hit(gateway)
    ((key, (_, entry)),) = gateway.store._entries.items()
    gateway.store._drop(key)
    assert again(request()) is None
    assert not [each for each in gc.get_referrers(entry) if isinstance(each, Encore | module.Terms)]


async def test_it_is_held_to_the_limits_and_takes_nothing_where_it_is_refused(serving):
    gateway = serving(says("Hi."), rpm_limit=5)
    await hit(gateway)
    reply = again(request())
    assert b"x-ratelimit-limit-requests: 5\r\nx-ratelimit-remaining-requests: 1\r\n" in reply.head
    assert b"x-ratelimit-remaining-requests: 0\r\n" in again(request()).head
    assert [again(request()) for _ in range(3)] == [None] * 3
    refused = await request().run(lane)
    assert refused.status == 429
    assert refused.headers["retry-after"] in ("60", "61")


async def test_it_takes_nothing_from_a_limit_without_an_answer(serving, monkeypatch):
    gateway = serving(says("Hi."), rpm_limit=4)
    await hit(gateway)
    monkeypatch.setattr(gateway.store, "peek", lambda *_: None)
    assert [again(request()) for _ in range(3)] == [None] * 3
    assert (await request().run(lane)).status == 200


async def test_it_answers_nothing_that_it_could_not_record(serving):
    gateway = serving(says("Hi."))
    await hit(gateway)
    gateway.spool.full = True
    assert again(request()) is None
    assert (await request().run(lane)).json["error"]["code"] == "spool_full"


def test_it_gives_no_head_again_that_holds_a_line_end():
    assert module._head([(b"x-request-id", b"1"), (b"age", b"2"), (b"x", b"a\r\nb: c")]) == b""


# ---------------------------------------------------------------- what is left to the usual way


async def test_it_leaves_streams_alone(serving):
    gateway = serving(streams(TEXT_STREAM))
    for _ in range(3):
        await ask(gateway, stream=True)
    assert again(chat_request(stream=True)) is None


async def test_it_waits_until_a_stream_is_kept_as_json(serving):
    gateway = serving(streams(TEXT_STREAM))
    await ask(gateway, stream=True)
    first = await ask(gateway)
    assert first.headers["x-gateway-cache"] == "hit"
    assert again(chat_request()) is None
    second = await ask(gateway)
    assert again(chat_request()).body == second.body == first.body


async def test_it_leaves_answers_alone_that_name_their_request(serving):
    settings = [settings_row(default_model="gpt-4o")]
    gateway = serving(
        says("Hi."),
        simple_chat="key",
        snapshot=lambda known: make_snapshot("openai", callers=known, settings=settings),
    )
    await hit(gateway, path="/api/chat", body=b'{"message": "hi"}')
    assert again(request(path="/api/chat", body=b'{"message": "hi"}')) is None


async def test_it_leaves_those_without_a_key_alone(serving):
    gateway = serving(says("Hi."), allow_anonymous=True)
    await hit(gateway, key="")
    assert again(request(key="")) is None


async def test_it_remembers_nothing_where_the_store_must_be_waited_for(serving, monkeypatch):
    gateway = serving(says("Hi."))
    with monkeypatch.context() as patched:
        patched.setattr(gateway.store, "peek", lambda *_: None)
        await hit(gateway)
    assert again(request()) is None


async def test_it_leaves_large_requests_alone(serving):
    gateway = serving(says("Hi."))
    large = BODY.replace(b"hi", b"h" * module.MAX_BYTES)
    await hit(gateway, body=large)
    assert again(request(large)) is None
    await hit(gateway, x_large="y" * module.MAX_BYTES)
    assert again(request(x_large="y" * module.MAX_BYTES)) is None


async def test_observers_hear_of_it_as_of_any_other(serving, settings):
    OBSERVED.clear()
    settings.COMPLETION_OBSERVERS = [f"{__name__}.keep_completion", f"{__name__}.fail"]
    gateway = serving(says("Hi."))
    await hit(gateway)
    usual = OBSERVED[-1]
    assert again(request(x_request_id="mine")) is not None
    given = OBSERVED[-1]
    assert given is not usual
    assert given.request_id == "mine"
    assert (usual.cache, usual.id == given.id) == ("hit", False)
    assert given.at >= usual.at
    alike = dict.fromkeys(("id", "request_id"), "") | dict.fromkeys(("at", "latency_ms", "overhead_ms"), 0)
    assert replace(given, **alike) == replace(usual, **alike)


async def test_it_answers_nobody_before_there_is_a_gateway(settings, monkeypatch):
    monkeypatch.setattr("proxy.lifecycle._gateway", None)
    settings.GATEWAY = environment()
    assert again(request()) is None


async def test_it_writes_its_record_before_it_answers(serving):
    gateway = serving(says("Hi."))
    await hit(gateway)
    written = len(spool_lines(gateway.env.data_dir / "spool"))
    again(request())
    assert len(spool_lines(gateway.env.data_dir / "spool")) == written + 1
