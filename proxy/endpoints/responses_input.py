"""The input of a Responses request as chat messages.

Items that the model made in one go (a reasoning item, a message, function calls) are one assistant's
message. What the client carries for a vendor that thinks goes back into it (providers.carried).
"""

from collections.abc import Mapping
from typing import Any

from providers.canonical import text_in
from providers.carried import EXTRA, carried
from proxy.endpoints.native_only import NativeOnly, wrong
from proxy.endpoints.responses_parts import content_of

_ROLES = frozenset({"user", "assistant", "system", "developer"})


def messages_of(sent: Mapping[str, Any], native: NativeOnly) -> list[dict[str, Any]]:
    """Return the messages that `instructions` and `input` say. Raises BadRequest."""
    return _read(sent, native).all()


def places_in_input(sent: Mapping[str, Any]) -> list[str]:
    """Return of each of those messages what the client calls it: "instructions", "input[2]"."""
    turns = _read(sent, NativeOnly())
    turns.all()
    return turns.places


def _read(sent: Mapping[str, Any], native: NativeOnly) -> "_Turns":
    turns = _Turns(native)
    instructions, items = sent.get("instructions"), sent.get("input")
    if instructions is not None and not isinstance(instructions, str):
        raise wrong("instructions", "must be a string")
    if instructions:
        turns.say({"role": "system", "content": instructions}, "instructions")
    if isinstance(items, str):
        turns.say({"role": "user", "content": items}, "input")
    elif isinstance(items, list) and items:
        for index, item in enumerate(items):
            turns.add(item, f"input[{index}]")
    elif items is not None or native.found is None:  # a stored prompt or conversation needs no input
        raise wrong("input", "must be a string or a list that is not empty")
    return turns


class _Turns:
    """The messages so far, each one's place in the request, and the assistant's turn that may go on."""

    def __init__(self, native: NativeOnly) -> None:
        self._native = native
        self.places: list[str] = []
        self._messages: list[dict[str, Any]] = []
        self._turn: dict[str, Any] = {}
        self._turn_place = ""

    def all(self) -> list[dict[str, Any]]:
        """Return the messages, the last turn included."""
        self._end_turn()
        return self._messages

    def say(self, message: dict[str, Any], where: str) -> None:
        """Add the message of somebody else than the assistant."""
        self._end_turn()
        self._messages.append(message)
        self.places.append(where)

    def add(self, item: Any, where: str) -> None:
        """Add an item. Raises BadRequest."""
        if not isinstance(item, dict):
            raise wrong(where, "must be an object")
        kind = item.get("type")
        if kind is None:  # what may be left out: a message's type, and that of a reference
            kind = "message" if "role" in item else "item_reference"
        if not isinstance(kind, str):
            raise wrong(f"{where}.type", "must be a string")
        before = self._turn or None
        self._add(kind, item, where)
        if self._turn and self._turn is not before:
            self._turn_place = where

    def _add(self, kind: str, item: Mapping[str, Any], where: str) -> None:
        if kind == "message":
            self._add_message(item, where)
        elif kind == "function_call":
            self._add_call(item, where)
        elif kind == "function_call_output":
            self._add_output(item, where)
        elif kind == "reasoning":
            self._add_reasoning(item, where)
        elif kind == "item_reference":
            self._native.note(where, "It names an item that OpenAI has stored; send the item itself.")
        else:
            self._native.note(f"{where}.type", f"Items of type {kind!r} are known to OpenAI alone.")

    def _add_message(self, item: Mapping[str, Any], where: str) -> None:
        role = item.get("role")
        if not isinstance(role, str):
            raise wrong(f"{where}.role", "must be a string")
        if role not in _ROLES:
            self._native.note(f"{where}.role", f"The role {role!r} is known to OpenAI alone.")
            return
        content = content_of(item.get("content"), f"{where}.content", self._native)
        if role != "assistant":
            self.say({"role": role, "content": content}, where)
            return
        if "content" not in self._turn:
            self._turn["content"] = content
        elif self._turn.get("tool_calls"):  # words after a call belong to the same turn
            self._turn["content"] = [*_parts(self._turn["content"]), *_parts(content)]
        else:
            self._end_turn()
            self._turn["content"] = content

    def _add_call(self, item: Mapping[str, Any], where: str) -> None:
        fields = {name: _text(item, name, where) for name in ("call_id", "name", "arguments")}
        function = {"name": fields["name"], "arguments": fields["arguments"]}
        call: dict[str, Any] = {"id": fields["call_id"], "type": "function", "function": function}
        if isinstance(item.get(EXTRA), dict):
            call[EXTRA] = item[EXTRA]
        self._turn.setdefault("tool_calls", []).append(call)

    def _add_output(self, item: Mapping[str, Any], where: str) -> None:
        """Add a call's output behind its call and the other outputs, whatever was said in the meantime.

        OpenAI takes responses in any order; in a chat the results follow their calls at once.
        """
        content = content_of(item.get("output"), f"{where}.output", self._native)
        call_id = _text(item, "call_id", where)
        self._end_turn()
        at = len(self._messages)
        while at and call_id not in _called_in(self._messages[at - 1]):
            at -= 1
        while at < len(self._messages) and self._messages[at]["role"] == "tool":
            at += 1
        result = {"role": "tool", "tool_call_id": call_id, "content": content}
        at = at or len(self._messages)
        self._messages.insert(at, result)
        self.places.insert(at, where)

    def _add_reasoning(self, item: Mapping[str, Any], where: str) -> None:
        try:
            blocks = carried(item.get("encrypted_content"))
        except ValueError:
            raise wrong(f"{where}.encrypted_content", "is not what this gateway gave") from None
        if "content" in self._turn and not self._turn.get("tool_calls"):
            self._end_turn()  # thoughts between words and a call stay between them
        text = "".join(text_in(item.get(name)) for name in ("summary", "content"))
        if text:
            self._turn["reasoning_content"] = self._turn.get("reasoning_content", "") + text
        if blocks:
            self._turn.setdefault("thinking_blocks", []).extend(blocks)

    def _end_turn(self) -> None:
        """Add the assistant's message; thoughts that led to nothing are left out."""
        turn, self._turn = self._turn, {}
        if "content" in turn or "tool_calls" in turn:
            self._messages.append({"role": "assistant", "content": None, **turn})
            self.places.append(self._turn_place)


def _called_in(message: Mapping[str, Any]) -> list[str]:
    return [call["id"] for call in message.get("tool_calls") or ()]


def _text(item: Mapping[str, Any], name: str, where: str) -> str:
    value = item.get(name)
    if not isinstance(value, str):
        raise wrong(f"{where}.{name}", "must be a string")
    return value


def _parts(content: Any) -> list[Any]:
    return content if isinstance(content, list) else [{"type": "text", "text": content}]
