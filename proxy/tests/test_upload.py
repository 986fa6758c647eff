"""Requests that are passed on, at the transport, against a server on a socket that does as scripted."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from providers.errors import UpstreamError
from providers.tests.samples import make_upstream
from providers.upstream import Timeouts
from proxy.errors import BadRequest
from proxy.tests.fakes import until
from proxy.transport import Outgoing, Transport
from proxy.vendor_response import UploadedResponse

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
REFUSED = b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno"
LIMIT = 1 << 20


class Vendor:
    """Calls `behave(reader, writer, head)` for each request; `bodies` is for it to fill."""

    def __init__(self, behave):
        self._behave = behave
        self.heads = []
        self.bodies = []
        self.connections = self.closed = 0
        # The loop holds tasks weakly: one whose paused connection nobody else holds would be collected.
        self._serving = set()

    async def serve(self, reader, writer):
        self.connections += 1
        self._serving.add(asyncio.current_task())
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                self.heads.append(head.decode())
                if await self._behave(self, reader, writer) == "close":
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.closed += 1
            writer.close()

    async def body(self, reader):
        """Read the whole body, as its head says."""
        head = self.heads[-1].lower()
        if "transfer-encoding: chunked" in head:
            body = b""
            while size := int(await reader.readline(), 16):
                body += await reader.readexactly(size)
                await reader.readline()
            await reader.readline()
        else:
            length = head.partition("content-length: ")[2].partition("\r\n")[0]
            body = await reader.readexactly(int(length or 0))
        self.bodies.append(body)


@asynccontextmanager
async def vendor(behave):
    running = Vendor(behave)
    server = await asyncio.start_server(running.serve, "127.0.0.1", 0)
    running.account = make_upstream(
        "acme",
        base_url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1",
        headers={"authorization": "Bearer ours"},
        timeouts=Timeouts(idle_s=0.3),
    ).account
    try:
        yield running
    finally:
        server.close()


@pytest.fixture
async def transport():
    made = Transport(max_response_bytes=100_000)
    yield made
    await made.close()


async def answers(running, reader, writer):
    await running.body(reader)
    writer.write(OK)


async def pieces(*script):
    for step in script:
        if isinstance(step, bytes):
            yield step
        elif isinstance(step, BaseException):
            raise step
        else:
            await step


def outgoing(body, *, method="POST", path="/files", length=None, **headers):
    return Outgoing(method=method, path=path, headers=headers, body=body, length=length, limit=LIMIT)


async def send(transport, running, body, *, answer_s=5.0, **options):
    return await transport.forward(running.account, outgoing(body, **options), answer_s=answer_s)


async def test_it_passes_a_body_on(transport):
    async with vendor(answers) as running:
        response = await send(transport, running, b"body", accept="audio/mpeg", authorization="Bearer theirs")
        assert (response.status, await response.read()) == (200, b"ok")
    (head,) = running.heads
    assert head.startswith("POST /v1/files HTTP/1.1\r\n")
    assert "accept: audio/mpeg\r\n" in head
    assert "authorization: Bearer ours\r\n" in head
    assert "theirs" not in head
    assert running.bodies == [b"body"]


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_it_asks_without_a_body(transport, method):
    async with vendor(answers) as running:
        for _ in range(2):
            response = await send(transport, running, None, method=method, path="/files?limit=2&after=a%20b")
            assert await response.read() == b"ok"
        assert running.connections == 1
    assert running.heads[0].startswith(f"{method} /v1/files?limit=2&after=a%20b HTTP/1.1\r\n")
    assert "content-length" not in running.heads[0]


@pytest.mark.parametrize("length", [6, None])
async def test_it_sends_what_arrives(transport, length):
    async with vendor(answers) as running:
        response = await send(transport, running, pieces(b"abc", b"d", b"ef"), length=length)
        assert await response.read() == b"ok"
        assert running.bodies == [b"abcdef"]
        assert await (await send(transport, running, b"next")).read() == b"ok"
        assert running.connections == 1  # what was read to its end is used again


async def test_it_sends_an_upload_on_a_connection_that_cannot_have_died(transport):
    async with vendor(answers) as running:
        await (await send(transport, running, b"first")).read()
        await (await send(transport, running, pieces(b"abc"), length=3)).read()
        assert running.connections == 2


async def test_it_sends_no_faster_than_the_vendor_takes(transport):
    go_on = asyncio.Event()
    taken = 0

    async def slowly(running, reader, writer):
        await go_on.wait()
        await answers(running, reader, writer)

    async def endless():
        nonlocal taken
        for _ in range(300):
            taken += 1 << 16
            yield b"x" * (1 << 16)

    async with vendor(slowly) as running:
        sending = asyncio.ensure_future(send(transport, running, endless(), length=300 << 16))
        await until(lambda: taken)
        for _ in range(20):
            await asyncio.sleep(0.005)
        assert taken < 300 << 16  # the sockets' buffers hold the rest of what was taken
        go_on.set()
        assert await (await sending).read() == b"ok"
        assert len(running.bodies[0]) == 300 << 16


async def test_it_gives_up_on_a_vendor_that_takes_nothing_more(transport):
    async def never(running, reader, writer):
        await asyncio.Event().wait()

    async with vendor(never) as running:
        with pytest.raises(UpstreamError) as failed:
            await send(transport, running, pieces(*[b"x" * (1 << 20)] * 100), length=100 << 20)
    assert failed.value.timeout == "idle"


@pytest.mark.parametrize("body", [b"abc", "arriving"])
async def test_it_gives_up_on_a_vendor_that_does_not_answer(transport, body):
    async def never(running, reader, writer):
        await running.body(reader)
        await asyncio.Event().wait()

    async with vendor(never) as running:
        arriving = pieces(b"abc") if body == "arriving" else body
        with pytest.raises(UpstreamError) as failed:
            await send(transport, running, arriving, length=3, answer_s=0.05)
    assert failed.value.timeout == "total"


async def test_the_vendors_time_begins_when_it_has_everything(transport):
    async with vendor(answers) as running:
        body = pieces(b"abc", asyncio.sleep(0.2), b"def")
        response = await send(transport, running, body, length=6, answer_s=0.1)
        assert await response.read() == b"ok"


@pytest.mark.parametrize("how", ["keep", "close"])
async def test_it_reads_a_refusal_that_comes_before_the_end(transport, how):
    more = asyncio.Event()

    async def refuses(running, reader, writer):
        await reader.readexactly(3)
        writer.write(REFUSED)
        await writer.drain()
        return how

    async with vendor(refuses) as running:
        response = await send(transport, running, pieces(b"abc", more.wait(), b"d"), length=4)
        assert (response.status, await response.read()) == (413, b"no")
        assert isinstance(response, UploadedResponse)
        await until(response._upload._task.done)
        await until(lambda: running.closed == 1)  # half a request is no request: it is not used again


async def test_it_goes_on_sending_to_a_vendor_that_answers_while_it_reads(transport):
    more = asyncio.Event()

    async def echoes(running, reader, writer):
        first = await reader.readexactly(3)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n" + first)
        writer.write(await reader.readexactly(3))

    async with vendor(echoes) as running:
        response = await send(transport, running, pieces(b"abc", more.wait(), b"def"), length=6)
        assert await response.piece() == b"abc"
        more.set()
        assert await response.piece() == b"def"
        assert await response.piece() == b""


async def test_it_stops_sending_when_the_answer_is_let_go(transport):
    async def begins(running, reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nabc")
        await reader.read()

    async with vendor(begins) as running:
        response = await send(transport, running, pieces(b"abc", asyncio.Event().wait()), length=6)
        response.close()
        await until(response._upload._task.done)
        await until(lambda: running.closed == 1)


async def test_it_leaves_the_vendor_when_it_is_cancelled(transport):
    async with vendor(answers) as running:
        body = pieces(b"abc", asyncio.Event().wait())
        sending = asyncio.ensure_future(send(transport, running, body, length=6))
        await until(lambda: running.heads)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        await until(lambda: running.closed == 1)
    assert running.bodies == []


async def test_it_fails_as_the_pieces_fail(transport):
    async with vendor(answers) as running:
        with pytest.raises(BadRequest, match="twice"):
            await send(transport, running, pieces(b"abc", BadRequest("twice")), length=6)
        await until(lambda: running.closed == 1)
    assert running.bodies == []


async def test_it_fails_as_the_pieces_fail_even_behind_the_head_of_an_answer(transport):
    async def begins(running, reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nabc")
        await reader.read()

    go_on = asyncio.Event()
    async with vendor(begins) as running:
        body = pieces(b"abc", go_on.wait(), BadRequest("twice"))
        response = await send(transport, running, body, length=6)
        assert await response.piece() == b"abc"
        go_on.set()
        with pytest.raises(BadRequest, match="twice"):
            await response.piece()


async def test_it_waits_for_a_free_connection_no_longer_than_for_an_answer(transport):
    async def never(running, reader, writer):
        await asyncio.Event().wait()

    async with vendor(never) as running:
        running.account = replace(running.account, max_connections=1)
        first = asyncio.ensure_future(send(transport, running, pieces(asyncio.Event().wait()), length=1))
        await until(lambda: running.connections)
        with pytest.raises(UpstreamError) as failed:
            await send(transport, running, pieces(b"abc"), length=3, answer_s=0.05)
        assert failed.value.timeout == "total"
        first.cancel()


async def test_it_leaves_no_timer_behind(transport):
    async def refuses(running, reader, writer):
        await reader.readexactly(3)
        writer.write(REFUSED)
        return "close"

    async with vendor(refuses) as running:
        response = await send(transport, running, pieces(b"abc"), length=3)
        assert await response.read() == b"no"
        timer = response._upload._timer
        assert timer is None or timer.cancelled()


async def test_it_tells_of_a_vendor_that_breaks_off(transport):
    async def leaves(running, reader, writer):
        await reader.readexactly(3)
        return "close"

    async with vendor(leaves) as running:
        with pytest.raises(UpstreamError) as failed:
            await send(transport, running, pieces(b"abc", asyncio.Event().wait()), length=6)
    assert (failed.value.code, failed.value.retryable) == ("upstream_reset", True)


async def test_it_tells_of_nobody_there(transport):
    account = make_upstream("acme", base_url="http://127.0.0.1:1/v1").account
    for body in (b"", None, pieces(b"abc")):
        with pytest.raises(UpstreamError) as failed:
            await transport.forward(account, outgoing(body), answer_s=1)
        assert failed.value.code == "upstream_connect"


async def test_it_refuses_an_answer_over_the_limit_of_the_request(transport):
    async def much(running, reader, writer):
        await running.body(reader)
        size = LIMIT + 1
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size + b"x" * size)

    async with vendor(much) as running:
        with pytest.raises(UpstreamError) as failed:
            await (await send(transport, running, b"")).read()
    assert failed.value.code == "upstream_too_large"
