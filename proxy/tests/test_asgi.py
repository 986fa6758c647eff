"""The lane, spoken to in ASGI."""

import asyncio

import pytest
from django.http import HttpResponse

from proxy import asgi
from proxy.asgi import MAX_HEADER_BYTES, lane
from proxy.http import StreamReply
from proxy.tests.fakes import Client, chat_request, environment, says, until


@pytest.fixture
def answering(monkeypatch, settings):
    """Let the lane find one view, whatever the path."""

    def answering(view, **env):
        settings.GATEWAY = environment(**env)
        monkeypatch.setattr(asgi, "find", lambda _: (view, {}))

    return answering


async def echo(request):
    return HttpResponse(request.body, headers={"X-Length": str(len(request.body))}, content_type="text/plain")


async def sent(*arguments, **fields):
    return await Client(*arguments, **fields).run(lane)


# ---------------------------------------------------------------- bodies


@pytest.mark.parametrize("pieces", [[b""], [b"abc"], [b"a", b"b", b"c"], [b"abc", b""], [b"", b"", b"abc"]])
async def test_it_reads_a_body_in_whatever_pieces_it_comes(answering, pieces):
    answering(echo)
    client = await sent("POST", "/x", pieces)
    assert client.body == b"".join(pieces)
    assert client.headers["x-length"] == str(len(client.body))
    assert client.headers["content-length"] == str(len(client.body))
    assert client.whole


@pytest.mark.parametrize("pieces", [[b"x" * 10], [b"x" * 5, b"x" * 5], [b"x" * 10, b""]])
async def test_it_takes_a_body_that_just_fits(answering, pieces):
    answering(echo, max_body_bytes=10)
    assert (await sent("POST", "/x", pieces)).status == 200


@pytest.mark.parametrize(
    "pieces", [[b"x" * 11], [b"x" * 5, b"x" * 6], [b"x" * 11, b""], [b"x"] * 11, [b"x" * 6] * 3]
)
async def test_it_refuses_a_body_that_does_not_and_reads_it_to_its_end(answering, pieces):
    answering(echo, max_body_bytes=10)
    client = await sent("POST", "/x", pieces)
    assert (client.status, client.json["error"]["code"]) == (413, "body_too_large")
    assert "MAX_BODY_BYTES (10)" in client.json["error"]["message"]
    assert client.received == len(pieces)


async def test_it_does_not_read_an_endless_body_for_ever(answering):
    answering(echo, max_body_bytes=10)
    client = await sent("POST", "/x", [b"x" * 10] * 1000)
    assert client.status == 413
    assert client.received < 20


@pytest.mark.parametrize("pieces", [0, 1, 3])
async def test_it_answers_nobody_who_leaves_while_sending(answering, pieces):
    answering(echo, max_body_bytes=10)
    client = Client("POST", "/x")
    client._pieces = [{"type": "http.request", "body": b"x" * 8, "more_body": True}] * pieces
    client.left.set()
    await client.run(lane)
    assert client.messages == []


# ---------------------------------------------------------------- headers


async def test_it_refuses_headers_that_are_too_large(answering):
    answering(echo)
    client = await sent("POST", "/x", x_large="y" * MAX_HEADER_BYTES)
    assert (client.status, client.json["error"]["code"]) == (431, "headers_too_large")
    many = Client("POST", "/x")
    many.scope["headers"] = [(b"x-%d" % number, b"y") for number in range(20_000)]
    assert (await many.run(lane)).status == 431


@pytest.mark.parametrize(
    ("origins", "origin", "allowed"),
    [
        (("*",), "https://a.example", "*"),
        (("https://a.example",), "https://a.example", "https://a.example"),
        (("https://a.example", "https://b.example"), "https://b.example", "https://b.example"),
        (("https://a.example",), "https://evil.example", None),
        (("https://a.example",), "https://a.example.evil", None),
        ((), "https://a.example", None),
    ],
)
async def test_it_lets_browsers_of_allowed_origins_read(answering, origins, origin, allowed):
    answering(echo, cors_origins=origins)
    client = await sent("POST", "/x", origin=origin)
    assert client.headers.get("access-control-allow-origin") == allowed
    assert ("x-gateway-provider" in client.headers.get("access-control-expose-headers", "")) is bool(allowed)
    if allowed not in (None, "*"):
        assert client.headers["vary"] == "origin"


async def test_it_says_nothing_of_origins_to_who_sends_none(answering):
    answering(echo)
    assert "access-control-allow-origin" not in (await sent("POST", "/x")).headers


async def test_it_answers_a_preflight_itself(answering):
    async def never(_):
        raise AssertionError

    answering(never)
    client = await sent("OPTIONS", "/v1/chat/completions", origin="https://a.example")
    assert (client.status, client.body) == (204, b"")
    assert client.headers["access-control-allow-origin"] == "*"
    assert "POST" in client.headers["access-control-allow-methods"]
    assert "authorization" in client.headers["access-control-allow-headers"]


async def test_it_lets_browsers_read_errors_too(answering):
    answering(echo, max_body_bytes=1)
    client = await sent("POST", "/x", b"xx", origin="https://a.example")
    assert client.status == 413
    assert client.headers["access-control-allow-origin"] == "*"


async def test_it_sends_header_values_that_are_not_latin(answering):
    async def view(_):
        return HttpResponse(b"", headers={"x-model": "模型", "x-other": "café"})

    answering(view)
    client = await sent("GET", "/x")
    assert client.status == 200
    assert client.headers["x-other"] == "café"


async def test_it_leaves_the_body_of_head_out(answering):
    answering(echo)
    client = await sent("HEAD", "/x", b"abc")
    assert client.body == b""
    assert client.headers["content-length"] == "3"
    assert client.whole


# ---------------------------------------------------------------- leaving


async def test_it_cancels_the_view_when_the_client_leaves(answering):
    cancelled = asyncio.Event()

    async def view(_):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    answering(view)
    client = Client("POST", "/x", b"abc")
    task = asyncio.create_task(client.run(lane))
    await asyncio.sleep(0)
    client.left.set()
    await task
    assert cancelled.is_set()
    assert client.messages == []
    assert task.cancelling() == 0


async def test_it_cancels_the_stream_when_the_client_leaves(answering):
    ended = []

    async def pieces():
        try:
            yield b"one"
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    async def view(_):
        return StreamReply(pieces())

    answering(view)
    client = Client("POST", "/x")
    task = asyncio.create_task(client.run(lane))
    await until(lambda: client.body == b"one")
    client.left.set()
    await task
    assert ended == [True]
    assert not client.whole


async def test_it_closes_the_stream_when_the_client_leaves_while_it_is_sent(answering):
    """The generator is suspended at a yield: it is closed, not left to the collector."""
    ended = []

    async def pieces():
        try:
            yield b"one"
            yield b"two"
        finally:
            ended.append(True)

    async def view(_):
        return StreamReply(pieces())

    answering(view)
    client = Client("POST", "/x")
    stuck = asyncio.Event()

    async def send(message):
        if message.get("body"):
            stuck.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(lane(client.scope, client.receive, send))
    await stuck.wait()
    client.left.set()
    await task
    assert ended == [True]


async def test_it_takes_no_other_message_for_a_departure(answering):
    async def view(_):
        await asyncio.sleep(0.02)
        return HttpResponse(b"done")

    answering(view)
    for message in ({"type": "http.request", "body": b"", "more_body": False}, OSError("receive failed")):
        client = Client("POST", "/x")
        first = [{"type": "http.request", "body": b""}]

        async def receive(first=first, message=message):
            if first:
                return first.pop()
            if isinstance(message, Exception):
                raise message
            return message

        await lane(client.scope, receive, client.send)
        assert client.body == b"done"


async def test_it_lets_the_servers_own_cancellation_through(answering):
    async def view(_):
        await asyncio.Event().wait()

    answering(view)
    task = asyncio.create_task(Client("POST", "/x").run(lane))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_it_leaves_no_watch_behind(answering):
    answering(echo)
    before = asyncio.all_tasks()
    await sent("POST", "/x", b"abc")
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


# ---------------------------------------------------------------- every path


@pytest.mark.parametrize(
    ("method", "path", "answer"),
    [
        ("GET", "/v1/nothing", (404, "unknown_path")),
        ("POST", "/v1/chat/completions/more", (404, "unknown_path")),
        ("GET", "/v1", (404, "unknown_path")),
        ("GET", "/v1/chat/completions", (405, "method_not_allowed")),
        ("PUT", "/v1/models", (405, "method_not_allowed")),
        ("DELETE", "/health", (405, "method_not_allowed")),
        ("POST", "/v1/chat/completions", (400, None)),
        ("POST", "/v1/chat/completions/", (400, None)),
    ],
)
async def test_it_answers_every_path_in_the_envelope(serving, method, path, answer):
    serving(allow_anonymous=True)
    client = await sent(method, path)
    assert set(client.json["error"]) == {"message", "type", "param", "code"}
    assert (client.status, client.json["error"]["code"]) == answer
    assert ("allow" in client.headers) is (client.status == 405)


@pytest.mark.parametrize("path", ["/health", "/ready", "/readiness", "/v1/models", "/metrics"])
async def test_it_answers_head_wherever_it_answers_get(serving, path):
    serving(allow_anonymous=True)
    head, get = await sent("HEAD", path), await sent("GET", path)
    assert (head.status, head.body) == (get.status, b"") == (200, b"")


@pytest.mark.parametrize(
    "model",
    ["gpt-4o\nx", "gpt-4o\r\nx-evil: 1", "gpt-4o-模型", "gpt-4o-\u2028", "gpt-4o-\U0001f600", "gpt-4o-é"],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_it_answers_whatever_the_model_is_called(serving, model, stream):
    """The name goes back in a header: it must neither split it nor break the answer."""
    serving(says(), max_retries=1)
    client = await chat_request(model=model, stream=stream).run(lane)
    assert client.status in (200, 400)
    assert "x-evil" not in client.headers


@pytest.mark.parametrize("name", ["mine", "x" * 128])
async def test_it_echoes_the_clients_request_id(serving, name):
    serving()
    assert (await chat_request(headers={"x_request_id": name}).run(lane)).headers["x-request-id"] == name


@pytest.mark.parametrize("name", ["x" * 129, "a\tb", "caf\u00e9"])
async def test_it_echoes_no_request_id_that_could_harm(serving, name):
    gateway = serving()
    client = await chat_request(headers={"x_request_id": name}).run(lane)
    assert client.headers["x-request-id"].startswith(gateway.boot)


# ---------------------------------------------------------------- views that do not wait


async def test_it_watches_nobody_whose_answer_is_at_hand(answering):
    answering(echo)
    client = Client("POST", "/x", b"abc")
    asked = []
    receive = client.receive

    async def counting():
        asked.append(len(asked))
        return await receive()

    await lane(client.scope, counting, client.send)
    assert (client.status, client.body) == (200, b"abc")
    assert asked == [0]  # for the body alone


@pytest.mark.parametrize("wait", [lambda: asyncio.sleep(0), lambda: asyncio.sleep(0.001)])
async def test_it_goes_on_where_a_view_began_to_wait(answering, wait):
    async def view(request):
        for _ in range(3):
            await wait()
        with pytest.raises(ZeroDivisionError):
            await failing()
        return HttpResponse(asyncio.current_task().get_name())

    async def failing():
        await wait()
        raise ZeroDivisionError

    answering(view)
    task = asyncio.create_task(sent("POST", "/x"), name="mine")
    assert (await task).body == b"mine"


async def test_what_a_view_raises_after_waiting_is_raised(answering):
    async def view(_):
        await asyncio.sleep(0)
        raise ZeroDivisionError

    answering(view)
    with pytest.raises(ZeroDivisionError):
        await sent("POST", "/x")


async def test_a_view_that_waits_learns_that_its_client_has_left(answering):
    ended = []

    async def view(_):
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            ended.append("cancelled")
            await asyncio.sleep(0)  # it may still tidy up
            ended.append("tidy")
            raise

    answering(view)
    client = Client("POST", "/x")
    task = asyncio.create_task(client.run(lane))
    await asyncio.sleep(0.01)
    client.left.set()
    await task
    assert ended == ["cancelled", "tidy"]
    assert client.messages == []
