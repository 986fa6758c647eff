"""Anthropic's turns as canonical messages.

One turn of a user may hold tool results and new words: the results become messages of tools, which come
first, then the words one of the user. What a tool shows besides text (images, documents) stands in the
user's message, where every vendor takes it.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from providers.canonical import SHOWN_BELOW
from proxy.endpoints.messages_parts import Part, parts_of
from proxy.endpoints.messages_reading import blocks_at, string_at
from proxy.endpoints.native_only import NativeOnly, wrong

Message = dict[str, Any]
FAILED = "(The tool failed without a word.)"  # few vendors have a field that says so
# A line that Claude Code puts before its system prompt, other words in each request: it is for Anthropic's
# servers, and would keep every other vendor's prompt cache, and ours, from ever hitting.
BILLING = "x-anthropic-billing-header:"


def canonical_messages(body: Mapping[str, Any], native: NativeOnly) -> list[Message]:
    """Return the messages of a request, its system prompt first. Raises BadRequest."""
    turns = body.get("messages")
    if not isinstance(turns, list) or not turns:
        raise wrong("messages", "must be a list with at least one message")
    return [message for _, message in _placed(body, native)]


def places_in_turns(body: Mapping[str, Any]) -> list[str]:
    """Return of each message of `canonical_messages` what the client calls it: "system", "messages[2]"."""
    return [place for place, _ in _placed(body, NativeOnly())]


def _placed(body: Mapping[str, Any], native: NativeOnly) -> Iterator[tuple[str, Message]]:
    system = body.get("system")
    for message in () if system is None else _system(system, "system", native):
        yield "system", message
    for index, turn in enumerate(body["messages"]):
        where = f"messages[{index}]"
        for message in _turn(turn, where, native):
            yield where, message


def _turn(turn: Any, where: str, native: NativeOnly) -> list[Message]:
    if not isinstance(turn, dict):
        raise wrong(where, "must be an object")
    role = string_at(turn, "role", where)
    content, named = turn.get("content"), f"{where}.content"
    if role == "user":
        return _user(content, named, native)
    if role == "assistant":
        return [_assistant(content, named, native)]
    if role == "system":
        return _system(content, named, native)
    raise wrong(f"{where}.role", "must be 'user', 'assistant' or 'system'")


def _system(content: Any, where: str, native: NativeOnly) -> list[Message]:
    parts = [part for block, at in blocks_at(content, where) for part in parts_of(block, at, native)]
    for part in parts:
        if part.get("text", "").startswith(BILLING):
            part["text"] = part["text"].partition("\n")[2]
    told = [part for part in parts if part.get("text") != ""]
    return [{"role": "system", "content": _content(told)}] if told else []


def _user(content: Any, where: str, native: NativeOnly) -> list[Message]:
    results: list[Message] = []
    parts: list[Part] = []
    for block, at in blocks_at(content, where):
        if block["type"] == "tool_result":
            result, shown = _tool_result(block, at, native)
            results.append(result)
            parts += shown
        else:
            parts += parts_of(block, at, native)
    if parts or not results:
        results.append({"role": "user", "content": _content(parts)})
    return results


def _tool_result(block: Mapping[str, Any], where: str, native: NativeOnly) -> tuple[Message, list[Part]]:
    """Return the tool's message, and what of its result is no text."""
    content = block.get("content")
    inside = () if content is None else blocks_at(content, f"{where}.content")
    parts = [part for each, at in inside for part in parts_of(each, at, native)]
    texts = [part["text"] for part in parts if part["type"] == "text"]
    shown = [part for part in parts if part["type"] != "text"]
    message: Message = {
        "role": "tool",
        "tool_call_id": string_at(block, "tool_use_id", where),
        # A string: many servers of OpenAI's format take nothing else from a tool.
        "content": "\n".join(texts) or (SHOWN_BELOW if shown else ""),
    }
    if block.get("is_error") is True:
        message["is_error"] = True
        message["content"] = message["content"] or FAILED
    if block.get("cache_control"):
        message["cache_control"] = block["cache_control"]
    return message, shown


def _assistant(content: Any, where: str, native: NativeOnly) -> Message:
    parts: list[Part] = []
    calls: list[Message] = []
    thoughts: list[Message] = []
    for block, at in blocks_at(content, where):
        kind = block["type"]
        if kind == "tool_use":
            calls.append(_tool_call(block, at))
        elif kind == "thinking":
            text, signature = string_at(block, "thinking", at), block.get("signature")
            thoughts.append({"type": kind, "thinking": text, "signature": signature or ""})
        elif kind == "redacted_thinking":
            thoughts.append({"type": kind, "data": string_at(block, "data", at)})
        elif kind == "text":
            parts += parts_of(block, at, native)
        else:
            native.note(at, f"'{at}': content of the type {kind!r} is known to Anthropic alone.")
    return _assistant_message(parts, calls, thoughts)


def _assistant_message(
    parts: Sequence[Part], calls: Sequence[Message], thoughts: Sequence[Message]
) -> Message:
    message: Message = {"role": "assistant"}
    if any("cache_control" in part for part in parts):
        message["content"] = list(parts)
    else:
        # Anthropic cuts a text where a citation ends, in the middle of a sentence.
        message["content"] = "".join(part["text"] for part in parts) or (None if calls else "")
    text = "".join(thought.get("thinking", "") for thought in thoughts)
    if text:
        message["reasoning_content"] = text
    # One without a signature is of a vendor that wants nothing back.
    signed = [thought for thought in thoughts if thought.get("signature") or thought.get("data")]
    if signed:
        message["thinking_blocks"] = signed
    if calls:
        message["tool_calls"] = list(calls)
    return message


def _tool_call(block: Mapping[str, Any], where: str) -> Message:
    arguments = block.get("input")
    if arguments is not None and not isinstance(arguments, dict):
        raise wrong(f"{where}.input", "must be an object")
    function = {
        "name": string_at(block, "name", where),
        "arguments": orjson.dumps(arguments or {}).decode(),
    }
    return {"id": string_at(block, "id", where), "type": "function", "function": function}


def _content(parts: list[Part]) -> Any:
    """Return the parts; a single plain text is a string, as all vendors take it."""
    if not parts:
        return ""
    return parts[0]["text"] if len(parts) == 1 and parts[0].keys() == {"type", "text"} else parts
