"""The canonical form without what only other vendors say: what a vendor of plain OpenAI chat is sent.

Needed where a request came in another format (Anthropic's messages, OpenAI's responses): one that came as
OpenAI chat is the client's own, extensions and all.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from providers.canonical import SHOWN_BELOW
from providers.dialects.call_ids import short
from providers.dialects.params import IS_ERROR, objects_in

_OF_REQUEST = frozenset({"thinking"})
_OF_MESSAGE = frozenset({"cache_control", "is_error", "reasoning_content", "thinking_blocks"})
_OF_PART = frozenset({"cache_control", "citations"})
_OF_TOOL = frozenset({"cache_control"})
_EFFORT = frozenset({"reasoning_effort"})
_NEVER_REASON = re.compile(r"(?:^|/)(?:gpt-3|gpt-4|chatgpt-4)")
_OF_CALL = frozenset({"extra_content"})


def plain(body: Mapping[str, Any], *, thoughts: bool = False) -> dict[str, Any]:
    """Return a copy of a canonical request with nothing but what OpenAI documents.

    `thoughts`: and with what the model thought in earlier turns, as DeepSeek wants it back.
    https://api-docs.deepseek.com/guides/thinking_mode
    """
    request: dict[str, Any] = _without(body, _OF_REQUEST)
    beyond = _OF_MESSAGE - {"reasoning_content"} if thoughts else _OF_MESSAGE
    request["messages"] = _messages(body["messages"], beyond)
    if isinstance(body.get("tools"), list):
        request["tools"] = [_without(tool, _OF_TOOL) for tool in body["tools"]]
    return request


def unsaid(body: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what `plain` leaves out of a canonical request although it means something, for the caller."""
    thinking = body.get("thinking")
    kind = thinking.get("type") if isinstance(thinking, dict) else None
    # "adaptive" is what a reasoning model does anyway, and an effort says the rest.
    lost = [] if kind in (None, "adaptive") or body.get("reasoning_effort") else ["thinking"]
    if any(message.get("is_error") is True for message in objects_in(body.get("messages"))):
        lost.append(IS_ERROR)
    return tuple(lost)


def without_effort(body: Mapping[str, Any], model: str) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """Return a translated request without the effort that a model cannot make, and what was left out.

    Coding agents name one to every model that they do not know. Those older ones refuse it:
    "Unrecognized request argument supplied: reasoning_effort".
    """
    if "reasoning_effort" not in body or _NEVER_REASON.search(model) is None:
        return body, ()
    return _without(body, _EFFORT), tuple(_EFFORT)


def _messages(messages: Sequence[Mapping[str, Any]], beyond: frozenset[str]) -> list[dict[str, Any]]:
    """Return the messages. What tools show besides texts follows them, in a message of the user's.

    "Image URLs are only allowed for messages with role 'user'", and files likewise.
    """
    made: list[dict[str, Any]] = []
    shown: list[Any] = []
    for message in messages:
        if shown and message.get("role") != "tool":
            made.append({"role": "user", "content": shown})
            shown = []
        copied = _message(message, beyond)
        content = copied.get("content")
        if message.get("role") == "tool" and isinstance(content, list):
            texts = [part for part in content if not isinstance(part, dict) or part.get("type") == "text"]
            shown += [part for part in content if part not in texts]
            copied["content"] = _flat(texts) if texts else SHOWN_BELOW if content else ""
        made.append(copied)
    return [*made, {"role": "user", "content": shown}] if shown else made


def _message(message: Mapping[str, Any], beyond: frozenset[str]) -> dict[str, Any]:
    copied: dict[str, Any] = _without(message, beyond)
    if isinstance(message.get("tool_call_id"), str):
        copied["tool_call_id"] = short(message["tool_call_id"])
    if isinstance(message.get("content"), list):
        copied["content"] = _flat([_without(part, _OF_PART) for part in message["content"]])
    if isinstance(message.get("tool_calls"), list):
        copied["tool_calls"] = [_call(call) for call in message["tool_calls"]]
    return copied


def _call(call: Any) -> Any:
    copied = _without(call, _OF_CALL)
    if isinstance(copied, dict) and isinstance(copied.get("id"), str):
        copied["id"] = short(copied["id"])
    return copied


def _flat(parts: list[Any]) -> Any:
    """Return the parts; those that are nothing but text as one, for servers that read no list.

    DeepSeek's is one: https://github.com/BerriAI/litellm/issues/6642
    """
    texts = [part["text"] for part in parts if isinstance(part, dict) and part.keys() == {"type", "text"}]
    if not parts or len(texts) < len(parts) or not all(isinstance(text, str) for text in texts):
        return parts
    return "\n".join(texts)


def _without(value: Any, names: frozenset[str]) -> Any:
    if not isinstance(value, dict):
        return value
    return {name: each for name, each in value.items() if name not in names}
