"""The lane: the data plane's way from ASGI to a Django async view and back.

What Django's own handler would do besides (a thread per request, signals, middleware hops) costs
more than the rest of the request. Here: read the body up to the limit, build a small request, call
the view, write its response, and watch for the client's disconnect: without a pending receive()
nothing tells that the client left, so one task per request waits for it and cancels the request.
A view that answers without waiting for anything (a cache hit, a refusal) needs no such watch.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping
from functools import lru_cache
from itertools import chain
from typing import Any

from django.conf import settings
from django.http import HttpResponse, HttpResponseBase

from proxy import lifecycle
from proxy.encore import WireReply
from proxy.errors import GatewayError
from proxy.http import JsonReply, LaneRequest, StreamBroken, StreamReply, WireHeader
from proxy.incoming import Incoming
from proxy.refusals import refused
from proxy.urls import READS_FORMS, find

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

# In what the lane sends, for a server that can use it: the names of headers are lower-case, content-length
# comes last where the body is whole and is missing in a stream, and says how long the one body message is;
# there is neither `connection` nor `transfer-encoding`.
LANE_KEY = "gateway.lane"
# Its value where the rest of a body will not come: the connection must end, and that is no error of ours.
BROKEN = "broken"
MAX_HEADER_BYTES = 64 * 1024
# A body over the limit is read to its end, and forgotten, up to this many times the limit, so that
# the client reads our 413 instead of a reset; the connection stays usable.
DRAIN_FACTOR = 4
_EXPOSED = (
    "x-request-id, request-id, x-gateway-provider, x-gateway-model, x-gateway-cache, x-gateway-attempts, "
    "x-gateway-dropped-params, x-gateway-estimated, idempotency-replayed, content-disposition, retry-after"
)


class _ClientLeft(Exception):
    """The client disconnected while sending its body."""


async def lane(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve one data-plane request."""
    request = LaneRequest(scope)
    view, arguments = find(request.path)
    try:
        _check_headers(scope)
        if view in READS_FORMS and _is_form(request):
            request.incoming = Incoming(receive)
            await _watched(request, view(request, **arguments), request.incoming.departure, send)
            return
        request._body = await _body(receive)  # noqa: SLF001 - Django's own name for what has been read
    except _ClientLeft:
        return
    except GatewayError as error:
        await _send_whole(request, refused(request, error), send)
        return
    if request.method == "OPTIONS":
        await _send_whole(request, _preflight(), send)
        return
    answering = view(request, **arguments)
    try:
        waits_for = answering.send(None)
    except StopIteration as done:
        response = done.value
        if isinstance(response, StreamReply):
            await _watched(request, _at_once(response), receive, send)
        else:
            await _send_whole(request, response, send)
        return
    await _watched(request, _Resumed(answering, waits_for), receive, send)


def _is_form(request: LaneRequest) -> bool:
    content_type = request.wire.get(b"content-type", b"")
    return request.method == "POST" and content_type[:19].lower() == b"multipart/form-data"


async def _at_once(response: HttpResponseBase) -> HttpResponseBase:
    return response


def at_once(scope: Scope, body: bytes) -> WireReply | None:
    """Answer a request that needs neither a view nor to wait, if it is one: for a server that can ask."""
    gateway = lifecycle.running()
    return None if gateway is None else gateway.encores.answer(gateway.snapshot, scope, body)


def refusal(scope: Scope, error: GatewayError) -> tuple[list[WireHeader], bytes]:
    """Return headers and body that tell an error, for a server that answers in the application's place."""
    request = LaneRequest(scope)
    response = refused(request, error)
    body = response.content
    return [*_headers(request, response), (b"content-length", b"%d" % len(body))], body


class _Resumed:
    """Awaits a coroutine that has run up to its first wait already."""

    __slots__ = ("_coroutine", "_waits_for")

    def __init__(self, coroutine: Coroutine[Any, Any, HttpResponseBase], waits_for: Any) -> None:
        self._coroutine = coroutine
        self._waits_for = waits_for

    def __await__(self) -> Generator[Any, Any, HttpResponseBase]:
        coroutine, waits_for = self._coroutine, self._waits_for
        try:
            while True:
                try:
                    sent = yield waits_for
                except (Exception, asyncio.CancelledError) as problem:  # noqa: BLE001 - the view's to handle
                    waits_for = coroutine.throw(problem)
                else:
                    waits_for = coroutine.send(sent)
        except StopIteration as done:
            response: HttpResponseBase = done.value
            return response
        finally:
            coroutine.close()


async def _watched(
    request: LaneRequest, answering: Awaitable[HttpResponseBase], receive: Receive, send: Send
) -> None:
    """Wait for the view's response and send it; the client's departure cancels both."""
    task = asyncio.current_task()
    assert task is not None
    left = False

    def client_left(_: object) -> None:
        nonlocal left
        if not watch.cancelled() and watch.exception() is None and _left(watch.result()):
            left = True
            if request.detained is None or not request.detained(task.cancel):
                task.cancel()

    watch = asyncio.ensure_future(receive())
    watch.add_done_callback(client_left)
    try:
        response = await answering
        if isinstance(response, StreamReply):
            await _send_stream(request, response, send)
        else:
            await _send_whole(request, response, send)
    except asyncio.CancelledError:
        if not left:
            raise
        task.uncancel()
    finally:
        watch.remove_done_callback(client_left)
        watch.cancel()


def _left(message: Mapping[str, Any]) -> bool:
    return bool(message["type"] == "http.disconnect")


async def _send_whole(request: LaneRequest, response: HttpResponseBase, send: Send) -> None:
    body: bytes = response.content  # type: ignore[attr-defined]  # streams go another way
    headers = _headers(request, response)
    headers.append((b"content-length", b"%d" % len(body)))
    if isinstance(response, JsonReply) and response.went_out is not None:
        response.went_out(headers, body)
    await send(_head(response.status_code, headers))
    body = b"" if request.method == "HEAD" else body
    await send({"type": "http.response.body", "body": body, "more_body": False, LANE_KEY: True})


async def _send_stream(request: LaneRequest, response: StreamReply, send: Send) -> None:
    pieces = response.pieces
    begun = False
    try:
        headers = _headers(request, response)
        await send(_head(response.status_code, headers))
        begun = True
        async for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True, LANE_KEY: True})
        await send({"type": "http.response.body", "body": b"", "more_body": False, LANE_KEY: True})
    except StreamBroken:
        # No end follows: the server closes the connection, and the client sees that it is not whole.
        await send({"type": "http.response.body", "body": b"", "more_body": True, LANE_KEY: BROKEN})
    finally:
        if begun:
            await pieces.aclose()  # type: ignore[attr-defined]  # a generator; its exit paths never wait
        else:
            response.abandon()


def _head(status: int, headers: list[WireHeader]) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": headers, LANE_KEY: True}


def _headers(request: LaneRequest, response: HttpResponseBase) -> list[WireHeader]:
    if isinstance(response, JsonReply | StreamReply):
        headers = response.wire_headers
    else:
        headers = [(_wire_name(name), value.encode("latin-1", "replace")) for name, value in response.items()]
    origin = request.wire.get(b"origin")
    return headers if origin is None else headers + _cors(origin)


@lru_cache(maxsize=256)
def _wire_name(name: str) -> bytes:
    return name.lower().encode("latin-1")


def _cors(origin: bytes) -> list[WireHeader]:
    allowed = settings.GATEWAY.cors_origins
    if "*" in allowed:
        return [(b"access-control-allow-origin", b"*"), (b"access-control-expose-headers", _EXPOSED.encode())]
    if origin.decode("latin-1") not in allowed:
        return []
    return [
        (b"access-control-allow-origin", origin),
        (b"access-control-expose-headers", _EXPOSED.encode()),
        (b"vary", b"origin"),
    ]


def _check_headers(scope: Scope) -> None:
    """Refuse oversized headers (431); the server has read them already."""
    size = sum(map(len, chain.from_iterable(scope["headers"])))
    if size > MAX_HEADER_BYTES:
        raise GatewayError(
            f"The request's headers are larger than {MAX_HEADER_BYTES} bytes.",
            status=431,
            type="invalid_request_error",
            code="headers_too_large",
        )


def _preflight() -> HttpResponseBase:
    response = HttpResponse(status=204)
    response["access-control-allow-methods"] = "GET, POST, DELETE, OPTIONS"
    response["access-control-allow-headers"] = "*, authorization"
    response["access-control-max-age"] = "86400"
    return response


async def _body(receive: Receive) -> bytes:
    """Return the whole body. Raises GatewayError (413) over the limit."""
    limit = settings.GATEWAY.max_body_bytes
    message = await receive()
    body: bytes = message.get("body", b"")
    if not message.get("more_body") and message["type"] == "http.request" and len(body) <= limit:
        return body
    pieces, size = [body], len(body)
    while message.get("more_body"):
        if size > limit:
            pieces.clear()
            await _drain(receive, limit * DRAIN_FACTOR)
            break
        message = await receive()
        pieces.append(message.get("body", b""))
        size += len(pieces[-1])
    if message["type"] == "http.disconnect":
        raise _ClientLeft
    if size > limit:
        raise GatewayError(
            f"The body is larger than MAX_BODY_BYTES ({limit}).",
            status=413,
            type="invalid_request_error",
            code="body_too_large",
        )
    return b"".join(pieces)


async def _drain(receive: Receive, limit: int) -> None:
    size = 0
    while size <= limit:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _ClientLeft
        if not message.get("more_body"):
            return
        size += len(message.get("body", b""))
