"""`/v1/embeddings`: OpenAI's request, which every dialect with embeddings reads.

https://platform.openai.com/docs/api-reference/embeddings/create
"""

from collections.abc import Mapping
from typing import Any

from providers.call import Call
from providers.wires import EMBEDDINGS
from proxy.endpoints.base import Endpoint
from proxy.endpoints.reading import check_texts, is_verbatim, model_of, object_in
from proxy.errors import BadRequest

ENCODINGS = ("float", "base64")


def parse_embeddings(raw: bytes) -> Call:
    """Read an OpenAI embeddings request. Raises BadRequest."""
    body = object_in(raw)
    model = model_of(body)
    _check_input(body.get("input"))
    _check_form(body)
    return Call(wire=EMBEDDINGS, model=model, body=body, raw=raw, verbatim=is_verbatim(raw, body))


def _check_input(given: Any) -> None:
    if not isinstance(given, (str, list)) or not given:
        raise BadRequest("'input' must be a string or a list that is not empty.", param="input")
    if isinstance(given, list):
        # Images, as llama.cpp and OpenRouter take them: {"content": [{"type": "image_url", ...}]}
        # https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md
        check_texts(given, "input", objects=True)


def _check_form(body: Mapping[str, Any]) -> None:
    encoding = body.get("encoding_format")
    if encoding is not None and encoding not in ENCODINGS:
        raise BadRequest(f"'encoding_format' must be {' or '.join(ENCODINGS)}.", param="encoding_format")
    dimensions = body.get("dimensions")
    if dimensions is not None and (type(dimensions) is not int or dimensions < 1):
        raise BadRequest("'dimensions' must be a whole number from 1 on.", param="dimensions")


EMBEDDING = Endpoint("embeddings", parse_embeddings)
