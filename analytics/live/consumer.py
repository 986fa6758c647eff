"""The WebSocket /ws/live/: one viewer of the live feed.

The server sends {"type": "hello", "scope": "all"|"tenants", "shared": bool}, then {"type": "batch", ...}
(viewing.py); {"type": "error", "message"} answers a message that it does not understand. The client sends
{"confirm": number} for each batch, and at will {"filter": {...}} and {"pause": bool}.
"""

import asyncio
import contextlib
import time
from typing import Any

import orjson
import structlog
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.layers import InMemoryChannelLayer

from analytics.live.feed import EVERY_S, PROCESSES, VIEWERS
from analytics.live.people import Names, Refused, may_see
from analytics.live.viewing import Viewer

log = structlog.get_logger()

WATCHING_EVERY_S = 3.0
BEAT_EVERY_S = 10.0
LOOK_AGAIN_EVERY_S = 30.0
MAX_MESSAGE = 4096
TRY_LATER = 1013  # https://www.iana.org/assignments/websocket: the channel layer is away


class LiveConsumer(AsyncWebsocketConsumer):  # type: ignore[misc]  # channels has no types
    """Closes with 4401 on who is not signed in, with 4403 on who may see nobody's requests."""

    viewer: Viewer
    names: Names
    _ticking: "asyncio.Task[None] | None" = None

    async def connect(self) -> None:
        """Let in who may watch. It is accepted first: a browser is told no code of a refused handshake."""
        self._user_id = getattr(self.scope.get("user"), "pk", None)
        await self.accept()
        try:
            self.viewer = Viewer(await may_see(self._user_id))
            self.names = Names()
            await self.channel_layer.group_add(VIEWERS, self.channel_name)
            await self._watching()
        except Refused as refused:
            await self.close(code=refused.code)
            return
        except Exception as problem:  # noqa: BLE001 - the layer's may be any; the client comes again
            log.warning("live_feed_unavailable", error=str(problem))
            await self.close(code=TRY_LATER)
            return
        shared = not isinstance(self.channel_layer, InMemoryChannelLayer)
        scope = "all" if self.viewer.tenants is None else "tenants"
        await self._send({"type": "hello", "scope": scope, "shared": shared})
        self._ticking = asyncio.get_running_loop().create_task(self._tick())

    async def disconnect(self, code: int) -> None:  # noqa: ARG002 - Channels' contract
        """Watch no more."""
        if self._ticking is not None:
            self._ticking.cancel()
        with contextlib.suppress(Exception):  # the layer may be away, and forgets by itself
            await self.channel_layer.group_discard(VIEWERS, self.channel_name)

    async def receive(self, text_data: str | None = None, **_: Any) -> None:
        """Do what the client asks."""
        if self._ticking is None:
            return
        try:
            self.viewer.change(_read(text_data))
        except ValueError as problem:
            await self._send({"type": "error", "message": str(problem)})

    async def live_news(self, message: dict[str, Any]) -> None:
        """Hear from a process."""
        if self._ticking is None:
            return
        news = orjson.loads(message["body"])
        tenants = self.viewer.tenants
        await self.names.learn(
            [each for each in news["events"] if tenants is None or each["tenant_id"] in tenants]
        )
        self.viewer.hear(news, self.names.named)

    async def _tick(self) -> None:
        """Send what there is, say that somebody watches, and look whether they still may."""
        watching = looked = beaten = time.monotonic()
        try:
            while True:
                await asyncio.sleep(EVERY_S)
                now = time.monotonic()
                if now - looked >= LOOK_AGAIN_EVERY_S:
                    looked = now
                    self.viewer.tenants = await may_see(self._user_id)
                if now - watching >= WATCHING_EVERY_S:
                    watching = now
                    await self._watching()
                batch = self.viewer.take(beat=now - beaten >= BEAT_EVERY_S)
                if batch is not None:
                    beaten = now
                    await self._send(batch)
        except Refused as refused:
            await self.close(code=refused.code)
        except Exception as problem:  # noqa: BLE001 - whatever it is, the client comes again
            log.warning("live_feed_broke_off", error=str(problem))
            await self.close(code=TRY_LATER)

    async def _watching(self) -> None:
        await self.channel_layer.group_send(PROCESSES, {"type": "live.watched"})

    async def _send(self, message: dict[str, Any]) -> None:
        await self.send(text_data=orjson.dumps(message).decode())


def _read(text: str | None) -> Any:
    if text is None or len(text) > MAX_MESSAGE:
        raise ValueError(f"a message must be a text of at most {MAX_MESSAGE} characters")
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        raise ValueError("a message must be JSON") from None
