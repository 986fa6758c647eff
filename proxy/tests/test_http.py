import orjson

from proxy.errors import NotFound
from proxy.http import LaneRequest, StreamReply, error_response, request_id_of
from proxy.tests.fakes import Client


def request(*, query="", **headers):
    return LaneRequest(Client("POST", "/v1/x", query=query, **headers).scope, b"body")


def test_it_is_a_django_request():
    made = request(query="prompt=a+b&prompt=c&x=%C3%A9", authorization="Bearer k")
    assert (made.method, made.path, made.path_info, made.body) == ("POST", "/v1/x", "/v1/x", b"body")
    assert made.GET["x"] == "é"
    assert made.GET.getlist("prompt") == ["a b", "c"]
    assert made.headers["authorization"] == "Bearer k"
    assert made.headers is made.headers
    assert made.META == {"REMOTE_ADDR": "127.0.0.1", "QUERY_STRING": "prompt=a+b&prompt=c&x=%C3%A9"}


def test_it_takes_the_last_of_repeated_headers():
    scope = Client("GET", "/").scope
    scope["headers"] = [(b"x", b"1"), (b"x", b"2\xff")]
    assert LaneRequest(scope, b"").headers == {"x": "2ÿ"}


def test_it_reads_a_query_that_is_no_utf8():
    assert request(query="prompt=%ff").GET["prompt"] == "\ufffd"


def test_it_knows_the_id_that_the_client_gave():
    assert request_id_of(request(x_request_id="mine")) == "mine"
    assert request_id_of(request()) == ""


async def test_it_streams_without_buffering():
    async def pieces():
        yield b"x"

    reply = StreamReply(pieces(), [(b"x-a", b"b")])
    assert reply["content-type"] == "text/event-stream; charset=utf-8"
    assert (reply["cache-control"], reply["x-accel-buffering"], reply["x-a"]) == ("no-cache", "no", "b")
    reply.abandon()
    assert [piece async for piece in reply.pieces] == [b"x"]


def test_it_puts_an_error_into_its_envelope():
    response = error_response(request(), NotFound("No.", headers={"x-a": "b"}))
    assert (response.status_code, response["content-type"], response["x-a"]) == (404, "application/json", "b")
    assert orjson.loads(response.content)["error"]["message"] == "No."
