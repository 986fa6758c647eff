"""What can go wrong at a vendor: one error, whose attributes are the decisions.

UpstreamError
  owner      who must act: CALLER (the request itself), CREDENTIAL (our key or account),
             HEALTH (the vendor is down, slow or lying), CAPACITY (the vendor limits us)
  retryable  may the next target answer this request?
  status     the vendor's HTTP status, None when no answer came
  message    the vendor's own words, cleaned; param, code, kind from its envelope
  retry_after_s   as the vendor said, else None
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

MAX_MESSAGE = 2000

# Our own classifications; any other code is the vendor's.
AUTH_FAILED = "upstream_auth_failed"
QUOTA_EXHAUSTED = "upstream_quota_exhausted"
CONTEXT_EXCEEDED = "context_length_exceeded"
INVALID_RESPONSE = "upstream_invalid_response"


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


class UnsupportedParameter(Exception):
    """The dialect cannot express a parameter of the call; becomes a 400 that names it."""

    def __init__(self, param: str, message: str) -> None:
        """Name the parameter and why."""
        super().__init__(message)
        self.param = param
        self.message = message


def retry_after_s(headers: Mapping[str, str], *, now: float = 0.0) -> float | None:
    """Return Retry-After in seconds: delta or HTTP date (needs `now`, epoch s); None if absent."""
    milliseconds = headers.get("retry-after-ms", "")
    if milliseconds.replace(".", "", 1).isdigit():
        return float(milliseconds) / 1000
    text = headers.get("retry-after", "").strip()
    if not text:
        return None
    if text.replace(".", "", 1).isdigit():
        return float(text)
    return _until_date(text, now)


def _until_date(text: str, now: float) -> float | None:
    from email.utils import parsedate_to_datetime  # noqa: PLC0415 - rare, and slow to import

    try:
        return max(parsedate_to_datetime(text).timestamp() - now, 0.0)
    except ValueError:
        return None


def text_of(value: Any) -> str | None:
    """Return a vendor's field as text, or None."""
    if value is None or isinstance(value, (dict, list)):
        return None
    return str(value)
