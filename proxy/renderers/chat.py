"""OpenAI chat completions, the canonical form; embeddings too, which have no other."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from providers.dialects.openai.stream import DONE
from providers.events import Answer, Event, Kind, TextEvent
from providers.wires import CHAT, EMBEDDINGS
from proxy.completion import Completion
from proxy.errors import GatewayError
from proxy.renderers.base import sse

# Lists whose entries come over several deltas. OpenAI's SDK adds up lists by an `index` in each entry, and
# raises where there is none.
_LISTS = ("thinking_blocks", "annotations", "images")


class ChatRenderer:
    """Writes the canonical form. What it writes of a stream can be read again as OpenAI's own stream."""

    def __init__(self, completion: Completion, *, wants_usage: bool) -> None:
        """`wants_usage`: the client asked for the usage chunk."""
        self._completion = completion
        self._wants_usage = wants_usage
        self._around_text: tuple[bytes, bytes] | None = None
        self._opened: set[int] = set()
        self._entries: dict[tuple[int, str], int] = {}  # of each choice's lists so far

    def answer(self, answer: Answer) -> bytes:
        """Pass the body on: the vendor's own, or the canonical form (`enveloped`)."""
        return answer.body

    def events(self, events: Sequence[Event]) -> bytes:
        """Join what the client may see."""
        if len(events) == 1:
            return self._event(events[0])
        return b"".join([self._event(event) for event in events])

    def error(self, error: GatewayError) -> bytes:
        """Write OpenAI's error event."""
        return sse(error.envelope())

    def _event(self, event: Event) -> bytes:
        if event.__class__ is TextEvent and 0 in self._opened:
            before, after = self._around_text or self._text_frame()
            return before + orjson.dumps(event.text) + after
        if event.kind is Kind.USAGE and not self._wants_usage:
            return b""
        if event.raw and event.wire == CHAT:
            return event.raw
        if event.kind is Kind.DONE:
            return DONE
        return sse(self._chunk(event))

    def _text_frame(self) -> tuple[bytes, bytes]:
        """Return what stands around the text in each chunk of it, which is written once."""
        chunk = {**self._envelope(), "choices": TextEvent("\0").choices}
        before, after = sse(chunk).split(orjson.dumps("\0"))
        self._around_text = (before, after)
        return before, after

    def _chunk(self, event: Event) -> dict[str, Any]:
        choices = [self._opening(self._numbered(choice)) for choice in event.choices]
        chunk = {**self._envelope(), "choices": choices}
        if event.usage is not None and self._wants_usage:
            chunk["usage"] = event.usage.to_openai()
        return chunk

    def _opening(self, choice: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the choice; the first delta of each says the role, as OpenAI's does."""
        index = choice.get("index") or 0
        if index in self._opened:
            return choice
        self._opened.add(index)
        return {**choice, "delta": {"role": "assistant", **(choice.get("delta") or {})}}

    def _numbered(self, choice: Mapping[str, Any]) -> Mapping[str, Any]:
        delta = choice.get("delta") or {}
        lists = {name: delta[name] for name in _LISTS if isinstance(delta.get(name), list)}
        if not lists:
            return choice
        for name, entries in lists.items():
            key = (choice.get("index") or 0, name)
            first = self._entries.get(key, 0)
            self._entries[key] = first + len(entries)
            lists[name] = [
                {**entry, "index": number} if isinstance(entry, dict) else entry
                for number, entry in enumerate(entries, first)
            ]
        return {**choice, "delta": {**delta, **lists}}

    def _envelope(self) -> dict[str, Any]:
        return {
            "id": f"chatcmpl-{self._completion.id}",
            "object": "chat.completion.chunk",
            "created": int(self._completion.at),
            "model": self._completion.model,
        }


def enveloped(answer: Answer, completion: Completion) -> Answer:
    """Return the answer with a body: what a dialect translated gets all that OpenAI's envelope has."""
    if answer.body:
        return answer
    if "data" in answer.message:
        wire, message = EMBEDDINGS, {"object": "list", "model": completion.model, **answer.message}
    else:
        wire = CHAT
        message = {
            "id": f"chatcmpl-{completion.id}",
            "object": "chat.completion",
            "created": int(completion.at),
            "model": completion.model,
            **answer.message,
        }
    usage = answer.usage or completion.usage  # what the vendor did not count is estimated by now
    if usage is not None and "usage" not in message:
        message["usage"] = usage.to_openai()
    return Answer(
        body=orjson.dumps(message),
        wire=wire,
        message=message,
        usage=answer.usage,
        finish_reasons=answer.finish_reasons,
    )
