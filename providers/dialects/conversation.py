"""Reads a canonical conversation for vendors whose messages look much like OpenAI's, checking as it goes.

What a client sends is only lightly checked before: a field of the wrong type is refused here by its name.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from providers.canonical import reasoning_in
from providers.dialects.params import invalid, unsupported
from providers.upstream import Upstream

_ROLES = frozenset({"system", "user", "assistant", "tool"})


class ToolCall(NamedTuple):
    """One call of an assistant's message. `where` names it in errors."""

    id: str
    name: str
    source: Mapping[str, Any]
    where: str


def messages_in(body: Mapping[str, Any], upstream: Upstream) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Yield each message after its name for errors and its role: system, user, assistant or tool."""
    messages = body.get("messages")
    if not isinstance(messages, list):
        raise invalid("messages", "must be a list")
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        if not isinstance(message, dict):
            raise invalid(where, "must be an object")
        role = "system" if message.get("role") == "developer" else message.get("role")
        if not isinstance(role, str) or role not in _ROLES:
            raise unsupported(f"{where}.role", upstream)
        for name in (
            "function_call",
            "audio",
        ):  # the call or the answer itself, in a form no other vendor has
            if message.get(name) is not None:
                raise unsupported(f"{where}.{name}", upstream)
        yield where, role, message


def parts_of(message: Mapping[str, Any], where: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield each part of a message's content after its name for errors; a string is one text part."""
    content = message.get("content")
    if content is None:
        return
    if isinstance(content, str):
        yield f"{where}.content", {"type": "text", "text": content}
        return
    if not isinstance(content, list):
        raise invalid(f"{where}.content", "must be a string or a list of parts")
    for index, part in enumerate(content):
        named = f"{where}.content[{index}]"
        if not isinstance(part, dict) or not isinstance(part.get("type"), str):
            raise invalid(named, "must be an object with a 'type'")
        yield named, part


def text_of_part(part: Mapping[str, Any], where: str) -> str | None:
    """Return the text of a text part, or of a refusal that stands in its place; None of any other part."""
    kind = part["type"]
    if kind not in ("text", "refusal"):
        return None
    text = part.get(kind)
    if not isinstance(text, str):
        raise invalid(f"{where}.{kind}", "must be a string")
    return text


def thought_in(message: Mapping[str, Any]) -> str:
    """Return what an assistant's message says of its thinking, as text.

    Signatures stay behind: those of one vendor are refused by another.
    """
    thought = reasoning_in(message)
    blocks = message.get("thinking_blocks")
    if thought or not isinstance(blocks, list):
        return thought
    texts = [block.get("thinking") for block in blocks if isinstance(block, dict)]
    return "".join(text for text in texts if isinstance(text, str))


def calls_in(message: Mapping[str, Any], where: str, upstream: Upstream) -> list[ToolCall]:
    """Return the tool calls of an assistant's message."""
    calls = message.get("tool_calls")
    if calls is None:
        return []
    if not isinstance(calls, list):
        raise invalid(f"{where}.tool_calls", "must be a list")
    return [_call(call, f"{where}.tool_calls[{index}]", upstream) for index, call in enumerate(calls)]


def tools_in(body: Mapping[str, Any], upstream: Upstream, *, strict: bool) -> list[dict[str, Any]]:
    """Return the function tools as OpenAI documents them, nothing else in them.

    `strict`: the vendor knows tools whose calls must fit their schema.
    """
    tools = body.get("tools")
    if tools is None:
        return []
    if not isinstance(tools, list):
        raise invalid("tools", "must be a list")
    kept = ("description", "strict") if strict else ("description",)
    return [_tool(tool, f"tools[{index}]", upstream, kept=kept) for index, tool in enumerate(tools)]


def choice_in(body: Mapping[str, Any], tools: Sequence[Mapping[str, Any]]) -> Any:
    """Return `tool_choice`; what is to be called must be given."""
    choice = body.get("tool_choice")
    if not tools and choice not in (None, "auto", "none"):
        raise invalid("tool_choice", "is only allowed when 'tools' are given")
    return choice


def chosen_name(choice: Any) -> str | None:
    """Return the function that a `tool_choice` names; None when it is of another kind."""
    function = (
        choice.get("function") if isinstance(choice, dict) and choice.get("type") == "function" else None
    )
    name = function.get("name") if isinstance(function, dict) else None
    return name if isinstance(name, str) else None


def output_limit(body: Mapping[str, Any]) -> Any:
    """Return how many tokens may be written, under whichever of its two names; None for no limit."""
    newer = body.get("max_completion_tokens")
    return body.get("max_tokens") if newer is None else newer


def _call(call: Any, where: str, upstream: Upstream) -> ToolCall:
    if not isinstance(call, dict):
        raise invalid(where, "must be an object")
    if call.get("type") not in (None, "function"):
        raise unsupported(f"{where}.type", upstream)
    function, identity = call.get("function"), call.get("id")
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise invalid(f"{where}.function", "must be an object with a 'name'")
    if not isinstance(identity, (str, type(None))):
        raise invalid(f"{where}.id", "must be a string")
    return ToolCall(id=identity or "", name=function["name"], source=call, where=where)


def _tool(tool: Any, where: str, upstream: Upstream, *, kept: Sequence[str]) -> dict[str, Any]:
    if not isinstance(tool, dict):
        raise invalid(where, "must be an object")
    if tool.get("type") not in (None, "function"):
        raise unsupported(f"{where}.type", upstream, "Only functions are supported.")
    function = tool.get("function")
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise invalid(f"{where}.function", "must be an object with a 'name'")
    parameters = function.get("parameters")
    if not isinstance(parameters, (dict, type(None))):
        raise invalid(f"{where}.function.parameters", "must be an object")
    said: dict[str, Any] = {"name": function["name"]}
    said |= {name: function[name] for name in kept if function.get(name) is not None}
    # Optional at OpenAI, required by others: a function without parameters.
    said["parameters"] = {"type": "object", "properties": {}} if parameters is None else parameters
    return {"type": "function", "function": said}
