"""A base URL taken apart: where to connect to, and how a request's head begins."""

import re
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit

from proxy.wire.errors import NoAddress

_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[A-Za-z0-9._~-]+|[0-9A-Fa-f:.]+(?:%25[A-Za-z0-9._~-]+)?")
_FRAMING = frozenset({"content-length", "transfer-encoding"})  # ours to say
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# What may stand in a path or query as it is; a percent sign too: what is quoted stays so.
_PLAIN = "/%:@!$&'()*+,;=~?-._"


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host and port: what a pool of connections is for."""

    host: str
    port: int
    tls: bool


@dataclass(frozen=True, slots=True)
class Address:
    """An origin and the path of requests on it. `authority` is the Host header, `userinfo` user:password."""

    origin: Origin
    authority: str
    path: str
    userinfo: str = ""


def address_of(url: str) -> Address:
    """Take a URL apart. Raises NoAddress for what is none."""
    try:
        parts = urlsplit(url)
        port = parts.port
        host = parts.hostname or ""
        if not host.isascii():
            host = host.encode("idna").decode("ascii")
    except (ValueError, UnicodeError):
        raise NoAddress("the URL cannot be read") from None
    if parts.scheme not in _PORTS or not _HOST.fullmatch(host):
        raise NoAddress("the URL has no scheme or host")
    port = _PORTS[parts.scheme] if port is None else port
    named = f"[{host}]" if ":" in host else host
    authority = named if port == _PORTS[parts.scheme] else f"{named}:{port}"
    path = quote(parts.path or "/", safe=_PLAIN)
    if parts.query:
        path += "?" + quote(parts.query, safe=_PLAIN)
    userinfo = parts.netloc.rpartition("@")[0]
    return Address(Origin(host, port, parts.scheme == "https"), authority, path, unquote(userinfo))


def request_head(address: Address, headers: Mapping[str, str], *, method: str = "POST") -> bytes:
    """Return a head up to the value of content-length. Raises NoAddress for what no head may hold."""
    named = {"host": address.authority}
    if address.userinfo:
        named["authorization"] = "Basic " + b64encode(address.userinfo.encode()).decode("ascii")
    named |= {name.lower(): value for name, value in headers.items()}
    lines = [f"{method} {address.path} HTTP/1.1"]
    for name, value in named.items():
        if name in _FRAMING or not _TOKEN.fullmatch(name) or any(sign in value for sign in "\r\n\0"):
            raise NoAddress(f"the header {name[:40]!r} cannot be sent")
        lines.append(f"{name}: {value}")
    lines.append("content-length: ")
    try:
        return "\r\n".join(lines).encode("latin-1")
    except UnicodeEncodeError:
        raise NoAddress("a header cannot be sent: it is not Latin-1") from None


def framed(head: bytes, length: int | None) -> bytes:
    """Return a whole head, of a body of that length, or of one in chunks."""
    if length is None:
        return head.removesuffix(b"content-length: ") + b"transfer-encoding: chunked\r\n\r\n"
    return b"%b%d\r\n\r\n" % (head, length)


def bodiless(head: bytes) -> bytes:
    """Return a whole head of a request without a body."""
    return head.removesuffix(b"content-length: ") + b"\r\n"
