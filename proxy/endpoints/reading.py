"""Reads what all request bodies have in common: a JSON object of bounded depth, a model, some flags."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from proxy.errors import BadRequest

MAX_CHOICES = 128
MAX_MODEL_LENGTH = 256
# More brackets than this may be nested deeper than orjson writes (254 levels; it reads 1,024).
MAX_BRACKETS = 200
# The closing quote of a key: an escaped quote is inside a string.
_KEY_END = re.compile(rb'"(?<!\\")\s*:')


def object_in(raw: bytes) -> dict[str, Any]:
    """Return the JSON object of a request body. Raises BadRequest."""
    if not raw:
        raise BadRequest("The body is empty; it must be a JSON object.")
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as problem:
        raise BadRequest(f"The body is not valid JSON: {problem}.") from None
    if not isinstance(body, dict):
        raise BadRequest("The body must be a JSON object.")
    check_depth(raw, body)
    return body


def model_of(body: Mapping[str, Any]) -> str:
    """Return the model asked for. Raises BadRequest."""
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


def flag(body: Mapping[str, Any], name: str) -> bool:
    """Return a true or false that may be missing. Raises BadRequest."""
    value = body.get(name)
    if value is None:
        return False
    if not isinstance(value, bool):
        raise BadRequest(f"'{name}' must be true or false.", param=name)
    return value


def wants_usage(body: Mapping[str, Any], *, stream: bool) -> bool:
    """Does the client ask for a usage chunk? Raises BadRequest."""
    options = body.get("stream_options")
    if options is None:
        return False
    if not isinstance(options, dict):
        raise BadRequest("'stream_options' must be an object.", param="stream_options")
    if not stream:
        raise BadRequest("'stream_options' is only allowed when 'stream' is true.", param="stream_options")
    return bool(options.get("include_usage"))


def choices_of(body: Mapping[str, Any]) -> int:
    """Return how many answers are asked for. Raises BadRequest."""
    choices = body.get("n")
    if choices is None:
        return 1
    if not isinstance(choices, int) or isinstance(choices, bool) or not 1 <= choices <= MAX_CHOICES:
        raise BadRequest(f"'n' must be a whole number from 1 to {MAX_CHOICES}.", param="n")
    return choices


def are_tokens(value: Any) -> bool:
    """Is it a list of tokens? There may be millions of them, so nothing is done for each."""
    return isinstance(value, list) and set(map(type, value)) == {int}


def check_texts(given: Sequence[Any], name: str, *, objects: bool = False) -> None:
    """Check a list of texts or lists of tokens, or a list of tokens. Raises BadRequest.

    `objects`: some vendors take objects, too; what is in them is the vendor's to judge.
    """
    if are_tokens(given):
        return
    tokens = bool(given) and type(given[0]) is int
    texts = (str, dict) if objects else str
    for index, each in enumerate(given):
        if type(each) is not int if tokens else not isinstance(each, texts) and not are_tokens(each):
            kind = "a token, as those before it" if tokens else "a string or a list of tokens"
            raise BadRequest(f"'{name}[{index}]' must be {kind}.", param=f"{name}[{index}]")


def is_verbatim(raw: bytes, body: Mapping[str, Any]) -> bool:
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


def check_depth(raw: bytes, body: Mapping[str, Any]) -> None:
    """Check that `body`, read from `raw`, can be written. Raises BadRequest."""
    if raw.count(b"[") + raw.count(b"{") <= MAX_BRACKETS:
        return
    try:
        orjson.dumps(body)
    except orjson.JSONEncodeError:
        raise BadRequest("The body is nested too deeply.") from None
