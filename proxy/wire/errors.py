"""How asking a vendor fails, below the meaning of statuses and bodies.

WireError
├── CannotConnect       refused, unreachable, no such host
│   └── Untrusted       TLS failed, or the certificate is not trusted
├── ConnectTimeout      no connection in time
├── NoAddress           the URL or a header is none that could be sent
├── Stale               a kept connection ended as we asked: it had died, so nobody has read the request
├── Silent              the vendor neither takes what we send, nor answers it
├── Lost                the connection ended before a head of an answer
├── Garbled             the answer is no HTTP, breaks off, or does not unpack
├── TooLarge            the answer is larger than `limit`
└── Stopped             the gateway ends, and with it all that it has asked
"""


class WireError(Exception):
    """The exchange failed; the message says how, without the request."""


class CannotConnect(WireError):
    """Nobody listens, or there is no way there."""


class Untrusted(CannotConnect):
    """TLS failed, or the certificate is not trusted."""


class ConnectTimeout(WireError):
    """Name, TCP and TLS together took too long."""


class NoAddress(WireError):
    """The URL or a header cannot be sent."""


class Stale(WireError):
    """A kept connection ended at once and without a byte of the answer: it may be asked on another one."""


class Silent(WireError):
    """The vendor has stopped taking a body, or has not answered it in time."""


class Lost(WireError):
    """The connection ended before there was an answer."""


class Garbled(WireError):
    """What came is no answer, or not all of one."""


class Stopped(WireError):
    """The gateway ends."""


class TooLarge(WireError):
    """The body is larger than what was allowed (bytes, unpacked)."""

    def __init__(self, limit: int) -> None:
        """Name the limit."""
        super().__init__(f"larger than {limit} bytes")
        self.limit = limit
