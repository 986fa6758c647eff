"""Requests on their way through the middlewares: every way in."""

from dataclasses import replace

import orjson
import pytest

from proxy.asgi import at_once, lane
from proxy.middleware import chain
from proxy.middleware.redaction import Redaction
from proxy.tests.fakes import Client, Log, chat_request, make_snapshot, says, streams
from proxy.tests.middlewares import FORMATS, SAY, Asking, ask, post, records, refuse, settled, with_body

MAIL = "ada@example.com"
DEFAULT_MODEL = {"default_provider__name": "openai", "default_model": "gpt-4o"}


@pytest.fixture(autouse=True)
def log(monkeypatch):
    told = Log()
    monkeypatch.setattr(chain, "log", told)
    return told


def with_default(callers):
    row = {"cache_ttl_s": None, "cache_epoch": 0, **DEFAULT_MODEL}
    return make_snapshot("openai", callers=callers, settings=[row])


@pytest.mark.parametrize("path", FORMATS)
async def test_it_refuses_in_every_format_and_records_it(gated, path):
    gateway = gated(request=[Asking(refuse)], snapshot=with_default, simple_chat="key")
    client = await post(path, FORMATS[path])
    assert client.status == 403
    error = client.json["error"]
    assert error["message"] == "Not today."
    assert (client.json.get("type") == "error") == path.startswith("/v1/messages")
    assert error["type"] == "permission_error"
    assert gateway.transport.requests == gateway.transport.forwarded == []
    (done,) = records(gateway)
    assert (done["status"], done["outcome"], done["error_code"]) == (403, "error", "house_rule")
    assert done["key_id"] == 1


async def test_it_never_sees_a_request_whose_caller_is_unknown(gated):
    seeing = Asking(lambda asked: asked)
    gated(request=[seeing])
    assert (await chat_request(key="wrong").run(lane)).status == 401
    assert seeing.seen == []


@pytest.mark.parametrize("path", FORMATS)
async def test_it_sees_the_body_in_the_clients_format(gated, path):
    seeing = Asking(refuse)
    gated(request=[seeing], snapshot=with_default)
    await post(path, FORMATS[path])
    (asked,) = seeing.seen
    if path.startswith("/api/"):
        assert asked.body["messages"] == SAY
        assert asked.endpoint == "chat"
    else:
        assert asked.body == FORMATS[path]
    assert asked.caller.key_id in (1, None)
    assert asked.headers["authorization"]


async def test_a_changed_model_is_routed_and_billed(gated):
    gateway = gated(says("Hi."), request=[with_body(model="vllm/other")])
    client = await ask(gateway)
    assert client.headers["x-gateway-provider"] == "vllm"
    assert gateway.transport.asked == ["vllm/other"]
    assert records(gateway)[0]["requested_model"] == "vllm/other"


async def test_what_is_cached_and_repeated_is_the_changed_body(gated):
    """Two clients whose requests become the same share an answer, and what one says stays its own."""
    gateway = gated(says("Hi."), request=[Redaction()])
    first = await ask(gateway, messages=[{"role": "user", "content": f"I am {MAIL}"}])
    again = await ask(gateway, messages=[{"role": "user", "content": "I am bob@example.org"}])
    other = await ask(gateway, messages=[{"role": "user", "content": "I am nobody"}])
    assert [each.headers["x-gateway-cache"] for each in (first, again, other)] == ["miss", "hit", "miss"]
    sent = [request.body for _, request in gateway.transport.requests]
    assert all(b"example" not in body for body in sent)


async def test_a_hit_is_seen_by_request_middleware_each_time(gated):
    """Nothing that remembers requests may answer one in its place."""
    allowed = [True]
    house_rule = Asking(lambda asked: asked if allowed[0] else refuse(asked))
    gateway = gated(says("Hi."), request=[house_rule])
    for _ in range(4):
        client = chat_request()
        assert at_once(client.scope, client._pieces[0]["body"]) is None
        assert (await client.run(lane)).status == 200
    allowed[0] = False
    client = chat_request()
    assert at_once(client.scope, client._pieces[0]["body"]) is None
    assert (await client.run(lane)).status == 403
    assert len(house_rule.seen) == 5
    await settled(gateway)


async def test_changed_headers_count(gated):
    no_store = Asking(lambda asked: replace(asked, headers={**asked.headers, "Cache-Control": "no-store"}))
    gateway = gated(says("Hi."), request=[no_store])
    for _ in range(2):
        assert (await ask(gateway)).headers["x-gateway-cache"] == "bypass"


@pytest.mark.parametrize("raw", [b"", b"{", b"[1]", b'"text"', b'{"model": 1}', b'{"model": NaN}', b"\xff"])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/moderations"])
async def test_a_bad_body_still_gets_its_readers_error(gated, serving, path, raw):
    serving(cache_mode="none")
    without = await post(path, raw)
    seeing = Asking(lambda asked: asked)
    gated(request=[seeing])
    client = await post(path, raw)
    assert (client.status, client.json["error"]) == (without.status, without.json["error"])
    assert len(seeing.seen) == 1


async def test_a_body_that_nobody_could_look_into_is_not_passed_on(gated):
    """A vendor might read what we cannot: JSON with NaN in it, for one."""
    gateway = gated(request=[Redaction()], snapshot=with_default)
    client = await post("/v1/batches", b'{"metadata": {"owner": "ada@example.com"}, "n": NaN}')
    assert client.status == 400
    assert gateway.transport.forwarded == []


async def test_a_key_that_stands_twice_says_to_the_vendor_what_was_looked_into(gated):
    gateway = gated(request=[Redaction()], snapshot=with_default)
    raw = b'{"metadata": {"owner": "ada@example.com"}, "metadata": {"owner": "me"}}'
    assert (await post("/v1/batches", raw)).status == 200
    ((_, _, sent),) = gateway.transport.forwarded
    assert orjson.loads(sent) == {"metadata": {"owner": "me"}}
    assert b"ada@" not in sent


async def test_the_simple_chat_follows_what_middleware_makes_of_it(gated):
    gateway = gated(says("Hi."), request=[Redaction()], snapshot=with_default, simple_chat="open")
    client = await post("/api/chat", {"message": f"Who is {MAIL}?"})
    assert client.json["message"] == "Hi."
    ((_, request),) = gateway.transport.requests
    assert orjson.loads(request.body)["messages"][0]["content"] == "Who is [EMAIL]?"
    gateway = gated(streams(), request=[with_body(model="gpt-4o-mini")], snapshot=with_default)
    client = Client("GET", "/api/chat/stream", query="prompt=hi")
    await client.run(lane)
    assert client.events[-1] == "[DONE]"
    assert gateway.transport.asked == ["openai/gpt-4o-mini"]


async def test_a_forwarded_body_is_the_changed_one(gated):
    gateway = gated(request=[Redaction(), with_body(model="vllm/m")])
    await post("/v1/moderations", {"model": "omni-moderation", "input": MAIL})
    ((account, _, sent),) = gateway.transport.forwarded
    assert account.name == "vllm"
    assert orjson.loads(sent) == {"model": "m", "input": "[EMAIL]"}


async def test_forms_pass_with_their_headers_seen(gated):
    elsewhere = Asking(lambda asked: replace(asked, headers={**asked.headers, "x-gateway-provider": "vllm"}))
    gateway = gated(request=[elsewhere])
    form = (
        b'--b\r\ncontent-disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n'
        b'--b\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\nabc\r\n--b--\r\n'
    )
    headers = {"content-type": "multipart/form-data; boundary=b", "content-length": str(len(form))}
    assert (await post("/v1/audio/transcriptions", form, **headers)).status == 200
    assert elsewhere.seen[0].body is None
    ((account, _, sent),) = gateway.transport.forwarded
    assert (account.name, sent) == ("vllm", form)


@pytest.mark.parametrize(
    "change",
    [
        lambda _: None,
        lambda _: 1 / 0,
        lambda asked: replace(asked, body={"model": object()}),
        lambda asked: replace(asked, body={1: "x"}),
    ],
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/moderations"])
async def test_a_request_middleware_that_fails_refuses(gated, path, change):
    gateway = gated(request=[Asking(change)])
    client = await post(path, FORMATS[path])
    assert (client.status, client.json["error"]["code"]) == (500, "middleware_failed")
    assert gateway.transport.requests == gateway.transport.forwarded == []
    assert records(gateway)[0]["error_code"] == "middleware_failed"
