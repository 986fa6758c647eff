"""WebSockets that Channels serves; the live feed joins here."""

from channels.generic.websocket import AsyncWebsocketConsumer


class NoSuchSocket(AsyncWebsocketConsumer):  # type: ignore[misc]  # channels has no types
    """Refuses a WebSocket at a path that nobody serves."""

    async def connect(self) -> None:
        """Close before accepting: the client sees 403."""
        await self.close(code=4404)
