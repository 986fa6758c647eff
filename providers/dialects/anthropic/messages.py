"""A canonical conversation as Anthropic's system prompt and alternating turns.

What OpenAI says in a message of its own (a tool's result) is a block of the user's turn here; messages in a
row of the same role are one turn. System and developer messages go into the system prompt, in order,
wherever in the conversation they stand: few models take them in between.
https://platform.claude.com/docs/en/build-with-claude/working-with-messages
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from providers.dialects.anthropic.content import Block, blocks_of, cached
from providers.dialects.anthropic.history import is_own
from providers.dialects.params import invalid
from providers.dialects.toolcalls import arguments_of
from providers.errors import UnsupportedParameter

_SYSTEM = frozenset({"system", "developer"})
_THINKING = frozenset({"thinking", "redacted_thinking"})
_NOT_IN_IDS = re.compile(r"[^a-zA-Z0-9_-]")


class Conversation(NamedTuple):
    """The system prompt's blocks, and the turns: {"role", "content": blocks}."""

    system: list[Block]
    turns: list[dict[str, Any]]

    def lacks_thinking(self) -> bool:
        """Does it go on after tool results to a turn that did not begin with its thinking?

        A model that thinks with a budget refuses that; clients of OpenAI's format rarely keep the thinking.
        https://platform.claude.com/docs/en/build-with-claude/extended-thinking#preserving-thinking-blocks
        """
        if len(self.turns) < 2 or self.turns[-1]["role"] != "user":
            return False
        asked = self.turns[-2]["content"]
        answers_tools = any(block["type"] == "tool_result" for block in self.turns[-1]["content"])
        return answers_tools and asked[0]["type"] not in _THINKING


def conversation_of(messages: Any) -> Conversation:
    """Read canonical messages. Raises UnsupportedParameter naming the first that cannot be expressed."""
    if not isinstance(messages, list):
        raise invalid("messages", "must be a list")
    system: list[Block] = []
    turns: list[dict[str, Any]] = []
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        role, blocks = _read(message, where)
        if role in _SYSTEM:
            system += blocks
        elif blocks and turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        elif blocks:
            turns.append({"role": role, "content": blocks})
    if not turns:
        if not system:
            raise invalid("messages", "must say something")
        # OpenAI answers instructions alone; Anthropic wants somebody to answer to.
        system, turns = [], [{"role": "user", "content": system}]
    for turn in turns:
        # A turn's results stand before what the user adds to them.
        turn["content"].sort(key=lambda block: block["type"] != "tool_result")
    _trim_prefill(turns)
    return Conversation(system, turns)


def _read(message: Any, where: str) -> tuple[str, list[Block]]:
    if not isinstance(message, dict):
        raise invalid(where, "must be an object with a 'role'")
    role = message.get("role")
    if role == "tool":
        return "user", [_result(message, where)]
    if role == "assistant":
        return role, _with_breakpoint(_assistant(message, where), message, where)
    if not isinstance(role, str) or (role != "user" and role not in _SYSTEM):
        raise invalid(f"{where}.role", "must be system, developer, user, assistant or tool")
    blocks = _with_breakpoint(blocks_of(message, where), message, where)
    if role in _SYSTEM and any(block["type"] != "text" for block in blocks):
        raise UnsupportedParameter(f"{where}.content", f"'{where}.content' may be text only.")
    return role, blocks


def _with_breakpoint(blocks: list[Block], message: Mapping[str, Any], where: str) -> list[Block]:
    if blocks:
        blocks[-1] = cached(blocks[-1], message, where)
    return blocks


def _assistant(message: Mapping[str, Any], where: str) -> list[Block]:
    for name in ("function_call", "audio"):
        if message.get(name):
            raise UnsupportedParameter(f"{where}.{name}", f"'{where}.{name}' cannot be said to Anthropic.")
    blocks = [*_thoughts(message), *blocks_of(message, where)]
    refusal = message.get("refusal")
    if isinstance(refusal, str) and refusal.strip():
        blocks.append({"type": "text", "text": refusal})
    calls = message.get("tool_calls")
    if calls is not None and not isinstance(calls, list):
        raise invalid(f"{where}.tool_calls", "must be a list")
    return [*blocks, *(_call(call, f"{where}.tool_calls[{i}]") for i, call in enumerate(calls or ()))]


def _thoughts(message: Mapping[str, Any]) -> Iterator[Block]:
    """Yield the thinking that Anthropic will know again; it refuses what it has not signed itself."""
    thoughts = message.get("thinking_blocks")
    for thought in thoughts if isinstance(thoughts, list) else ():
        if not isinstance(thought, dict):
            continue
        if thought.get("type") == "thinking" and is_own(thought.get("signature")):
            text = thought.get("thinking")
            yield {
                "type": "thinking",
                "thinking": text if isinstance(text, str) else "",
                "signature": thought["signature"],
            }
        elif thought.get("type") == "redacted_thinking" and is_own(thought.get("data")):
            yield {"type": "redacted_thinking", "data": thought["data"]}


def _call(call: Any, where: str) -> Block:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise invalid(where, "must be the call of a function, with its name")
    return {
        "type": "tool_use",
        "id": _id(call.get("id"), f"{where}.id"),
        "name": function["name"],
        "input": arguments_of(call, where),
    }


def _result(message: Mapping[str, Any], where: str) -> Block:
    block: Block = {
        "type": "tool_result",
        "tool_use_id": _id(message.get("tool_call_id"), f"{where}.tool_call_id"),
    }
    content = message.get("content")
    if not isinstance(content, str):
        content = blocks_of(message, where)
    elif not content.strip():
        content = ""
    if content:
        block["content"] = content
    if message.get("is_error") is True:
        block["is_error"] = True
    return cached(block, message, where)


def _id(value: Any, where: str) -> str:
    """Return a call's id in Anthropic's alphabet: other vendors' have colons and dots."""
    if not isinstance(value, str) or not value:
        raise invalid(where, "must be a string that is not empty")
    return _NOT_IN_IDS.sub("_", value)


def _trim_prefill(turns: Sequence[dict[str, Any]]) -> None:
    """Make the beginning of an answer, a last turn of the assistant's, one that Anthropic goes on from.

    It may neither end in white space nor hold thinking.
    """
    last = turns[-1]
    if last["role"] != "assistant":
        return
    blocks = [block for block in last["content"] if block["type"] not in _THINKING] or last["content"]
    if blocks[-1]["type"] == "text":
        blocks[-1] = {**blocks[-1], "text": blocks[-1]["text"].rstrip()}
    last["content"] = blocks
