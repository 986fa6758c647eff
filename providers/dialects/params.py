"""What of a request a vendor cannot express: refused by name, or dropped where the provider's row says so.

Never an error: what does not shape the answer, and a parameter that asks for what happens anyway.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any
from urllib.parse import quote

import orjson

from providers.call import Call
from providers.errors import UnsupportedParameter
from providers.upstream import Upstream

_STEP_ENDS = re.compile(r"[/\\]")
# Said to the gateway, or known to every dialect: a dialect always reads these.
_ALWAYS = frozenset({"model", "messages", "stream", "stream_options"})
# They do not shape the answer: a vendor without them gives the same one.
HINTS = frozenset(
    {
        "user",
        "metadata",
        "store",
        "service_tier",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "safety_identifier",
        "cache_control",
    }
)
# The same inside of messages and tools, by the names that a caller is told of: who of several speaks, how
# closely to look, that a tool failed (which its words say, too), and that a call must fit its schema.
NAME, DETAIL = "messages.name", "messages.image_url.detail"
IS_ERROR, STRICT = "messages.is_error", "tools.function.strict"
# OpenAI's documented defaults: https://platform.openai.com/docs/api-reference/chat/create
_DEFAULTS: Mapping[str, Any] = {
    "n": 1,
    "presence_penalty": 0,
    "frequency_penalty": 0,
    "temperature": 1,
    "top_p": 1,
    "logprobs": False,
    "logit_bias": {},
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "response_format": {"type": "text"},
    "modalities": ["text"],
    "best_of": 1,
    "echo": False,
    "stop": [],
    "verbosity": "medium",
    "encoding_format": "float",
}


def canonical(call: Call, upstream: Upstream) -> Mapping[str, Any]:
    """Return the call's canonical request.

    Raises UnsupportedParameter when that is not all of it, unless the rest may be dropped (`extras_of`).
    """
    beyond = call.only_native
    if beyond is not None and not (beyond.extras and upstream.account.drop_unsupported_params):
        raise UnsupportedParameter(beyond.param, beyond.message)
    return call.body


def extras_of(call: Call) -> tuple[str, ...]:
    """Return what a call is without in its canonical form, for the caller to be told."""
    return () if call.only_native is None else call.only_native.extras


def dropped(body: Mapping[str, Any], known: Collection[str], upstream: Upstream) -> tuple[str, ...]:
    """Return the parameters of `body` that the vendor gets nothing of, for the caller to be told.

    `known` are those that the dialect expresses. Raises UnsupportedParameter for the first that it
    cannot, unless the provider's row says to drop it.
    """
    left_out = []
    for name, value in body.items():
        if name in known or name in _ALWAYS or is_default(name, value):
            continue
        if name not in HINTS and not upstream.account.drop_unsupported_params:
            raise unsupported(name, upstream)
        left_out.append(name)
    left_out += [name for name in dict.fromkeys(_hints_inside(body)) if name not in known]
    return tuple(left_out)


def is_default(name: str, value: Any) -> bool:
    """Does the parameter ask for what happens without it?"""
    return value is None or (name in _DEFAULTS and value == _DEFAULTS[name])


def invalid(param: str, rule: str) -> UnsupportedParameter:
    """Return the refusal of a value that no vendor could take ("must be a string")."""
    return UnsupportedParameter(param, f"'{param}' {rule}.", code="invalid_value")


def unsupported(param: str, upstream: Upstream, why: str = "") -> UnsupportedParameter:
    """Return the refusal of a parameter that `upstream` cannot express; `why` adds a sentence."""
    message = f"Provider {upstream.account.name!r} ({upstream.account.dialect}) does not support {param!r}."
    return UnsupportedParameter(param, f"{message} {why}".rstrip())


def path_segment(model: str) -> str:
    """Return a model's name as one segment of a path. Raises UnsupportedParameter for one with steps in it.

    They are quoted, but a server's proxy may take them for steps all the same.
    """
    if not {".", ".."}.isdisjoint(_STEP_ENDS.split(model)):
        raise UnsupportedParameter("model", f"{model!r} is no model.", code="invalid_value")
    return quote(model, safe="")


def written(request: Mapping[str, Any]) -> bytes:
    """Return a request's body. Raises UnsupportedParameter for one that is nested too deeply."""
    try:
        return orjson.dumps(request)
    except orjson.JSONEncodeError:  # what is taken apart or wrapped goes deeper than the client's body did
        raise UnsupportedParameter(
            "messages", "'messages' or 'tools' hold JSON that is nested too deeply.", code="invalid_value"
        ) from None


def _hints_inside(body: Mapping[str, Any]) -> Iterator[str]:
    for message in objects_in(body.get("messages")):
        if message.get("name") and message.get("role") != "tool":  # there it is the function's
            yield NAME
        if message.get("is_error") is True:
            yield IS_ERROR
        for part in objects_in(message.get("content")):
            image = part.get("image_url")
            if isinstance(image, dict) and image.get("detail") not in (None, "auto"):
                yield DETAIL
    for tool in objects_in(body.get("tools")):
        function = tool.get("function")
        if isinstance(function, dict) and function.get("strict") is True:
            yield STRICT


def objects_in(value: Any) -> Iterator[Mapping[str, Any]]:
    """Yield the objects of what should be a list of them."""
    if isinstance(value, list):
        yield from (each for each in value if isinstance(each, dict))
