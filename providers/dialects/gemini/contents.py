"""Canonical messages to Gemini's `systemInstruction` and `contents`.

The roles are user and model, and successive messages of one role are one content. The results of parallel
calls stand in one content, in the calls' order; a result is an object, {"output": ...} or {"error": ...}
where the tool said something else. System messages go into the instruction, wherever they stand.
https://ai.google.dev/api/caching#Content, https://ai.google.dev/gemini-api/docs/function-calling
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from providers.canonical import parts_in, text_in
from providers.dialects.gemini.media import media_part
from providers.dialects.gemini.signatures import PLACEHOLDER, signature_of, signatures_in
from providers.dialects.params import invalid
from providers.dialects.toolcalls import arguments_of
from providers.errors import UnsupportedParameter

_USER, _MODEL, _TOOL = "user", "model", "tool"
_ROLES = {_USER: "user", _MODEL: "model", _TOOL: "user"}
Part = dict[str, Any]
_NO_TEXT: Part = {"text": ""}


@dataclass(slots=True)
class _Turn:
    """Parts of one kind of speaker. `places` are a tool turn's results' places among the calls."""

    kind: str
    parts: list[Part] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    beside: list[Part] = field(default_factory=list)

    def content(self) -> dict[str, Any]:
        """Return Gemini's content."""
        if self.kind == _TOOL:
            in_order = sorted(range(len(self.parts)), key=lambda at: self.places[at])
            parts = [*(self.parts[at] for at in in_order), *self.beside]
        else:
            # Vertex AI refuses an empty text ("must have a text parameter"); beside others it says nothing.
            parts = [part for part in self.parts if part != _NO_TEXT] or self.parts[:1]
        return {"role": _ROLES[self.kind], "parts": parts}


class Conversation:
    """Messages, taken one by one.

    `gemini_3`: the model demands signatures and takes media inside a tool's result. `ids`: the endpoint
    knows ids of calls (Vertex AI matches by name and order alone).
    """

    def __init__(self, *, gemini_3: bool, ids: bool) -> None:
        """Start without a message."""
        self._gemini_3 = gemini_3
        self._ids = ids
        self._system: list[Part] = []
        self._turns: list[_Turn] = []
        self._calls = 0
        self._called: dict[str, tuple[str, int]] = {}  # a call's function and place, by its id

    def take(self, message: Any, where: str) -> None:
        """Add the next message; `where` names it in errors. Raises UnsupportedParameter."""
        if not isinstance(message, dict):
            raise invalid(where, "must be an object")
        role = message.get("role")
        if role in ("system", "developer"):
            self._system += _system_parts(message.get("content"), f"{where}.content")
        elif role == "user":
            self._turn(_USER).parts += _user_parts(message.get("content"), f"{where}.content")
        elif role == "assistant":
            self._take_answer(message, where)
        elif role == "tool":
            self._take_result(message, where)
        else:
            raise UnsupportedParameter(f"{where}.role", f"'{where}.role' is not a role that Gemini knows.")

    def system_instruction(self) -> dict[str, Any] | None:
        """Return the instruction; None where there is none, or nothing else."""
        return {"parts": self._system} if self._system and self._turns else None

    def contents(self) -> list[dict[str, Any]]:
        """Return the turns. A conversation of nothing but instructions is one of the user's."""
        if not self._turns:
            return [{"role": "user", "parts": self._system or [{"text": ""}]}]
        if self._gemini_3:
            self._sign()
        return [turn.content() for turn in self._turns]

    def _turn(self, kind: str) -> _Turn:
        if not self._turns or self._turns[-1].kind != kind:
            self._turns.append(_Turn(kind))
        return self._turns[-1]

    def _take_answer(self, message: Mapping[str, Any], where: str) -> None:
        for name in ("function_call", "audio"):
            if message.get(name):
                raise UnsupportedParameter(f"{where}.{name}", f"'{where}.{name}' has no form in Gemini.")
        signatures = signatures_in(message)
        parts = _answer_parts(message, where)
        texts = [part for part in parts if "text" in part]
        calls = []
        for place, call in enumerate(_listed(message.get("tool_calls"), f"{where}.tool_calls")):
            calls.append(self._call(call, f"{where}.tool_calls[{place}]", signatures.of_calls))
        if signatures.of_text:
            unsigned = calls[:1] if calls and "thoughtSignature" not in calls[0] else []
            holder = texts[-1:] or unsigned
            if holder:
                holder[0]["thoughtSignature"] = signatures.of_text
            elif not calls:  # Gemini itself sends signatures on parts without text
                parts.append({"text": "", "thoughtSignature": signatures.of_text})
        if parts or calls:
            self._turn(_MODEL).parts += [*parts, *calls]

    def _call(self, call: Any, where: str, signatures: Mapping[str, str]) -> Part:
        function = call.get("function") if isinstance(call, dict) else None
        name = function.get("name") if isinstance(function, dict) else None
        if not isinstance(name, str) or not name:
            raise invalid(f"{where}.function.name", "must be the name of a function")
        part: Part = {"functionCall": {"name": name, "args": arguments_of(call, where)}}
        signature = signature_of(call)
        call_id = call.get("id")
        if isinstance(call_id, str) and call_id:
            self._calls += 1
            self._called[call_id] = (name, self._calls)
            signature = signature or signatures.get(call_id, "")
            if self._ids:
                part["functionCall"]["id"] = call_id
        if signature:
            part["thoughtSignature"] = signature
        return part

    def _take_result(self, message: Mapping[str, Any], where: str) -> None:
        call_id = message.get("tool_call_id")
        known = self._called.get(call_id) if isinstance(call_id, str) else None
        name = message.get("name") if known is None else known[0]
        if not isinstance(name, str) or not name:
            raise invalid(f"{where}.tool_call_id", "does not name a tool call of this conversation")
        parts = _parts(message.get("content"), f"{where}.content")
        text = text_in([part for _, part in parts])
        failed = message.get("is_error") is True
        result: Part = {"name": name, "response": {"error": text} if failed else _response(text)}
        if self._ids and known is not None:
            result["id"] = call_id
        turn = self._turn(_TOOL)
        for part in [media_part(part, at) for at, part in parts if part.get("type") != "text"]:
            if self._gemini_3 and "inlineData" in part:
                result.setdefault("parts", []).append(part)
            else:  # older models see it beside the result
                turn.beside.append(part)
        turn.parts.append({"functionResponse": result})
        turn.places.append(self._calls + 1 if known is None else known[1])

    def _sign(self) -> None:
        """Put the placeholder where Gemini 3 would refuse the request: on each step of the last turn.

        That turn starts at the user's last words. Those that follow a tool's result at once may not count
        as such, so the turn before them is looked at, too.
        """
        start = 0
        for at, turn in enumerate(self._turns):
            if turn.kind == _USER and (at == 0 or self._turns[at - 1].kind != _TOOL):
                start = at
        for turn in self._turns[start:]:
            calls = [part for part in turn.parts if "functionCall" in part]
            if turn.kind == _MODEL and calls:
                calls[0].setdefault("thoughtSignature", PLACEHOLDER)


def _parts(content: Any, where: str) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the parts of a message's content, each with the name that it has in errors."""
    if content is not None and not isinstance(content, (str, list)):
        raise invalid(where, "must be a string or a list of parts")
    for place, part in enumerate(content if isinstance(content, list) else ()):
        if not isinstance(part, (str, dict)):
            raise invalid(f"{where}[{place}]", "must be a part, an object")
    return [(f"{where}[{place}]", part) for place, part in enumerate(parts_in(content))]


def _system_parts(content: Any, where: str) -> list[Part]:
    texts = []
    for at, part in _parts(content, where):
        text = _text_part(part, at)
        if text is None:
            raise UnsupportedParameter(at, f"'{at}' must be a text: Gemini's instructions are nothing else.")
        texts.append(text)
    return [text for text in texts if text["text"]]


def _user_parts(content: Any, where: str) -> list[Part]:
    parts = [_text_part(part, at) or media_part(part, at) for at, part in _parts(content, where)]
    return parts or [_NO_TEXT]


def _answer_parts(message: Mapping[str, Any], where: str) -> list[Part]:
    content = message.get("content")
    parts = [part for part in _user_parts(content, f"{where}.content") if part != _NO_TEXT]
    if isinstance(message.get("refusal"), str) and message["refusal"]:
        parts.append({"text": message["refusal"]})
    for place, image in enumerate(_listed(message.get("images"), f"{where}.images")):
        parts.append(media_part(image, f"{where}.images[{place}]"))
    return parts


def _text_part(part: Mapping[str, Any], where: str) -> Part | None:
    if part.get("type") not in ("text", "refusal"):
        return None
    text = part.get(part["type"])
    if not isinstance(text, str):
        raise invalid(where, "must have a text")
    return {"text": text}


def _response(text: str) -> dict[str, Any]:
    """Return a result as the object that Gemini wants: the tool's own, where it said one."""
    if text.lstrip()[:1] == "{":
        try:
            value = orjson.loads(text)
        except orjson.JSONDecodeError:
            value = None
        if isinstance(value, dict):
            return value
    return {"output": text}


def _listed(value: Any, where: str) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise invalid(where, "must be a list")
    return value
