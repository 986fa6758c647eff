"""The story of a request, from the lane to the record, before a scripted vendor."""

import asyncio
import time

import orjson
import pytest

from keys.caller import Caller
from providers.errors import Owner, UpstreamError
from providers.tests.samples import DONE, TEXT_STREAM, chunk, sse, usage_chunk
from proxy import exchange
from proxy.asgi import lane
from proxy.tests.fakes import (
    SECRET,
    Client,
    FakeResponse,
    Log,
    chat_request,
    make_snapshot,
    price_row,
    provider_row,
    refuses,
    route_row,
    says,
    settings_row,
    spool_lines,
    streams,
    until,
)

GONE = UpstreamError("gone", owner=Owner.HEALTH, code="upstream_reset")


@pytest.fixture(autouse=True)
def log(monkeypatch):
    recorder = Log()
    monkeypatch.setattr(exchange, "log", recorder)
    return recorder


@pytest.fixture
def logged(settings):
    """Return the prompts of the lines that are logged."""
    LOGGED.clear()
    settings.REQUEST_LOG = f"{__name__}.keep_prompt"
    return LOGGED


LOGGED: list[str] = []


def keep_prompt(record, attempts, prompt):
    LOGGED.append(prompt)


async def ask(gateway, **fields):
    """Send one chat request and return the client with its answer; the background is done as well."""
    client = await chat_request(**fields).run(lane)
    await settled(gateway)
    return client


async def settled(gateway):
    while gateway._tasks:
        await asyncio.gather(*gateway._tasks, return_exceptions=True)


def records(gateway, kind="done"):
    return [line for line in spool_lines(gateway.env.data_dir / "spool") if line["kind"] == kind]


def routed(*routes, **parts):
    return lambda callers: make_snapshot("openai", "vllm", callers=callers, routes=list(routes), **parts)


# ---------------------------------------------------------------- answering


async def test_it_answers_and_says_who_did(serving):
    prices = [price_row("openai", "gpt-4o")]
    gateway = serving(says("Hi."), snapshot=routed(prices=prices))
    client = await ask(gateway, headers={"x_request_id": "mine"})
    assert client.status == 200
    assert client.json["choices"][0]["message"]["content"] == "Hi."
    assert client.headers["x-request-id"] == "mine"
    assert client.headers["x-gateway-provider"] == "openai"
    assert client.headers["x-gateway-model"] == "gpt-4o"
    assert client.headers["x-gateway-cache"] == "miss"
    assert client.headers["x-gateway-attempts"] == "1"
    (opened,) = records(gateway, "open")
    (done,) = records(gateway)
    assert opened["id"] == done["id"]
    assert (done["request_id"], done["key_id"], done["tenant_id"]) == ("mine", 1, 2)
    assert (done["status"], done["outcome"], done["route"]) == (200, "ok", "builtin:openai")
    assert (done["usage"]["prompt"], done["usage"]["completion"]) == (5, 2)
    assert done["cost_nanousd"] == 5 * 1000 + 2 * 2000


async def test_it_streams_and_records_before_the_end(serving):
    gateway = serving(streams(TEXT_STREAM))
    client = await ask(gateway, stream=True)
    assert client.headers["content-type"].startswith("text/event-stream")
    assert client.headers["cache-control"] == "no-cache"
    assert client.body == TEXT_STREAM.replace(sse(usage_chunk()), b"")
    (done,) = records(gateway)
    assert (done["outcome"], done["stream"], done["usage"]["completion"]) == ("ok", True, 2)
    assert done["ttft_ms"] is not None
    assert gateway.transport.responses[0].finished


async def test_it_makes_its_own_ids_and_never_one_twice(serving):
    gateway = serving(cache_mode="none")
    clients = [await ask(gateway, headers={"x_request_id": "same"}) for _ in range(3)]
    unnamed = await ask(gateway)
    identities = [record["id"] for record in records(gateway)]
    assert len(set(identities)) == 4
    assert all(identity.startswith(f"{gateway.boot}-0-") for identity in identities)
    assert [client.headers["x-request-id"] for client in clients] == ["same"] * 3
    assert unnamed.headers["x-request-id"] == identities[-1]


async def test_it_follows_a_route_and_fails_over_along_it(serving):
    gateway = serving(
        GONE, refuses(503), says("third"), snapshot=routed(route_row("fast", "vllm/a", "openai/b", "vllm/c"))
    )
    client = await ask(gateway, model="fast")
    assert client.status == 200
    assert gateway.transport.asked == ["vllm/a", "openai/b", "vllm/c"]
    assert orjson.loads(gateway.transport.requests[2][1].body)["model"] == "c"
    assert client.headers["x-gateway-attempts"] == "3"
    (done,) = records(gateway)
    assert [attempt["outcome"] for attempt in done["attempts"]] == ["upstream_reset", "health", "ok"]
    assert (done["requested_model"], done["model"], done["route"]) == ("fast", "c", "exact:fast")


@pytest.mark.parametrize("stream", [False, True])
async def test_it_gives_up_with_the_last_failure(serving, stream):
    gateway = serving(refuses(503, "down", headers={"retry-after": "3"}), max_retries=1)
    client = await ask(gateway, stream=stream)
    assert client.status == 503
    assert client.headers["content-type"] == "application/json"
    assert client.headers["retry-after"] == "3"
    assert client.headers["x-gateway-attempts"] == "1"
    assert client.json["error"]["message"] == "Provider 'openai': down"
    (done,) = records(gateway)
    assert (done["status"], done["outcome"], done["usage"]) == (503, "error", None)


async def test_it_passes_the_callers_own_mistake_on(serving):
    gateway = serving(refuses(422, "bad seed", param="seed", type="invalid_request_error"))
    client = await ask(gateway)
    assert client.status == 422
    assert client.json["error"]["param"] == "seed"
    assert len(gateway.transport.requests) == 1


async def test_it_tells_of_the_answering_vendors_limits_only(serving):
    first = refuses(429, headers={"x-ratelimit-limit-requests": "1", "retry-after": "0"})
    gateway = serving(first, says(), snapshot=routed(route_row("fast", "vllm/a", "openai/b")))
    client = await ask(gateway, model="fast")
    assert client.status == 200
    assert not [name for name in client.headers if name.startswith("x-upstream-")]


async def test_it_keeps_its_snapshot_to_the_end(serving):
    """A configuration saved while a request runs is for the next one."""

    async def answer():
        gateway.snapshot = make_snapshot("vllm", callers={})
        return refuses(503)

    gateway = serving(answer, says(), snapshot=routed(route_row("fast", "openai/a", "openai/b")))
    client = await ask(gateway, model="fast")
    assert client.status == 200
    assert gateway.transport.asked == ["openai/a", "openai/b"]


# ---------------------------------------------------------------- refusing


async def test_it_serves_nobody_without_a_key(serving):
    gateway = serving()
    client = await ask(gateway, key="")
    assert client.status == 401
    assert "ALLOW_ANONYMOUS" in client.json["error"]["message"]
    assert client.headers["x-request-id"]
    assert records(gateway) == []
    assert gateway.transport.requests == []


async def test_it_names_a_model_that_it_does_not_know(serving):
    gateway = serving()
    client = await ask(gateway, model="unknown")
    assert (client.status, client.json["error"]["code"]) == (404, "model_not_found")
    (done,) = records(gateway)
    assert (done["status"], done["requested_model"], done["key_id"]) == (404, "unknown", 1)


@pytest.mark.parametrize(
    ("allowed", "model", "status"),
    [
        (("gpt-4o*",), "gpt-4o", 200),
        (("gpt-4o*",), "gpt-5", 403),
        (("gpt-4o*",), "openai/gpt-4o", 200),
        (("openai/*",), "gpt-4o", 200),
        (("openai/*",), "vllm/gpt-4o", 403),
        (("openai/*",), "vllm/openai/gpt-4o", 403),
        (("fast",), "fast", 200),
        # One allowed target does not open the route's other targets.
        (("openai/*",), "fast", 403),
        (("vllm/*", "openai/*"), "fast", 200),
    ],
)
async def test_it_lets_a_key_use_what_it_may(serving, allowed, model, status):
    caller = Caller(1, 2, "ci", "test", allowed=allowed)
    gateway = serving(caller=caller, snapshot=routed(route_row("fast", "vllm/a", "openai/gpt-4o")))
    client = await ask(gateway, model=model)
    assert client.status == status
    if status == 403:
        assert (client.json["error"]["code"], client.json["error"]["param"]) == ("model_not_allowed", "model")
        assert gateway.transport.requests == []


async def test_it_holds_everyone_to_the_global_limit(serving):
    gateway = serving(rpm_limit=2, cache_mode="none")
    clients = [await ask(gateway) for _ in range(3)]
    assert [client.status for client in clients] == [200, 200, 429]
    assert "RPM_LIMIT" in clients[2].json["error"]["message"]
    assert clients[2].headers["retry-after"] in ("60", "61")  # a window that slides in steps of 0.1 s
    assert [client.headers.get("x-ratelimit-remaining-requests") for client in clients] == ["1", "0", "0"]
    assert len(gateway.transport.requests) == 2


async def test_it_takes_no_new_request_when_it_could_not_record_it(serving):
    gateway = serving()
    gateway.spool.full = True
    client = await ask(gateway)
    assert (client.status, client.json["error"]["code"]) == (503, "spool_full")
    assert client.headers["retry-after"] == "30"
    assert gateway.transport.requests == []


async def test_it_waits_for_its_first_configuration(serving, monkeypatch):
    gateway = serving()
    ready, gateway.snapshot = gateway.snapshot, None
    task = asyncio.create_task(ask(gateway))
    await asyncio.sleep(0.05)
    assert not task.done()
    gateway.snapshot = ready
    assert (await task).status == 200
    monkeypatch.setattr("proxy.services.START_WAIT_S", 0.03)
    gateway.snapshot = None
    client = await ask(gateway)
    assert (client.status, client.json["error"]["code"]) == (503, "starting")
    assert client.headers["retry-after"] == "2"


async def test_it_answers_a_fault_of_ours_with_500_and_records_it(serving, monkeypatch):
    log = Log()
    monkeypatch.setattr("proxy.views.log", log)
    gateway = serving(FakeResponse(ZeroDivisionError()))
    client = await ask(gateway, headers={"x_request_id": "mine"})
    assert client.status == 500
    assert client.json["error"]["code"] == "internal_error"
    assert "ZeroDivision" not in client.body.decode()
    assert log.problems == ["panic"]
    (done,) = records(gateway)
    assert (done["status"], done["outcome"]) == (500, "error")


@pytest.mark.parametrize("shown", [False, True])
async def test_it_logs_prompts_only_when_told_to(serving, logged, shown):
    gateway = serving(log_prompts=shown, cache_mode="none")
    await ask(gateway, messages=[{"role": "user", "content": "secret plan " * 100}])
    assert logged == [("secret plan " * 100)[:200] if shown else ""]


async def test_it_logs_the_prompt_of_an_embedding(serving, logged):
    gateway = serving(FakeResponse(b'{"data": [], "usage": {"prompt_tokens": 1}}'), log_prompts=True)
    client = await ask(
        gateway, path="/v1/embeddings", model="text-embedding-3-small", input="find me", messages=None
    )
    assert client.status == 200
    assert logged == ["find me"]
    assert records(gateway)[0]["endpoint"] == "embeddings"


# ---------------------------------------------------------------- the cache


async def test_it_answers_a_second_time_from_the_cache(serving):
    gateway = serving(says("Hi."))
    first, second = await ask(gateway), await ask(gateway)
    assert second.body == first.body
    assert second.headers["x-gateway-cache"] == "hit"
    assert second.headers["x-gateway-attempts"] == "0"
    assert second.headers["age"] == "0"
    assert len(gateway.transport.requests) == 1
    hit = records(gateway)[1]
    assert (hit["cache"], hit["cost_nanousd"], hit["provider"]) == ("hit", 0, "openai")
    assert hit["usage"]["completion"] == 2


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("second", [False, True])
async def test_it_shares_an_answer_between_json_and_streams(serving, first, second):
    gateway = serving(streams(TEXT_STREAM) if first else says("Hello there."))
    await ask(gateway, stream=first)
    for _ in range(2):
        hit = await ask(
            gateway, stream=second, **({"stream_options": {"include_usage": True}} if second else {})
        )
        assert hit.headers["x-gateway-cache"] == "hit"
        if second:
            assert hit.events[-1] == "[DONE]"
            texts = [c["delta"].get("content") or "" for e in hit.events[:-1] for c in e["choices"]]
            assert "".join(texts) == "Hello there."
            assert [e["usage"]["total_tokens"] for e in hit.events[:-1] if e.get("usage")] == [7]
        else:
            assert hit.json["choices"][0]["message"]["content"] == "Hello there."
            assert hit.json["usage"]["total_tokens"] == 7
    assert len(gateway.transport.requests) == 1


async def test_it_hides_the_usage_of_a_hit_that_nobody_asked_for(serving):
    gateway = serving(says("Hello there."))
    await ask(gateway)
    hit = await ask(gateway, stream=True)
    assert all("usage" not in event for event in hit.events if event != "[DONE]")


@pytest.mark.parametrize(
    "answer",
    [
        lambda: says(
            "Hi.", choices=[{"index": 0, "message": {"content": "x"}, "finish_reason": "content_filter"}]
        ),
        lambda: says("Hi.", choices=[{"index": 0, "message": {"content": "x"}, "finish_reason": None}]),
        lambda: streams(sse(chunk({"content": "a"})) + sse(chunk(finish="content_filter")) + DONE),
        lambda: streams(sse(chunk({"content": "a"})), GONE),
        lambda: streams(sse(chunk({"content": "a"}))),
    ],
)
async def test_it_keeps_only_what_ended_well(serving, answer):
    first, second = answer(), answer()
    gateway = serving(first, second)
    stream = "event-stream" in first.headers["content-type"]
    for _ in range(2):
        assert (await ask(gateway, stream=stream)).headers["x-gateway-cache"] == "miss"
    assert len(gateway.transport.requests) == 2


async def test_it_obeys_cache_control(serving):
    gateway = serving(says("old"), says("new"), says("newest"))
    await ask(gateway)
    refreshed = await ask(gateway, headers={"cache_control": "no-cache"})
    assert (refreshed.headers["x-gateway-cache"], refreshed.json["choices"][0]["message"]["content"]) == (
        "bypass",
        "new",
    )
    assert (await ask(gateway)).json["choices"][0]["message"]["content"] == "new"
    outside = await ask(gateway, headers={"cache_control": "no-store"})
    assert outside.headers["x-gateway-cache"] == "bypass"
    assert (await ask(gateway)).json["choices"][0]["message"]["content"] == "new"


async def test_it_reads_nothing_older_than_the_client_allows(serving, monkeypatch):
    gateway = serving(says("old"), says("new"))
    await ask(gateway)
    now = time.time()
    monkeypatch.setattr("proxy.services.time.time", lambda: now + 60)
    assert (await ask(gateway, headers={"cache_control": "max-age=3600"})).headers["x-gateway-cache"] == "hit"
    young = await ask(gateway, headers={"cache_control": "max-age=30"})
    assert young.headers["x-gateway-cache"] == "miss"


async def test_it_shortens_nobody_elses_entry_for_an_impatient_client(serving, monkeypatch):
    gateway = serving(streams(TEXT_STREAM))
    await ask(gateway, stream=True)
    # The first JSON hit assembles the stream and keeps it anew.
    assert (await ask(gateway, headers={"cache_control": "max-age=5"})).headers["x-gateway-cache"] == "hit"
    now = time.time()
    monkeypatch.setattr("proxy.services.time.time", lambda: now + 60)
    assert (await ask(gateway)).headers["x-gateway-cache"] == "hit"


@pytest.mark.parametrize("env", [{"cache_mode": "none"}, {"cache_exclude_exact": ("gpt-4o",)}])
async def test_it_does_without_a_cache(serving, env):
    gateway = serving(**env)
    for _ in range(2):
        assert (await ask(gateway)).headers["x-gateway-cache"] == "bypass"
    assert len(gateway.transport.requests) == 2


async def test_it_streams_without_a_cache(serving):
    gateway = serving(streams(TEXT_STREAM), cache_mode="none")
    for _ in range(2):
        client = await ask(gateway, stream=True)
        assert (client.headers["x-gateway-cache"], client.events[-1]) == ("bypass", "[DONE]")
    assert len(gateway.transport.requests) == 2


async def test_it_forgets_everything_when_the_cache_is_purged(serving):
    gateway = serving()
    await ask(gateway)
    callers = gateway.snapshot.callers
    gateway.snapshot = make_snapshot("openai", callers=callers, settings=[settings_row(cache_epoch=1)])
    assert (await ask(gateway)).headers["x-gateway-cache"] == "miss"


@pytest.mark.parametrize("stream", [False, True])
async def test_it_asks_the_vendor_when_a_kept_answer_cannot_be_read(serving, stream):
    broken = sse(chunk({"content": "a"})) + b"data: {broken}\n\n" + sse(chunk(finish="stop")) + DONE
    gateway = serving(streams(broken), says("whole"), says("whole"))
    await ask(gateway, stream=True)
    second = await ask(gateway, stream=False)
    assert second.status == 200
    assert second.json["choices"][0]["message"]["content"] == "whole"
    assert second.headers["x-gateway-cache"] == "miss"
    assert (await ask(gateway, stream=stream)).headers["x-gateway-cache"] == "hit"


@pytest.mark.parametrize("path", ["/api/chat/stream", "/api/chat"])
async def test_it_gives_the_simple_chat_no_kept_answer_that_it_cannot_read(serving, path):
    """OpenAI's clients get the vendor's bytes as they are; the simple chat must read them."""
    broken = sse(chunk({"content": "a"})) + b"data: {broken}\n\n" + sse(chunk(finish="stop")) + DONE
    settings = [settings_row(default_model="gpt-4o")]
    gateway = serving(
        streams(broken),
        streams() if path.endswith("stream") else says("Hello"),
        simple_chat="key",
        snapshot=lambda known: make_snapshot("openai", callers=known, settings=settings),
    )
    await ask(gateway, stream=True)
    client = Client("POST", path, b'{"message": "hello"}', authorization=f"Bearer {SECRET}")
    await client.run(lane)
    await settled(gateway)
    assert client.status == 200
    assert client.whole
    assert b"Hello" in client.body
    assert len(gateway.transport.requests) == 2


async def test_it_keeps_no_stream_larger_than_a_quarter_of_the_cache(serving):
    gateway = serving(streams(TEXT_STREAM), streams(TEXT_STREAM), cache_max_bytes=len(TEXT_STREAM))
    for _ in range(2):
        assert (await ask(gateway, stream=True)).headers["x-gateway-cache"] == "miss"


async def test_it_tells_tenants_apart(serving):
    gateway = serving(says("one"), says("two"))
    await ask(gateway)
    (digest,) = gateway.snapshot.callers
    gateway.snapshot = make_snapshot("openai", callers={digest: Caller(3, 99, "other", "test")})
    assert (await ask(gateway)).json["choices"][0]["message"]["content"] == "two"


# ---------------------------------------------------------------- leaving


@pytest.mark.parametrize("stream", [False, True])
async def test_it_drops_the_vendor_when_the_client_leaves_while_it_thinks(serving, stream):
    waiting = asyncio.get_running_loop().create_future()
    response = FakeResponse(
        waiting, headers={"content-type": "text/event-stream" if stream else "application/json"}
    )
    gateway = serving(response)
    client = chat_request(stream=stream)
    task = asyncio.create_task(client.run(lane))
    await until(lambda: gateway.transport.responses)
    client.left.set()
    await task
    await settled(gateway)
    assert client.messages == []
    assert response.closed
    (done,) = records(gateway)
    assert (done["status"], done["outcome"]) == (499, "cancelled")
    assert done["usage"]["estimated"] is True
    assert done["usage"]["prompt"] > 0


async def test_it_drops_the_vendor_when_the_client_leaves_in_mid_stream(serving):
    waiting = asyncio.get_running_loop().create_future()
    response = streams(sse(chunk({"content": "a"})), sse(chunk({"content": "b"})), waiting)
    gateway = serving(response)
    client = chat_request(stream=True)
    task = asyncio.create_task(client.run(lane))
    await until(lambda: len(client.messages) == 3)
    client.left.set()
    await task
    assert response.closed
    assert not client.whole
    (done,) = records(gateway)
    assert (done["outcome"], done["usage"]["completion"]) == ("cancelled", 2)


async def test_it_books_what_is_in_flight_when_it_closes(serving):
    """The server cancels requests at the end of its grace period and waits for none of them."""
    response = FakeResponse(asyncio.get_running_loop().create_future())
    gateway = serving(response)
    task = asyncio.create_task(chat_request().run(lane))
    await until(lambda: gateway.transport.responses)
    task.cancel()
    await gateway.close()
    (done,) = records(gateway)
    assert done["outcome"] == "cancelled"
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_it_does_not_wait_for_ever_when_it_closes(serving, monkeypatch):
    """A request that hangs in spite of its cancellation is booked as interrupted by the shipper."""
    monkeypatch.setattr("proxy.services.CLOSE_WAIT_S", 0.04)
    gateway = serving()
    gateway.spool.append_open("boot-0-99", b'{"kind": "open", "id": "boot-0-99", "at": 1.0}\n')
    gateway.spawn(asyncio.sleep(100))
    (left,) = gateway._tasks
    await gateway.close()
    left.cancel()
    (path,) = (gateway.env.data_dir / "spool").iterdir()
    assert path.suffix == ".open"


async def test_it_is_not_in_flight_any_more_however_a_request_ends(serving):
    gateway = serving(
        says(), refuses(500), GONE, FakeResponse(ZeroDivisionError()), max_retries=1, cache_mode="none"
    )
    gateway.meter = meter = type(gateway.meter)()
    for _ in range(4):
        await ask(gateway)
    await ask(gateway, key="")
    await ask(gateway, model=None)
    assert meter.in_flight == 0


async def test_it_uses_the_demo_without_any_vendor(serving):
    gateway = serving(
        snapshot=lambda known: make_snapshot(provider_row("demo", base_url="demo://"), callers=known)
    )
    from proxy.transport import Transport

    gateway.transport = Transport(max_response_bytes=10_000)
    client = await ask(gateway, model="demo/echo")
    assert client.json["choices"][0]["message"]["content"] == "hello"
    streamed = await ask(
        gateway, model="demo/echo", stream=True, messages=[{"role": "user", "content": "a b"}]
    )
    assert streamed.events[-1] == "[DONE]"
