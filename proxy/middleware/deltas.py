"""Redacts one choice of a stream: each of its texts is scanned by itself, in the order in which they come.

When the choice goes on to something else (from thought to words, from words to a call) what is held of the
former is let go first, as the end of it. What a delta has beyond the fields known here is kept if it is a
string (and scanned), a number or null; an object or a list is withheld, because text could hide in it.
"""

from collections.abc import Hashable, Mapping
from typing import Any

from providers.canonical import begins_another
from proxy.middleware.arguments import ArgumentsScanner
from proxy.middleware.patterns import Kinds
from proxy.middleware.scanner import Scanner
from proxy.middleware.walking import Walk

THOUGHT, WORDS, CALLS = "thought", "words", "calls"
Delta = dict[str, Any]
_THOUGHTS = frozenset({"reasoning", "reasoning_content", "thinking_blocks"})
_MACHINES = frozenset({"role", "id", "name", "type"})


class ChoiceTexts:
    """The texts of one choice."""

    __slots__ = ("_call", "_calls", "_kinds", "_phase", "_scanners", "_walk")

    def __init__(self, kinds: Kinds, walk: Walk) -> None:
        """Begin before the first delta."""
        self._kinds, self._walk = kinds, walk
        self._scanners: dict[tuple[str, Hashable], Scanner | ArgumentsScanner] = {}
        self._phase = WORDS
        self._calls: dict[Hashable, Any] = {}  # index -> id
        self._call: Hashable = 0

    @property
    def saying(self) -> bool:
        """Do words go on, so that more of them need no look at the rest?"""
        return self._phase == WORDS

    def words(self, text: str) -> str:
        """Return what may go out of a piece of plain text. Only while `saying`."""
        return self._scan(WORDS, "content", text)

    def deltas(self, delta: Mapping[str, Any]) -> list[Delta]:
        """Return what the client gets for a delta: nothing, or first the rest of what went before."""
        out: list[Delta] = []
        for phase in (THOUGHT, WORDS, CALLS):
            part = {name: value for name, value in delta.items() if _phase_of(name) == phase}
            goes_on = any(value for name, value in part.items() if name not in _MACHINES)
            if goes_on and phase != self._phase:
                out += self.rest()
                self._phase = phase
            said = self._said(part)
            if said:
                out.append(said)
        return _joined(out)

    def rest(self) -> list[Delta]:
        """Return what is held, as the end of it."""
        out: list[Delta] = []
        for (phase, name), scanner in self._scanners.items():
            text = scanner.finish()
            if text:
                out.append(_holding(phase, name, text))
        self._scanners.clear()
        return out

    def _said(self, part: Mapping[str, Any]) -> Delta:
        said: Delta = {}
        for name, value in part.items():
            kept = self._field(name, value)
            if kept is not None:
                said[name] = kept
        return said

    def _field(self, name: str, value: Any) -> Any:
        """Return what goes out of a field now; None for nothing."""
        if isinstance(value, str):
            kept: Any = value if name in _MACHINES else self._scan(_phase_of(name), name, value)
        elif isinstance(value, list):
            kept = self._list(name, value)
        elif isinstance(value, dict):
            kept = self._object(name, value)
        else:
            return value
        return kept or None

    def _list(self, name: str, value: list[Any]) -> list[Any]:
        if name == "content":
            return self._parts(value)
        if name == "tool_calls":
            return [self._called(call) for call in value if isinstance(call, dict)]
        if name == "thinking_blocks":
            # A block's signature is of its text: changed, it would be refused. Its text has been told.
            return [block for block in value if self._walk.thought(block) is block]
        return list(self._walk.texts(value)) if name in {"annotations", "images"} else []

    def _object(self, name: str, value: Mapping[str, Any]) -> Delta:
        if name == "function_call":
            return self._function(value, "function_call")
        return self._audio(value) if name == "audio" else {}

    def _scan(self, phase: str, name: Hashable, text: str) -> str:
        key = (phase, name)
        scanner = self._scanners.get(key)
        if scanner is None:
            json = phase == CALLS and isinstance(name, tuple) and name[0] != "custom"
            scanner = self._scanners[key] = (ArgumentsScanner if json else Scanner)(self._kinds)
        return scanner.feed(text)

    def _parts(self, parts: list[Any]) -> list[Any]:
        """Return a content that is a list: its texts go on from one to the next."""
        out: list[Any] = []
        for part in parts:
            if isinstance(part, dict) and isinstance(part.get("text"), str):
                text = self._scan(WORDS, "content", part["text"])
                out += [{"type": "text", **part, "text": text}] if text else []
            elif isinstance(part, str):
                text = self._scan(WORDS, "content", part)
                out += [text] if text else []
            else:
                out.append(self._walk.texts(part))
        return out

    def _audio(self, audio: Mapping[str, Any]) -> Delta:
        if not isinstance(audio.get("transcript"), str):
            return dict(audio)
        return {**audio, "transcript": self._scan(WORDS, "transcript", audio["transcript"])}

    def _called(self, call: Mapping[str, Any]) -> Delta:
        """Return one piece of a tool's call."""
        index: Hashable = call.get("index")
        key = self._call if index is None else index
        if begins_another(call, self._calls.get(key)):
            key = (key, str(call["id"]))  # several under one index: each has scanners of its own
        elif index is None and call.get("id") is not None:
            key = str(call["id"])
        self._call = key
        if call.get("id") is not None:
            self._calls[key] = call["id"]
        said = {name: value for name, value in call.items() if name not in {"function", "custom"}}
        if isinstance(call.get("function"), dict):
            said["function"] = self._function(call["function"], ("function", index, key))
        if isinstance(call.get("custom"), dict):
            custom = call["custom"]
            text = str(custom.get("input") or "")
            said["custom"] = {**custom, "input": self._scan(CALLS, ("custom", index, key), text)}
        return said

    def _function(self, function: Mapping[str, Any], key: Hashable) -> Delta:
        if not isinstance(function.get("arguments"), str):
            return dict(function)
        name = ("function_call", None, None) if key == "function_call" else key
        return {**function, "arguments": self._scan(CALLS, name, function["arguments"])}


def _phase_of(name: str) -> str:
    if name in _THOUGHTS:
        return THOUGHT
    return CALLS if name in {"tool_calls", "function_call"} else WORDS


def _holding(phase: str, name: Hashable, text: str) -> Delta:
    """Return the delta that says `text` in the field that it was held of."""
    if phase != CALLS or not isinstance(name, tuple):
        return {"audio": {"transcript": text}} if name == "transcript" else {str(name): text}
    kind, index, _ = name
    if kind == "function_call":
        return {"function_call": {"arguments": text}}
    said = {"input": text} if kind == "custom" else {"arguments": text}
    return {"tool_calls": [{**({} if index is None else {"index": index}), kind: said}]}


def _joined(deltas: list[Delta]) -> list[Delta]:
    """Return the deltas, what says but a role joined to what follows."""
    out: list[Delta] = []
    for delta in deltas:
        if out and set(out[-1]) <= _MACHINES:
            out[-1] = {**out[-1], **delta}
        else:
            out.append(delta)
    return out
