"""Reads the fields of Anthropic's blocks, refusing by name what has another type."""

from collections.abc import Iterator, Mapping
from typing import Any

from proxy.endpoints.native_only import wrong


def object_at(body: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    """Return an object that may be missing. Raises BadRequest."""
    value = body.get(name)
    if value is not None and not isinstance(value, dict):
        raise wrong(name, "must be an object")
    return value


def string_at(block: Mapping[str, Any], name: str, where: str) -> str:
    """Return a field that must be a string. Raises BadRequest."""
    value = block.get(name)
    if not isinstance(value, str):
        raise wrong(f"{where}.{name}", "must be a string")
    return value


def blocks_at(content: Any, where: str) -> Iterator[tuple[Mapping[str, Any], str]]:
    """Yield each block of a content, and what names it in errors; a string is one text. Raises BadRequest."""
    if isinstance(content, str):
        yield {"type": "text", "text": content}, where
        return
    if not isinstance(content, list):
        raise wrong(where, "must be a string or a list of content blocks")
    for index, block in enumerate(content):
        named = f"{where}[{index}]"
        if not isinstance(block, dict):
            raise wrong(named, "must be an object")
        string_at(block, "type", named)
        yield block, named
