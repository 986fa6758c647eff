"""Guesses how many tokens a canonical request is, where no vendor counts them."""

from collections.abc import Mapping
from typing import Any

import orjson

from providers.canonical import parts_in
from providers.dialects.params import written
from providers.usage import BYTES_PER_TOKEN, tokens_in

# Anthropic: width x height / 750, at most about 1,600 after scaling.
# https://platform.claude.com/docs/en/build-with-claude/vision#calculate-image-costs
TOKENS_PER_IMAGE = 1500
TOKENS_PER_MESSAGE = 4  # a role, and the marks around it
# A body of no more bytes is taken for text: no image in it could make much of a difference.
_SMALL_BODY = 65_536
_LEAST_MEDIA = 2048
_PROBE = slice(256, 512)  # behind the head of a data URL
_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=_-"


def tokens_of(body: Mapping[str, Any]) -> int:
    """Return about how many tokens the prompt has: texts by their bytes, anything else as an image.

    Raises UnsupportedParameter.
    """
    messages = body.get("messages") or ()
    count = sum(_tokens_of_message(message) for message in messages)
    for name in ("tools", "response_format"):
        if body.get(name):
            count += tokens_in(len(written({name: body[name]})))
    return count


def prompt_bytes(raw: bytes) -> int:
    """Return about how many bytes of a request's body are text: what is inline base64 counts as one image."""
    if len(raw) <= _SMALL_BODY or b"base64" not in raw:  # a data URL, and Anthropic's type of a source
        return len(raw)
    media = [piece for piece in raw.split(b'"') if len(piece) >= _LEAST_MEDIA and _is_base64(piece)]
    return len(raw) - sum(map(len, media)) + len(media) * TOKENS_PER_IMAGE * BYTES_PER_TOKEN


def _is_base64(text: bytes) -> bool:
    return not text[_PROBE].translate(None, _BASE64)


def _tokens_of_message(message: Mapping[str, Any]) -> int:
    size, shown = 0, 0
    for part in parts_in(message.get("content")):
        text = part.get("text")
        if isinstance(text, str):
            size += len(text.encode())
        else:
            shown += 1
    if message.get("tool_calls"):
        size += len(orjson.dumps(message["tool_calls"]))
    return TOKENS_PER_MESSAGE + tokens_in(size) + shown * TOKENS_PER_IMAGE
