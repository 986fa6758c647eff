"""What goes over the wire for what the lane sends, and when the application gets a request.

The pipelining rule is shown on a served gateway.
"""

import asyncio
import logging
from types import SimpleNamespace
from typing import Any, cast

import pytest
from uvicorn import Config

from gatewaysite import http_protocol as module
from gatewaysite.draining import DrainState
from gatewaysite.http_protocol import LaneCycle, PipelineClosingProtocol
from proxy.asgi import LANE_KEY
from proxy.encore import WireReply
from proxy.tests.fakes import Log, until


class Wire:
    """A transport that keeps what is written, write by write."""

    def __init__(self):
        self.writes = []
        self.closed = False

    def write(self, text):
        self.writes.append(text)

    def close(self):
        self.closed = True

    def is_closing(self):
        return self.closed

    def get_extra_info(self, _):
        return None

    def pause_reading(self):
        """There is nothing to read."""

    resume_reading = pause_reading


def cycle(method="POST", *, keep_alive=True):
    made = LaneCycle(
        scope=cast("Any", {"method": method}),
        transport=Wire(),
        flow=SimpleNamespace(write_paused=False),
        logger=logging.getLogger("test"),
        access_logger=logging.getLogger("test"),
        access_log=False,
        default_headers=[(b"date", b"now")],
        message_event=asyncio.Event(),
        expect_100_continue=False,
        keep_alive=keep_alive,
        on_response=lambda: made.ended.append(True),
    )
    made.ended = []
    return made


def head(*headers, status=200):
    return {"type": "http.response.start", "status": status, "headers": list(headers), LANE_KEY: True}


def body(text, *, more=False):
    return {"type": "http.response.body", "body": text, "more_body": more, LANE_KEY: True}


async def test_it_writes_a_whole_response_at_once():
    sending = cycle()
    await sending.send(head((b"x-a", b"1"), (b"content-length", b"2")))
    assert sending.transport.writes == []
    await sending.send(body(b"ok"))
    (text,) = sending.transport.writes
    assert text == b"HTTP/1.1 200 OK\r\ndate: now\r\nx-a: 1\r\ncontent-length: 2\r\n\r\nok"
    assert sending.ended == [True]
    assert not sending.transport.closed


async def test_it_writes_a_stream_piece_by_piece():
    sending = cycle()
    await sending.send(head())
    for text in (b"one", b"", b"two"):
        await sending.send(body(text, more=True))
    await sending.send(body(b""))
    first, *rest = sending.transport.writes
    assert first.endswith(b"\r\ntransfer-encoding: chunked\r\n\r\n")
    assert rest == [b"3\r\none\r\n", b"3\r\ntwo\r\n", b"0\r\n\r\n"]
    assert sending.ended == [True]


@pytest.mark.parametrize("headers", [[], [(b"content-length", b"0")]])
async def test_it_ends_a_connection_that_is_not_kept(headers):
    sending = cycle(keep_alive=False)
    await sending.send(head(*headers))
    await sending.send(body(b""))
    assert b"\r\nconnection: close\r\n" in b"".join(sending.transport.writes)
    assert sending.transport.closed


async def test_it_sends_no_body_where_only_the_head_was_asked_for():
    sending = cycle("HEAD")
    await sending.send(head((b"content-length", b"5")))
    await sending.send(body(b""))
    assert b"".join(sending.transport.writes).endswith(b"content-length: 5\r\n\r\n")


@pytest.mark.parametrize("value", [b"a\r\nx-evil: 1", b"a\nb", b"a\rb", b"a\0b"])
async def test_it_sends_no_header_that_holds_another(value):
    sending = cycle()
    with pytest.raises(RuntimeError, match="line end"):
        await sending.send(head((b"x-a", value), (b"content-length", b"0")))
    assert not sending.response_started


async def test_it_leaves_the_responses_of_others_to_uvicorn():
    sending = cycle()
    await sending.send(
        {"type": "http.response.start", "status": 200, "headers": [(b"Content-Length", b"2"), (b"X", b"y")]}
    )
    await sending.send({"type": "http.response.body", "body": b"ok"})
    assert b"".join(sending.transport.writes).endswith(b"X: y\r\n\r\nok".replace(b"X", b"x"))


async def test_it_writes_nothing_to_who_has_left():
    sending = cycle()
    sending.disconnected = True
    await sending.send(head((b"content-length", b"2")))
    await sending.send(body(b"ok"))
    assert sending.transport.writes == []


# ---------------------------------------------------------------- at once, or by the application

REPLY = WireReply(b"x-a: 1\r\ncontent-length: 2\r\n", b"ok")
WHOLE = b"HTTP/1.1 200 OK\r\ndate: now\r\nx-a: 1\r\ncontent-length: 2\r\n\r\nok"


class Served:
    """A connection to a server: what `at_once` was asked, and what the application got."""

    def __init__(self, *, answer=None):
        self.asked = []
        self.bodies = []
        self.answer = answer
        self.wire = Wire()
        state = DrainState()
        state.default_headers = [(b"date", b"now")]
        config = Config(self.application, lifespan="off", log_config=None, interface="asgi3")
        self.protocol = PipelineClosingProtocol(config, state, {})
        self.protocol.connection_made(cast("Any", self.wire))

    def at_once(self, scope, text):
        self.asked.append((scope["path"], text))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def application(self, scope, receive, send):
        assert scope["path"] == "/x"
        message = await receive()
        self.bodies.append((message["body"], message["more_body"]))
        await send(head((b"content-length", b"4")))
        await send(body(b"slow"))

    async def gets(self, *pieces):
        for piece in pieces:
            self.protocol.data_received(piece)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        return b"".join(self.wire.writes)


@pytest.fixture
async def served(monkeypatch):
    made = []

    def serve(**fields):
        connected = Served(**fields)
        monkeypatch.setattr(module, "at_once", connected.at_once)
        made.append(connected)
        return connected

    yield serve
    for connected in made:
        connected.protocol.connection_lost(None)


def post(text=b"{}", *headers, length=None):
    lines = [b"POST /x HTTP/1.1", b"content-length: %d" % (len(text) if length is None else length), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + text


async def test_it_answers_at_once_without_the_application(served):
    connected = served(answer=REPLY)
    for number in range(3):
        await connected.gets(post(b"%d" % number))
    assert connected.wire.writes == [WHOLE] * 3
    assert connected.asked == [("/x", b"0"), ("/x", b"1"), ("/x", b"2")]
    assert connected.bodies == []
    assert connected.protocol.server_state.total_requests == 3


async def test_it_answers_at_once_what_comes_together(served):
    connected = served(answer=REPLY)
    assert await connected.gets(post(b"1") + post(b"2")) == WHOLE * 2
    assert not connected.wire.closed


@pytest.mark.parametrize("cut", [1, 30, 40, 45])
async def test_it_answers_at_once_what_comes_in_pieces(served, cut):
    connected = served(answer=REPLY)
    text = post(b"0123456789")
    assert await connected.gets(text[:cut], text[cut:]) == WHOLE
    assert connected.asked == [("/x", b"0123456789")]


async def test_it_closes_after_an_answer_at_once_and_serves_nothing_behind_it(served):
    connected = served(answer=REPLY)
    text = await connected.gets(post(b"1", b"connection: close") + post(b"2"))
    assert text == WHOLE.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")
    assert connected.wire.closed
    assert len(connected.asked) == 1
    assert connected.bodies == []


async def test_it_starts_the_application_with_the_whole_body(served):
    connected = served()
    text = post(b"0123456789")
    assert (await connected.gets(text[:-3], text[-3:])).endswith(b"\r\n\r\nslow")
    assert connected.bodies == [(b"0123456789", False)]


async def test_it_hands_a_large_body_over_as_it_comes(served):
    connected = served(answer=REPLY)
    await connected.gets(post(b"x" * 70_000, length=100_000))
    assert connected.asked == []
    assert connected.bodies == [(b"x" * 70_000, True)]


async def test_it_starts_the_application_where_the_client_waits_for_it(served):
    connected = served(answer=REPLY)
    text = await connected.gets(post(b"", b"expect: 100-continue", length=2))
    assert text == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert (await connected.gets(b"{}")).endswith(b"slow")
    assert connected.asked == []


async def test_it_leaves_a_client_that_reads_slowly_to_the_application(served):
    connected = served(answer=REPLY)
    connected.protocol.pause_writing()
    assert await connected.gets(post()) == b""
    connected.protocol.resume_writing()
    assert (await connected.gets(b"")).endswith(b"slow")
    assert connected.asked == []


async def test_it_serves_a_request_in_spite_of_a_fault_at_once(served, monkeypatch):
    log = Log()
    monkeypatch.setattr(module, "log", log)
    connected = served(answer=ZeroDivisionError())
    assert (await connected.gets(post())).endswith(b"slow")
    assert log.problems == ["at_once"]


# ---------------------------------------------------------------- the end

LAST = WHOLE.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")


def ends(connected, *, idle_s=60.0):
    connected.protocol.server_state.idle_s = idle_s
    connected.protocol.shutdown()


async def test_it_keeps_an_idle_connection_until_its_next_answer(served):
    connected = served(answer=REPLY)
    assert await connected.gets(post()) == WHOLE
    ends(connected)
    await asyncio.sleep(0)
    assert not connected.wire.closed
    assert await connected.gets(post()) == WHOLE + LAST
    assert connected.wire.closed


async def test_it_announces_the_end_of_a_connection_on_which_nothing_was_asked_yet(served):
    connected = served()
    ends(connected)
    text = await connected.gets(post())
    assert b"\r\nconnection: close\r\n" in text
    assert text.endswith(b"slow")
    assert connected.wire.closed


async def test_it_announces_the_end_with_the_responses_of_others_too(served):
    async def application(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    connected = served()
    connected.protocol.app = application
    ends(connected)
    assert (await connected.gets(post())).endswith(b"connection: close\r\n\r\nok")
    assert connected.wire.closed


async def test_it_announces_the_end_on_connections_that_come_after_it(served):
    connected = served(answer=REPLY)
    later = Wire()
    connected.protocol.server_state.idle_s = 60.0
    protocol = PipelineClosingProtocol(connected.protocol.config, connected.protocol.server_state, {})
    protocol.connection_made(cast("Any", later))
    protocol.data_received(post())
    assert later.writes == [LAST]
    assert later.closed
    protocol.connection_lost(None)


@pytest.mark.parametrize("asked", [b"", post()])
async def test_it_closes_a_connection_that_stays_idle(served, asked):
    connected = served(answer=REPLY)
    text = await connected.gets(asked) if asked else b""
    ends(connected, idle_s=0.0)
    await until(lambda: connected.wire.closed)
    assert b"".join(connected.wire.writes) == text


@pytest.mark.parametrize("before", [b"", post()])
@pytest.mark.parametrize("cut", [1, 20, 40])
async def test_it_waits_for_the_rest_of_a_head_or_body(served, before, cut):
    connected = served(answer=REPLY)
    text = post(b"0123456789")
    await connected.gets(*([before] if before else []), text[:cut])
    ends(connected, idle_s=0.0)
    assert connected.protocol.timeout_keep_alive_task is None, "it would close"
    assert not connected.wire.closed
    assert (await connected.gets(text[cut:])).endswith(LAST)


async def test_it_keeps_a_connection_whose_head_has_not_told_that_it_ends(served):
    """A stream that is running: its client may take the connection for the next request."""
    going_on = asyncio.Event()
    connected = served()

    async def application(scope, receive, send):
        await send(head())
        await send(body(b"one", more=True))
        await going_on.wait()
        await send(body(b""))

    connected.protocol.app = application
    assert (await connected.gets(post())).endswith(b"3\r\none\r\n")
    ends(connected)
    going_on.set()
    assert (await connected.gets(b"")).endswith(b"0\r\n\r\n")
    assert not connected.wire.closed
    connected.answer = REPLY
    assert (await connected.gets(post())).endswith(LAST)
    assert connected.wire.closed


async def test_it_refuses_what_has_no_answer_when_time_is_up(served):
    connected = served()
    left = []

    async def application(scope, receive, send):
        await receive()
        left.append((await receive())["type"])

    connected.protocol.app = application
    await connected.gets(post())
    connected.protocol.cut_off()
    text = await connected.gets(b"")
    assert text.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nretry-after: 1\r\n" in text
    assert b"\r\nconnection: close\r\n" in text
    assert b'"code":"shutting_down"' in text
    assert left == ["http.disconnect"]
    assert connected.wire.closed


async def test_it_ends_no_half_stream_as_if_it_were_whole(served):
    connected = served()
    left = []

    async def application(scope, receive, send):
        await receive()
        await send(head())
        await send(body(b"one", more=True))
        left.append((await receive())["type"])
        await send(body(b""))

    connected.protocol.app = application
    await connected.gets(post())
    connected.protocol.cut_off()
    assert (await connected.gets(b"")).endswith(b"3\r\none\r\n")
    assert left == ["http.disconnect"]
    assert connected.wire.closed
