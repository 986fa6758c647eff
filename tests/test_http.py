"""HTTP as clients of every age speak it: methods, preflights, framing, pipelines, and what is no HTTP."""

import json
import time

import pytest

from tests.bad_requests import CHAT, GOOD
from tests.gateway import Gateway
from tests.rawhttp import RawConnection, assert_usable, connection, errors_in
from tests.upstream import TEAM_KEY, bearer, chat


@pytest.mark.parametrize(
    ("path", "allowed"),
    [(CHAT, "POST"), ("/v1/embeddings", "POST"), ("/api/chat", "POST"), ("/api/chat/stream", "GET, POST")],
)
def test_it_names_the_methods_it_allows(kept_alive: RawConnection, path: str, allowed: str) -> None:
    reply = kept_alive.ask("DELETE", path, bearer(TEAM_KEY))
    assert (reply.status, reply.headers["allow"]) == (405, allowed)


@pytest.mark.parametrize("path", ["/health", "/ready", "/v1/models", "/metrics"])
def test_it_answers_head_as_get_without_the_body(kept_alive: RawConnection, path: str) -> None:
    whole = kept_alive.ask("GET", path, bearer(TEAM_KEY))
    head = kept_alive.ask("HEAD", path, bearer(TEAM_KEY))
    assert (head.status, head.headers["content-type"]) == (200, whole.headers["content-type"])
    assert_usable(kept_alive)


@pytest.mark.parametrize("path", [CHAT, "/v1/models", "/v1/nothing", "/health"])
def test_it_answers_a_preflight_without_a_key(kept_alive: RawConnection, path: str) -> None:
    asked = {
        "Origin": "https://app.example.com",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, content-type, x-stainless-os",
    }
    reply = kept_alive.ask("OPTIONS", path, asked)
    assert reply.status == 204
    assert reply.headers["access-control-allow-origin"] == "*"
    assert "POST" in reply.headers["access-control-allow-methods"]
    # `*` never stands for Authorization, says the standard: it must be named.
    assert "authorization" in reply.headers["access-control-allow-headers"]
    assert_usable(kept_alive)


def test_it_lets_a_browser_read_answers_and_errors(kept_alive: RawConnection) -> None:
    for key in (TEAM_KEY, "nobody"):
        reply = kept_alive.ask("POST", CHAT, {**bearer(key), "Origin": "https://app.example.com"}, GOOD)
        assert reply.headers["access-control-allow-origin"] == "*"
        assert "x-request-id" in reply.headers["access-control-expose-headers"]


def test_it_echoes_a_request_id_that_it_may(kept_alive: RawConnection) -> None:
    asked = {**bearer("nobody"), "X-Request-Id": "mine-1"}
    assert kept_alive.ask("POST", CHAT, asked, GOOD).headers["x-request-id"] == "mine-1"
    for other in ("\udcff\udcfe", "x" * 5000, "tab\there"):
        reply = kept_alive.ask("POST", CHAT, {**bearer(TEAM_KEY), "X-Request-Id": other}, GOOD)
        assert reply.status == 200
        assert reply.headers["x-request-id"] not in {other, ""}


def test_it_takes_a_chunked_body(kept_alive: RawConnection) -> None:
    pieces = [GOOD[:1], GOOD[1:20], GOOD[20:]]
    body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    asked = {**bearer(TEAM_KEY), "Transfer-Encoding": "chunked"}
    assert kept_alive.ask("POST", CHAT, asked, body).status == 200
    assert_usable(kept_alive)


def test_it_refuses_a_chunked_body_that_grows_too_large(kept_alive: RawConnection) -> None:
    piece = b"4000\r\n" + b"x" * 0x4000 + b"\r\n"
    asked = {**bearer(TEAM_KEY), "Transfer-Encoding": "chunked"}
    reply = kept_alive.ask("POST", CHAT, asked, piece * 6 + b"0\r\n\r\n")
    assert (reply.status, reply.error["code"]) == (413, "body_too_large")
    assert_usable(kept_alive)


def test_it_answers_before_an_endless_body_has_ended(wired_gateway: Gateway) -> None:
    with connection(wired_gateway) as opened:
        asked = {**bearer(TEAM_KEY), "Content-Length": str(1 << 40)}
        opened.socket.sendall(opened.head("POST", CHAT, asked) + b"x" * (1 << 20))
        assert opened.read("POST").status == 413
    with connection(wired_gateway) as opened:
        assert_usable(opened)


def test_it_says_continue_to_those_who_wait_for_it(kept_alive: RawConnection) -> None:
    asked = {**bearer(TEAM_KEY), "Expect": "100-continue"}
    kept_alive.socket.sendall(kept_alive.head("POST", CHAT, asked, GOOD))
    assert kept_alive.read().status == 100
    kept_alive.socket.sendall(GOOD)
    assert kept_alive.read("POST").status == 200
    assert_usable(kept_alive)


def test_it_answers_pipelined_requests_in_their_order(wired_gateway: Gateway) -> None:
    """A second request behind a first hides the client's departure: the connection may close after it."""
    texts = ["first", "second", "third"]
    bodies = [json.dumps(chat("demo/echo", text)).encode() for text in texts]
    with connection(wired_gateway) as opened:
        for body in bodies:
            opened.send("POST", CHAT, bearer(TEAM_KEY), body)
        answered = []
        for _ in texts:
            try:
                reply = opened.read("POST")
            except ConnectionError:
                break
            answered.append(reply.json()["choices"][0]["message"]["content"])
            if reply.headers.get("connection") == "close":
                break
        assert answered
        assert answered == texts[: len(answered)]


@pytest.mark.parametrize("model", ["demo/echo", "no-such-model"])
def test_it_takes_a_request_in_two_pieces_wherever_it_is_cut(kept_alive: RawConnection, model: str) -> None:
    body = json.dumps(chat(model)).encode()
    request = kept_alive.head("POST", CHAT, bearer(TEAM_KEY), body) + body
    for cut in range(1, len(request), 7):
        kept_alive.socket.sendall(request[:cut])
        time.sleep(0.002)  # so that it comes as two reads
        kept_alive.socket.sendall(request[cut:])
        assert kept_alive.read("POST").status == (200 if model == "demo/echo" else 404)


def test_it_serves_a_client_that_closes_its_writing_half(wired_gateway: Gateway) -> None:
    with connection(wired_gateway) as opened:
        opened.send("POST", CHAT, {**bearer(TEAM_KEY), "Connection": "close"}, GOOD)
        assert opened.read("POST").status == 200


def test_it_answers_what_is_no_http(wired_gateway: Gateway) -> None:
    before = len(wired_gateway.log())
    for garbage in (b"\x16\x03\x01\x02\x00\x01\x00\x01", b"HELO gateway\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"):
        with connection(wired_gateway) as opened:
            opened.socket.sendall(garbage)
            reply = opened.read()
        assert reply.status == 400
    assert errors_in(wired_gateway.log()[before:]) == []


def test_it_refuses_a_body_with_two_lengths(wired_gateway: Gateway) -> None:
    """The classic of request smuggling."""
    asked = {**bearer(TEAM_KEY), "Content-Length": "4", "Transfer-Encoding": "chunked"}
    with connection(wired_gateway) as opened:
        opened.socket.sendall(opened.head("POST", CHAT, asked) + b"0\r\n\r\n")
        assert opened.read().status == 400
