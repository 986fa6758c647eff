"""WebSockets that Channels serves: the live feed, for who is signed in and comes from our own pages."""

import os
from typing import Any
from urllib.parse import urlsplit

from channels.auth import AuthMiddlewareStack
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import URLRouter
from channels.security.websocket import WebsocketDenier
from django.conf import settings
from django.urls import path, re_path

from analytics.live.consumer import LiveConsumer


class NoSuchSocket(AsyncWebsocketConsumer):  # type: ignore[misc]  # channels has no types
    """Refuses a WebSocket at a path that nobody serves."""

    async def connect(self) -> None:
        """Close before accepting: the client sees 403."""
        await self.close(code=4404)


class OwnOrigin:
    """Refuses pages of other origins: a browser would send our cookies along with theirs.

    Channels' own check goes by ALLOWED_HOSTS, which are all. Who sends no origin is no browser.
    """

    def __init__(self, application: Any) -> None:
        """Stand before `application`."""
        self._application = application

    async def __call__(self, scope: Any, receive: Any, send: Any) -> Any:
        """Let in, or answer with 403."""
        headers = dict(scope["headers"])
        origin = headers.get(b"origin", b"").decode("latin-1")
        host = headers.get(b"host", b"").decode("latin-1")
        if not origin or urlsplit(origin).netloc == host or origin in settings.CSRF_TRUSTED_ORIGINS:
            return await self._application(scope, receive, send)
        return await WebsocketDenier()(scope, receive, send)


_PATHS = [re_path("", NoSuchSocket.as_asgi())]
if os.environ.get("GATEWAY_PLANE") != "data":
    _PATHS.insert(0, path("ws/live/", LiveConsumer.as_asgi()))

sockets = OwnOrigin(AuthMiddlewareStack(URLRouter(_PATHS)))
