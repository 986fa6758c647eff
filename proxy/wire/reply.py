"""One answer as it arrives: its head, then its body in pieces, then its end.

The connection pushes, the request's task pulls. What nobody has pulled is bounded: past HIGH_WATER
the connection stops reading until the reader has caught up, so a slow client slows the vendor down.
"""

import asyncio
import zlib
from collections.abc import Mapping
from typing import Protocol

from proxy.wire.errors import Garbled, TooLarge, WireError

HIGH_WATER = 1 << 18
# gzip or zlib, told by its header (zlib.h, inflateInit2).
_AUTO_WINDOW = 47


class Source(Protocol):
    """What a reply needs of the connection it comes from."""

    def pause(self) -> None:
        """Stop reading."""

    def resume(self) -> None:
        """Go on reading."""

    def abort(self) -> None:
        """Drop the connection."""


class Reply:
    """`status` and `headers` (lower-case names; of repeated ones the last) are there after `head`."""

    __slots__ = (
        "_buffered",
        "_limit",
        "_nudged",
        "_paused",
        "_pieces",
        "_problem",
        "_room",
        "_source",
        "_unpacker",
        "_waiter",
        "headers",
        "loop",
        "status",
        "whole",
    )

    def __init__(self, source: Source, *, limit: int, loop: asyncio.AbstractEventLoop) -> None:
        """Refuse a body of more than `limit` bytes."""
        self.status = 0
        self.headers: Mapping[str, str] = {}
        self.whole = False  # the end has arrived, though perhaps nobody has read up to it
        self._source = source
        self._limit = self._room = limit
        self.loop = loop
        self._pieces: list[bytes] = []
        self._buffered = 0
        self._nudged = False
        self._paused = False
        self._problem: WireError | None = None
        self._unpacker: zlib._Decompress | None = None
        self._waiter: asyncio.Future[None] | None = None

    # ------------------------------------------------------------ pulling

    async def head(self) -> None:
        """Return when `status` and `headers` are there. Raises WireError."""
        while not self.status:
            if self._problem is not None:
                raise self._problem
            self._waiter = waiter = self.loop.create_future()
            await waiter

    async def piece(self) -> bytes | None:
        """Return what has arrived since the last piece; b"" at the end. Waits for some. Raises WireError.

        None: somebody has nudged the one who waits.
        """
        while True:
            if self._pieces:
                return self._taken()
            if self._problem is not None:
                raise self._problem
            if self.whole:
                return b""
            if self._nudged:
                self._nudged = False
                return None
            self._waiter = waiter = self.loop.create_future()
            await waiter

    async def read(self) -> bytes:
        """Return the whole body. Raises WireError."""
        if self.whole and self._problem is None:
            return self._taken()
        pieces = []
        while (piece := await self.piece()) != b"":
            if piece is not None:  # a nudge is not the end
                pieces.append(piece)
        return b"".join(pieces)

    def nudge(self) -> None:
        """Have `piece` return without one, if somebody waits for it."""
        if self._waiter is not None:
            self._nudged = True
            self._wake()

    def close(self) -> None:
        """Drop the connection, unless the end has arrived: then it is in use again."""
        if not self.whole and self._problem is None:
            self._source.abort()

    def _taken(self) -> bytes:
        pieces = self._pieces
        taken = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        self._buffered = 0
        self._nudged = False
        if self._paused:
            self._paused = False
            self._source.resume()
        return taken

    # ------------------------------------------------------------ pushing

    def begin(self, status: int, headers: Mapping[str, str]) -> None:
        """The head is here. Raises Garbled when it promises a packing that nobody asked for."""
        self.status, self.headers = status, headers
        packing = headers.get("content-encoding")
        if packing and packing != "identity":
            # Asked for identity, some servers pack all the same.
            if packing not in ("gzip", "x-gzip", "deflate"):
                raise Garbled(f"packed as {packing}")
            self._unpacker = zlib.decompressobj(_AUTO_WINDOW)
        self._wake()

    def add(self, piece: bytes) -> None:
        """A piece of the body is here. Raises Garbled or TooLarge."""
        if self._unpacker is not None:
            piece = self._unpacked(piece)
            if not piece:
                return
        size = len(piece)
        self._room -= size
        if self._room < 0:
            raise TooLarge(self._limit)
        self._pieces.append(piece)
        self._buffered += size
        if self._buffered > HIGH_WATER and not self._paused:
            self._paused = True
            self._source.pause()
        self._wake()

    def end(self) -> None:
        """The end is here. Raises Garbled when it came too early for what was packed."""
        if self._unpacker is not None and not self._unpacker.eof and self._room != self._limit:
            raise Garbled("what was packed breaks off")
        self.whole = True
        if self._paused:  # nothing more comes of this answer, and the connection goes on to others
            self._paused = False
            self._source.resume()
        self._wake()

    def fail(self, problem: WireError) -> None:
        """There will be no end."""
        if self._problem is None and not self.whole:
            self._problem = problem
            self._wake()

    def _unpacked(self, piece: bytes) -> bytes:
        unpacker, unpacked = self._unpacker, b""
        assert unpacker is not None
        while piece:
            if unpacker.eof:  # a packed body may have several members
                unpacker = self._unpacker = zlib.decompressobj(_AUTO_WINDOW)
            try:
                unpacked += unpacker.decompress(piece, self._room - len(unpacked) + 1)
            except zlib.error:
                raise Garbled("it does not unpack") from None
            if unpacker.unconsumed_tail or len(unpacked) > self._room:
                raise TooLarge(self._limit)
            piece = unpacker.unused_data
        return unpacked

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
