"""The HTTP client against servers on sockets: what the transport's own tests do not reach."""

import asyncio
import gzip
import ssl
from contextlib import asynccontextmanager

import pytest

from proxy.tests.fakes import until
from proxy.wire import connection as connection_module
from proxy.wire import pool as pool_module
from proxy.wire import reply as reply_module
from proxy.wire.addresses import Addresses
from proxy.wire.errors import CannotConnect, Garbled, Lost, NoAddress, Stale, TooLarge
from proxy.wire.origin import Origin, address_of, request_head
from proxy.wire.pool import Pool

HEAD = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class Server:
    """Sends what `script` says, a list of bytes for each request, and "close" or "wait" between them."""

    def __init__(self, script):
        self.script = script
        self.connections = 0
        self.closed = 0
        self.go_on = asyncio.Event()

    async def serve(self, reader, writer):
        self.connections += 1
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                for step in self.script:
                    if step == "close":
                        return
                    if step == "wait":
                        await self.go_on.wait()
                    else:
                        writer.write(step)
                        await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.closed += 1
            writer.close()


@asynccontextmanager
async def pool_to(*script, limit=10):
    server = Server(script)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    pool = Pool(
        Origin("127.0.0.1", port, tls=False),
        limit=limit,
        addresses=Addresses(),
        tls=ssl.create_default_context(),
    )
    pool.server = server
    try:
        yield pool
    finally:
        server.go_on.set()
        pool.close()
        await until(lambda: pool.size == 0)
        listening.close()


async def ask(pool, *, limit=1 << 20):
    connection = pool.kept() or await pool.take(connect_s=2.0)
    reply = connection.send(HEAD, b"", limit=limit)
    await reply.head()
    return reply


# ---------------------------------------------------------------- answers


async def test_it_reads_an_answer_that_ends_with_its_connection():
    """HTTP/1.0 servers, and some proxies, tell no length."""
    async with pool_to(b"HTTP/1.0 200 OK\r\ncontent-type: text/plain\r\n\r\nall ", b"of it", "close") as pool:
        reply = await ask(pool)
        assert await reply.read() == b"all of it"
        assert pool.kept() is None


async def test_it_does_not_take_a_reset_for_the_end_of_such_an_answer():
    async with pool_to(b"HTTP/1.1 200 OK\r\n\r\nhalf", "wait") as pool:
        reply = await ask(pool)
        assert await reply.piece() == b"half"
        reply.close()
        with pytest.raises(Lost):
            await reply.piece()


async def test_it_waits_for_the_answer_behind_an_interim_one():
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"
    async with pool_to(interim, OK) as pool:
        for _ in range(2):
            reply = await ask(pool)
            assert (reply.status, "link" in reply.headers) == (200, False)
            assert await reply.read() == b"ok"
        assert pool.server.connections == 1


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
async def test_it_knows_answers_that_have_no_body(status):
    async with pool_to(b"HTTP/1.1 " + status + b"\r\nx: y\r\n\r\n") as pool:
        for _ in range(2):
            reply = await ask(pool)
            assert await reply.read() == b""
        assert pool.server.connections == 1


async def test_it_uses_a_connection_again_before_the_answer_is_read():
    async with pool_to(OK) as pool:
        first = await ask(pool)
        second = await ask(pool)
        assert [await first.read(), await second.read()] == [b"ok", b"ok"]
        assert pool.server.connections == 1


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok", OK + b"more than that"]
)
async def test_it_uses_no_connection_again_that_is_not_clean(answer):
    async with pool_to(answer, "wait") as pool:
        reply = await ask(pool)
        assert await reply.read() == b"ok"
        await until(lambda: pool.size == 0)
        assert pool.kept() is None


async def test_it_drops_a_kept_connection_on_which_something_comes_unasked():
    async with pool_to(OK, "wait", b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n") as pool:
        await ask(pool)
        assert pool.size == 1
        pool.server.go_on.set()
        await until(lambda: pool.size == 0)


async def test_it_refuses_an_answer_packed_in_a_way_that_it_cannot_unpack():
    async with pool_to(b"HTTP/1.1 200 OK\r\ncontent-encoding: br\r\ncontent-length: 2\r\n\r\nxx") as pool:
        reply = await ask(pool)
        with pytest.raises(Garbled, match="br"):
            await reply.read()


async def test_it_unpacks_a_stream_piece_by_piece():
    packed = gzip.compress(b"x" * 1000)
    head = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(packed)
    async with pool_to(head, *(packed[i : i + 1] for i in range(len(packed)))) as pool:
        assert await (await ask(pool)).read() == b"x" * 1000


async def test_it_hands_on_what_came_before_the_garbage():
    chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\nnonsense\r\n"
    async with pool_to(chunked, "wait") as pool:
        reply = await ask(pool)
        assert await reply.piece() == b"hello"
        with pytest.raises(Garbled):
            await reply.piece()


async def test_it_counts_what_is_unpacked_against_the_limit():
    packed = gzip.compress(b"x" * 1000)
    head = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(packed)
    async with pool_to(head + packed) as pool:
        with pytest.raises(TooLarge):
            await (await ask(pool, limit=999)).read()
        assert await (await ask(pool, limit=1000)).read() == b"x" * 1000


async def test_it_slows_a_vendor_down_whose_reader_is_slow(monkeypatch):
    monkeypatch.setattr(reply_module, "HIGH_WATER", 1000)
    size = 30_000_000
    head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size
    async with pool_to(head, b"x" * size) as pool:
        reply = await ask(pool, limit=size)
        await until(lambda: reply._paused)
        held = reply._buffered
        for _ in range(50):
            await asyncio.sleep(0)
        assert reply._buffered == held < size // 2
        assert len(await reply.read()) == size
        assert not reply._paused
        assert pool.kept() is not None


async def test_it_refuses_a_head_without_end(monkeypatch):
    monkeypatch.setattr(connection_module, "MAX_HEAD_BYTES", 500)
    async with pool_to(b"HTTP/1.1 200 OK\r\n", *([b"x: " + b"y" * 90 + b"\r\n"] * 10), "wait") as pool:
        with pytest.raises(Garbled):
            await ask(pool)
    async with pool_to(b"HTTP/1.1 200 OK\r\nx: " + b"y" * 600 + b"\r\ncontent-length: 0\r\n\r\n") as pool:
        with pytest.raises(Garbled):
            await (await ask(pool)).read()
    async with pool_to(b"HTTP/1.1 200 OK\r\ncontent-length: 600\r\n\r\n" + b"y" * 600) as pool:
        assert len(await (await ask(pool)).read()) == 600


async def test_it_tells_a_dead_kept_connection_from_one_that_dies_answering():
    async with pool_to(OK) as pool:
        await ask(pool)
        connection = pool.kept()
        connection._transport.abort()
        reply = connection.send(HEAD, b"", limit=10)
        with pytest.raises(Stale):
            await reply.head()
    async with pool_to("close") as pool:
        with pytest.raises(Lost):
            await ask(pool)


async def test_a_request_after_an_answer_without_body_is_told_that_the_connection_died():
    async with pool_to(b"HTTP/1.1 204 No Content\r\n\r\n") as pool:
        await ask(pool)
        connection = pool.kept()
        reply = connection.send(HEAD, b"", limit=10)
        pool.server.script = ["close"]
        with pytest.raises(Stale):
            await asyncio.wait_for(reply.head(), 5)
        assert not reply.whole


async def test_it_repeats_no_request_that_a_vendor_has_worked_on(monkeypatch):
    monkeypatch.setattr(connection_module, "STALE_WITHIN_S", 0.0)
    async with pool_to(OK) as pool:
        await ask(pool)
        pool.server.script = ["close"]
        with pytest.raises(Lost):
            await ask(pool)


async def test_it_takes_an_answer_of_unknown_length_under_whatever_name():
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: identity\r\n\r\n"
    async with pool_to(head, b"all of it", "close") as pool:
        assert await (await ask(pool)).read() == b"all of it"


async def test_it_unpacks_a_body_of_several_members():
    packed = gzip.compress(b"one ") + gzip.compress(b"two ") + gzip.compress(b"three")
    head = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(packed)
    async with pool_to(head + packed) as pool:
        assert await (await ask(pool)).read() == b"one two three"
        with pytest.raises(TooLarge):
            await (await ask(pool, limit=10)).read()


async def test_it_takes_nothing_behind_what_was_packed():
    packed = gzip.compress(b"one") + b"x" * 100_000
    head = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(packed)
    async with pool_to(head + packed, "wait") as pool:
        with pytest.raises(Garbled):
            await (await ask(pool)).read()


async def test_it_keeps_no_trailers_and_takes_no_end_of_them(monkeypatch):
    body = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n"
    async with pool_to(body + b"x-checksum: 1\r\n\r\n") as pool:
        for _ in range(2):
            reply = await ask(pool)
            assert await reply.read() == b"ok"
            assert set(reply.headers) == {"transfer-encoding"}
        assert pool.server.connections == 1
    monkeypatch.setattr(connection_module, "MAX_HEAD_BYTES", 1000)
    async with pool_to(body, *([b"x: " + b"y" * 90 + b"\r\n"] * 50), "wait") as pool:
        reply = await ask(pool)
        with pytest.raises(Garbled):
            await reply.read()


# ---------------------------------------------------------------- the pool


CLOSING = OK.replace(b"OK\r\n", b"OK\r\nconnection: close\r\n")


@pytest.mark.parametrize(("answer", "connections"), [(OK, 1), (CLOSING, 3)])
async def test_whoever_finds_all_in_use_waits_in_line(answer, connections):
    """For a connection that is free again, or for the room that a closed one leaves."""
    async with pool_to("wait", answer, limit=1) as pool:
        asking = [asyncio.create_task(ask(pool)) for _ in range(3)]
        await until(lambda: len(pool._line) == 2)
        pool.server.go_on.set()
        assert [await (await each).read() for each in asking] == [b"ok"] * 3
        assert pool.server.connections == connections


async def test_who_leaves_the_line_takes_no_turn_along():
    async with pool_to(OK, limit=1) as pool:
        connection = await pool.take(connect_s=2.0)
        leaving, staying = (
            asyncio.create_task(pool.take(connect_s=2.0)),
            asyncio.create_task(pool.take(connect_s=2.0)),
        )
        await until(lambda: len(pool._line) == 2)
        pool._free(connection)  # told in the very moment it gives up
        leaving.cancel()
        assert await asyncio.wait_for(staying, 5) is connection
        with pytest.raises(asyncio.CancelledError):
            await leaving


async def test_it_lets_a_failure_to_connect_end_nobodys_turn(unused_tcp_port):
    pool = Pool(
        Origin("127.0.0.1", unused_tcp_port, tls=False),
        limit=1,
        addresses=Addresses(),
        tls=ssl.create_default_context(),
    )
    results = await asyncio.gather(*(pool.take(connect_s=2.0) for _ in range(5)), return_exceptions=True)
    assert [type(each) for each in results] == [CannotConnect] * 5
    assert pool.size == 0


async def test_it_makes_room_for_a_fresh_connection_among_kept_ones():
    async with pool_to(OK, limit=1) as pool:
        await ask(pool)
        connection = await asyncio.wait_for(pool.take(connect_s=2.0, fresh=True), 5)
        assert connection.asked == 0
        assert pool.server.connections == 2


async def test_it_closes_what_nobody_needed_for_a_while(monkeypatch):
    monkeypatch.setattr(pool_module, "KEEP_S", 0.02)
    async with pool_to("wait", OK) as pool:
        pool.server.go_on.set()
        await asyncio.gather(*(ask(pool) for _ in range(3)))
        assert pool.size == 3
        await until(lambda: pool.size == 0)


async def test_a_wait_for_a_connection_can_be_cancelled():
    async with pool_to("wait", OK, limit=1) as pool:
        asking = asyncio.create_task(ask(pool))
        await until(lambda: pool.size == 1)
        waiting = asyncio.create_task(pool.take(connect_s=2.0))
        await until(lambda: pool._line)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        pool.server.go_on.set()
        await (await asking).read()
        assert pool.kept() is not None


# ---------------------------------------------------------------- addresses and heads


async def test_it_finds_a_name_once_for_a_burst_of_connections():
    addresses, asked = Addresses(), []
    ask_resolver = addresses._ask

    async def counting(host, port):
        asked.append(host)
        return await ask_resolver(host, port)

    addresses._ask = counting
    found = await asyncio.gather(*(addresses.of("localhost", 80) for _ in range(10)))
    assert {tuple(each) for each in found} == {tuple(found[0])}
    assert all(address[0] in {"127.0.0.1", "::1"} for *_, address in found[0])
    await addresses.of("localhost", 80)
    assert asked == ["localhost"]
    await addresses.close()


async def test_it_asks_nobody_for_an_address():
    addresses = Addresses()
    assert (await addresses.of("127.0.0.1", 80))[0][4] == ("127.0.0.1", 80)
    assert (await addresses.of("::1", 80))[0][4] == ("::1", 80, 0, 0)
    assert addresses._resolver is None
    with pytest.raises(CannotConnect):
        await addresses.of("no-such-host.invalid", 80)
    await addresses.close()


@pytest.mark.parametrize(
    ("url", "origin", "authority", "path"),
    [
        ("http://a.test/v1/x", Origin("a.test", 80, tls=False), "a.test", "/v1/x"),
        ("https://A.test:443/", Origin("a.test", 443, tls=True), "a.test", "/"),
        (
            "https://a.test:8443/v1/x?api-version=1",
            Origin("a.test", 8443, tls=True),
            "a.test:8443",
            "/v1/x?api-version=1",
        ),
        ("http://[::1]:8080/x", Origin("::1", 8080, tls=False), "[::1]:8080", "/x"),
        (
            "http://bücher.test/x y/é",
            Origin("xn--bcher-kva.test", 80, tls=False),
            "xn--bcher-kva.test",
            "/x%20y/%C3%A9",
        ),
        ("http://a.test/a%2Fb", Origin("a.test", 80, tls=False), "a.test", "/a%2Fb"),
    ],
)
def test_it_takes_a_url_apart(url, origin, authority, path):
    address = address_of(url)
    assert (address.origin, address.authority, address.path) == (origin, authority, path)


@pytest.mark.parametrize("url", ["", "ftp://a/", "http:///x", "http://a:b/", "http://a b/", "//a/x"])
def test_it_takes_nothing_else_for_a_url(url):
    with pytest.raises(NoAddress):
        address_of(url)


def test_it_shows_the_password_of_a_url():
    head = request_head(address_of("http://us%65r:p%40ss@a.test/"), {})
    assert b"\r\nauthorization: Basic dXNlcjpwQHNz\r\n" in head
    head = request_head(address_of("http://user:pass@a.test/"), {"Authorization": "Bearer k"})
    assert head.count(b"authorization") == 1
    assert b"authorization: Bearer k" in head


@pytest.mark.parametrize(
    "headers",
    [{"x": "a\r\nb: c"}, {"x": "a\nb"}, {"x\r\ny": "a"}, {"x y": "a"}, {"": "a"}, {"x": "\0"}, {"x": "模"}],
)
def test_it_writes_no_head_that_says_more_than_it_should(headers):
    with pytest.raises(NoAddress):
        request_head(address_of("http://a.test/"), headers)
