"""Reads Mistral's errors, of three shapes, as OpenAI's.

{"object": "error", "message": text or {"detail": [...]}, "type", "param", "code"} of the API itself,
{"detail": [{"type", "loc", "msg", "input"}]} of its validation, {"message" or "detail": text} of its gateway.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from providers.dialects.openai.errors import MODEL_NOT_FOUND
from providers.dialects.openai.errors import read_error as read_openai_error
from providers.errors import CONTENT_FILTERED, Owner, UpstreamError, text_of

MAX_DETAILS = 5


def read_error(status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
    """Return the classified error of an answer with an error status."""
    try:
        told = orjson.loads(body)
    except orjson.JSONDecodeError:
        return read_openai_error(status, headers, body)
    if not isinstance(told, dict):
        return read_openai_error(status, headers, b"")
    if status == 403 and "guardrails" in told:  # the prompt was blocked, our key is fine
        error = read_openai_error(400, headers, _enveloped(told))
        return UpstreamError(
            error.message, owner=Owner.CALLER, status=403, code=CONTENT_FILTERED, kind=error.kind
        )
    error = read_openai_error(status, headers, _enveloped(told))
    if error.kind == "invalid_model":
        error.code = MODEL_NOT_FOUND
    return error


def error_in(chunk: Mapping[str, Any]) -> UpstreamError | None:
    """Return the error that a 200 tells, whole or as a stream's event; None where it is an answer."""
    if "choices" in chunk or not ("error" in chunk or "message" in chunk or "detail" in chunk):
        return None
    status = chunk.get("raw_status_code")
    known = isinstance(status, int) and 400 <= status < 600
    return read_error(status if known and isinstance(status, int) else 502, {}, orjson.dumps(chunk))


def _enveloped(told: Mapping[str, Any]) -> bytes:
    inner = told.get("error")
    error: Mapping[str, Any] = inner if isinstance(inner, dict) else told
    message: Any = error.get("message") or error.get("error")
    details: Any = error.get("detail")
    if isinstance(message, dict):
        message, details = message.get("message"), message.get("detail")
    param = error.get("param")
    if isinstance(details, list):
        named = [_detail(detail) for detail in details[:MAX_DETAILS] if isinstance(detail, dict)]
        message = message or "; ".join(f"{where}: {said}" if where else said for where, said in named)
        param = param or next((where for where, _ in named if where), None)
    envelope = {
        "message": message or details,
        "type": error.get("type"),
        "param": param,
        "code": error.get("code"),
    }
    try:
        return orjson.dumps({"error": envelope})
    except orjson.JSONEncodeError:  # nested too deeply
        return b"{}"


def _detail(detail: Mapping[str, Any]) -> tuple[str, str]:
    """Return the field that a complaint is about, as the client wrote it, and the complaint."""
    loc = detail.get("loc")
    return _path(loc if isinstance(loc, list) else ()), text_of(detail.get("msg") or detail.get("type")) or ""


def _path(loc: Sequence[Any]) -> str:
    path = ""
    for step in loc[1:] if loc and loc[0] == "body" else loc:
        path += f"[{step}]" if isinstance(step, int) else f".{text_of(step)}"
    return path.removeprefix(".")
