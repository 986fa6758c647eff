"""What goes over the wire for what the lane sends. The pipelining rule is shown on a served gateway."""

import asyncio
import logging
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gatewaysite.http_protocol import LaneCycle
from proxy.asgi import LANE_KEY


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
