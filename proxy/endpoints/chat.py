"""`/v1/chat/completions`: the canonical form itself.

Only what the gateway itself must know is checked; the rest is the vendor's to judge.
"""

from collections.abc import Mapping
from typing import Any

from providers.call import Call
from providers.wires import CHAT
from proxy.endpoints.base import Endpoint
from proxy.endpoints.reading import choices_of, flag, is_verbatim, model_of, object_in, wants_usage
from proxy.errors import BadRequest


def parse_chat(raw: bytes) -> Call:
    """Read an OpenAI chat completion request. Raises BadRequest."""
    body = object_in(raw)
    model = model_of(body)
    check_messages(body)
    stream = flag(body, "stream")
    return Call(
        wire=CHAT,
        model=model,
        body=body,
        raw=raw,
        stream=stream,
        wants_usage=wants_usage(body, stream=stream),
        choices=choices_of(body),
        verbatim=is_verbatim(raw, body),
    )


def check_messages(body: Mapping[str, Any]) -> None:
    """Check the list of messages as far as the gateway reads it. Raises BadRequest."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise BadRequest("'messages' must be a list with at least one message.", param="messages")
    for index, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise BadRequest(
                f"'messages[{index}]' must be an object with a 'role'.", param=f"messages[{index}]"
            )


CHAT_COMPLETIONS = Endpoint("chat", parse_chat)
