"""The Mistral dialect: chat, fill-in-the-middle, embeddings. The base URL is https://api.mistral.ai/v1.

Its credential and its model list are shown as at OpenAI; what it takes and what it answers are its own
(the modules request, messages, answers, errors).
"""

from collections.abc import Mapping, Sequence

from providers.call import Call
from providers.dialects.base import StreamDecoder
from providers.dialects.mistral.answers import MistralStream, chat_answer, usage_of
from providers.dialects.mistral.errors import read_error
from providers.dialects.mistral.request import chat_request, embeddings_request, fills_in, fim_request
from providers.dialects.openai.dialect import OpenAI
from providers.dialects.shapes import parsed_object
from providers.dialects.translated import expected_shape
from providers.dialects.vectors import embeddings_answer
from providers.errors import UpstreamError
from providers.events import Answer
from providers.upstream import Upstream, UpstreamRequest
from providers.wires import EMBEDDINGS

_AS_AT_OPENAI = OpenAI()


class Mistral:
    """Mistral's own API."""

    name = "mistral"
    label = "Mistral"
    counts_tokens = False
    prefills = True
    # In pieces of its own, blanks at the end moved to the next one: https://github.com/vercel/ai/pull/3256
    repeats_prefill = True

    def auth_headers(self, credential: str, header: str) -> Mapping[str, str]:
        """Return a Bearer token, or the bare key in the provider's own header."""
        return _AS_AT_OPENAI.auth_headers(credential, header)

    def models_path(self) -> str:
        """Return Mistral's list."""
        return "/models"

    def model_list(self, body: bytes) -> Sequence[Mapping[str, object]]:
        """Read `{"data": [{"id", "created", "owned_by"}]}`."""
        return _AS_AT_OPENAI.model_list(body)

    def encode(self, call: Call, upstream: Upstream) -> UpstreamRequest:
        """Return the request in Mistral's own words."""
        if call.wire == EMBEDDINGS:
            return embeddings_request(call, upstream)
        return fim_request(call, upstream) if fills_in(call) else chat_request(call, upstream)

    def decode(self, body: bytes, call: Call) -> Answer:
        """Read a whole answer; one of fill-in-the-middle looks like one of chat."""
        message = parsed_object(body)
        with expected_shape():
            if call.wire != EMBEDDINGS:
                return chat_answer(message)
            vectors = [row["embedding"] for row in message["data"]]
            return embeddings_answer(vectors, call, usage=usage_of(message.get("usage")))

    def stream(self, call: Call) -> StreamDecoder:
        """Return the decoder of one stream."""
        return MistralStream()

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
        """Classify by status and words."""
        return read_error(status, headers, body)
