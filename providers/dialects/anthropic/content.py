"""Parts of canonical messages to Anthropic's content blocks.

https://platform.claude.com/docs/en/api/messages: text, images and documents, each with a `cache_control`.
A text block must hold more than white space; one that does not says nothing and is left out.
"""

import base64
from collections.abc import Mapping
from typing import Any

from providers.dialects.media import Media, media_of
from providers.dialects.params import invalid
from providers.errors import UnsupportedParameter

Block = dict[str, Any]

_IMAGES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
_ALIASES = {"image/jpg": "image/jpeg"}
# No breakpoint can stand on these: https://platform.claude.com/docs/en/build-with-claude/prompt-caching
_NEVER_CACHED = frozenset({"thinking", "redacted_thinking"})


def blocks_of(message: Mapping[str, Any], where: str) -> list[Block]:
    """Return the blocks of a message's `content`; `where` names the message. Raises UnsupportedParameter."""
    content = message.get("content")
    if content is None:
        return []
    if isinstance(content, str):
        return _text(content)
    if not isinstance(content, list):
        raise invalid(f"{where}.content", "must be a string or a list of parts")
    return [
        block for index, part in enumerate(content) for block in _blocks(part, f"{where}.content[{index}]")
    ]


def cached(block: Block, holder: Mapping[str, Any], where: str) -> Block:
    """Return the block with the breakpoint that `holder` (a part, message or tool) has, if it has one."""
    control = holder.get("cache_control")
    if control is None or block.get("type") in _NEVER_CACHED:
        return block
    if not isinstance(control, dict):
        raise invalid(f"{where}.cache_control", "must be an object")
    return {**block, "cache_control": control}


def _blocks(part: Any, where: str) -> list[Block]:
    if isinstance(part, str):
        return _text(part)
    if not isinstance(part, dict):
        raise invalid(where, "must be an object with a 'type'")
    kind = part.get("type")
    if kind in ("text", "refusal"):
        text = part.get(kind)
        if not isinstance(text, str):
            raise invalid(f"{where}.{kind}", "must be a string")
        blocks = _text(text)
    elif kind == "image_url":
        blocks = [_image(media_of(part, where), where)]
    elif kind == "file":
        blocks = [_document(media_of(part, where), part, where)]
    else:
        raise UnsupportedParameter(where, f"'{where}' is of a type ({kind!r}) that Anthropic does not take.")
    return [cached(block, part, where) for block in blocks]


def _text(text: str) -> list[Block]:
    return [{"type": "text", "text": text}] if text.strip() else []


def _image(media: Media, where: str) -> Block:
    return {"type": "image", "source": _at_url(media, where) if media.url else _inline_image(media, where)}


def _inline_image(media: Media, where: str) -> Block:
    mime = _ALIASES.get(media.mime, media.mime)
    if mime not in _IMAGES:
        raise UnsupportedParameter(
            where, f"'{where}' is of type {mime!r}; Anthropic takes JPEG, PNG, GIF and WebP images."
        )
    return {"type": "base64", "media_type": mime, "data": media.base64}


def _at_url(media: Media, where: str) -> Block:
    if media.url.startswith("gs://"):
        raise UnsupportedParameter(where, f"'{where}' is a URL that Anthropic cannot fetch.")
    return {"type": "url", "url": media.url}


def _document(media: Media, part: Mapping[str, Any], where: str) -> Block:
    if media.url:
        source = _at_url(media, where)
    elif media.mime == "application/pdf":
        source = {"type": "base64", "media_type": media.mime, "data": media.base64}
    elif media.mime.startswith("text/") or media.mime == "application/json":
        source = {"type": "text", "media_type": "text/plain", "data": _decoded(media.base64, where)}
    elif media.mime.startswith("image/"):
        return _image(media, where)
    else:
        raise UnsupportedParameter(
            where, f"'{where}' is of type {media.mime!r}; Anthropic takes PDF and plain text."
        )
    block: Block = {"type": "document", "source": source}
    if media.filename:
        block["title"] = media.filename
    if isinstance(part.get("citations"), dict):
        block["citations"] = part["citations"]
    return block


def _decoded(text: str, where: str) -> str:
    try:
        return base64.b64decode(text, validate=True).decode()
    except ValueError:  # what it raises for bad base64 and for bad UTF-8 alike
        raise invalid(where, "is not the base64 of a text in UTF-8") from None
