"""Canonical deltas as Anthropic's content blocks, one after the other.

Strategy: one block is open, and its pieces go out as they come. What belongs to another block waits until
the open one is complete: text and thoughts are as soon as something else comes, a tool call when its
arguments are JSON, and everything is at the end. So vendors that mix the pieces of parallel tool calls
lose nothing, and from those that do not each piece goes out at once.
Invariants: indexes count from 0; a block that was closed is never spoken of again.
"""

from collections.abc import Mapping
from typing import Any

import orjson

from providers import canonical
from proxy.renderers.messages_whole import made_id, thought_block

TEXT, THINKING, REDACTED, TOOL = "text", "thinking", "redacted_thinking", "tool_use"
_EMPTY: Mapping[str, dict[str, Any]] = {
    TEXT: {"type": TEXT, "text": ""},
    THINKING: {"type": THINKING, "thinking": "", "signature": ""},
}


def event_of(name: str, fields: Mapping[str, Any]) -> bytes:
    """Return one of Anthropic's events: its name, and an object that says it again as `type`."""
    return b"event: %s\ndata: %s\n\n" % (name.encode(), orjson.dumps({"type": name, **fields}))


class _Block:
    """A block in the making. `held`: deltas that wait for its turn; `said`: a call's arguments so far."""

    __slots__ = ("ended", "held", "id", "kind", "name", "opening", "place", "said")

    def __init__(self, kind: str, opening: dict[str, Any] | None = None) -> None:
        self.kind = kind
        self.opening = opening or _EMPTY.get(kind)
        self.held: list[Mapping[str, Any]] = []
        self.said: list[str] = []
        self.ended = False
        self.id = self.name = ""
        self.place: Any = None

    def complete(self) -> bool:
        """May another block begin?"""
        if self.kind != TOOL:
            return True
        text = "".join(self.said).strip()
        if not text.endswith("}"):
            return False
        try:
            orjson.loads(text)
        except orjson.JSONDecodeError:
            return False
        return True


class BlockWriter:
    """Writes the events of a message's blocks."""

    def __init__(self, completion_id: str) -> None:
        """`completion_id` makes the ids of tool calls that have none."""
        self.used_tools = False
        self._completion_id = completion_id
        self._index = -1
        self._open: _Block | None = None
        self._waiting: list[_Block] = []
        self._calls: list[_Block] = []
        self._unsigned: list[str] = []  # thoughts that no whole block has told of: Gemini signs them late
        self._around_text = (b"", b"")

    def delta(self, delta: Mapping[str, Any]) -> bytes:
        """Write what a choice's delta says."""
        if len(delta) == 1 and isinstance(delta.get("content"), str):  # most of a stream
            return self.text(delta["content"])
        pieces = []
        thoughts = [
            thought_block(each) for each in delta.get("thinking_blocks") or () if isinstance(each, dict)
        ]
        reasoning = canonical.reasoning_in(delta)
        if reasoning and not any(block.get("thinking") for block in thoughts):  # else they say it again
            pieces.append(self._say(THINKING, reasoning))
        pieces += [self._thought(block) for block in thoughts]
        for words in (canonical.text_in(delta.get("content")), delta.get("refusal")):
            if isinstance(words, str) and words:
                pieces.append(self.text(words))
        pieces += [self._tool_piece(piece) for piece in delta.get("tool_calls") or ()]
        if delta.get("function_call"):
            pieces.append(self._tool_piece({"function": delta["function_call"]}))
        return b"".join(pieces)

    def text(self, text: str) -> bytes:
        """Write a piece of text."""
        block = self._open
        if block is not None and block.kind == TEXT and not self._waiting and text:
            before, after = self._around_text
            return before + orjson.dumps(text) + after
        return self._say(TEXT, text) if text else b""

    def finish(self) -> bytes:
        """Write all that still waits, and the end of the last block."""
        pieces = self._advance(final=True)
        return pieces + (b"" if self._open is None else self._stop())

    def _say(self, kind: str, text: str) -> bytes:
        block = self._last()
        if block is None or block.kind != kind or block.ended:
            block = self._begin(_Block(kind))
        if kind == THINKING:
            self._unsigned.append(text)
        return self._add(block, {"type": f"{kind}_delta", kind: text})

    def _thought(self, whole: dict[str, Any]) -> bytes:
        """Write a whole thought, or of one that has been said already what is missing, and its signature."""
        if whole["type"] == REDACTED:
            self._begin(_Block(REDACTED, whole))
            return self._advance()
        current = self._last()
        if current is None or current.kind != THINKING or current.ended:
            current = self._begin(_Block(THINKING))
        said = "".join(self._unsigned)
        self._unsigned.clear()
        rest = "" if said.endswith(whole["thinking"]) else whole["thinking"].removeprefix(said)
        pieces = [self._add(current, {"type": "thinking_delta", "thinking": rest})] if rest else []
        if whole["signature"]:
            delta = {"type": "signature_delta", "signature": whole["signature"]}
            pieces.append(self._add(current, delta))
        current.ended = True
        return b"".join(pieces) + self._advance()

    def _tool_piece(self, piece: Mapping[str, Any]) -> bytes:
        function = piece.get("function") or {}
        block = self._call_of(piece)
        block.id = block.id or piece.get("id") or ""
        block.name = block.name or function.get("name") or ""
        arguments = function.get("arguments")
        if isinstance(arguments, dict):
            arguments = orjson.dumps(arguments).decode()
        if not arguments:
            return self._advance()
        block.said.append(arguments)
        return self._add(block, {"type": "input_json_delta", "partial_json": arguments})

    def _call_of(self, piece: Mapping[str, Any]) -> _Block:
        """Return the call that a piece goes on, or a new one: by id, else by index, else the last."""
        named, place = piece.get("id"), piece.get("index")
        for block in reversed(self._calls):
            if named and block.id == named:
                return block
            if block.place == place:
                if _is_another(block, piece):
                    break
                return block
        block = _Block(TOOL)
        block.place = place
        self._calls.append(block)
        self.used_tools = True
        return self._begin(block)

    def _begin(self, block: _Block) -> _Block:
        self._waiting.append(block)
        return block

    def _last(self) -> _Block | None:
        return self._waiting[-1] if self._waiting else self._open

    def _add(self, block: _Block, delta: Mapping[str, Any]) -> bytes:
        if block is self._open:
            written = self._write(delta)
            return written + self._advance() if self._waiting else written
        block.held.append(delta)
        return self._advance()

    def _advance(self, *, final: bool = False) -> bytes:
        """Open what waits, as far as the blocks before it are complete."""
        pieces = []
        while self._waiting:
            block = self._waiting[0]
            if not final and block.kind == TOOL and not block.name:
                break  # its first event has the name
            if self._open is not None:
                if not final and not self._open.complete():
                    break
                pieces.append(self._stop())
            del self._waiting[0]
            pieces.append(self._start(block))
            pieces += [self._write(delta) for delta in block.held]
        return b"".join(pieces)

    def _start(self, block: _Block) -> bytes:
        self._open = block
        self._index += 1
        if block.kind == TOOL:
            identity = block.id or made_id(self._completion_id, self._calls.index(block))
            block.opening = {"type": TOOL, "id": identity, "name": block.name, "input": {}}
        elif block.kind == TEXT:
            frame = self._write({"type": "text_delta", "text": "\0"})
            before, after = frame.split(orjson.dumps("\0"))
            self._around_text = (before, after)
        return event_of("content_block_start", {"index": self._index, "content_block": block.opening})

    def _write(self, delta: Mapping[str, Any]) -> bytes:
        return event_of("content_block_delta", {"index": self._index, "delta": delta})

    def _stop(self) -> bytes:
        self._open = None
        return event_of("content_block_stop", {"index": self._index})


def _is_another(block: _Block, piece: Mapping[str, Any]) -> bool:
    """Does a piece in the place of `block` begin another call? Without index and id its name tells."""
    if not block.name or (piece.get("id") and block.id):
        return bool(block.name) and canonical.begins_another(piece, block.id)
    named = (piece.get("function") or {}).get("name")
    return bool(named) and block.place is None and block.complete()
