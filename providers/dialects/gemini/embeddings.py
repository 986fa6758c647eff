"""OpenAI's embeddings as Gemini's batchEmbedContents: https://ai.google.dev/api/embeddings.

The batch is asked for even a single text: its answer has one form for all models.
"""

from collections.abc import Mapping
from typing import Any

from providers.call import Call
from providers.dialects.gemini.usage import usage_of
from providers.dialects.params import invalid
from providers.dialects.shapes import broken
from providers.dialects.vectors import embeddings_answer
from providers.errors import UnsupportedParameter
from providers.events import Answer

# `task_type` is Google's own; it changes the vectors, so nothing else can stand for it.
KNOWN = frozenset({"input", "dimensions", "encoding_format", "task_type"})
_ENCODINGS = (None, "float", "base64")


def embeddings_body(body: Mapping[str, Any], model: str) -> dict[str, Any]:
    """Return the request for texts; tokens mean nothing to Gemini. Raises UnsupportedParameter."""
    if body.get("encoding_format") not in _ENCODINGS:
        raise invalid("encoding_format", "must be float or base64")
    options: dict[str, Any] = {}
    dimensions = body.get("dimensions")
    if dimensions is not None:
        if not isinstance(dimensions, int) or isinstance(dimensions, bool):
            raise invalid("dimensions", "must be a whole number")
        options["outputDimensionality"] = dimensions
    if body.get("task_type") is not None:
        options["taskType"] = body["task_type"]
    return {
        "requests": [
            {"model": model, "content": {"parts": [{"text": text}]}, **options}
            for text in _texts(body.get("input"))
        ]
    }


def embeddings_of(message: Mapping[str, Any], call: Call) -> Answer:
    """Return the answer of as many vectors as there were texts. Raises UpstreamError."""
    listed = message.get("embeddings")
    if not isinstance(listed, list) or not listed:
        raise broken("it has no embeddings")
    asked = call.body.get("input")
    if len(listed) != (len(asked) if isinstance(asked, list) else 1):
        raise broken("it has another number of embeddings than there were texts")
    vectors = [each.get("values") if isinstance(each, dict) else None for each in listed]
    return embeddings_answer(vectors, call, usage=usage_of(message.get("usageMetadata")))


def _texts(asked: Any) -> list[str]:
    texts = [asked] if isinstance(asked, str) else asked
    if not isinstance(texts, list) or not texts:
        raise invalid("input", "must be a string or a list that is not empty")
    if any(isinstance(text, (int, list)) for text in texts):
        raise UnsupportedParameter("input", "'input' must be text: Gemini does not take tokens.")
    for place, text in enumerate(texts):
        if not isinstance(text, str):
            raise invalid(f"input[{place}]", "must be a string")
    return texts
