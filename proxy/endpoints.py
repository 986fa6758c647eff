"""What each endpoint takes: body bytes to a Call, or a 400 that names the field and the rule.

Only what the gateway itself must know is checked; the rest is the vendor's to judge.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from providers.call import Call
from providers.dialects.openai import CHAT, EMBEDDINGS
from proxy.errors import BadRequest

MAX_CHOICES = 128
MAX_MODEL_LENGTH = 256
# More brackets than this may be nested deeper than orjson writes (254 levels; it reads 1,024).
MAX_BRACKETS = 200
# The closing quote of a key: an escaped quote is inside a string.
_KEY_END = re.compile(rb'"(?<!\\")\s*:')


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An inbound format: its name in records and metrics, its parser, and whether it may be cached."""

    name: str
    parse: Callable[[bytes], Call]
    cacheable: bool = True


def parse_chat(raw: bytes) -> Call:
    """Read an OpenAI chat completion request. Raises BadRequest."""
    body = _object(raw)
    model = _model(body)
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise BadRequest("'messages' must be a list with at least one message.", param="messages")
    for index, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise BadRequest(
                f"'messages[{index}]' must be an object with a 'role'.", param=f"messages[{index}]"
            )
    stream = _flag(body, "stream")
    return Call(
        wire=CHAT,
        model=model,
        body=body,
        raw=raw,
        stream=stream,
        wants_usage=_wants_usage(body, stream=stream),
        choices=_choices(body),
        verbatim=_verbatim(raw, body),
    )


def parse_embeddings(raw: bytes) -> Call:
    """Read an OpenAI embeddings request. Raises BadRequest."""
    body = _object(raw)
    model = _model(body)
    texts = body.get("input")
    if not isinstance(texts, (str, list)) or not texts:
        raise BadRequest("'input' must be a string or a list that is not empty.", param="input")
    return Call(wire=EMBEDDINGS, model=model, body=body, raw=raw, verbatim=_verbatim(raw, body))


CHAT_COMPLETIONS = Endpoint("chat", parse_chat)
EMBEDDING = Endpoint("embeddings", parse_embeddings)


def simple_chat(message: str, *, model: str, stream: bool) -> Endpoint:
    """Return the endpoint of a simple chat whose message has been read already."""
    body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": message}]}
    if stream:
        body["stream"] = True
    raw = orjson.dumps(body)
    call = Call(wire=CHAT, model=model, body=body, raw=raw, stream=stream, wants_usage=False)
    # The name is the chat's own: an answer is the same whoever asks for it in which form.
    return Endpoint("chat", lambda _: call)


def read_message(raw: bytes) -> str:
    """Return the message of `{"message": ...}`. Raises BadRequest."""
    message = _object(raw).get("message")
    if not isinstance(message, str) or not message.strip():
        raise BadRequest("'message' must be a string that is not empty.", param="message")
    return message


def _object(raw: bytes) -> dict[str, Any]:
    if not raw:
        raise BadRequest("The body is empty; it must be a JSON object.")
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as problem:
        raise BadRequest(f"The body is not valid JSON: {problem}.") from None
    if not isinstance(body, dict):
        raise BadRequest("The body must be a JSON object.")
    _check_depth(raw, body)
    return body


def _model(body: Mapping[str, Any]) -> str:
    model = body.get("model")
    if model is None:
        raise BadRequest("'model' is missing.", param="model")
    if not isinstance(model, str) or not model.strip():
        raise BadRequest("'model' must be a string that is not empty.", param="model")
    if not model.isprintable():
        raise BadRequest("'model' must not contain control characters.", param="model")
    if len(model) > MAX_MODEL_LENGTH:
        raise BadRequest(f"'model' must have at most {MAX_MODEL_LENGTH} characters.", param="model")
    return model


def _flag(body: Mapping[str, Any], name: str) -> bool:
    value = body.get(name)
    if value is None:
        return False
    if not isinstance(value, bool):
        raise BadRequest(f"'{name}' must be true or false.", param=name)
    return value


def _wants_usage(body: Mapping[str, Any], *, stream: bool) -> bool:
    options = body.get("stream_options")
    if options is None:
        return False
    if not isinstance(options, dict):
        raise BadRequest("'stream_options' must be an object.", param="stream_options")
    if not stream:
        raise BadRequest("'stream_options' is only allowed when 'stream' is true.", param="stream_options")
    return bool(options.get("include_usage"))


def _choices(body: Mapping[str, Any]) -> int:
    choices = body.get("n")
    if choices is None:
        return 1
    if not isinstance(choices, int) or isinstance(choices, bool) or not 1 <= choices <= MAX_CHOICES:
        raise BadRequest(f"'n' must be a whole number from 1 to {MAX_CHOICES}.", param="n")
    return choices


def _verbatim(raw: bytes, body: Mapping[str, Any]) -> bool:
    """May `raw` be sent on as it came?

    A key that stands twice is read as its last value by us; another reader might take the first. So
    a body with more keys in its text than in our reading of it is written anew: the vendor gets what
    we judged.
    """
    if orjson.dumps(body) == raw:
        return True  # what SDKs send: compact, each key once
    if b'\\\\"' in raw:  # an escaped backslash before a quote, which _KEY_END does not look behind
        return False
    keys, nodes = 0, list[Any]([body])
    while nodes:
        node = nodes.pop()
        if isinstance(node, dict):
            keys += len(node)
            nodes.extend(node.values())
        elif isinstance(node, list):
            nodes.extend(node)
    return len(_KEY_END.findall(raw)) == keys


def _check_depth(raw: bytes, body: Mapping[str, Any]) -> None:
    if raw.count(b"[") + raw.count(b"{") <= MAX_BRACKETS:
        return
    try:
        orjson.dumps(body)
    except orjson.JSONEncodeError:
        raise BadRequest("The body is nested too deeply.") from None
