"""A request in Anthropic's own format, without the thoughts that other vendors' models had before.

The gateway tells clients of this format of those, too, in thinking blocks, and they come back with the
conversation to whichever vendor answers next. Anthropic refuses thinking that it has not signed itself:
https://platform.claude.com/docs/en/build-with-claude/extended-thinking#preserving-thinking-blocks
"""

from collections.abc import Mapping, Sequence
from typing import Any

from providers.dialects.anthropic.models import traits_of

_SIGNED_IN = {"thinking": "signature", "redacted_thinking": "data"}


def is_own(signature: Any) -> bool:
    """May Anthropic have signed this? It does in base64; another vendor's signature begins "gemini:"."""
    return isinstance(signature, str) and bool(signature) and ":" not in signature


def without_foreign_thoughts(
    sent: Mapping[str, Any], raw: bytes, model: str
) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """Return the request as `model` takes it, and the parameters that it lost.

    It is the same object where nothing foreign is in it. A turn that thought of nothing else is left out, and
    so is `thinking` where Claude would miss the thoughts before the results of tools.
    """
    turns = sent.get("messages")
    if not isinstance(turns, list) or b"thinking" not in raw:
        return sent, ()
    signs = traits_of(model).signs
    kept = [each for turn in turns for each in _without_foreign(turn, signs=signs)]
    if kept == turns:
        return sent, ()
    request = {**sent, "messages": kept}
    config = sent.get("thinking")
    if isinstance(config, dict) and config.get("type") == "enabled" and _lacks_thinking(kept):
        del request["thinking"]
        return request, ("thinking",)
    return request, ()


def _without_foreign(turn: Any, *, signs: bool) -> list[Any]:
    """Return the turn with what is left of it: nothing where that is nothing."""
    content = turn.get("content") if isinstance(turn, dict) else None
    if not isinstance(content, list) or turn.get("role") != "assistant":
        return [turn]
    kept = [block for block in content if not _is_foreign(block, signs=signs)]
    if len(kept) == len(content):
        return [turn]
    return [{**turn, "content": kept}] if kept else []


def _is_foreign(block: Any, *, signs: bool) -> bool:
    kind = block.get("type") if isinstance(block, dict) else None
    if not isinstance(kind, str) or kind not in _SIGNED_IN:
        return False
    signature = block.get(_SIGNED_IN[kind])
    # Other servers of this format may not sign theirs, and want them back all the same.
    return not is_own(signature) and (signs or bool(signature))


def _lacks_thinking(turns: Sequence[Any]) -> bool:
    """Does it end in results of tools that a turn without thinking has asked for?"""
    if len(turns) < 2:
        return False
    asked, answered = _types(turns[-2]), _types(turns[-1])
    return "tool_result" in answered and not (asked and asked[0] in _SIGNED_IN)


def _types(turn: Any) -> list[str]:
    content = turn.get("content") if isinstance(turn, dict) else None
    blocks = content if isinstance(content, list) else []
    return [str(block.get("type")) for block in blocks if isinstance(block, dict)]
