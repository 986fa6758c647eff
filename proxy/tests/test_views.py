"""The views that are no plain inference: the simple chat, model lists, health and metrics."""

import asyncio

import pytest

from keys.caller import Caller
from providers.tests.samples import TEXT_STREAM
from proxy import exchange
from proxy.asgi import lane
from proxy.model_list import described
from proxy.snapshot import ServedModel
from proxy.tests.fakes import (
    SECRET,
    Client,
    Log,
    make_snapshot,
    provider_row,
    route_row,
    says,
    settings_row,
    spool_lines,
    streams,
)

KEY = {"authorization": f"Bearer {SECRET}"}


@pytest.fixture(autouse=True)
def log(monkeypatch):
    monkeypatch.setattr(exchange, "log", Log())


def with_default(**parts):
    settings = [settings_row(default_model="gpt-4o")]
    return lambda callers: make_snapshot("openai", callers=callers, **{"settings": settings, **parts})


async def ask(*arguments, **fields):
    return await Client(*arguments, **fields).run(lane)


# ---------------------------------------------------------------- the simple chat


async def test_it_answers_a_message(serving):
    gateway = serving(says("Hi."), snapshot=with_default())
    client = await ask("POST", "/api/chat", b'{"message": "hello"}', x_request_id="mine")
    assert client.json == {
        "message": "Hi.",
        "model": "gpt-4o",
        "provider": "openai",
        "cached": False,
        "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7},
        "request_id": "mine",
    }
    again = await ask("POST", "/api/chat", b'{"message": "hello"}')
    assert again.json["cached"] is True
    assert len(gateway.transport.requests) == 1


@pytest.mark.parametrize(
    ("method", "body", "query"),
    [
        ("POST", b'{"message": "hello"}', ""),
        ("GET", b"", "prompt=hello"),
        ("GET", b"", "message=hello"),
        ("GET", b"", "prompt=&message=hello"),
    ],
)
async def test_it_streams_an_answer_to_a_message(serving, method, body, query):
    gateway = serving(streams(TEXT_STREAM), snapshot=with_default())
    client = await ask(method, "/api/chat/stream", body, query=query)
    *deltas, summary, done = client.events
    assert deltas == [{"delta": "Hello"}, {"delta": " there"}, {"delta": "."}]
    assert (summary["done"], summary["usage"]["total_tokens"], summary["model"]) == (True, 7, "gpt-4o")
    assert done == "[DONE]"
    (done_line,) = [line for line in spool_lines(gateway.env.data_dir / "spool") if line["kind"] == "done"]
    assert (done_line["endpoint"], done_line["key_id"]) == ("chat", None)


@pytest.mark.parametrize("query", ["", "prompt=", "prompt=%20", "other=hello"])
async def test_it_wants_a_prompt(serving, query):
    serving(snapshot=with_default())
    client = await ask("GET", "/api/chat/stream", query=query)
    assert (client.status, client.json["error"]["param"]) == (400, "prompt")


async def test_it_refuses_a_query_without_end(serving):
    serving(snapshot=with_default())
    client = await ask("GET", "/api/chat/stream", query="a=1&" * 1500 + "prompt=x")
    assert client.status == 400
    assert client.json["error"]["type"] == "invalid_request_error"


async def test_it_says_how_to_set_a_default_model(serving):
    serving()
    client = await ask("POST", "/api/chat", b'{"message": "hello"}')
    assert client.status == 404
    assert "DEFAULT_MODEL" in client.json["error"]["message"]


async def test_it_limits_each_address(serving):
    serving(snapshot=with_default(), anon_ip_rpm=2, host="127.0.0.1")
    statuses = [
        (await ask("POST", "/api/chat", b'{"message": "hello"}', address=address)).status
        for address in ("10.0.0.1", "10.0.0.1", "10.0.0.1", "10.0.0.2")
    ]
    assert statuses == [200, 200, 429, 200]


async def test_it_limits_nobody_when_told_so(serving):
    serving(snapshot=with_default(), anon_ip_rpm=0)
    for _ in range(10):
        assert (await ask("POST", "/api/chat", b'{"message": "hello"}')).status == 200


@pytest.mark.parametrize(
    ("env", "status"),
    [
        ({"host": "127.0.0.1"}, 200),
        ({"host": "0.0.0.0"}, 401),
        ({"host": "0.0.0.0", "simple_chat": "open"}, 200),
        ({"host": "127.0.0.1", "simple_chat": "key"}, 401),
    ],
)
async def test_it_is_open_only_at_home_unless_told_otherwise(serving, env, status):
    serving(snapshot=with_default(), **env)
    assert (await ask("POST", "/api/chat", b'{"message": "hello"}')).status == status
    assert (await ask("POST", "/api/chat", b'{"message": "hello"}', **KEY)).status == 200


async def test_it_asks_no_vendor_for_a_head(serving):
    gateway = serving(streams(TEXT_STREAM), snapshot=with_default())
    await ask("HEAD", "/api/chat/stream", query="prompt=hello")
    assert gateway.transport.requests == []


# ---------------------------------------------------------------- model lists


MODELS = [
    {"provider__name": name, "name": model, "created": 7, "owned_by": "them"}
    for name, model in [("openai", "gpt-4o"), ("openai", "gpt-5"), ("vllm", "llama"), ("vllm", "org/llama-2")]
]


def listing(callers):
    routes = [
        route_row("fast", "openai/gpt-4o"),
        route_row("empty"),
        route_row("gpt-*", "openai", kind="prefix"),
    ]
    return make_snapshot("openai", "vllm", callers=callers, models=MODELS, routes=routes)


@pytest.mark.parametrize(
    ("allowed", "names"),
    [
        ((), ["fast", "openai/gpt-4o", "openai/gpt-5", "vllm/llama", "vllm/org/llama-2"]),
        (("openai/*",), ["openai/gpt-4o", "openai/gpt-5"]),
        (("gpt-4o*",), ["openai/gpt-4o"]),
        (("fast",), ["fast"]),
        (("vllm/llama",), ["vllm/llama"]),
        (("org/*",), ["vllm/org/llama-2"]),
        (("nothing",), []),
    ],
)
async def test_it_lists_what_the_key_may_use(serving, allowed, names):
    serving(snapshot=listing, caller=Caller(1, 2, "ci", "test", allowed=allowed))
    client = await ask("GET", "/v1/models", **KEY)
    assert client.json["object"] == "list"
    assert [each["id"] for each in client.json["data"]] == names


async def test_it_describes_a_model_as_openai_does(serving):
    serving(snapshot=listing)
    expected = {"id": "openai/gpt-4o", "object": "model", "created": 7, "owned_by": "them"}
    for name in ("openai/gpt-4o", "gpt-4o", "gpt-4o/"):
        assert (await ask("GET", f"/v1/models/{name}", **KEY)).json == expected
    assert (await ask("GET", "/v1/models/org/llama-2", **KEY)).json["id"] == "vllm/org/llama-2"
    assert (await ask("GET", "/v1/models/fast", **KEY)).json["owned_by"] == "gateway"


VERSION = {"anthropic_version": "2023-06-01", "x_api_key": SECRET}
FAST = {
    "type": "model",
    "id": "fast",
    "display_name": "fast",
    "created_at": "1970-01-01T00:00:00Z",
    "lifecycle": "active",
}


async def test_it_lists_models_as_anthropic_does_for_its_clients(serving):
    serving(snapshot=listing, caller=Caller(1, 2, "ci", "test", allowed=("fast", "gpt-4o")))
    answer = (await ask("GET", "/v1/models", **VERSION)).json
    assert (answer["has_more"], answer["first_id"], answer["last_id"]) == (False, "fast", "openai/gpt-4o")
    assert answer["data"] == [
        FAST,
        {**FAST, "id": "openai/gpt-4o", "display_name": "gpt-4o", "created_at": "1970-01-01T00:00:07Z"},
    ]
    assert (await ask("GET", "/v1/models/fast", **VERSION)).json == FAST


async def test_it_lists_nothing_as_anthropic_does(serving):
    serving(snapshot=listing, caller=Caller(1, 2, "ci", "test", allowed=("nothing",)))
    answer = (await ask("GET", "/v1/models", **VERSION)).json
    assert answer == {"data": [], "has_more": False, "first_id": None, "last_id": None}


def test_it_takes_no_moment_that_there_is_not():
    served = ServedModel(id="a/m", name="m", created=1_700_000_000_000_000, owned_by="a")
    assert described(served, anthropic=True)["created_at"] == "1970-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("asked", "headers", "status", "kind"),
    [
        ("GET /v1/models/nothing", VERSION, 404, "not_found_error"),
        ("POST /v1/models", VERSION, 405, "invalid_request_error"),
        ("GET /v1/models", {"anthropic_version": "2023-06-01"}, 401, "authentication_error"),
    ],
)
async def test_it_refuses_as_anthropic_does(serving, asked, headers, *, status, kind):
    serving(snapshot=listing)
    answer = await ask(*asked.split(), x_request_id="mine", **headers)
    assert (answer.status, answer.json["type"], answer.json["error"]["type"]) == (status, "error", kind)
    assert answer.headers["request-id"] == answer.json["request_id"] == "mine"


@pytest.mark.parametrize("allowed", [(), ("vllm/*",)])
async def test_it_tells_apart_neither_missing_nor_forbidden_models(serving, allowed):
    serving(snapshot=listing, caller=Caller(1, 2, "ci", "test", allowed=allowed))
    client = await ask("GET", f"/v1/models/{'openai/gpt-4o' if allowed else 'nothing'}", **KEY)
    assert (client.status, client.json["error"]["code"]) == (404, "model_not_found")


async def test_it_lists_a_name_once(serving):
    routes = [route_row("openai/gpt-4o", "vllm/llama")]
    serving(snapshot=lambda callers: make_snapshot("openai", callers=callers, models=MODELS, routes=routes))
    ids = [each["id"] for each in (await ask("GET", "/v1/models", **KEY)).json["data"]]
    assert len(ids) == len(set(ids))


async def test_it_lists_nothing_for_strangers(serving):
    serving(snapshot=listing)
    named = await ask("GET", "/v1/models", x_request_id="mine")
    assert (named.status, named.headers["x-request-id"]) == (401, "mine")
    assert (await ask("GET", "/v1/models")).status == 401
    assert (await ask("GET", "/v1/models/gpt-4o")).status == 401


# ---------------------------------------------------------------- health


async def test_it_says_how_it_is(serving, settings):
    unset = provider_row("vllm", credential="${NO_SUCH_VARIABLE_HERE}")
    serving(snapshot=lambda callers: make_snapshot("openai", unset, callers=callers))
    body = (await ask("GET", "/health")).json
    assert body["status"] == "ok"
    assert body["version"] == settings.GATEWAY_RELEASE
    assert body["configuration"]["version"] == 1
    assert body["configuration"]["problem"] is None
    assert "NO_SUCH_VARIABLE_HERE" in body["configuration"]["warnings"][0]
    assert body["providers"]["openai"] == {"state": "closed", "usable": True}
    assert body["providers"]["vllm"]["state"] == "unusable"
    assert body["store"] == {"kind": "memory", "state": "up"}
    assert body["database"] == "up"
    assert body["spool"] == {"segments": 0, "bytes": 0, "full": False}


async def test_it_says_what_is_wrong_and_goes_on(serving):
    gateway = serving()
    gateway.watcher.problem, gateway.watcher.database_up = "route '(': bad", False
    body = (await ask("GET", "/health")).json
    assert (body["status"], body["database"]) == ("degraded", "down")
    assert body["configuration"]["problem"] == "route '(': bad"
    # None of this keeps it from serving.
    ready = await ask("GET", "/ready")
    assert (ready.status, ready.json["ready"], ready.json["database"]) == (200, True, "down")


@pytest.mark.parametrize("path", ["/ready", "/readiness"])
async def test_it_is_not_ready_before_it_can_serve_or_record(serving, path):
    gateway = serving()
    gateway.spool.full = True
    client = await ask("GET", path)
    assert (client.status, client.json["problems"]) == (503, ["spool_full"])
    gateway.snapshot = None
    client = await ask("GET", path)
    assert (client.status, client.json["problems"], client.json["providers"]) == (
        503,
        ["starting", "spool_full"],
        {},
    )
    assert (await ask("GET", "/health")).json["status"] == "degraded"


@pytest.mark.parametrize(
    ("env", "address", "authorization", "shown"),
    [
        ({"host": "127.0.0.1"}, "10.0.0.1", "", True),
        ({"host": "0.0.0.0"}, "127.0.0.1", "", True),
        ({"host": "0.0.0.0"}, "::1", "", True),
        ({"host": "0.0.0.0"}, "10.0.0.1", "", False),
        ({"host": "0.0.0.0"}, "unix", "", False),
        ({"host": "0.0.0.0"}, "10.0.0.1", "Bearer ", False),
        ({"host": "0.0.0.0", "metrics_token": "t"}, "10.0.0.1", "Bearer t", True),
        ({"host": "0.0.0.0", "metrics_token": "t"}, "10.0.0.1", "Bearer x", False),
        ({"host": "0.0.0.0", "metrics_token": "t"}, "10.0.0.1", "Bearer \u00e9", False),
        ({"host": "0.0.0.0", "metrics_token": "t"}, "10.0.0.1", "t", False),
    ],
)
async def test_it_shows_detail_only_to_who_may_see_it(serving, env, address, authorization, shown):  # noqa: PLR0917
    serving(**env)
    headers = {"authorization": authorization} if authorization else {}
    health = await ask("GET", "/health", address=address, **headers)
    metrics = await ask("GET", "/metrics", address=address, **headers)
    assert ("providers" in health.json) is shown
    assert health.status == 200
    assert metrics.status == (200 if shown else 401)


async def test_it_writes_metrics_for_prometheus(serving):
    serving()
    client = await ask("GET", "/metrics")
    assert client.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert b"# TYPE gateway_requests_total counter" in client.body
    assert b"gateway_spool_backlog_segments" in client.body


async def test_it_answers_health_checks_together(serving):
    """They look into a directory, in threads; nobody waits for another."""
    serving()
    clients = await asyncio.gather(*[ask("GET", path) for path in ["/health", "/metrics", "/ready"] * 5])
    assert {client.status for client in clients} == {200}
