"""Renderers write Events and Answers in the client's format.

A renderer lives for one answer. When an event's raw bytes are in the client's own format they go
out untouched.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import orjson

from providers.dialects.openai import CHAT, DONE
from providers.events import Answer, Event, Kind
from proxy.assemble import texts_of
from proxy.completion import Completion
from proxy.errors import GatewayError

STREAM_CONTENT_TYPE = "text/event-stream; charset=utf-8"
KEEP_ALIVE = b": keep-alive\n\n"


class Renderer(Protocol):
    """One inbound format, one answer."""

    def answer(self, answer: Answer) -> bytes:
        """Return the body of a whole answer."""

    def events(self, events: Sequence[Event]) -> bytes:
        """Return the wire bytes of some events; b"" when the client gets nothing of them."""

    def error(self, error: GatewayError) -> bytes:
        """Return the last piece of a stream that failed; no end marker may follow."""


class ChatRenderer:
    """OpenAI chat completions and embeddings."""

    def __init__(self, completion: Completion, *, wants_usage: bool) -> None:
        """`wants_usage`: the client asked for the usage chunk."""
        self._completion = completion
        self._wants_usage = wants_usage

    def answer(self, answer: Answer) -> bytes:
        """Pass the vendor's JSON on."""
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
        if event.kind is Kind.USAGE and not self._wants_usage:
            return b""
        if event.raw and event.wire == CHAT:
            return event.raw
        if event.kind is Kind.DONE:
            return DONE
        return sse(self._chunk(event))

    def _chunk(self, event: Event) -> dict[str, Any]:
        chunk: dict[str, Any] = {
            "id": f"chatcmpl-{self._completion.id}",
            "object": "chat.completion.chunk",
            "created": int(self._completion.at),
            "model": self._completion.model,
            "choices": event.choices,
        }
        if event.usage is not None and self._wants_usage:
            chunk["usage"] = event.usage.to_openai()
        return chunk


class SimpleRenderer:
    """The simple chat: `{"delta"}` pieces, then `{"done": true, ...}`, then [DONE]."""

    def __init__(self, completion: Completion) -> None:
        """Everything but the text comes from the completion."""
        self._completion = completion

    def answer(self, answer: Answer) -> bytes:
        """Return message, model, provider, cached, usage, request_id."""
        choices = answer.message.get("choices") or [{}]
        text = (choices[0].get("message") or {}).get("content") or ""
        return orjson.dumps({"message": text, **self._facts()})

    def events(self, events: Sequence[Event]) -> bytes:
        """Write the text of the events, and the summary at their end."""
        pieces = []
        for event in events:
            pieces += [sse({"delta": text}) for text in texts_of(event.choices)]
            if event.kind is Kind.DONE:
                pieces += [sse({"done": True, **self._facts()}), DONE]
        return b"".join(pieces)

    def error(self, error: GatewayError) -> bytes:
        """Write the error envelope as an event."""
        return sse(error.envelope())

    def _facts(self) -> dict[str, Any]:
        completion = self._completion
        usage = completion.usage
        return {
            "model": completion.model,
            "provider": completion.provider,
            "cached": completion.cache == "hit",
            "usage": None if usage is None else usage.to_openai(),
            "request_id": completion.request_id,
        }


RendererFactory = Callable[[Completion, bool], Renderer]


def chat(completion: Completion, wants_usage: bool) -> Renderer:  # noqa: FBT001 - the factory's signature
    """Make OpenAI's renderer."""
    return ChatRenderer(completion, wants_usage=wants_usage)


def simple(completion: Completion, wants_usage: bool) -> Renderer:  # noqa: ARG001, FBT001 - the factory's signature
    """Make the simple chat's renderer."""
    return SimpleRenderer(completion)


def sse(payload: Mapping[str, Any]) -> bytes:
    """Return one server-sent event."""
    return b"data: " + orjson.dumps(payload) + b"\n\n"
