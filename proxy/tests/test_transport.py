"""The transport against a real server on a socket, which misbehaves as scripted."""

import asyncio
import gzip
import ssl
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from providers.errors import Owner, UpstreamError
from providers.own_credential import showing
from providers.tests.samples import make_upstream
from providers.upstream import Timeouts, UpstreamRequest
from proxy.demo_response import DemoResponse
from proxy.tests.fakes import until
from proxy.tests.reached import texts
from proxy.transport import Transport
from proxy.vendor_response import timed_out

REQUEST = UpstreamRequest(
    path="/chat/completions", body=b'{"model": "m"}', headers={"content-type": "application/json"}
)


class Vendor:
    """A server whose `behave` is asked for each request: bytes to send, then "keep", "close" or "reset"."""

    def __init__(self, behave):
        self._behave = behave
        self.requests = []
        self.connections = 0
        self.open = 0
        self.port = 0

    async def serve(self, reader, writer):
        self.connections += 1
        self.open += 1
        place = 0
        try:
            while (request := await self._request(reader)) is not None:
                self.requests.append(request)
                place += 1
                result = self._behave(writer, place)
                if asyncio.iscoroutine(result):
                    result = await result
                if result == "reset":
                    writer.transport.abort()
                if result != "keep":
                    return
        except ConnectionError:
            pass
        finally:
            self.open -= 1
            writer.close()

    async def _request(self, reader):
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
        except asyncio.IncompleteReadError:
            return None
        lines = head.split("\r\n")
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines[1:] if line)
        }
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        return lines[0], headers, body


@asynccontextmanager
async def vendor(behave, **options):
    running = Vendor(behave)
    server = await asyncio.start_server(running.serve, "127.0.0.1", 0, **options)
    running.port = server.sockets[0].getsockname()[1]
    try:
        yield running
    finally:
        server.close()


@pytest.fixture
async def transport():
    made = Transport(max_response_bytes=100_000)
    yield made
    await made.close()


def at(running, path="/v1", **fields):
    return make_upstream("acme", base_url=f"http://127.0.0.1:{running.port}{path}", **fields)


def reply(body=b"{}", status="200 OK", **headers):
    named = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\n{named}\r\n".encode() + body


def answers(*replies):
    """Send the replies in turn, the last one for ever; connections stay open."""
    left = list(replies)

    def behave(writer, _):
        writer.write(left.pop(0) if len(left) > 1 else left[0])
        return "keep"

    return behave


CHUNKED = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def piece(body):
    return f"{len(body):x}\r\n".encode() + body + b"\r\n"


async def body_of(transport, upstream):
    return await (await transport.open(upstream, REQUEST)).read()


async def fails(awaitable):
    with pytest.raises(UpstreamError) as raised:
        await awaitable
    return raised.value


# ---------------------------------------------------------------- asking


async def test_it_sends_what_the_dialect_wrote(transport):
    async with vendor(answers(reply(b'{"ok": true}', x_request_id="v1"))) as running:
        upstream = at(running, "/v1/", headers={"authorization": "Bearer k", "x-team": "blue"})
        response = await transport.open(upstream, REQUEST)
        assert await response.read() == b'{"ok": true}'
        assert response.status == 200
        assert response.headers["x-request-id"] == "v1"
        ((line, headers, body),) = running.requests
    assert line == "POST /v1/chat/completions HTTP/1.1"
    assert body == REQUEST.body
    assert headers["authorization"] == "Bearer k"
    assert headers["x-team"] == "blue"
    assert headers["content-type"] == "application/json"
    assert headers["accept-encoding"] == "identity"
    assert "cookie" not in headers


async def test_it_keeps_connections_and_counts_them_per_provider(transport):
    async with vendor(answers(reply())) as running:
        for _ in range(3):
            await body_of(transport, at(running))
        assert running.connections == 1
        await body_of(transport, make_upstream("other", base_url=f"http://127.0.0.1:{running.port}"))
        assert running.connections == 2


async def test_it_opens_no_more_connections_than_the_provider_allows(transport):
    gate = asyncio.Event()

    async def behave(writer, _):
        await gate.wait()
        writer.write(reply())
        return "keep"

    async with vendor(behave) as running:
        calls = [asyncio.create_task(body_of(transport, at(running, max_connections=2))) for _ in range(5)]
        await until(lambda: len(running.requests) == 2)
        gate.set()
        await asyncio.gather(*calls)
        assert running.connections == 2
        assert len(running.requests) == 5


async def test_it_takes_no_cookies(transport):
    async with vendor(answers(reply(set_cookie="a=b"))) as running:
        for _ in range(2):
            await body_of(transport, at(running))
        assert all("cookie" not in headers for _, headers, _ in running.requests)


@pytest.mark.parametrize(
    "status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"]
)
async def test_it_follows_no_redirect(transport, status):
    """It would carry the body and a credential in a header of the vendor's own to another place."""
    async with vendor(answers(reply())) as elsewhere:
        location = f"http://127.0.0.1:{elsewhere.port}/steal"
        async with vendor(answers(reply(b"", status, location=location))) as running:
            response = await transport.open(at(running, headers={"api-key": "secret"}), REQUEST)
            assert response.status == int(status[:3])
            await response.read()
        assert elsewhere.requests == []


async def test_it_puts_the_constant_part_of_a_head_together_once(transport):
    async with vendor(answers(reply())) as running:
        upstream = at(running)
        heads = [transport._door(upstream.account, "/x").head(REQUEST) for _ in range(2)]
        assert heads[0] == heads[1]
        await body_of(transport, upstream)
        door = transport._doors["acme", "", REQUEST.path]
        await body_of(transport, upstream)
        assert transport._doors["acme", "", REQUEST.path] is door
        other = at(running, headers={"authorization": "Bearer new"})
        await body_of(transport, other)
        assert running.requests[-1][1]["authorization"] == "Bearer new"


async def test_it_forgets_the_doors_and_pools_of_providers_that_are_gone(transport, monkeypatch):
    monkeypatch.setattr("proxy.transport.MAX_DOORS", 10)
    for number in range(50):
        transport._door(make_upstream(base_url=f"http://{number}.test").account, f"/{number}")
    assert len(transport._doors) == 1  # the pools of the others had no connection
    assert len(transport._pools) == 1


async def test_it_never_has_two_pools_for_one_provider(transport):
    """One that had no connection for a while is forgotten with the doors that lead to it."""
    async with vendor(answers(reply())) as running:
        account = at(running, max_connections=1).account
        first = transport._door(account, "/a")
        transport._door(make_upstream("other", base_url="http://other.test").account, "/a")
        assert transport._doors.get(("acme", "", "/a")) is not first
        second, third = transport._door(account, "/a"), transport._door(account, "/b")
        assert second.pool is third.pool
        assert second.pool in transport._pools.values()


async def test_it_has_one_pool_for_routes_that_wait_for_connections_in_their_own_ways(transport):
    async with vendor(answers(reply())) as running:
        patient = at(running, max_connections=1)
        hasty = replace(patient, timeouts=Timeouts(connect_s=0.5))
        for upstream in (patient, hasty, patient):
            await body_of(transport, upstream)
        assert len(transport._pools) == 1
        assert running.connections == 1


# ---------------------------------------------------------------- the keep-alive race


def first_then(end):
    """Answer the first request on each connection; end it as told at the second."""

    def behave(writer, place):
        if place > 1:
            return end
        writer.write(reply())
        return "keep"

    return behave


@pytest.mark.parametrize("end", ["close", "reset"])
async def test_it_sends_once_more_when_a_kept_connection_is_gone(transport, end):
    async with vendor(first_then(end)) as running:
        for _ in range(3):
            assert await body_of(transport, at(running)) == b"{}"
        assert running.connections == 3


@pytest.mark.parametrize("end", ["close", "reset"])
async def test_it_takes_a_fresh_connection_the_second_time_when_all_kept_ones_are_gone(transport, end):
    """The vendor restarted: whatever is in the pool is dead."""
    gate = asyncio.Event()

    async def behave(writer, place):
        if place > 1:
            return end
        await gate.wait()
        writer.write(reply())
        return "keep"

    async with vendor(behave) as running:
        calls = [asyncio.create_task(body_of(transport, at(running))) for _ in range(4)]
        await until(lambda: len(running.requests) == 4)
        gate.set()
        await asyncio.gather(*calls)
        assert await body_of(transport, at(running)) == b"{}"
        assert len(running.requests) == 6


@pytest.mark.parametrize("end", ["close", "reset"])
async def test_it_does_not_repeat_a_request_on_a_fresh_connection(transport, end):
    async with vendor(lambda *_: end) as running:
        error = await fails(transport.open(at(running), REQUEST))
        assert (error.owner, error.code, error.retryable) == (Owner.HEALTH, "upstream_reset", True)
        assert len(running.requests) == 1


async def test_it_does_not_repeat_a_request_that_was_answered_in_part(transport):
    def behave(writer, place):
        writer.write(reply() if place == 1 else b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n123")
        return "keep" if place == 1 else "close"

    async with vendor(behave) as running:
        await body_of(transport, at(running))
        error = await fails(body_of(transport, at(running)))
        assert error.code == "upstream_invalid_response"
        assert len(running.requests) == 2


# ---------------------------------------------------------------- failing


async def test_it_says_when_nobody_listens(transport, unused_tcp_port):
    upstream = make_upstream(base_url=f"http://127.0.0.1:{unused_tcp_port}")
    error = await fails(transport.open(upstream, REQUEST))
    assert (error.owner, error.code, error.timeout) == (Owner.HEALTH, "upstream_connect", "")


async def test_it_says_when_there_is_no_such_host(transport):
    error = await fails(transport.open(make_upstream(base_url="http://no-such-host.invalid"), REQUEST))
    assert error.code == "upstream_connect"


async def test_it_says_when_a_connection_cannot_be_opened_in_time(transport):
    # A full backlog: the kernel drops what it cannot queue.
    blocked = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, backlog=1, start_serving=False)
    port = blocked.sockets[0].getsockname()[1]
    blocked.sockets[0].dup().listen(0)
    fillers = [asyncio.create_task(asyncio.open_connection("127.0.0.1", port)) for _ in range(4)]
    await asyncio.wait(fillers, timeout=0.1)
    # The route's own: the provider would wait for longer than this test.
    upstream = make_upstream(base_url=f"http://127.0.0.1:{port}", timeouts=Timeouts(connect_s=600.0))
    own = replace(upstream, timeouts=Timeouts(connect_s=0.05))
    error = await fails(transport.open(own, REQUEST))
    assert (error.timeout, error.code) == ("connect", "upstream_timeout")
    for filler in fillers:
        filler.cancel()
    results = await asyncio.gather(*fillers, return_exceptions=True)
    for result in results:
        if isinstance(result, tuple):
            result[1].close()
    blocked.close()


@pytest.mark.parametrize("url", ["http://", "http://[::1", "nonsense", "http://host:99999", "http://a b/"])
async def test_it_says_when_the_base_url_is_none(transport, url):
    error = await fails(transport.open(make_upstream(base_url=url), REQUEST))
    assert (error.owner, error.code) == (Owner.HEALTH, "upstream_connect")


async def test_it_says_when_a_header_cannot_be_sent(transport):
    async with vendor(answers(reply())) as running:
        error = await fails(transport.open(at(running, headers={"x-team": "a\r\nx-evil: 1"}), REQUEST))
        assert error.owner is Owner.HEALTH
        assert running.requests == []


@pytest.fixture(scope="module")
def self_signed(tmp_path_factory):
    """Return the TLS settings of a server whose certificate nobody vouches for."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    today = datetime.now(tz=UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, today, today + timedelta(days=1))
    certificate = builder.sign(key, hashes.SHA256())
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


async def test_it_says_when_the_certificate_is_not_to_be_trusted(transport, self_signed):
    async with vendor(answers(reply()), ssl=self_signed) as running:
        upstream = make_upstream(base_url=f"https://127.0.0.1:{running.port}")
        error = await fails(transport.open(upstream, REQUEST))
        assert (error.owner, error.code) == (Owner.HEALTH, "upstream_connect")
        assert "certificate" in error.message.lower()
        assert running.requests == []


@pytest.mark.parametrize(
    "garbage",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nbroken header\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 200_000 + b"\r\n\r\n",
    ],
)
async def test_it_says_when_the_answer_is_no_http(transport, garbage):
    def behave(writer, _):
        writer.write(garbage)
        return "close"

    async with vendor(behave) as running:
        error = await fails(body_of(transport, at(running)))
        assert error.owner is Owner.HEALTH
        assert error.code in {"upstream_invalid_response", "upstream_reset"}


@pytest.mark.parametrize("end", ["close", "reset"])
@pytest.mark.parametrize(
    "partial",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc",
        CHUNKED + piece(b"abc") + b"ff\r\npart",
        CHUNKED + piece(b"abc"),
    ],
)
async def test_it_says_when_an_answer_breaks_off(transport, partial, end):
    async def behave(writer, _):
        writer.write(partial)
        await writer.drain()
        await asyncio.sleep(0)
        return end

    async with vendor(behave) as running:
        for read in (whole_of, pieces_of):
            error = await fails(read(await transport.open(at(running), REQUEST)))
            assert error.owner is Owner.HEALTH
            assert error.code in {"upstream_invalid_response", "upstream_reset"}


async def whole_of(response):
    return await response.read()


async def chunks_of(response):
    while piece := await response.piece():
        yield piece


async def pieces_of(response):
    return b"".join([chunk async for chunk in chunks_of(response)])


@pytest.mark.parametrize("read", [whole_of, pieces_of])
async def test_it_unpacks_what_was_compressed_against_our_wish(transport, read):
    body = gzip.compress(b"x" * 5000)
    async with vendor(answers(reply(body, content_encoding="gzip"))) as running:
        assert await read(await transport.open(at(running), REQUEST)) == b"x" * 5000


@pytest.mark.parametrize("read", [whole_of, pieces_of])
async def test_it_says_when_what_was_compressed_is_garbled(transport, read):
    async with vendor(answers(reply(b"no gzip at all", content_encoding="gzip"))) as running:
        error = await fails(read(await transport.open(at(running), REQUEST)))
        assert error.code == "upstream_invalid_response"


@pytest.mark.parametrize("read", [whole_of, pieces_of])
async def test_it_never_takes_what_was_cut_before_it_was_sent_for_the_whole(transport, read):
    """A gzip stream cut short unpacks to a beginning; the dialect then finds that no answer is in it."""
    text = bytes(range(256)) * 40
    async with vendor(answers(reply(gzip.compress(text)[:-20], content_encoding="gzip"))) as running:
        try:
            read_text = await read(await transport.open(at(running), REQUEST))
        except UpstreamError:
            return
        assert read_text != text


@pytest.mark.parametrize("read", [whole_of, pieces_of])
@pytest.mark.parametrize("size", [100_001, 3_000_000])
async def test_it_refuses_an_answer_that_is_too_large(transport, size, read):
    async with vendor(answers(reply(b"x" * size))) as running:
        error = await fails(read(await transport.open(at(running), REQUEST)))
        assert error.code == "upstream_too_large"
        assert "MAX_RESPONSE_BYTES (100000)" in error.message


@pytest.mark.parametrize("read", [whole_of, pieces_of])
async def test_it_refuses_a_small_answer_that_unpacks_to_a_large_one(transport, read):
    bomb = gzip.compress(b"0" * 20_000_000)
    assert len(bomb) < 100_000
    async with vendor(answers(reply(bomb, content_encoding="gzip"))) as running:
        assert (await fails(read(await transport.open(at(running), REQUEST)))).code == "upstream_too_large"


async def test_it_joins_an_answer_that_comes_in_pieces(transport, stream):
    reading = asyncio.create_task(whole_of(await transport.open(at(stream.vendor), REQUEST)))
    for text in (b"one", b"two", b"three"):
        stream.write(text)
        await asyncio.sleep(0.01)
    stream.end()
    assert await reading == b"onetwothree"


@pytest.mark.parametrize("size", [0, 1, 100_000])
async def test_it_takes_an_answer_that_just_fits(transport, size):
    async with vendor(answers(reply(b"x" * size))) as running:
        assert await body_of(transport, at(running)) == b"x" * size
        assert await pieces_of(await transport.open(at(running), REQUEST)) == b"x" * size
        assert running.connections == 1


# ---------------------------------------------------------------- streams


class Stream:
    """A vendor's stream that a test writes piece by piece."""

    def __init__(self):
        self.writer = None
        self.done = asyncio.Event()

    async def behave(self, writer, _):
        writer.write(CHUNKED)
        self.writer = writer
        await self.done.wait()
        return "keep"

    def write(self, text):
        self.writer.write(piece(text))

    def end(self):
        self.writer.write(b"0\r\n\r\n")
        self.done.set()


@pytest.fixture
async def stream():
    made = Stream()
    async with vendor(made.behave) as running:
        made.vendor = running
        yield made
        made.done.set()


async def test_it_gives_pieces_as_they_come(transport, stream):
    response = await transport.open(at(stream.vendor), REQUEST)
    chunks = chunks_of(response)
    for text in (b"one", b"two"):
        stream.write(text)
        assert await anext(chunks) == text
    stream.end()
    assert [chunk async for chunk in chunks] == []
    response.close()
    await body_of_next(transport, stream)


async def body_of_next(transport, stream):
    """The connection is used again."""
    task = asyncio.create_task(transport.open(at(stream.vendor), REQUEST))
    response = await task
    response.close()
    assert stream.vendor.connections == 1


def soon(seconds):
    return asyncio.get_running_loop().time() + seconds


@pytest.mark.parametrize(
    ("watch", "name"),
    [
        ({"name": "first content"}, "first content"),
        ({"name": "total", "idle_s": 100.0}, "total"),
    ],
)
async def test_it_ends_a_stream_at_its_time(transport, stream, watch, name):
    response = await transport.open(at(stream.vendor), REQUEST)
    response.watch(at=soon(0.03), **watch)
    error = await fails(pieces_of(response))
    assert (error.timeout, error.code, error.owner) == (name, "upstream_timeout", Owner.HEALTH)
    await until(lambda: write_fails(stream))


async def test_it_names_the_limit_that_ended_a_body_read_whole(transport, stream):
    response = await transport.open(at(stream.vendor), REQUEST)
    response.watch(name="first content", at=soon(0.03))
    stream.write(b"half")
    assert (await fails(response.read())).timeout == "first content"


async def test_it_ends_a_stream_that_falls_silent(transport, stream):
    response = await transport.open(at(stream.vendor), REQUEST)
    response.watch(name="total", at=soon(100), idle_s=0.05)
    chunks = chunks_of(response)
    for _ in range(4):
        stream.write(b"x")
        assert await anext(chunks) == b"x"
        await asyncio.sleep(0.02)
    assert (await fails(anext(chunks))).timeout == "idle"


async def test_it_does_not_blame_the_vendor_for_a_slow_client(transport, stream):
    """Nobody waits for the vendor while the client reads: that is not the vendor's silence."""
    response = await transport.open(at(stream.vendor), REQUEST)
    response.watch(name="total", at=soon(100), idle_s=0.02)
    chunks = chunks_of(response)
    stream.write(b"one")
    assert await anext(chunks) == b"one"
    await asyncio.sleep(0.1)
    stream.write(b"two")
    assert await anext(chunks) == b"two"
    response.close()


async def test_it_watches_one_limit_at_a_time(transport, stream):
    response = await transport.open(at(stream.vendor), REQUEST)
    response.watch(name="first content", at=soon(0.02))
    response.watch(name="total", at=soon(100), idle_s=100.0)
    chunks = chunks_of(response)
    waiting = asyncio.ensure_future(anext(chunks))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    stream.write(b"x")
    assert await waiting == b"x"
    response.close()


async def test_it_tells_the_vendor_that_we_left(transport, stream):
    response = await transport.open(at(stream.vendor), REQUEST)
    stream.write(b"one")
    assert await anext(chunks_of(response)) == b"one"
    response.close()
    await until(lambda: write_fails(stream))


def write_fails(stream):
    stream.write(b"more")
    return stream.writer.transport.is_closing()


async def test_it_drops_the_connection_when_the_wait_is_cancelled(transport):
    async def behave(_, __):
        await asyncio.Event().wait()

    async with vendor(behave) as running:
        task = asyncio.create_task(transport.open(at(running), REQUEST))
        await until(lambda: running.requests)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        (pool,) = transport._pools.values()
        await until(lambda: pool.size == 0)


# ---------------------------------------------------------------- finishing


async def test_it_reads_what_is_left_so_that_the_connection_is_used_again(transport, stream):
    response = await transport.open(at(stream.vendor), REQUEST)
    stream.write(b"data: [DONE]\n\n")
    await anext(chunks_of(response))
    finishing = asyncio.create_task(response.finish())
    stream.write(b"\n")
    stream.end()
    await finishing
    await body_of_next(transport, stream)


async def test_it_drops_a_connection_that_never_ends(transport, stream, monkeypatch):
    monkeypatch.setattr("proxy.vendor_response.DRAIN_S", 0.02)
    response = await transport.open(at(stream.vendor), REQUEST)
    stream.write(b"data: [DONE]\n\n")
    await anext(chunks_of(response))
    await response.finish()
    await until(lambda: write_fails(stream))


async def test_it_finishes_what_is_at_its_end_already(transport):
    async with vendor(answers(reply())) as running:
        response = await transport.open(at(running), REQUEST)
        assert await pieces_of(response) == b"{}"
        await response.finish()
        await body_of(transport, at(running))
        assert running.connections == 1


async def test_it_uses_a_connection_again_whose_error_was_read_to_its_end(transport):
    async with vendor(answers(reply(b'{"error": {}}', "429 Too Many Requests"))) as running:
        for _ in range(3):
            response = await transport.open(at(running), REQUEST)
            assert await pieces_of(response) == b'{"error": {}}'
            response.close()
        assert running.connections == 1


# ---------------------------------------------------------------- the demo


def demo(body):
    return make_upstream("demo", base_url="demo://"), UpstreamRequest("/chat/completions", body, {})


async def test_it_asks_the_demo_in_the_process(transport):
    response = await transport.open(
        *demo(b'{"model": "echo", "messages": [{"role": "user", "content": "hi"}]}')
    )
    assert isinstance(response, DemoResponse)
    assert (response.status, response.headers["content-type"]) == (200, "application/json")
    assert b'"hi"' in await response.read()
    response.close()
    await response.finish()


def test_it_names_the_timeout_that_fired():
    error = timed_out("total")
    assert (error.timeout, error.message) == ("total", "The total timeout fired.")


# ---------------------------------------------------------------- clients' own credentials


async def test_each_request_shows_its_own_credential_on_shared_connections(transport):
    async with vendor(answers(reply())) as running:
        configured = at(running)
        own = [
            replace(configured, account=showing(configured.account, f"sk-own-{number}-of-a-client"))
            for number in range(2)
        ]
        for each in (configured, own[0], own[1], configured, own[0]):
            await body_of(transport, each)
        shown = [headers["authorization"].removeprefix("Bearer ") for _, headers, _ in running.requests]
        first, second = "sk-own-0-of-a-client", "sk-own-1-of-a-client"
        assert shown == ["vendor-secret", first, second, "vendor-secret", first]
        assert running.connections == 1


async def test_nothing_of_a_clients_own_credential_stays_behind(transport):
    async with vendor(answers(reply())) as running:
        configured = at(running)
        secret = "sk-own-0123456789-of-the-client"
        await body_of(transport, configured)
        await body_of(transport, replace(configured, account=showing(configured.account, secret)))
        kept = list(texts(transport))
        assert any(b"vendor-secret" in each for each in kept)  # it looks far enough
        assert not any(secret.encode() in each for each in kept)
