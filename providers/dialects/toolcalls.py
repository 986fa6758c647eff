"""Tool calls in a canonical request, as vendors with arguments that are objects need them."""

from collections.abc import Mapping
from typing import Any

import orjson

from providers.dialects.params import invalid


def arguments_of(call: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return a tool call's arguments as an object; none are an empty one. Raises UnsupportedParameter."""
    text = (call.get("function") or {}).get("arguments")
    if isinstance(text, dict):
        return text
    if text is None or (isinstance(text, str) and not text.strip()):
        return {}
    try:
        value = orjson.loads(text)
    except (orjson.JSONDecodeError, TypeError):
        value = None
    if not isinstance(value, dict):
        raise invalid(f"{where}.function.arguments", "is not the text of a JSON object")
    return value


def arguments_text(value: Any) -> str:
    """Return a vendor's arguments as OpenAI has them: the text of a JSON object."""
    if value is None or value == "":
        return "{}"
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def at_most_one(body: Mapping[str, Any]) -> bool:
    """May the answer to this canonical request call one tool only?

    A vendor that cannot be told so is kept to it: the calls after the first are left out of its answer. The
    model asks for them again once it has the first one's result.
    """
    return body.get("parallel_tool_calls") is False
