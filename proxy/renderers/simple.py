"""The simple chat: `{"delta"}` pieces, then `{"done": true, ...}`, then [DONE]."""

from collections.abc import Sequence
from typing import Any

import orjson

from providers.dialects.openai.stream import DONE
from providers.events import Answer, Event, Kind
from proxy.assemble import texts_of
from proxy.completion import Completion
from proxy.errors import GatewayError
from proxy.renderers.base import sse


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
