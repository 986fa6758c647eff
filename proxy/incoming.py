"""A request's body as it arrives, for the views that take it piece by piece.

Reading and watching for the client's departure are one thing here: only a receive() tells of either.
While the body is read, the reader finds out, and tells the lane; after its end the lane waits itself.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

Message = Mapping[str, Any]
Receive = Callable[[], Awaitable[Message]]


class Incoming:
    """`over` once all of the body has been taken. For one reader at a time."""

    __slots__ = ("_left", "_receive", "_unread", "over")

    def __init__(self, receive: Receive) -> None:
        """Nothing is read yet."""
        self.over = False
        self._receive = receive
        self._left = False
        self._unread = asyncio.Event()  # nobody reads any more

    async def piece(self) -> bytes:
        """Return what has arrived, waiting for some; b"" at the end.

        When the client has left it does not return: the lane, waiting for `departure`, cancels the request.
        """
        while not self.over:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self._left = True
                self._unread.set()
                await asyncio.get_running_loop().create_future()
            if not message.get("more_body"):
                self.over = True
                self._unread.set()
            body: bytes = message.get("body", b"")
            if body:
                return body
        return b""

    def give_up(self) -> None:
        """Nobody wants the rest: it is read by `departure`, and forgotten."""
        self._unread.set()

    async def departure(self) -> Message:
        """Return when the client has left: ASGI's message."""
        await self._unread.wait()
        message: Message = {"type": "http.disconnect"}
        while not self._left:
            message = await self._receive()
            self._left = message["type"] == "http.disconnect"
        return message
