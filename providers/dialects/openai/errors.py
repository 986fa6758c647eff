"""Reads the error bodies of OpenAI and of servers that imitate it, and decides whose fault it is."""

import re
from collections.abc import Mapping
from typing import Any

import orjson

from providers.errors import (
    AUTH_FAILED,
    CONTENT_FILTERED,
    CONTEXT_EXCEEDED,
    QUOTA_EXHAUSTED,
    Owner,
    UpstreamError,
    retry_after_s,
    text_of,
)

_AUTH_CODES = frozenset({"invalid_api_key", "account_deactivated", "invalid_authentication"})
# xAI says so with 400, and quotes the key: https://docs.x.ai/docs/key-information/debugging
_AUTH_WORDS = re.compile(
    r"(?:incorrect|invalid|expired|missing|no|wrong) (?:api|x-api|authentication)[ -](?:key|token)",
    re.IGNORECASE,
)
# https://platform.openai.com/docs/guides/error-codes
_QUOTA_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})
# xAI: "used all available credits or reached its monthly spending limit", "doesn't have any credits".
_QUOTA_WORDS = re.compile(
    r"(?:all available|(?:not|n't) have any|out of|insufficient) (?:credits?|balance|funds)", re.IGNORECASE
)
# 403 of the request, not of our key: OpenRouter's "requires moderation and your input was flagged", xAI's
# "Content violates usage guidelines"; and of the model: OpenAI's "does not have access to model".
_BLOCKED_WORDS = re.compile(
    r"input was flagged|violates? (?:our |the )?usage (?:guideline|polic)", re.IGNORECASE
)
# llama.cpp: exceed_context_size_error (tools/server); OpenAI: context_length_exceeded.
_CONTEXT_CODES = frozenset({CONTEXT_EXCEEDED, "exceed_context_size_error", "context_window_exceeded"})
# vLLM, TGI and others tell it in words only: "This model's maximum context length is 4096 tokens".
_CONTEXT_WORDS = re.compile(
    r"maximum context length"
    r"|context (?:length|window|size) (?:is |was |has been )?(?:exceeded|of )"
    r"|exceeds? (?:the )?(?:available |model's )?(?:maximum )?context"
    r"|prompt is too long|input is too long for requested model"  # Claude, at OpenAI-compatible servers
    r"|maximum prompt length is \d"  # xAI
    r"|reduce the length of the messages"  # Groq, Cerebras
    r"|longer than the maximum model length"  # vLLM
    r"|`inputs` tokens \+ `max_new_tokens` must be"  # TGI
    r"|greater than the context length"  # LM Studio
    r"|exceeded model token limit"  # Moonshot
    r"|prompt exceeds max length",  # Z.AI
    re.IGNORECASE,
)
# OpenAI; Azure: https://learn.microsoft.com/azure/ai-foundry/openai/concepts/content-filter; Alibaba:
# https://www.alibabacloud.com/help/en/model-studio/error-code
_FILTER_CODES = frozenset(
    {
        CONTENT_FILTERED,
        "content_policy_violation",
        "ResponsibleAIPolicyViolation",
        "data_inspection_failed",
    }
)
_FIRST_SERVER_ERROR = 500
_NO_FLEX_CAPACITY = 498  # https://console.groq.com/docs/errors
MODEL_NOT_FOUND = "model_not_found"
# Codes of a response that failed after its head was 200, and the status they would have had:
# https://platform.openai.com/docs/api-reference/responses/object#responses/object-error
_STATUS_OF_CODE = {
    "rate_limit_exceeded": 429,
    **dict.fromkeys(
        (
            "bio_policy",
            "empty_image_file",
            "failed_to_download_image",
            "image_content_policy_violation",
            "image_file_not_found",
            "image_file_too_large",
            "image_parse_error",
            "image_too_large",
            "image_too_small",
            "invalid_base64_image",
            "invalid_image",
            "invalid_image_format",
            "invalid_image_mode",
            "invalid_image_url",
            "invalid_prompt",
            "unsupported_image_media_type",
        ),
        400,
    ),
}


def read_error(status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
    """Return the classified error of an answer with an error status."""
    fields = _fields(body)
    message = fields["message"] or f"The provider answered with status {status}."
    return _classified(status, message, fields, retry_after=retry_after_s(headers))


def error_in_body(error: Any) -> UpstreamError:
    """Return the classified error of a 200 whose body (or stream event) says `error`."""
    fields = _from_error(error)
    code = fields["code"] or ""
    # OpenRouter puts the status into the code: {"error": {"code": 429, ...}}.
    is_status = len(code) == 3 and code.isascii() and code.isdecimal()
    status = int(code) if is_status else _STATUS_OF_CODE.get(code, 502)
    message = fields["message"] or "The provider reported an error."
    return _classified(status or 502, message, fields, retry_after=None)


def _classified(
    status: int, message: str, fields: Mapping[str, str | None], *, retry_after: float | None
) -> UpstreamError:
    owner, code = _owner_and_code(status, message, fields)
    return UpstreamError(
        message,
        owner=owner,
        status=status,
        code=code,
        param=fields["param"],
        kind=fields["type"],
        retry_after_s=retry_after,
    )


def _owner_and_code(status: int, message: str, fields: Mapping[str, str | None]) -> tuple[Owner, str | None]:
    code, kind = fields["code"], fields["type"]
    if code in _CONTEXT_CODES or kind in _CONTEXT_CODES or _CONTEXT_WORDS.search(message):
        return Owner.CALLER, CONTEXT_EXCEEDED
    if code in _FILTER_CODES:
        return Owner.CALLER, CONTENT_FILTERED
    told = status in (403, 429) and _QUOTA_WORDS.search(message)
    if status == 402 or code in _QUOTA_CODES or kind in _QUOTA_CODES or told:
        return Owner.CREDENTIAL, QUOTA_EXHAUSTED
    blocked = _BLOCKED_WORDS.search(message)
    if status == 403 and (blocked or code == MODEL_NOT_FOUND):
        return Owner.CALLER, CONTENT_FILTERED if blocked else code
    if status in (401, 403) or code in _AUTH_CODES or (status < 429 and _AUTH_WORDS.search(message)):
        return Owner.CREDENTIAL, AUTH_FAILED
    if status in (429, _NO_FLEX_CAPACITY):
        return Owner.CAPACITY, code
    if status == 408 or status >= _FIRST_SERVER_ERROR or status < 400:
        return Owner.HEALTH, code
    return Owner.CALLER, code


def _fields(body: bytes) -> dict[str, str | None]:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return _from_text(body)
    if isinstance(value, list) and value:  # Gemini's compatible endpoint wraps it in a list
        value = value[0]
    if not isinstance(value, dict):
        return _from_text(b"")
    # vLLM: {"object": "error", "message", ...}; FastAPI servers: {"detail": ...}.
    return _from_error(value.get("error") or value)


def _from_error(error: Any) -> dict[str, str | None]:
    if not isinstance(error, dict):
        return {"message": text_of(error), "type": None, "param": None, "code": None}
    message = error.get("message") or error.get("detail") or error.get("error")
    if isinstance(message, (dict, list)):
        message = _dumped(message)
    return {
        "message": text_of(message),
        "type": text_of(error.get("type")),
        "param": text_of(error.get("param")),
        "code": text_of(error.get("code")),
    }


def _dumped(value: Any) -> str | None:
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError:  # nested too deeply
        return None


def _from_text(body: bytes) -> dict[str, str | None]:
    text = body.decode("utf-8", "replace").strip()
    # A proxy's HTML page tells the caller nothing.
    return {
        "message": None if text.startswith("<") else text or None,
        "type": None,
        "param": None,
        "code": None,
    }
