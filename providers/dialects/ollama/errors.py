"""Reads Ollama's errors: {"error": text}, with a status or as a line of a stream."""

import re
from collections.abc import Mapping
from typing import Any

from providers.dialects.openai.errors import error_in_body
from providers.dialects.openai.errors import read_error as read_openai_error
from providers.errors import CONTEXT_EXCEEDED, Owner, UpstreamError

# llm/llama_server.go; its other sentences are like other servers'.
_CONTEXT_WORDS = re.compile(r"longer than the context|input (?:is )?too large", re.IGNORECASE)
# What its router says where it has no such path, in text/plain.
_NO_PATH = b"404 page not found"


def read_error(status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
    """Return the classified error of an answer with an error status."""
    if status == 404 and body.strip() == _NO_PATH:
        return UpstreamError(
            "The server has no such path. The base URL of an Ollama provider has none: http://localhost:11434.",
            owner=Owner.HEALTH,
            status=status,
        )
    error = _refined(read_openai_error(status, headers, body))
    if status == 404 and error.code is None:
        error.code = "model_not_found"
    return error


def error_in_line(error: Any) -> UpstreamError:
    """Return the classified error of a 200 that tells one, whole or in a line of a stream."""
    return _refined(error_in_body(error))


def _refined(error: UpstreamError) -> UpstreamError:
    if not _CONTEXT_WORDS.search(error.message):
        return error
    return UpstreamError(error.message, owner=Owner.CALLER, status=error.status, code=CONTEXT_EXCEEDED)
