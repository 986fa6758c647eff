"""A vendor's answer as it arrives from the wire, and what its failures mean.

Every failure leaves here as an UpstreamError, most specific first (`translated`).
"""

import asyncio
from collections.abc import Mapping
from typing import Protocol

from providers.errors import INVALID_RESPONSE, Owner, UpstreamError
from proxy.errors import SHUTTING_DOWN
from proxy.wire import errors as wire
from proxy.wire.reply import Reply
from proxy.wire.upload import Upload

DRAIN_S = 1.0
# What `piece` returns, itself and no copy, where a while has passed without a byte (`watch`, `tell_s`).
SILENCE = bytes(bytearray(b"silence"))


class Response(Protocol):
    """An answer whose head has arrived. `headers` have lower-case names."""

    status: int
    headers: Mapping[str, str]

    @property
    def over(self) -> bool:
        """Has all of it arrived, so that nothing holds the connection any more?"""

    async def read(self) -> bytes:
        """Return the whole body. See `watch`."""

    async def piece(self) -> bytes:
        """Return what has arrived of the body, waiting for some; b"" at its end. See `watch`."""

    def watch(
        self, *, name: str, at: float, idle_s: float | None = None, tell_s: float | None = None
    ) -> None:
        """End `piece` and `read` with timeout `name` at loop time `at`, or "idle" `idle_s` after a byte.

        With `tell_s`, `piece` returns SILENCE each time that so many seconds have passed without a byte.
        """

    def close(self) -> None:
        """Drop the connection: the vendor sees that we left. Never waits."""

    async def finish(self) -> None:
        """Read what little is left so that the connection can be used again."""


class HttpResponse:
    """An answer from the wire, watched by at most one timer at a time."""

    __slots__ = (
        "_at",
        "_idle_s",
        "_loop",
        "_name",
        "_reply",
        "_silent_s",
        "_tell_s",
        "_timed_out",
        "_timer",
        "_told_at",
        "_waiting_since",
        "headers",
        "status",
    )

    def __init__(self, reply: Reply) -> None:
        """Take over the reply, whose head is here."""
        self.status = reply.status
        self.headers = reply.headers
        self._reply = reply
        self._loop = reply.loop
        self._timer: asyncio.TimerHandle | None = None
        self._timed_out = ""
        self._waiting_since = 0.0
        self._told_at = 0.0  # of the silence that is being waited through
        self._silent_s = 0.0  # how long that had lasted when it was told

    @property
    def over(self) -> bool:
        """Has all of it arrived?"""
        return self._reply.whole

    async def read(self) -> bytes:
        """Return the whole body. Raises UpstreamError, also for one that is too large."""
        try:
            return await self._reply.read()
        except wire.WireError as problem:
            raise self._failure(problem) from None
        finally:
            self._stop_timer()

    async def piece(self) -> bytes:
        """Return what has arrived since the last piece; b"" at the end. Raises UpstreamError."""
        self._waiting_since = self._loop.time() - self._silent_s
        try:
            piece = await self._reply.piece()
        except wire.WireError as problem:
            self._stop_timer()
            raise self._failure(problem) from None
        if piece is None:  # until the next call it is the client who takes its time
            self._silent_s, self._waiting_since = self._loop.time() - self._waiting_since, 0.0
            return SILENCE
        self._waiting_since = self._told_at = self._silent_s = 0.0
        if not piece:
            self._stop_timer()
        return piece

    def _failure(self, problem: wire.WireError) -> BaseException:
        return timed_out(self._timed_out) if self._timed_out else translated(problem)

    def watch(
        self, *, name: str, at: float, idle_s: float | None = None, tell_s: float | None = None
    ) -> None:
        """Set the limits of `piece`; a later call replaces them."""
        self._name, self._at, self._idle_s, self._tell_s = name, at, idle_s, tell_s
        look_at = at
        for seconds in (idle_s, tell_s):
            if seconds is not None:
                look_at = min(look_at, self._loop.time() + seconds)
        if self._timer is not None:
            if self._timer.when() <= look_at:
                return  # it looks early enough, and goes by the limits that it finds then
            self._timer.cancel()
        self._timer = self._loop.call_at(look_at, self._check)

    def close(self) -> None:
        """Drop the connection, unless the answer has arrived to its end."""
        self._stop_timer()
        self._reply.close()

    async def finish(self) -> None:
        """Read to the end within a second, or drop the connection."""
        self._stop_timer()
        if self._reply.whole:
            return
        try:
            async with asyncio.timeout(DRAIN_S):
                await self._reply.read()
        except (TimeoutError, wire.WireError):
            self._reply.close()

    def _check(self) -> None:
        """Fire, or look again when the present wait could have become too long."""
        now = self._loop.time()
        # Not waiting means that the client is the slow one: that is not the vendor's silence.
        since = self._waiting_since or now
        self._timer = None
        if now >= self._at:
            self._timed_out = self._name
        elif self._idle_s is not None and now - since >= self._idle_s:
            self._timed_out = "idle"
        else:
            look_at = self._at if self._idle_s is None else min(self._at, since + self._idle_s)
            if self._tell_s is not None:
                look_at = min(look_at, self._tell(since, now))
            self._timer = self._loop.call_at(look_at + 0.001, self._check)
            return
        self._reply.close()

    def _tell(self, since: float, now: float) -> float:
        """Tell the reader of the silence if it is time to; return when it will be the next time."""
        assert self._tell_s is not None
        told_at = max(self._told_at, since)
        if self._waiting_since and now - told_at >= self._tell_s:
            told_at = self._told_at = now
            self._reply.nudge()
        return told_at + self._tell_s

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class UploadedResponse(HttpResponse):
    """An answer that may have come before the end of what is sent: its own end is the end of both."""

    __slots__ = ("_upload",)

    def __init__(self, reply: Reply, upload: Upload) -> None:
        """Take over both."""
        super().__init__(reply)
        self._upload = upload

    def _stop_timer(self) -> None:
        super()._stop_timer()
        self._upload.end()

    def _failure(self, problem: wire.WireError) -> BaseException:
        told = self._upload.problem
        if told is None or self._timed_out:
            return super()._failure(problem)
        return translated(told) if isinstance(told, wire.WireError) else told


def timed_out(name: str) -> UpstreamError:
    """Return the error of a timeout: connect, first content, idle or total."""
    return UpstreamError(
        f"The {name} timeout fired.", owner=Owner.HEALTH, code="upstream_timeout", timeout=name
    )


def broken_off() -> UpstreamError:
    """Return the error of a connection that is lost in the middle of an answer."""
    return translated(wire.Garbled("it breaks off"))


def stopped() -> UpstreamError:
    """Return the error of whatever was being asked when the gateway was stopped: nobody else's failure."""
    return UpstreamError(
        "The gateway is being stopped.",
        owner=Owner.CALLER,
        status=503,
        code=SHUTTING_DOWN,
        kind="api_error",
        retryable=False,
    )


def translated(problem: wire.WireError) -> UpstreamError:
    """Return what a failure of the wire means."""
    if isinstance(problem, wire.Stopped):
        return stopped()
    if isinstance(problem, wire.ConnectTimeout):
        return timed_out("connect")
    if isinstance(problem, wire.Silent):
        return timed_out(str(problem))
    message, code = "The connection was lost.", "upstream_reset"
    if isinstance(problem, wire.Untrusted):
        message, code = "The provider's certificate is not trusted, or TLS failed.", "upstream_connect"
    elif isinstance(problem, wire.CannotConnect):
        message, code = "The connection was refused or the host is unknown.", "upstream_connect"
    elif isinstance(problem, wire.NoAddress):
        message, code = f"The provider's row cannot be used: {problem}.", "upstream_connect"
    elif isinstance(problem, wire.TooLarge):
        message = f"The answer is larger than MAX_RESPONSE_BYTES ({problem.limit})."
        code = "upstream_too_large"
    elif isinstance(problem, wire.Garbled):
        message, code = f"The answer broke off or is garbled: {problem}.", INVALID_RESPONSE
    return UpstreamError(message, owner=Owner.HEALTH, code=code)
