"""What the readers of Anthropic's request share: refusals, and the note of what no other format can say."""

from collections.abc import Iterator, Mapping
from typing import Any

from providers.call import Untranslatable
from proxy.errors import BadRequest


class NativeOnly:
    """The first thing found in a request that only Anthropic's own format can say."""

    def __init__(self) -> None:
        """Nothing so far."""
        self.first: Untranslatable | None = None

    def note(self, param: str, message: str) -> None:
        """Note one thing; `param` names it."""
        if self.first is None:
            self.first = Untranslatable(param, message)


def wrong(param: str, rule: str) -> BadRequest:
    """Return the refusal of a field that breaks a rule ("must be a string")."""
    return BadRequest(f"'{param}' {rule}.", param=param)


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
