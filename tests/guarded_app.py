"""The gateway's application under guard: what blocks the event loop during a request raises, and is told.

Served by `manage.py serve --app tests.guarded_app:application`. Guarding begins with the first
`POST /__guard`; `GET /__guard` lists what was caught.
"""

import asyncio
import json
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import uvloop

from gatewaysite.asgi import application as guarded
from proxy.urls import is_data_plane

# What operators ask for may be much (thousands of lines, a directory): it is meant to run in a thread.
EXEMPT = frozenset({"/metrics", "/health"})
BLOCKING_EVENTS = frozenset(
    {
        "open",
        "time.sleep",
        "socket.getaddrinfo",
        "socket.gethostbyname",
        "sqlite3.connect",
        "subprocess.Popen",
    }
)
SOCKET_METHODS = ("connect", "recv", "recv_into", "recvfrom", "send", "sendall", "accept")

_in_request: ContextVar[str] = ContextVar("in_request", default="")
_caught: list[str] = []
_armed = threading.Event()


class BlocksTheLoop(Exception):
    """Raised where something would make every request of this worker wait."""


def _forbid(what: str) -> None:
    path = _in_request.get()
    if _armed.is_set() and path and threading.current_thread() is threading.main_thread():
        _caught.append(f"{path}: {what}")
        _in_request.set("")  # what answers and logs this failure may read the sources for its trace
        raise BlocksTheLoop(what)


def _forbidding(method: Callable[..., Any], what: str) -> Callable[..., Any]:
    def guard(*arguments: Any, **options: Any) -> Any:
        _forbid(what)
        return method(*arguments, **options)

    return guard


def _forbidding_blocking(method: Callable[..., Any], what: str) -> Callable[..., Any]:
    def guard(self: socket.socket, *arguments: Any, **options: Any) -> Any:
        if self.gettimeout() != 0:
            _forbid(what)
        return method(self, *arguments, **options)

    return guard


def _guarding(at_once: Callable[..., Any]) -> Callable[..., Any]:
    def guard(scope: Any, body: bytes) -> Any:
        _in_request.set(scope["path"])
        try:
            return at_once(scope, body)
        finally:
            _in_request.set("")

    return guard


def _on_audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event in BLOCKING_EVENTS:
        _forbid(f"{event}{arguments!r}"[:200])


def _install() -> None:
    from gatewaysite import http_protocol  # the application, imported above, sets Django up first

    for loop in (uvloop.Loop, asyncio.base_events.BaseEventLoop):
        loop.run_in_executor = _forbidding(  # type: ignore[method-assign]  # the guard
            loop.run_in_executor, "run_in_executor"
        )
    for name in SOCKET_METHODS:
        method = _forbidding_blocking(getattr(socket.socket, name), f"socket.{name}")
        setattr(socket.socket, name, method)
    setattr(http_protocol, "at_once", _guarding(http_protocol.at_once))  # noqa: B010 - not its to export
    time.sleep = _forbidding(time.sleep, "time.sleep")
    sys.addaudithook(_on_audit)


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Serve the gateway; its data plane under guard."""
    if scope["type"] == "http" and scope["path"] == "/__guard":
        if scope["method"] == "POST":
            _armed.set()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": json.dumps(_caught).encode()})
        return
    if scope["type"] == "http" and is_data_plane(scope["path"]) and scope["path"] not in EXEMPT:
        _in_request.set(scope["path"])
    await guarded(scope, receive, send)


_install()
