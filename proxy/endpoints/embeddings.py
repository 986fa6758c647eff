"""`/v1/embeddings`: OpenAI's request, which every dialect with embeddings reads."""

from providers.call import Call
from providers.wires import EMBEDDINGS
from proxy.endpoints.base import Endpoint
from proxy.endpoints.reading import is_verbatim, model_of, object_in
from proxy.errors import BadRequest


def parse_embeddings(raw: bytes) -> Call:
    """Read an OpenAI embeddings request. Raises BadRequest."""
    body = object_in(raw)
    model = model_of(body)
    texts = body.get("input")
    if not isinstance(texts, (str, list)) or not texts:
        raise BadRequest("'input' must be a string or a list that is not empty.", param="input")
    return Call(wire=EMBEDDINGS, model=model, body=body, raw=raw, verbatim=is_verbatim(raw, body))


EMBEDDING = Endpoint("embeddings", parse_embeddings)
