"""Reads Google's error bodies and decides whose fault it is.

{"error": {"code", "message", "status", "details": [{"@type", "reason" | "retryDelay", ...}]}}, from some
endpoints in a list: https://ai.google.dev/gemini-api/docs/troubleshooting, https://google.aip.dev/193
"""

import re
from collections.abc import Mapping
from typing import Any

import orjson

from providers.dialects.openai import errors as openai_errors
from providers.errors import (
    AUTH_FAILED,
    CONTEXT_EXCEEDED,
    MAX_RETRY_AFTER_S,
    QUOTA_EXHAUSTED,
    Owner,
    UpstreamError,
    text_of,
)

_CONTEXT_WORDS = re.compile(
    r"input token count .{0,40}(?:exceeds the maximum|but model only supports)", re.IGNORECASE
)
_AUTH_REASONS = frozenset({"API_KEY_INVALID", "API_KEY_EXPIRED", "ACCESS_TOKEN_EXPIRED"})
_AUTH_WORDS = re.compile(
    r"API key (?:not valid|expired|not found)|user location is not supported|not available in your country",
    re.IGNORECASE,
)
# "You exceeded your current quota, please check your plan and billing details" is said of a minute's
# limit, too; these are about money.
_QUOTA_WORDS = re.compile(r"credits? (?:are|is|were) depleted|spend(?:ing)? (?:cap|limit)", re.IGNORECASE)
_DELAY = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)s")
_CANCELLED = 499


def read_error(status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
    """Return the classified error of an answer with an error status."""
    base = openai_errors.read_error(status, headers, body)
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return base
    if isinstance(value, list) and value:
        value = value[0]
    error = value.get("error") if isinstance(value, dict) else None
    return _classified(base, error) if isinstance(error, dict) else base


def error_in_body(error: Any) -> UpstreamError:
    """Return the classified error of a 200 whose body (or stream event) says `error`."""
    base = openai_errors.error_in_body(error)
    return _classified(base, error) if isinstance(error, dict) else base


def _classified(base: UpstreamError, error: Mapping[str, Any]) -> UpstreamError:
    details = error.get("details")
    details = [each for each in details if isinstance(each, dict)] if isinstance(details, list) else []
    owner, code = _owner_and_code(base, text_of(error.get("status")), details)
    wait_s = base.retry_after_s
    return UpstreamError(
        base.message,
        owner=owner,
        status=base.status,
        code=code,
        retry_after_s=_delay_s(details) if wait_s is None else wait_s,
    )


def _owner_and_code(
    base: UpstreamError, word: str | None, details: list[dict[str, Any]]
) -> tuple[Owner, str | None]:
    if base.code == CONTEXT_EXCEEDED or _CONTEXT_WORDS.search(base.message):
        return Owner.CALLER, CONTEXT_EXCEEDED
    reasons = {text_of(each.get("reason")) for each in details}
    if base.code == AUTH_FAILED or reasons & _AUTH_REASONS or _AUTH_WORDS.search(base.message):
        return Owner.CREDENTIAL, AUTH_FAILED
    if base.code == QUOTA_EXHAUSTED or (base.owner is Owner.CAPACITY and _QUOTA_WORDS.search(base.message)):
        return Owner.CREDENTIAL, QUOTA_EXHAUSTED
    if base.status == _CANCELLED:
        return Owner.HEALTH, word
    if word == "NOT_FOUND" and "models/" in base.message:
        return base.owner, "model_not_found"  # OpenAI's code for it
    return base.owner, word


def _delay_s(details: list[dict[str, Any]]) -> float | None:
    """Return google.rpc.RetryInfo's delay, a duration in JSON: "34s", "34.0748s"."""
    for each in details:
        found = _DELAY.fullmatch(text_of(each.get("retryDelay")) or "")
        if found:
            return min(float(found[1]), MAX_RETRY_AFTER_S)
    return None
