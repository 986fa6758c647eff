"""The simple chat: one message in, the default model."""

from typing import Any

import orjson

from providers.call import Call
from providers.wires import CHAT
from proxy.endpoints.base import Endpoint
from proxy.endpoints.reading import object_in
from proxy.errors import BadRequest


def simple_chat(message: str, *, model: str, stream: bool) -> Endpoint:
    """Return the endpoint of a simple chat whose message has been read already."""
    body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": message}]}
    if stream:
        body["stream"] = True
    raw = orjson.dumps(body)
    call = Call(wire=CHAT, model=model, body=body, raw=raw, stream=stream, wants_usage=False)
    # The name is the chat's own: an answer is the same whoever asks for it in which form.
    return Endpoint("chat", lambda _: call, asked=body)


def read_message(raw: bytes) -> str:
    """Return the message of `{"message": ...}`. Raises BadRequest."""
    message = object_in(raw).get("message")
    if not isinstance(message, str) or not message.strip():
        raise BadRequest("'message' must be a string that is not empty.", param="message")
    return message
