"""Embeddings as OpenAI answers them, made from other vendors' vectors."""

import base64
import struct
from collections.abc import Sequence
from typing import Any

from providers.call import Call
from providers.dialects.shapes import broken
from providers.events import Answer
from providers.usage import Usage


def embeddings_answer(vectors: Sequence[Any], call: Call, *, usage: Usage | None, model: str = "") -> Answer:
    """Return the answer in the encoding asked for. Raises UpstreamError for what is no vector."""
    as_base64 = call.body.get("encoding_format") == "base64"
    rows = [
        {"object": "embedding", "index": index, "embedding": _encoded(vector, as_base64=as_base64)}
        for index, vector in enumerate(vectors)
    ]
    message: dict[str, Any] = {"object": "list", "data": rows}
    if model:
        message["model"] = model
    if usage is not None:
        message["usage"] = {"prompt_tokens": usage.prompt, "total_tokens": usage.total}
    return Answer(message=message, usage=usage, finish_reasons=("stop",))


def _encoded(vector: Any, *, as_base64: bool) -> Any:
    if not isinstance(vector, list) or not all(
        isinstance(number, (int, float)) and not isinstance(number, bool) for number in vector
    ):
        raise broken("an embedding is not a list of numbers")
    if not as_base64:
        return vector
    # OpenAI's base64 is of little-endian float32.
    try:
        return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
    except (OverflowError, struct.error):
        raise broken("an embedding holds a number that is too large") from None
