"""What a renderer is: it writes Events and Answers in the client's format.

A renderer lives for one answer. When an event's raw bytes are in the client's own format they go
out untouched.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import orjson

from providers.call import Call
from providers.events import Answer, Event
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


RendererFactory = Callable[[Completion, Call], Renderer]


def sse(payload: Mapping[str, Any]) -> bytes:
    """Return one server-sent event."""
    return b"data: " + orjson.dumps(payload) + b"\n\n"
