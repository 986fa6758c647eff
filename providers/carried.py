"""What clients of the Responses format carry from turn to turn for vendors other than OpenAI.

A model that thinks wants its signed thoughts back with the results of its tools (providers.canonical,
`thinking_blocks` and `extra_content`). The client keeps them for us: as the `encrypted_content` of a
reasoning item, which clients send back unread, and as `extra_content` of a function call. OpenAI would refuse
both, so they are taken out where a conversation goes on there.
"""

import base64
import binascii
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

MARK = "gw1."
EXTRA = "extra_content"
# The types of blocks, and the fields of each; all of them text.
_FIELDS: Mapping[str, tuple[str, ...]] = {
    "thinking": ("thinking", "signature"),
    "redacted_thinking": ("data",),
}


def carry(blocks: Iterable[Any]) -> str:
    """Return thinking blocks as a reasoning item's `encrypted_content`."""
    kept = [block for block in map(_block, blocks) if block is not None]
    return MARK + base64.b64encode(orjson.dumps({"thinking_blocks": kept})).decode()


def carried(content: Any) -> list[dict[str, str]] | None:
    """Return the thinking blocks in an `encrypted_content`; None when it is another's. Raises ValueError."""
    if not isinstance(content, str) or not content.startswith(MARK):
        return None
    try:
        blocks = orjson.loads(base64.b64decode(content.removeprefix(MARK), validate=True))["thinking_blocks"]
        return [block for block in map(_block, blocks) if block is not None]
    except (binascii.Error, orjson.JSONDecodeError, KeyError, TypeError) as problem:
        raise ValueError("not what was given to the client") from problem


def without_carried(body: Mapping[str, Any], raw: bytes) -> Mapping[str, Any]:
    """Return a Responses request as OpenAI may see it: the same object where nothing was carried in it."""
    items = body.get("input")
    if not isinstance(items, list) or not (MARK.encode() in raw or EXTRA.encode() in raw):
        return body
    kept = [_plain(item) for item in items if not _is_ours(item)]
    return body if kept == items else {**body, "input": kept}


def _is_ours(item: Any) -> bool:
    content = item.get("encrypted_content") if isinstance(item, dict) else None
    return isinstance(content, str) and content.startswith(MARK)


def _plain(item: Any) -> Any:
    if not isinstance(item, dict) or item.get("type") != "function_call" or EXTRA not in item:
        return item
    return {name: value for name, value in item.items() if name != EXTRA}


def _block(block: Any) -> dict[str, str] | None:
    fields = _FIELDS.get(str(block.get("type"))) if isinstance(block, dict) else None
    if fields is None:
        return None
    texts = {name: block[name] for name in fields if isinstance(block.get(name), str)}
    return {"type": block["type"], **texts}
