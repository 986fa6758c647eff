"""A small ASGI application that stands in for the gateway in the tests of `manage.py serve`."""

import asyncio
import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

if os.environ.get("STUB_BROKEN"):
    raise RuntimeError("broken on purpose")

Scope = MutableMapping[str, Any]
VARIABLES = ("GATEWAY_WORKER", "GATEWAY_PLANE", "STUB_WORD")
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


async def application(scope: Scope, receive: object, send: Send) -> None:
    """Answer process ids and environment; `/stream` ten times in two seconds, `/for-ever` without end."""
    chunks, pause_s = {"/stream": (10, 0.2), "/for-ever": (10**6, 0.1)}.get(scope["path"], (1, 0.0))
    environment = ",".join(os.environ.get(name, "") for name in VARIABLES)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(chunks):
        await asyncio.sleep(pause_s)
        body = f"{os.getpid()},{os.getppid()},{environment}\n".encode()
        await send({"type": "http.response.body", "body": body, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
