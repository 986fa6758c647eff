"""Reads Anthropic's errors (https://platform.claude.com/docs/en/api/errors)."""

import re
from collections.abc import Mapping
from typing import Any

import orjson

from providers.dialects.openai import errors as openai_errors
from providers.errors import (
    AUTH_FAILED,
    CONTENT_FILTERED,
    CONTEXT_EXCEEDED,
    QUOTA_EXHAUSTED,
    Owner,
    UpstreamError,
    text_of,
)

# What an error inside an answer or a stream would have had as its status.
_STATUS: Mapping[str, int] = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
# Told in words only, and all of them with status 400.
_BY_WORDS = (
    (
        re.compile(
            r"prompt is too long|exceeds? (?:the )?(?:model's )?context (?:limit|window)", re.IGNORECASE
        ),
        Owner.CALLER,
        CONTEXT_EXCEEDED,
    ),
    (
        re.compile(r"credit balance is too low|reached your specified .{0,20}usage limit", re.IGNORECASE),
        Owner.CREDENTIAL,
        QUOTA_EXHAUSTED,
    ),
    (re.compile(r"blocked by content filtering policy", re.IGNORECASE), Owner.CALLER, CONTENT_FILTERED),
    (re.compile(r"organization has been disabled", re.IGNORECASE), Owner.CREDENTIAL, AUTH_FAILED),
)


def read_error(status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
    """Return the classified error of an answer with an error status."""
    error = openai_errors.read_error(status, headers, body)
    for words, owner, code in _BY_WORDS:
        if words.search(error.message):
            return UpstreamError(
                error.message,
                owner=owner,
                status=status,
                code=code,
                param=error.param,
                kind=error.kind,
                retry_after_s=error.retry_after_s,
            )
    if status == 404 and error.message.startswith("model:"):
        error.code = openai_errors.MODEL_NOT_FOUND
    return error


def error_inside(error: Any) -> UpstreamError:
    """Return the classified `error` of an answer with status 200, or of a stream."""
    fields = error if isinstance(error, dict) else {"message": text_of(error)}
    kind = text_of(fields.get("type"))
    message = text_of(fields.get("message")) or "The provider reported an error."
    body = orjson.dumps({"error": {"type": kind, "message": message}})
    return read_error(_STATUS.get(kind or "", 500), {}, body)
