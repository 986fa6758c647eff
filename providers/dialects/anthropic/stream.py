"""Anthropic's stream in the canonical form.

https://platform.claude.com/docs/en/build-with-claude/streaming

Blocks come one after the other, each with a start, deltas and a stop. Counts in `message_delta` are those of
the whole answer so far: they take the place of the ones before. Unknown events are to be ignored.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import orjson

from providers.call import Call
from providers.dialects.anthropic.answer import (
    annotations_of,
    finish_choice,
    finish_reason_of,
    kept_thought,
    usage_of,
)
from providers.dialects.anthropic.errors import error_inside
from providers.dialects.anthropic.tools import JSON_TOOL, answers_by_tool
from providers.dialects.shapes import broken
from providers.dialects.toolcalls import arguments_text
from providers.dialects.translated import TranslatedStream
from providers.events import Event, Kind, TextEvent, delta_event, usage_event
from providers.usage import Usage

_DELTA = b"event: content_block_delta\ndata: "
_TEXT = b'"type":"text_delta","text":"'


class _Block:
    """An open block. `given`: the input that came with its start."""

    __slots__ = ("citations", "data", "given", "index", "kind", "pieces", "signature", "start")

    def __init__(self, kind: str, start: int) -> None:
        self.kind = kind
        self.start = start
        self.index = -1  # of the tool call
        self.given = "{}"
        self.data: Any = None
        self.signature: Any = None
        self.pieces: list[str] = []
        self.citations: list[Any] = []


class AnthropicStream(TranslatedStream):
    """Server-sent events of one answer to canonical events."""

    def __init__(self, call: Call) -> None:
        """Start before the first byte."""
        super().__init__()
        self._json = answers_by_tool(call.body)
        self._blocks: dict[int, _Block] = {}
        self._calls = 0
        self._length = 0  # of the text so far
        self._usage: dict[str, Any] = {}
        self._finished = False

    def finished(self) -> bool:
        """Has a stop reason come?"""
        return self._finished

    def so_far(self) -> Usage | None:
        """Return the counts of the start: they are the prompt's."""
        return usage_of(self._usage)

    def last(self) -> Sequence[Event]:
        """Return the usage, once all of it is known."""
        usage = usage_of(self._usage)
        return () if usage is None else (usage_event(usage),)

    def read(self, payload: Mapping[str, Any], events: list[Event]) -> None:
        """Append what one event says. Raises UpstreamError."""
        kind = payload.get("type")
        if kind == "error" or payload.get("error"):
            raise error_inside(payload.get("error"))
        read = self._READERS.get(kind) if isinstance(kind, str) else None
        if read is not None:
            read(self, payload, events)

    def _take(self, record: bytes, events: list[Event]) -> None:
        """Take plain text the short way: it is most of a stream."""
        text = _text_in(record) if _TEXT in record and record.startswith(_DELTA) else None
        if text is None:
            super()._take(record, events)
        elif text:
            self._length += len(text)
            events.append(TextEvent(text))

    def _message_start(self, payload: Mapping[str, Any], _: list[Event]) -> None:
        merge(self._usage, payload["message"].get("usage"))

    def _block_start(self, payload: Mapping[str, Any], events: list[Event]) -> None:
        said = payload["content_block"]
        block = self._blocks[payload["index"]] = _Block(said["type"], self._length)
        if block.kind == "tool_use":
            self._tool_start(block, said, events)
        elif block.kind == "text" and said.get("text"):
            self._say(said["text"], events)
        elif block.kind == "thinking":
            block.signature = said.get("signature")
            if said.get("thinking"):
                self._think(block, said["thinking"], events)
        elif block.kind == "redacted_thinking":
            block.data = said["data"]

    def _tool_start(self, block: _Block, said: Mapping[str, Any], events: list[Event]) -> None:
        if said.get("input"):
            block.given = arguments_text(said["input"])
        if self._json and said["name"] == JSON_TOOL:
            block.kind = JSON_TOOL
            return
        block.index = self._calls
        self._calls += 1
        function = {"name": _string(said["name"]), "arguments": ""}
        opening = {"id": _string(said["id"]), "type": "function", "function": function}
        events.append(call_event(block.index, **opening))

    def _block_delta(self, payload: Mapping[str, Any], events: list[Event]) -> None:
        delta, block = payload["delta"], self._blocks.get(payload["index"])
        kind = delta["type"]
        if kind == "text_delta":
            self._say(delta["text"], events)
        elif block is None:
            raise broken("a part of it has no beginning")
        elif kind == "thinking_delta":
            self._think(block, delta["thinking"], events)
        elif kind == "signature_delta":
            block.signature = delta["signature"]
        elif kind == "citations_delta":
            block.citations.append(delta["citation"])
        elif kind == "input_json_delta" and delta["partial_json"]:
            self._input(block, _string(delta["partial_json"]), events)

    def _block_stop(self, payload: Mapping[str, Any], events: list[Event]) -> None:
        block = self._blocks.pop(payload["index"], None)
        if block is not None:
            self._close_block(block, events)

    def _close_block(self, block: _Block, events: list[Event]) -> None:
        if block.kind in ("tool_use", JSON_TOOL):
            if not block.pieces:
                self._input(block, block.given, events)
            return
        said = {"data": block.data, "thinking": "".join(block.pieces), "signature": block.signature}
        thought = kept_thought({"type": block.kind, **said})
        if thought is not None:
            events.append(delta_event({"thinking_blocks": [thought]}))
        annotations = annotations_of(block.citations, start=block.start, end=self._length)
        if annotations:
            events.append(delta_event({"annotations": annotations}))

    def _message_delta(self, payload: Mapping[str, Any], events: list[Event]) -> None:
        merge(self._usage, payload.get("usage"))
        delta = payload["delta"]
        if not delta.get("stop_reason") or self._finished:
            return
        for block in self._blocks.values():  # some servers do not say that a block ends
            self._close_block(block, events)
        self._blocks.clear()
        self._finished = True
        reason = finish_reason_of(delta["stop_reason"], calls=self._calls)
        choice = {"index": 0, "delta": {}, **finish_choice(reason, delta.get("stop_details"))}
        events.append(Event(Kind.FINISH, choices=[choice], finish_reasons=[reason]))

    def _message_stop(self, _: Mapping[str, Any], events: list[Event]) -> None:
        self.end(events)

    def _say(self, text: Any, events: list[Event]) -> None:
        if _string(text):
            self._length += len(text)
            events.append(TextEvent(text))

    def _think(self, block: _Block, text: Any, events: list[Event]) -> None:
        if _string(text):
            block.pieces.append(text)
            events.append(delta_event({"reasoning_content": text}))

    def _input(self, block: _Block, piece: str, events: list[Event]) -> None:
        block.pieces.append(piece)
        if block.kind == JSON_TOOL:
            self._say(piece, events)
        elif block.kind == "tool_use":  # and not one that Anthropic runs itself
            events.append(call_event(block.index, function={"arguments": piece}))

    _READERS: ClassVar[Mapping[str, Callable[..., None]]] = {
        "message_start": _message_start,
        "content_block_start": _block_start,
        "content_block_delta": _block_delta,
        "content_block_stop": _block_stop,
        "message_delta": _message_delta,
        "message_stop": _message_stop,
    }


def merge(usage: dict[str, Any], said: Any) -> None:
    """Let the counts in `said` take the place of those that are known."""
    if isinstance(said, dict):
        usage.update((name, value) for name, value in said.items() if value is not None)


def call_event(index: int, **fields: Any) -> Event:
    """Return the event of a piece of tool call number `index`."""
    return delta_event({"tool_calls": [{"index": index, **fields}]})


def _text_in(record: bytes) -> str | None:
    """Return the text of a delta that is written as Anthropic writes it; None for any other."""
    try:
        delta = orjson.loads(record[len(_DELTA) :])["delta"]
        text = delta["text"] if delta["type"] == "text_delta" else None
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None
    return text if isinstance(text, str) else None


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise broken("its fields have the wrong shape")
    return value
