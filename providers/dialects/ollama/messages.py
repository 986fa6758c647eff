"""Canonical messages to Ollama's: content is a string, images stand beside it, arguments are objects.

https://docs.ollama.com/api/chat
"""

from collections.abc import Mapping, Sequence
from typing import Any

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
from providers.dialects.toolcalls import arguments_of
from providers.upstream import Upstream


def messages_of(body: Mapping[str, Any], upstream: Upstream) -> list[dict[str, Any]]:
    """Return all messages. Raises UnsupportedParameter."""
    names: dict[str, str] = {}  # of the functions called so far, by the calls' ids
    messages = []
    for where, role, message in messages_in(body, upstream):
        # An answer may have been cut in the middle of a sentence, as Anthropic's is at citations.
        between = "" if role == "assistant" else "\n"
        sent = {"role": role, **_content(message, where, upstream, between=between)}
        if role == "assistant":
            calls = calls_in(message, where, upstream)
            names.update({call.id: call.name for call in calls})
            sent |= _assistant(message, calls)
        elif role == "tool":
            sent |= _answered(message, where, names)
        messages.append(sent)
    return messages


def _assistant(message: Mapping[str, Any], calls: Sequence[ToolCall]) -> dict[str, Any]:
    sent: dict[str, Any] = {}
    thought = thought_in(message)
    if thought:
        sent["thinking"] = thought
    if calls:
        sent["tool_calls"] = [
            {
                **({"id": call.id} if call.id else {}),
                "function": {"name": call.name, "arguments": arguments_of(call.source, call.where)},
            }
            for call in calls
        ]
    return sent


def _answered(message: Mapping[str, Any], where: str, names: Mapping[str, str]) -> dict[str, Any]:
    """Return which call a tool's message answers: Ollama's templates go by the function's name."""
    identity, name = message.get("tool_call_id"), message.get("name")
    if not isinstance(identity, (str, type(None))):
        raise invalid(f"{where}.tool_call_id", "must be a string")
    name = names.get(identity or "") or (name if isinstance(name, str) else "")
    answered = {"tool_name": name, "tool_call_id": identity}
    return {field: value for field, value in answered.items() if value}


def _content(message: Mapping[str, Any], where: str, upstream: Upstream, *, between: str) -> dict[str, Any]:
    texts, images = [], []
    for named, part in parts_of(message, where):
        text = text_of_part(part, named)
        if text is not None:
            texts.append(text)
        else:
            images.append(_image(part, named, upstream))
    sent: dict[str, Any] = {"content": between.join(texts)}
    if images:
        sent["images"] = images
    return sent


def _image(part: Mapping[str, Any], where: str, upstream: Upstream) -> str:
    """Return bare base64. Sounds go the same way: https://github.com/ollama/ollama (openai/openai.go)."""
    if part["type"] not in ("image_url", "input_audio"):
        raise unsupported(where, upstream)
    media = media_of(part, where)
    if media.url:
        raise unsupported(where, upstream, "Ollama fetches no URLs: send the image as a data URL.")
    if not media.base64:
        raise invalid(where, "must hold base64 data")
    if part["type"] == "image_url" and not media.mime.startswith("image/"):
        raise invalid(where, "is not an image")
    return media.base64
