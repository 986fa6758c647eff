"""What any vendor's answer must be at least: a JSON object. What is not is the vendor's failure."""

from collections.abc import Mapping
from typing import Any

import orjson

from providers.errors import INVALID_RESPONSE, Owner, UpstreamError


def parsed_object(body: bytes) -> Mapping[str, Any]:
    """Return the JSON object in `body`. Raises UpstreamError."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise broken("it is not JSON") from None
    if not isinstance(value, dict):
        raise broken("it is not a JSON object")
    return value


def broken(what: str) -> UpstreamError:
    """Return the error of an answer that is none."""
    return UpstreamError(
        f"The provider's answer is broken: {what}.", owner=Owner.HEALTH, code=INVALID_RESPONSE
    )
