"""What we answer when we do not answer: one tree, and the one place that words a vendor's failure.

GatewayError                    status, type, code, param, retry_after_s, headers
├── BadRequest                  400 invalid_request_error: the request itself
│   └── Inexpressible           the same, of one vendor: another might be able to say it
├── Unauthenticated             401 authentication_error: no key, or not one of ours
├── Forbidden                   403 permission_error: the key may not do this
├── NotFound                    404 not_found_error: no such path or model
├── RateLimited                 429 rate_limit_error: a limit of ours
├── Unavailable                 503 api_error: we cannot serve at the moment
└── UpstreamFailed              as section 7 of the design says for an UpstreamError
"""

import math
from collections.abc import Mapping
from typing import Any

import orjson

from providers.errors import CONTEXT_EXCEEDED, QUOTA_EXHAUSTED, Owner, UpstreamError

DEFAULT_RETRY_AFTER_S = 60
SHUTTING_DOWN = "shutting_down"


class GatewayError(Exception):
    """An answer that is an error, in the OpenAI envelope."""

    status = 500
    type = "api_error"
    code: str | None = None

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        type: str | None = None,  # noqa: A002 - the envelope's own word
        code: str | None = None,
        param: str | None = None,
        retry_after_s: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Overrule the class's status, type and code where given."""
        super().__init__(message)
        self.message = message
        self.status = status or self.status
        self.type = type or self.type
        self.code = code or self.code
        self.param = param
        self.retry_after_s = retry_after_s
        self.headers = dict(headers or {})
        if retry_after_s is not None:
            self.headers["retry-after"] = str(max(math.ceil(retry_after_s), 0))

    def envelope(self) -> dict[str, Any]:
        """Return OpenAI's error object."""
        return {
            "error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code},
        }

    def body(self) -> bytes:
        """Return the envelope as JSON."""
        return orjson.dumps(self.envelope())


class BadRequest(GatewayError):
    """The request is malformed; `param` names the field."""

    status = 400
    type = "invalid_request_error"


class Inexpressible(BadRequest):
    """The vendor's format cannot say what the request asks for; the vendor has not been asked."""


class Unauthenticated(GatewayError):
    """No key, or none that we know."""

    status = 401
    type = "authentication_error"
    code = "invalid_api_key"


class Forbidden(GatewayError):
    """The key may not do this."""

    status = 403
    type = "permission_error"


class NotFound(GatewayError):
    """No such path, or no such model."""

    status = 404
    type = "not_found_error"


class RateLimited(GatewayError):
    """A limit of ours; `retry_after_s` says when it frees."""

    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"


class Unavailable(GatewayError):
    """We cannot serve at the moment."""

    status = 503
    code = "service_unavailable"


def stopping() -> Unavailable:
    """Return the answer to a request that the gateway's end does not let finish."""
    return Unavailable("The gateway is being stopped.", code=SHUTTING_DOWN, retry_after_s=1)


class UpstreamFailed(GatewayError):
    """The last attempt's failure, as the caller sees it."""

    status = 502


def upstream_failed(error: UpstreamError, *, provider: str) -> UpstreamFailed:
    """Return what the caller sees of a vendor's failure (design, section 7)."""
    if error.owner is Owner.CALLER:
        status = 400 if error.code == CONTEXT_EXCEEDED else error.status or 400
        return UpstreamFailed(
            error.message,
            status=status,
            type=error.kind or _type_of(status),
            code=error.code,
            param=error.param,
        )
    if error.owner is Owner.CREDENTIAL:
        return _credential_failed(error, provider)
    if error.owner is Owner.CAPACITY:
        wait_s = DEFAULT_RETRY_AFTER_S if error.retry_after_s is None else error.retry_after_s
        return UpstreamFailed(
            error.message, status=429, type="rate_limit_error", code=error.code, retry_after_s=wait_s
        )
    return _unhealthy(error, provider)


def _credential_failed(error: UpstreamError, provider: str) -> UpstreamFailed:
    if error.own_credential:
        return _own_credential_failed(error, provider)
    if error.code == QUOTA_EXHAUSTED:
        # A vendor that says it with 429 is understood by SDKs as 429; 402 would accuse the caller.
        return UpstreamFailed(
            f"{error.message} (Provider {provider!r}: the gateway's own account is out of quota.)",
            status=429 if error.status == 429 else 502,
            type="rate_limit_error" if error.status == 429 else "api_error",
            code=error.code,
            headers={"x-should-retry": "false"},
        )
    # The vendor's words may quote our key back, so they are not passed on.
    return UpstreamFailed(
        f"Provider {provider!r}: the gateway's credential was refused. Ask the operator of this gateway.",
        code=error.code,
    )


def _own_credential_failed(error: UpstreamError, provider: str) -> UpstreamFailed:
    """Tell the client what its vendor says of its own credential, which is not quoted in it any more."""
    if error.code == QUOTA_EXHAUSTED:
        return UpstreamFailed(
            f"Provider {provider!r}: the account of your own key is out of quota: {error.message}",
            status=429 if error.status == 429 else 402,
            type="insufficient_quota",
            code=error.code,
            headers={"x-should-retry": "false"},
        )
    forbidden = error.status == 403
    return UpstreamFailed(
        f"Provider {provider!r} refuses your own key: {error.message}",
        status=403 if forbidden else 401,
        type="permission_error" if forbidden else "authentication_error",
        code=error.code,
    )


def _unhealthy(error: UpstreamError, provider: str) -> UpstreamFailed:
    if error.timeout or error.status in (408, 504):
        return UpstreamFailed(
            f"Provider {provider!r}: {error.message}",
            status=504,
            type="timeout_error",
            code=error.code or "upstream_timeout",
        )
    return UpstreamFailed(
        f"Provider {provider!r}: {error.message}",
        status=503 if error.status == 503 else 502,
        code=error.code or "upstream_error",
        retry_after_s=error.retry_after_s,
    )


def _type_of(status: int) -> str:
    return "not_found_error" if status == 404 else "invalid_request_error"
