"""The lane: the data plane's way from ASGI to a Django async view and back.

What Django's own handler would do besides (a thread per request, signals, middleware hops) costs
more than the rest of the request. Here: read the body up to the limit, build a small request, call
the view, write its response, and watch for the client's disconnect: without a pending receive()
nothing tells that the client left, so one task per request waits for it and cancels the request.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.http import HttpResponse, HttpResponseBase

from proxy.errors import GatewayError
from proxy.http import LaneRequest, StreamReply, error_response
from proxy.urls import find

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

MAX_HEADER_BYTES = 64 * 1024
# A body over the limit is read to its end, and forgotten, up to this many times the limit, so that
# the client reads our 413 instead of a reset; the connection stays usable.
DRAIN_FACTOR = 4
_EXPOSED = (
    "x-request-id, x-gateway-provider, x-gateway-model, x-gateway-cache, x-gateway-attempts, retry-after"
)


class _ClientLeft(Exception):
    """The client disconnected while sending its body."""


async def lane(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve one data-plane request."""
    try:
        _check_headers(scope)
        body = await _body(receive)
    except _ClientLeft:
        return
    except GatewayError as error:
        await _send_whole(scope, error_response(error), send)
        return
    if scope["method"] == "OPTIONS":
        await _send_whole(scope, _preflight(), send)
        return
    await _watched(scope, body, receive, send)


async def _watched(scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
    """Run the view; the client's departure cancels it."""
    task = asyncio.current_task()
    assert task is not None
    left = False

    def client_left(_: object) -> None:
        nonlocal left
        if not watch.cancelled() and watch.exception() is None and _left(watch.result()):
            left = True
            task.cancel()

    watch = asyncio.ensure_future(receive())
    watch.add_done_callback(client_left)
    view, arguments = find(scope["path"])
    try:
        response = await view(LaneRequest(scope, body), **arguments)
        if isinstance(response, StreamReply):
            await _send_stream(scope, response, send)
        else:
            await _send_whole(scope, response, send)
    except asyncio.CancelledError:
        if not left:
            raise
        task.uncancel()
    finally:
        watch.remove_done_callback(client_left)
        watch.cancel()


def _left(message: Mapping[str, Any]) -> bool:
    return bool(message["type"] == "http.disconnect")


async def _send_whole(scope: Scope, response: HttpResponseBase, send: Send) -> None:
    body: bytes = response.content  # type: ignore[attr-defined]  # streams go another way
    headers = _headers(scope, response)
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


async def _send_stream(scope: Scope, response: StreamReply, send: Send) -> None:
    pieces = response.pieces
    begun = False
    try:
        headers = _headers(scope, response)
        await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
        begun = True
        async for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    finally:
        if begun:
            await pieces.aclose()  # type: ignore[attr-defined]  # a generator; its exit paths never wait
        else:
            response.abandon()


def _headers(scope: Scope, response: HttpResponseBase) -> list[tuple[bytes, bytes]]:
    headers = [(_wire_name(name), value.encode("latin-1", "replace")) for name, value in response.items()]
    for name, value in scope["headers"]:
        if name == b"origin":
            headers += _cors(value)
    return headers


@lru_cache(maxsize=256)
def _wire_name(name: str) -> bytes:
    return name.lower().encode("latin-1")


def _cors(origin: bytes) -> list[tuple[bytes, bytes]]:
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
    size = 0
    for name, value in scope["headers"]:
        size += len(name) + len(value)
    if size > MAX_HEADER_BYTES:
        raise GatewayError(
            f"The request's headers are larger than {MAX_HEADER_BYTES} bytes.",
            status=431,
            type="invalid_request_error",
            code="headers_too_large",
        )


def _preflight() -> HttpResponseBase:
    response = HttpResponse(status=204)
    response["access-control-allow-methods"] = "GET, POST, OPTIONS"
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
