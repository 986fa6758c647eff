"""What can go wrong at a vendor: one error, whose attributes are the decisions.

UpstreamError
  owner      who must act: CALLER (the request itself), CREDENTIAL (our key or account),
             HEALTH (the vendor is down, slow or lying), CAPACITY (the vendor limits us)
  retryable  may the next target answer this request?
  status     the vendor's HTTP status, None when no answer came
  message    the vendor's own words, cleaned; param, code, kind from its envelope
  retry_after_s   as the vendor said, else None
  own_credential  it is the client's own credential that was refused (providers.own_credential)
"""

from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Any

MAX_MESSAGE = 2000
MAX_RETRY_AFTER_S = 86_400.0
MAX_NUMBER = 20

# Our own classifications; any other code is the vendor's.
AUTH_FAILED = "upstream_auth_failed"
QUOTA_EXHAUSTED = "upstream_quota_exhausted"
CONTEXT_EXCEEDED = "context_length_exceeded"
CONTENT_FILTERED = "content_filter"
INVALID_RESPONSE = "upstream_invalid_response"
UNSUPPORTED = "unsupported_parameter"


class Owner(StrEnum):
    """Whose problem it is."""

    CALLER = "caller"
    CREDENTIAL = "credential"
    HEALTH = "health"
    CAPACITY = "capacity"


class UpstreamError(Exception):
    """An attempt failed. Raised by dialects (from an answer) and by the transport (from no answer)."""

    def __init__(
        self,
        message: str,
        *,
        owner: Owner,
        status: int | None = None,
        code: str | None = None,
        param: str | None = None,
        kind: str | None = None,
        retryable: bool | None = None,
        retry_after_s: float | None = None,
        timeout: str = "",
    ) -> None:
        """Set the decisions; `retryable` defaults to everything but the caller's own mistakes.

        `timeout` names the timeout that fired (connect, first content, idle, total), if one did.
        """
        super().__init__(message[:MAX_MESSAGE])
        self.message = message[:MAX_MESSAGE]
        self.owner = owner
        self.status = status
        self.code = code
        self.param = param
        self.kind = kind
        self.retryable = (owner is not Owner.CALLER) if retryable is None else retryable
        self.retry_after_s = retry_after_s
        self.timeout = timeout
        self.ratelimit_headers: Mapping[str, str] = {}
        self.own_credential = False


class UnsupportedParameter(Exception):
    """The dialect cannot express a parameter of the call, or its value; becomes a 400 that names it."""

    def __init__(self, param: str, message: str, *, code: str = UNSUPPORTED) -> None:
        """Name the parameter and why."""
        super().__init__(message)
        self.param = param
        self.message = message
        self.code = code


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return Retry-After in seconds, at most MAX_RETRY_AFTER_S; None when absent or unreadable.

    A date counts from the answer's own Date header: no clock is needed here, nor an exact one there.
    """
    milliseconds = _number(headers.get("retry-after-ms", ""))
    if milliseconds is not None:
        return min(milliseconds / 1000, MAX_RETRY_AFTER_S)
    text = headers.get("retry-after", "").strip()
    seconds = _number(text)
    if seconds is None:
        until, now = _moment(text), _moment(headers.get("date", ""))
        seconds = None if until is None or now is None else max(until - now, 0.0)
    return None if seconds is None else min(seconds, MAX_RETRY_AFTER_S)


def _number(text: str) -> float | None:
    plain = len(text) <= MAX_NUMBER and text.isascii() and text.replace(".", "", 1).isdecimal()
    return float(text) if plain else None


def _moment(text: str) -> float | None:
    try:
        return parsedate_to_datetime(text).timestamp() if text else None
    except (ValueError, OverflowError, TypeError):
        return None


def text_of(value: Any) -> str | None:
    """Return a vendor's field as text, or None."""
    if value is None or isinstance(value, (dict, list)):
        return None
    return str(value)
