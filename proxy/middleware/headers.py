"""Puts the same headers on every answer, and on errors: RESPONSE_HEADERS, a JSON object of names and texts.

Refused at start: what frames a message or belongs to one connection (RFC 9110, section 7.6.1), which would
break every answer, and what the gateway itself must be right about.
"""

import re

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from proxy.middleware.base import Context, Watch

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_REFUSED = frozenset(
    {
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "date",
        "keep-alive",
        "proxy-authenticate",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


class ResponseHeaders(Watch):
    """A response middleware that is its own watch: it keeps nothing of an answer."""

    changes_events = False
    wants_whole = False

    def __init__(self) -> None:
        """Take the headers from the environment. Raises ImproperlyConfigured."""
        self._headers: list[tuple[bytes, bytes]] = []
        for name, value in settings.GATEWAY.response_headers:
            if not _NAME.fullmatch(name) or name.lower() in _REFUSED:
                raise ImproperlyConfigured(f"RESPONSE_HEADERS: {name!r} may not be set by a middleware.")
            if not _VALUE.fullmatch(value):
                raise ImproperlyConfigured(f"RESPONSE_HEADERS: the value of {name!r} is none for a header.")
            self._headers.append((name.lower().encode("ascii"), value.encode("latin-1")))
        self._names = frozenset(name for name, _ in self._headers)

    def begin(self, _context: Context) -> "ResponseHeaders":
        """Watch every answer."""
        return self

    def head(self, headers: list[tuple[bytes, bytes]]) -> None:
        """Set the headers, in the place of others by the same names."""
        headers[:] = [header for header in headers if header[0] not in self._names]
        headers += self._headers

    def error(self, headers: dict[str, str]) -> None:
        """Set them on an error, too."""
        for name, value in self._headers:
            headers[name.decode()] = value.decode("latin-1")
