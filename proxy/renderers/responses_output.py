"""A response's output as it grows out of canonical deltas, whole or in pieces."""

from collections.abc import Mapping
from typing import Any

from providers.canonical import begins_another, reasoning_in, text_in
from proxy.renderers.responses_events import EventWriter
from proxy.renderers.responses_items import FunctionCall, Item, Message, Reasoning


class Output:
    """The items so far. Thoughts and words follow one another; calls may be written side by side."""

    def __init__(self, writer: EventWriter, identity: str) -> None:
        """`identity` makes the ids of the items."""
        self._writer = writer
        self._identity = identity
        self._items: list[Item] = []
        self._calls: dict[str, FunctionCall] = {}
        self._reasoning: Reasoning | None = None
        self.message: Message | None = None

    def take(self, choice: Mapping[str, Any]) -> None:
        """Write what one canonical choice adds."""
        delta = choice.get("delta") or {}
        thought = reasoning_in(delta)
        if thought:
            self._thinking().think(thought)
        for block in _listed(delta, "thinking_blocks"):
            self._thinking().add_block(block)
        text = text_in(delta.get("content"))
        if text:
            self._speaking().say(text, _logprobs(choice))
        if isinstance(delta.get("refusal"), str) and delta["refusal"]:
            self._speaking().refuse(delta["refusal"])
        for annotation in _listed(delta, "annotations"):
            self._speaking().annotate(_annotation(annotation))
        for call in _listed(delta, "tool_calls"):
            self._calling(call).go_on(call)

    def end(self, status: str) -> None:
        """End all items; a whole answer that said nothing is an empty message."""
        if status == "completed" and not any(
            isinstance(item, (Message, FunctionCall)) for item in self._items
        ):
            self._speaking().say("")
        for item in self._items:
            item.end(status)
        self._reasoning = self.message = None
        self._calls = {}

    def to_json(self) -> list[dict[str, Any]]:
        """Return the items, all of which have ended."""
        return [item.final() for item in self._items]

    def _thinking(self) -> Reasoning:
        self._end_message()
        if self._reasoning is None:
            self._reasoning = Reasoning(self._writer, len(self._items), self._identity)
            self._begin(self._reasoning)
        return self._reasoning

    def _speaking(self) -> Message:
        self._end_reasoning()
        if self.message is None:
            self.message = Message(self._writer, len(self._items), self._identity)
            self._begin(self.message)
        return self.message

    def _calling(self, call: Mapping[str, Any]) -> FunctionCall:
        self._end_reasoning()
        self._end_message()
        key = self._key(call)
        known = self._calls.get(key)
        if known is None or begins_another(call, known.call_id):
            known = self._calls[key] = FunctionCall(self._writer, len(self._items), self._identity, call)
            self._begin(known)
        return known

    def _key(self, call: Mapping[str, Any]) -> str:
        """Return what tells calls apart: the index, else the id (some servers send no index)."""
        for name in ("index", "id"):
            if call.get(name) is not None:
                return f"{name} {call[name]}"
        return next(reversed(self._calls), "")

    def _begin(self, item: Item) -> None:
        self._items.append(item)
        item.begin()

    def _end_reasoning(self) -> None:
        if self._reasoning is not None:
            self._reasoning.end("completed")
            self._reasoning = None

    def _end_message(self) -> None:
        if self.message is not None:
            self.message.end("completed")
            self.message = None


def _listed(delta: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    value = delta.get(name)
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _logprobs(choice: Mapping[str, Any]) -> list[Any] | None:
    tokens = (choice.get("logprobs") or {}).get("content")
    return tokens if isinstance(tokens, list) else None


def _annotation(annotation: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a citation as responses have it: its fields beside its type."""
    kind = annotation.get("type")
    fields = annotation.get(str(kind))
    if kind != "url_citation" or not isinstance(fields, dict):
        return annotation
    return {"type": kind, "start_index": 0, "end_index": 0, "title": "", **fields}
