"""One connection to a vendor: one request at a time, and the parser's events into its Reply.

A connection is used again when the answer had a length, the server keeps it open, and our request
was read to its end. `on_*` are called by httptools while it parses; what they raise ends the exchange.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import httptools

from proxy.wire.errors import Garbled, Lost, Stale, WireError
from proxy.wire.reply import Reply

MAX_HEAD_BYTES = 1 << 16
# A kept connection that ends later than this after a request may have died answering it.
STALE_WITHIN_S = 1.0
# Up to this size head and body go out in one piece: one copy costs less than one packet more.
_JOINED_BYTES = 1 << 16
_lowered: dict[bytes, str] = {}


class Connection(asyncio.Protocol):
    """`free` is called when it can be asked again, `gone` when it is closed."""

    __slots__ = (
        "_arrived",
        "_asked_at",
        "_drained",
        "_free",
        "_gone",
        "_head_bytes",
        "_headers",
        "_interim",
        "_loop",
        "_parser",
        "_reply",
        "_sending",
        "_transport",
        "_until_eof",
        "asked",
        "idle_since",
        "on_body",
        "usable",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        free: Callable[["Connection"], None],
        gone: Callable[["Connection"], None],
    ) -> None:
        """Wait for the transport."""
        self.asked = 0  # requests so far
        self.idle_since = 0.0  # loop time
        self.usable = False
        self._loop = loop
        self._free, self._gone = free, gone
        # A chunked stream has a callback for each of its chunks: they gather here while one read is parsed.
        self._arrived: list[bytes] = []
        self.on_body = self._arrived.append
        self._parser = httptools.HttpResponseParser(self)
        self._transport: Any = None
        self._reply: Reply | None = None
        self._headers: dict[str, str] = {}
        self._head_bytes = 0  # of the answer's head; later: without a byte of its body
        self._asked_at = 0.0
        self._interim = self._until_eof = False
        self._sending = False  # the body of the request is still arriving
        self._drained: asyncio.Future[None] | None = None  # there while the vendor is slower than we are

    def send(self, head: bytes, body: bytes, *, limit: int) -> Reply:
        """Send a request, whole, and return the reply to come, of at most `limit` bytes."""
        reply = self._begin(limit)
        if len(body) <= _JOINED_BYTES:
            self._transport.write(head + body)
        else:
            self._transport.write(head)
            self._transport.write(body)
        return reply

    def begin(self, head: bytes, *, limit: int) -> Reply:
        """Send a request's head alone. The body follows by `write`; `sent` is its end."""
        reply = self._begin(limit)
        self._sending = True
        self._transport.write(head)
        return reply

    async def write(self, piece: bytes) -> None:
        """Send a piece of the body, and wait until the vendor has taken most of it, or is gone."""
        if self.usable:
            self._transport.write(piece)
        if self._drained is not None:
            await self._drained

    def sent(self) -> None:
        """The body is whole."""
        self._sending = False

    def _begin(self, limit: int) -> Reply:
        self.asked += 1
        self._asked_at = self._loop.time()
        self._head_bytes = 0
        self._until_eof = False
        reply = self._reply = Reply(self, limit=limit, loop=self._loop)
        return reply

    def pause(self) -> None:
        """Stop reading: the reader of the reply is slower than the vendor."""
        if self.usable:
            self._transport.pause_reading()

    def resume(self) -> None:
        """Go on reading."""
        if self.usable:
            self._transport.resume_reading()

    def abort(self, problem: WireError | None = None) -> None:
        """Close at once; a reply that is not whole fails, with `problem` if one is given."""
        self._fail(problem or Lost("we have left"))

    # ------------------------------------------------------------ the event loop's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = transport
        self.usable = True

    def data_received(self, data: bytes) -> None:
        """Parse what has come."""
        reply = self._reply
        if reply is None:
            self._close()  # nobody has asked
            return
        self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
            if self._arrived:
                self._hand_on(reply)
        except WireError as problem:
            self._fail(problem)
            return
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as problem:
            cause = problem.__context__  # what one of our callbacks raised
            if not isinstance(cause, WireError):
                cause = Garbled("it is no HTTP")
                self._hand_on_what_is_good()
            self._fail(cause)
            return
        if self._head_bytes > MAX_HEAD_BYTES and self._reply is not None:
            self._fail(Garbled("its head, or what follows its body, has no end"))

    def pause_writing(self) -> None:
        """Much of what we have written waits."""
        self._drained = self._loop.create_future()

    def resume_writing(self) -> None:
        """Most of it has gone."""
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)

    def eof_received(self) -> bool:
        """Close: a server that sends no more answers no more."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The end, ours or theirs; for an answer without a length, the end it has."""
        self.usable = False
        self.resume_writing()
        reply, self._reply = self._reply, None
        if reply is not None:
            if self._until_eof and reply.status and exc is None:
                try:
                    reply.end()
                except WireError as problem:
                    reply.fail(problem)
            else:
                reply.fail(self._how_it_ended(reply))
        self._gone(self)

    def _how_it_ended(self, reply: Reply) -> WireError:
        if reply.status:
            return Garbled("it breaks off")
        at_once = self._loop.time() - self._asked_at < STALE_WITHIN_S
        if self.asked > 1 and not self._head_bytes and at_once:
            return Stale("kept for too long")
        return Lost("closed")

    # ------------------------------------------------------------ the parser's side

    def on_message_begin(self) -> None:
        """An answer begins; one that nobody asked for is an error of the vendor."""
        if self._reply is None:
            raise Garbled("nobody has asked")
        self._headers = {}

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; not what follows a chunked body."""
        if self._reply is None or self._reply.status:
            return
        lowered = _lowered.get(name)
        if lowered is None:
            lowered = _lower(name)
        self._headers[lowered] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """The head is whole."""
        if self._head_bytes > MAX_HEAD_BYTES:
            self._check_head()
        status = self._parser.get_status_code()
        self._interim = status < 200
        if self._interim:  # 100 Continue, 103 Early Hints: the answer is still to come
            return
        headers = self._headers
        chunked = headers.get("transfer-encoding", "").lower().endswith("chunked")
        self._until_eof = not chunked and "content-length" not in headers
        assert self._reply is not None
        self._reply.begin(status, headers)

    def on_message_complete(self) -> None:
        """The answer is whole: the connection is free before its reader has read it."""
        if self._interim:
            return
        reply = self._reply
        assert reply is not None
        if self._arrived:
            self._hand_on(reply)
        reply.end()
        self._reply = None
        transport = self._transport
        if (
            self._parser.should_keep_alive()
            and self.usable
            and not self._sending
            and not transport.is_closing()
            and not transport.get_write_buffer_size()
        ):
            self._free(self)
        else:
            self._close()

    def _hand_on(self, reply: Reply) -> None:
        pieces = self._arrived
        piece = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        self._head_bytes = 0
        reply.add(piece)

    def _hand_on_what_is_good(self) -> None:
        """What was parsed before the answer turned out to be garbled is still the vendor's."""
        if self._arrived and self._reply is not None:
            with contextlib.suppress(WireError):
                self._hand_on(self._reply)

    def _check_head(self) -> None:
        # Much may have come at once: a long body is no long head.
        if sum(len(name) + len(value) for name, value in self._headers.items()) > MAX_HEAD_BYTES:
            raise Garbled("its head is too large")

    def _fail(self, problem: WireError) -> None:
        reply, self._reply = self._reply, None
        if reply is not None:
            reply.fail(problem)
        self._close()

    def _close(self) -> None:
        if self.usable:
            self.usable = False
            self._transport.abort()


def _lower(name: bytes) -> str:
    if len(_lowered) > 1000:
        _lowered.clear()  # vendors make up names
    lowered = _lowered[name] = name.decode("latin-1").lower()
    return lowered
