"""What is passed on, from the lane to the record, before a scripted vendor."""

import asyncio

import orjson
import pytest

from keys.caller import Caller, KeyTerms
from providers.errors import Owner, UpstreamError
from proxy.asgi import lane
from proxy.tests.fakes import (
    SECRET,
    Client,
    FakeResponse,
    make_snapshot,
    price_row,
    provider_row,
    refuses,
    route_row,
    settings_row,
    spool_lines,
    until,
)
from proxy.tests.test_multipart import BOUNDARY, END, FORM, part

FORM_TYPE = f"multipart/form-data; boundary={BOUNDARY.decode()}"
ROUTES = [route_row("pair", "openai/a", "vllm/b")]
SHARED = tuple(provider_row(name, shares_stored=True) for name in ("openai", "vllm"))


@pytest.fixture
def passing(serving):
    """Serve before a vendor; the default provider is openai."""

    def passing(*script, caller=None, providers=SHARED, **env):
        def snapshot(known):
            return make_snapshot(
                *providers,
                callers=known,
                routes=ROUTES,
                settings=[settings_row(default_provider__name="openai")],
                prices=[price_row("openai", "gpt-image-1")],
            )

        return serving(*script, snapshot=snapshot, caller=caller, **env)

    return passing


def gone():
    """Return the error of a lost connection, a new one: who raises it may decide on it."""
    return UpstreamError("gone", owner=Owner.HEALTH, code="upstream_reset")


def client(method, path, body=b"", *, key=SECRET, query="", **headers):
    raw = body if isinstance(body, (bytes, list)) else orjson.dumps(body)
    named = {"authorization": f"Bearer {key}"} if key else {}
    return Client(method, path, raw, query=query, **named, **headers)


async def ask(method, path, body=b"", **options):
    return await client(method, path, body, **options).run(lane)


def ok(body=None, **headers):
    return FakeResponse(
        orjson.dumps(body or {"ok": True}), headers={"content-type": "application/json", **headers}
    )


def file(*pieces, kind="audio/mpeg", **headers):
    return FakeResponse(*pieces, headers={"content-type": kind, **headers})


def record(gateway):
    (done,) = [line for line in spool_lines(gateway.spool._directory) if line["kind"] == "done"]
    return done


# ---------------------------------------------------------------- there


async def test_it_passes_json_on_under_the_vendors_name(passing):
    gateway = passing(ok())
    answer = await ask("POST", "/v1/moderations", {"model": "openai/omni", "input": "x"}, cookie="a=1")
    ((account, request, body),) = gateway.transport.forwarded
    assert (account.name, request.method, request.path) == ("openai", "POST", "/moderations")
    assert body == b'{"model":"omni","input":"x"}'
    assert dict(request.headers) == {"content-type": "application/json"}
    assert (answer.status, answer.json) == (200, {"ok": True})


async def test_it_sends_on_what_says_how_to_read_and_to_answer(passing):
    gateway = passing(ok())
    sent = {"accept": "text/event-stream", "openai_beta": "x=v2", "content_type": "application/json; a=b"}
    await ask("POST", "/v1/audio/speech", {"model": "tts"}, **sent, openai_organization="o", x_api_key="k")
    ((_, request, _),) = gateway.transport.forwarded
    assert dict(request.headers) == {
        "accept": "text/event-stream",
        "openai-beta": "x=v2",
        "content-type": "application/json; a=b",
    }


@pytest.mark.parametrize(
    ("query", "headers", "asked"),
    [
        ("", {}, "openai/files"),
        ("limit=2&after=a%26b", {}, "openai/files?limit=2&after=a%26b"),
        ("provider=vllm", {}, "vllm/files"),
        ("limit=2&provider=vllm&x=a%26b", {}, "vllm/files?limit=2&x=a%26b"),
        ("limit=2", {"x_gateway_provider": "vllm"}, "vllm/files?limit=2"),
        ("provider=openai", {"x_gateway_provider": "vllm"}, "vllm/files"),
    ],
)
async def test_it_asks_whom_the_request_names_and_keeps_the_rest_of_its_query(passing, query, headers, asked):
    gateway = passing(ok())
    await ask("GET", "/v1/files", query=query, **headers)
    ((account, request, body),) = gateway.transport.forwarded
    assert (account.name + request.path, body) == (asked, b"")
    assert "x-gateway-provider" not in request.headers


@pytest.mark.parametrize(
    ("path", "body", "place"),
    [
        (
            "/v1/images/generations",
            {"model": "my-gpt"},
            "/openai/deployments/my-gpt/images/generations?v=1&a=b",
        ),
        ("/v1/files", None, "/openai/files?v=1&a=b"),
    ],
)
async def test_it_makes_the_path_as_the_providers_row_says(passing, path, body, place):
    template = "/openai/deployments/{model}{path}?v=1"
    gateway = passing(ok(), providers=(provider_row("openai", path_template=template, shares_stored=True),))
    await ask("GET" if body is None else "POST", path, body or b"", query="a=b")
    ((_, request, _),) = gateway.transport.forwarded
    assert request.path == place


@pytest.mark.parametrize("template", ["/openai/deployments/{model}{path}?v=1", "{path}?of={model}&v=1"])
async def test_it_never_sends_a_placeholder(passing, template):
    gateway = passing(ok(), providers=(provider_row("openai", path_template=template, shares_stored=True),))
    await ask("GET", "/v1/files")
    ((_, request, _),) = gateway.transport.forwarded
    assert "{" not in request.path
    assert request.path.endswith("/files?v=1")


@pytest.mark.parametrize("model", ["..", "openai/.."])
async def test_it_refuses_a_model_that_is_a_step_in_the_path(passing, model):
    template = "/openai/deployments/{model}{path}"
    gateway = passing(ok(), providers=(provider_row("openai", path_template=template),))
    answer = await ask("POST", "/v1/images/generations", {"model": model})
    assert (answer.status, answer.json["error"]["param"]) == (400, "model")
    assert gateway.transport.forwarded == []
    assert record(gateway)["attempts"] == []


@pytest.mark.parametrize(("method", "body"), [("POST", b""), ("GET", None), ("DELETE", None)])
async def test_it_says_that_a_post_has_no_body(passing, method, body):
    """A server may ask for the length of any POST (411)."""
    gateway = passing(ok())
    path = "/v1/batches/b/cancel" if method == "POST" else "/v1/files/f"
    await ask(method, path)
    ((_, request, _),) = gateway.transport.forwarded
    assert request.body == body
    assert "content-type" not in request.headers


async def test_it_passes_a_form_on_under_the_vendors_name(passing):
    gateway = passing(ok())
    pieces = [FORM[:30], FORM[30:]]
    await ask("POST", "/v1/audio/transcriptions", pieces, content_type=FORM_TYPE, query="provider=main")
    assert gateway.transport.forwarded == []  # there is no such provider
    form = FORM.replace(b"main/", b"openai/")
    await ask("POST", "/v1/audio/transcriptions", [form[:30], form[30:]], content_type=FORM_TYPE)
    ((_, request, body),) = gateway.transport.forwarded
    assert request.headers["content-type"] == FORM_TYPE
    assert body == FORM.replace(b"main/", b"")
    assert request.length == len(body)


async def test_it_does_not_wait_for_the_end_of_a_form(passing):
    gateway = passing(ok())
    large = [b"x" * 60_000] * 4
    await ask("POST", "/v1/files", large, content_type=FORM_TYPE, content_length="240000")
    ((_, request, body),) = gateway.transport.forwarded
    assert not isinstance(request.body, bytes)
    assert (request.length, body) == (240_000, b"".join(large))


# ---------------------------------------------------------------- and back


async def test_it_passes_a_file_back_piece_by_piece(passing):
    gateway = passing(file(b"one", b"two", content_disposition="x", **{"content-disposition": "attachment"}))
    answer = await ask("GET", "/v1/files/f/content")
    assert [message.get("body") for message in answer.messages[1:]] == [b"one", b"two", b""]
    assert answer.headers["content-type"] == "audio/mpeg"
    assert answer.headers["content-disposition"] == "attachment"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"] == "sandbox"
    assert "x-gateway-model" not in answer.headers
    done = record(gateway)
    assert (done["endpoint"], done["provider"], done["model"]) == ("files", "openai", "")
    assert (done["status"], done["outcome"], done["usage"], done["cost_nanousd"]) == (200, "ok", None, None)
    assert gateway.meter.in_flight == 0


async def test_it_passes_back_a_file_of_json_without_reading_it_whole(passing):
    gateway = passing(file(b'{"a":', b"1}", kind="application/json"))
    answer = await ask("GET", "/v1/files/f/content")
    assert [message.get("body") for message in answer.messages[1:]] == [b'{"a":', b"1}", b""]
    assert gateway.transport.forwarded[0][1].limit > 1 << 40


async def test_it_passes_few_headers_back(passing):
    passing(ok(**{"set-cookie": "a", "x-ratelimit-limit-requests": "9", "openai-processing-ms": "5"}))
    answer = await ask("POST", "/v1/moderations", {"model": "m"})
    assert answer.headers["x-upstream-ratelimit-limit-requests"] == "9"
    assert answer.headers["openai-processing-ms"] == "5"
    assert answer.headers["x-gateway-model"] == "m"
    assert "set-cookie" not in answer.headers


async def test_it_records_tokens_and_their_price(passing):
    gateway = passing(ok({"usage": {"input_tokens": 100, "output_tokens": 10}}))
    await ask("POST", "/v1/images/generations", {"model": "gpt-image-1"})
    done = record(gateway)
    assert (done["usage"]["prompt"], done["usage"]["completion"]) == (100, 10)
    assert done["cost_nanousd"] == 100 * 1000 + 10 * 2000
    assert done["cache"] == "bypass"


@pytest.mark.parametrize("path", ["/v1/responses/r", "/v1/batches/b"])
async def test_it_does_not_count_again_what_was_counted_when_it_was_made(passing, path):
    gateway = passing(ok({"usage": {"input_tokens": 100, "output_tokens": 10}}))
    await ask("GET", path)
    assert record(gateway)["usage"] is None


EVENTS = b'data: {"usage":{"input_tokens":9,"output_tokens":1}}\n\n'


async def test_it_relays_events(passing):
    gateway = passing(file(b"data: {}\n\n", EVENTS, kind="text/event-stream; charset=utf-8"))
    answer = await ask("POST", "/v1/images/generations", {"model": "m", "stream": True})
    assert answer.body == b"data: {}\n\n" + EVENTS
    assert answer.headers["cache-control"] == "no-cache"
    done = record(gateway)
    assert (done["stream"], done["usage"]["prompt"]) == (True, 9)


@pytest.mark.parametrize("first", [b"data: {}\n\n", b"data: {"])
async def test_it_ends_events_that_break_off_in_an_error(passing, first):
    gateway = passing(file(first, gone(), kind="text/event-stream"))
    answer = await ask("POST", "/v1/audio/speech", {"model": "m"})
    assert answer.whole
    *_, last = answer.body.strip().split(b"\n\n")
    assert orjson.loads(last.removeprefix(b"data: "))["error"]["code"] == "upstream_reset"
    assert record(gateway)["error_code"] == "upstream_reset"


async def test_it_leaves_anything_else_that_breaks_off_without_an_end(passing):
    gateway = passing(file(b"sound", gone()))
    answer = await ask("POST", "/v1/audio/speech", {"model": "m"})
    assert (answer.body, answer.whole) == (b"sound", False)
    done = record(gateway)
    assert (done["outcome"], done["attempts"][0]["outcome"]) == ("error", "upstream_reset")


# ---------------------------------------------------------------- failures


@pytest.mark.parametrize("failure", [gone(), refuses(503), refuses(429), file(gone())])
async def test_it_fails_over_before_the_first_byte(passing, failure):
    gateway = passing(failure, file(b"sound"))
    answer = await ask("POST", "/v1/audio/speech", {"model": "pair", "input": "x"})
    assert [(account.name, body) for account, _, body in gateway.transport.forwarded] == [
        ("openai", b'{"model":"a","input":"x"}'),
        ("vllm", b'{"model":"b","input":"x"}'),
    ]
    assert (answer.body, answer.headers["x-gateway-attempts"]) == (b"sound", "2")
    assert [each["provider"] for each in record(gateway)["attempts"]] == ["openai", "vllm"]


async def test_it_fails_over_with_a_form_that_is_all_here(passing):
    gateway = passing(gone(), ok())
    form = FORM.replace(b"main/whisper-1", b"pair")
    answer = await ask("POST", "/v1/audio/transcriptions", form, content_type=FORM_TYPE)
    assert answer.status == 200
    assert [body for *_, body in gateway.transport.forwarded] == [
        form.replace(b"pair", name) for name in (b"a", b"b")
    ]


async def test_it_does_not_send_half_a_form_to_the_next(passing):
    gateway = passing(gone(), ok())
    form = part(b"model", b"pair") + part(b"file", b"x" * 100_000) + END
    pieces = [form[:1000], form[1000:]]
    answer = await ask("POST", "/v1/audio/transcriptions", pieces, content_type=FORM_TYPE)
    assert (answer.status, len(gateway.transport.forwarded)) == (502, 1)


async def test_it_makes_nothing_twice(passing):
    gateway = passing(gone(), ok())
    assert (await ask("POST", "/v1/batches", {"input_file_id": "f"})).status == 502
    assert len(gateway.transport.forwarded) == 1
    gateway = passing(gone(), ok())
    assert (await ask("GET", "/v1/batches")).status == 200


async def test_it_tells_the_vendors_refusal(passing):
    gateway = passing(
        refuses(404, "no such file", type="invalid_request_error", headers={"x-ratelimit-x": "1"})
    )
    answer = await ask("GET", "/v1/files/f")
    assert (answer.status, answer.json["error"]["message"]) == (404, "no such file")
    assert answer.headers["x-upstream-ratelimit-x"] == "1"
    assert answer.headers["x-gateway-provider"] == "openai"
    assert (record(gateway)["status"], record(gateway)["outcome"]) == (404, "error")


@pytest.mark.parametrize(
    ("asked", "status", "code"),
    [
        ("PUT /v1/files/f", 405, "method_not_allowed"),
        ("HEAD /v1/files/f/content", 405, "method_not_allowed"),
        ("GET /v1/moderations", 405, "method_not_allowed"),
        ("GET /v1/files/f/g", 404, "unknown_path"),
        ("POST /v1/moderations", 400, None),
    ],
)
async def test_it_refuses_in_the_envelope(passing, asked, status, code):
    gateway = passing(ok())
    answer = await ask(*asked.split())
    assert answer.status == status
    if answer.body:
        assert answer.json["error"]["code"] == code
    assert gateway.transport.forwarded == []


async def test_it_checks_the_key_before_it_reads_a_form(passing):
    passing(ok())
    stranger = client("POST", "/v1/files", [b"x"] * 5, key="nobody", content_type=FORM_TYPE)
    await stranger.run(lane)
    assert (stranger.status, stranger.received) == (401, 0)


async def test_it_checks_what_the_key_may_use(passing):
    gateway = passing(ok(), caller=Caller(1, 2, "ci", "test", allowed=("whisper*",)))
    assert (await ask("GET", "/v1/files")).status == 403
    assert (await ask("POST", "/v1/rerank", {"model": "other"})).status == 403
    assert (await ask("POST", "/v1/rerank", {"model": "whisper-1"})).status == 200
    assert len(gateway.transport.forwarded) == 1


@pytest.mark.parametrize("path", ["/v1/files", "/v1/batches/"])
async def test_it_lists_nothing_that_other_tenants_may_have_stored(passing, path):
    gateway = passing(ok(), providers=("openai",))
    answer = await ask("GET", path)
    assert (answer.status, answer.json["error"]["code"]) == (403, "listing_not_allowed")
    assert gateway.transport.forwarded == []
    assert (await ask("GET", f"{path.rstrip('/')}/some-id")).status == 200


async def test_it_counts_against_the_limits(passing):
    gateway = passing(ok(), rpm_limit=1)
    assert (await ask("GET", "/v1/files")).status == 200
    answer = await ask("GET", "/v1/files")
    assert (answer.status, answer.json["error"]["code"]) == (429, "rate_limit_exceeded")
    assert len(gateway.transport.forwarded) == 1


async def test_it_serves_nothing_it_could_not_record(passing):
    gateway = passing(ok())
    gateway.spool.full = True
    assert (await ask("GET", "/v1/files")).status == 503


@pytest.mark.parametrize(
    ("pieces", "declared", "limit"), [([b"x"], "11", 10), ([b"x" * 6] * 2, "", 10), ([b"x" * 6] * 2, "12", 0)]
)
async def test_it_limits_uploads(passing, pieces, declared, limit):
    gateway = passing(ok(), max_upload_bytes=limit, max_body_bytes=1)
    headers = {"content_length": declared} if declared else {}
    answer = await ask("POST", "/v1/files", pieces, content_type=FORM_TYPE, **headers)
    assert answer.status == (413 if limit else 200)
    if limit:
        assert "MAX_UPLOAD_BYTES (10)" in answer.json["error"]["message"]
        assert record(gateway)["error_code"] == "body_too_large"


async def test_it_refuses_a_form_that_names_its_model_too_late(passing):
    gateway = passing(ok())
    form = part(b"file", b"x" * 100_000) + part(b"model", b"whisper-1") + END
    pieces = [form[at : at + 5000] for at in range(0, len(form), 5000)]
    answer = await ask("POST", "/v1/audio/transcriptions", pieces, content_type=FORM_TYPE)
    assert (answer.status, answer.json["error"]["param"]) == (400, "model")
    await ask("POST", "/v1/audio/transcriptions", pieces, content_type=FORM_TYPE, query="provider=openai")
    assert gateway.transport.forwarded[0][2] == form


# ---------------------------------------------------------------- the client leaves


async def test_it_lets_go_of_an_upload_whose_client_leaves(passing):
    gateway = passing(ok())
    leaving = client("POST", "/v1/files", content_type=FORM_TYPE)
    leaving._pieces = [{"type": "http.request", "body": b"x", "more_body": True}] * 3
    running = asyncio.ensure_future(leaving.run(lane))
    await until(lambda: leaving.received == 3)
    leaving.left.set()
    await running
    assert leaving.messages == []
    assert (record(gateway)["status"], record(gateway)["outcome"]) == (499, "cancelled")


async def test_it_lets_go_of_an_answer_whose_client_leaves(passing):
    never = asyncio.Event()
    response = file(b"one", never.wait())
    gateway = passing(response)
    leaving = client("GET", "/v1/files/f/content")
    running = asyncio.ensure_future(leaving.run(lane))
    await until(lambda: b"one" in leaving.body)
    leaving.left.set()
    await running
    assert response.closed
    assert record(gateway)["error_code"] == "client_left"
    assert gateway.meter.in_flight == 0


# ---------------------------------------------------------------- a key that is forced to a model


@pytest.mark.parametrize("how", [{}, {"query": "provider=openai"}, {"x_gateway_provider": "openai"}])
async def test_a_forced_key_gets_its_model_whatever_it_names(passing, how):
    forced = Caller(1, 2, "ci", "test", terms=KeyTerms(forced_route="vllm/cheap"))
    gateway = passing(ok(), caller=forced)
    answer = await ask("POST", "/v1/moderations", {"model": "omni", "input": "x"}, **how)
    ((account, _, body),) = gateway.transport.forwarded
    assert (account.name, orjson.loads(body)["model"]) == ("vllm", "cheap")
    assert answer.headers["x-gateway-model"] == "cheap"
    assert [record(gateway)[name] for name in ("requested_model", "forced_model", "model")] == [
        "omni",
        "vllm/cheap",
        "cheap",
    ]


async def test_a_forced_key_is_not_for_what_names_no_model(passing):
    """A file of batch requests may name any."""
    forced = Caller(1, 2, "ci", "test", terms=KeyTerms(forced_route="vllm/cheap"))
    gateway = passing(ok(), caller=forced)
    for method, path, body in (("GET", "/v1/files", b""), ("POST", "/v1/moderations", {"input": "x"})):
        refused = await ask(method, path, body)
        assert (refused.status, refused.json["error"]["code"]) == (403, "model_not_allowed")
    assert not gateway.transport.forwarded
