"""How an error is written: in OpenAI's envelope, or in Anthropic's for its clients."""

from typing import Any

import orjson

from providers.errors import CONTEXT_EXCEEDED, UNSUPPORTED
from proxy.errors import GatewayError

MESSAGES_PATH = "/v1/messages"
# Coding agents shorten a conversation when they read this, Anthropic's own words.
TOO_LONG = "prompt is too long"
# Read by SDKs, which then go on without the parameter (`thread`: a conversation that the vendor keeps).
_DETAILS = {"thread": "thread_unsupported_request"}
# https://platform.claude.com/docs/en/api/errors
_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def speaks_anthropic(path: str) -> bool:
    """Is it one of the paths of Anthropic's API?"""
    return path == MESSAGES_PATH or path.startswith(f"{MESSAGES_PATH}/")


def enveloped(error: GatewayError, request_id: str, *, anthropic: bool) -> bytes:
    """Return the body of an error in one of the two envelopes."""
    return orjson.dumps(anthropic_envelope(error, request_id)) if anthropic else error.body()


def anthropic_envelope(error: GatewayError, request_id: str) -> dict[str, Any]:
    """Return Anthropic's error object."""
    kind = _TYPES.get(error.status) or ("api_error" if error.status >= 500 else "invalid_request_error")
    message = error.message
    if error.code == CONTEXT_EXCEEDED and TOO_LONG not in message.lower():
        message = f"{TOO_LONG}: {message}"
    told: dict[str, Any] = {"type": kind, "message": message}
    if error.code == UNSUPPORTED and error.param in _DETAILS:
        told["details"] = {"error_code": _DETAILS[error.param]}
    return {"type": "error", "error": told, "request_id": request_id or None}
