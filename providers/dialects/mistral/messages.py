"""Canonical messages to Mistral's, which has OpenAI's roles but refuses every field that it does not know.

https://docs.mistral.ai/api/endpoint/chat
"""

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from providers.dialects.call_ids import nine_letters
from providers.dialects.conversation import (
    ToolCall,
    calls_in,
    messages_in,
    parts_of,
    text_of_part,
    thought_in,
)
from providers.dialects.media import media_of
from providers.dialects.params import invalid, unsupported
from providers.upstream import Upstream

# Mistral's own parts, taken as they come: the name of each is also that of what it must hold.
_OWN_PARTS: Mapping[str, tuple[str, ...]] = {
    "document_url": ("document_url", "document_name"),
    "reference": ("reference_ids",),
    "thinking": ("thinking", "signature", "closed"),
}


def messages_of(body: Mapping[str, Any], upstream: Upstream) -> list[dict[str, Any]]:
    """Return all messages. Raises UnsupportedParameter."""
    messages = _in_order(
        _message(role, message, where, upstream) for where, role, message in messages_in(body, upstream)
    )
    if messages and messages[-1]["role"] == "assistant" and not messages[-1].get("tool_calls"):
        # Any other assistant's message at the end is refused: "Expected last role User or Tool (or Assistant
        # with prefix True)". https://docs.mistral.ai/studio-api/conversations/chat-completion
        messages[-1]["prefix"] = True
    return messages


def _in_order(messages: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the messages in an order that Mistral takes.

    "Unexpected role 'system' after role 'assistant'" (or 'tool'): such instructions go to the first ones.
    https://github.com/mistralai/mistral-common (protocol/instruct/validator.py)
    """
    late: list[dict[str, Any]] = []
    ordered: list[dict[str, Any]] = []
    for message in messages:
        before = ordered[-1]["role"] if ordered else ""
        if message["role"] == "system" and before in ("assistant", "tool"):
            late.append(message)
        else:
            ordered.append(message)
    first = next((at for at, message in enumerate(ordered) if message["role"] != "system"), len(ordered))
    return [*ordered[:first], *late, *ordered[first:]]


def _message(role: str, message: Mapping[str, Any], where: str, upstream: Upstream) -> dict[str, Any]:
    content = _content(message, where, upstream)
    if role == "assistant":
        return _assistant(message, content, where, upstream)
    sent: dict[str, Any] = {"role": role, "content": content}
    if role == "tool":
        identity = message.get("tool_call_id")
        if not isinstance(identity, str):
            raise invalid(f"{where}.tool_call_id", "must be a string")
        sent["tool_call_id"] = nine_letters(identity)
    return sent


def _assistant(message: Mapping[str, Any], content: Any, where: str, upstream: Upstream) -> dict[str, Any]:
    thought = thought_in(message)
    if thought:
        # "Always replay the full assistant message (including ThinkChunk)":
        # https://docs.mistral.ai/studio-api/conversations/reasoning
        text = [{"type": "text", "text": content}] if isinstance(content, str) and content else content or []
        content = [{"type": "thinking", "thinking": [{"type": "text", "text": thought}]}, *text]
    sent: dict[str, Any] = {"role": "assistant", "content": content}
    calls = calls_in(message, where, upstream)
    if calls:
        sent["tool_calls"] = [_call(call) for call in calls]
    return sent


def _call(call: ToolCall) -> dict[str, Any]:
    arguments = call.source["function"].get("arguments")
    if isinstance(arguments, dict):
        arguments = orjson.dumps(arguments).decode()
    if not isinstance(arguments, (str, type(None))):
        raise invalid(f"{call.where}.function.arguments", "must be the text of a JSON object")
    return {
        "id": nine_letters(call.id),
        "type": "function",
        "function": {"name": call.name, "arguments": arguments or "{}"},
    }


def _content(message: Mapping[str, Any], where: str, upstream: Upstream) -> Any:
    content = message.get("content")
    if isinstance(content, (str, type(None))):
        return content or ""
    return [_part(part, named, upstream) for named, part in parts_of(message, where)]


def _part(part: Mapping[str, Any], where: str, upstream: Upstream) -> dict[str, Any]:
    text = text_of_part(part, where)
    if text is not None:
        return {"type": "text", "text": text}
    kind = part["type"]
    if kind == "image_url":
        return _image(part, where)
    if kind == "input_audio":
        return _audio(part, where)
    if kind == "file":
        return _file(part, where)
    if kind in _OWN_PARTS:
        return {"type": kind, **{name: part[name] for name in _OWN_PARTS[kind] if name in part}}
    raise unsupported(where, upstream)


def _image(part: Mapping[str, Any], where: str) -> dict[str, Any]:
    holder = part.get("image_url")
    if isinstance(holder, str):  # Mistral's own short form
        holder = {"url": holder}
    if not isinstance(holder, dict) or not isinstance(holder.get("url"), str):
        raise invalid(f"{where}.image_url", "must be an object with a 'url'")
    detail = holder.get("detail")
    sent = {"url": holder["url"]} if detail is None else {"url": holder["url"], "detail": detail}
    return {"type": "image_url", "image_url": sent}


def _audio(part: Mapping[str, Any], where: str) -> dict[str, Any]:
    # Mistral's holds the base64 text itself, or a URL:
    # https://docs.mistral.ai/studio-api/audio/speech_to_text/offline_transcription
    holder = part.get("input_audio")
    sound = holder if isinstance(holder, str) else media_of(part, where).base64
    if not sound:
        raise invalid(f"{where}.input_audio", "must hold base64 'data'")
    return {"type": "input_audio", "input_audio": sound}


def _file(part: Mapping[str, Any], where: str) -> dict[str, Any]:
    holder = part.get("file")
    identity = part.get("file_id") or (holder.get("file_id") if isinstance(holder, dict) else None)
    if isinstance(identity, str):  # of a file at Mistral
        return {"type": "file", "file_id": identity}
    media = media_of(part, where)
    url = media.url or f"data:{media.mime};base64,{media.base64}"
    named = {"document_name": media.filename} if media.filename else {}
    return {"type": "document_url", "document_url": url, **named}
