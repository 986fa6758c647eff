"""The one ASGI application: data-plane paths to the lane, WebSockets to Channels, the rest to Django.

GATEWAY_PLANE (set by `serve --plane`) narrows it: `data` serves the lane alone, `control` Django
with the health checks.
"""

import asyncio
import os
from importlib import import_module
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gatewaysite.settings")

from django.core.asgi import get_asgi_application

django_application = get_asgi_application()

from gatewaysite import spent_connections  # noqa: E402 - needs the settings
from gatewaysite.sockets import sockets  # noqa: E402 - needs the apps loaded
from proxy.asgi import lane  # noqa: E402
from proxy.urls import is_data_plane  # noqa: E402

spent_connections.install()
PLANE = os.environ.get("GATEWAY_PLANE", "all")
_pages_read = False
_CHECKS = frozenset({"/health", "/ready", "/readiness", "/metrics"})


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Switch on what is asked for."""
    if scope["type"] == "http":
        path = scope["path"]
        if path in _CHECKS or (PLANE != "control" and (PLANE == "data" or is_data_plane(path))):
            await lane(scope, receive, send)
        else:
            await _pages(scope, receive, send)
    elif scope["type"] == "websocket":
        await sockets(scope, receive, send)
    else:
        # Lifespan: nothing depends on it, and refusing it is how a server is told so.
        raise RuntimeError(f"unsupported scope type {scope['type']!r}")


async def _pages(scope: Any, receive: Any, send: Any) -> None:
    """Have Django answer. Its URLs with all screens are read before the first page, beside the event loop.

    That takes a second, and memory that a worker does without of which nobody asks for pages.
    """
    global _pages_read  # noqa: PLW0603 - as the module is
    if not _pages_read:
        await asyncio.to_thread(import_module, "gatewaysite.urls")
        _pages_read = True
    await django_application(scope, receive, send)
