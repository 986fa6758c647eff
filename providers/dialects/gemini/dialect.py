"""The Gemini dialect: generateContent of Google's Gemini API, and of Vertex AI.

The base URL may be the host alone ("https://generativelanguage.googleapis.com"), end in a version
(".../v1beta", ".../v1"), or be Vertex AI's (".../publishers/google", with an OAuth token as the key and
"authorization" as its header; chat only).
"""

import re
from collections.abc import Mapping, Sequence

from providers.call import Call
from providers.dialects.base import StreamDecoder
from providers.dialects.gemini import embeddings as gemini_embeddings
from providers.dialects.gemini import request as gemini_request
from providers.dialects.gemini.answer import answer_of
from providers.dialects.gemini.errors import error_in_body, read_error
from providers.dialects.gemini.stream import GeminiStream
from providers.dialects.params import canonical, dropped, path_segment, written
from providers.dialects.shapes import broken, parsed_object
from providers.dialects.toolcalls import at_most_one
from providers.dialects.translated import expected_shape
from providers.errors import UpstreamError
from providers.events import Answer
from providers.upstream import Upstream, UpstreamRequest
from providers.wires import EMBEDDINGS

_JSON = {"content-type": "application/json"}
_VERSIONED = re.compile(r"/v\d[a-z0-9]*/?$")
_VERTEX = re.compile(r"/publishers/[^/]+/?$")
# Names that say where they stand; any other is a model of Google's.
_PLACES = ("models/", "tunedModels/")


class Gemini:
    """Google's Gemini API and Vertex AI."""

    name = "gemini"
    label = "Gemini"
    counts_tokens = False
    prefills = False
    repeats_prefill = False

    def auth_headers(self, credential: str, header: str) -> Mapping[str, str]:
        """Return Google's header of API keys; a Bearer token where `header` is "authorization"."""
        if not credential:
            return {}
        name = header.lower() or "x-goog-api-key"
        return {name: f"Bearer {credential}" if name == "authorization" else credential}

    def models_path(self) -> str:
        """Return Google's list, in one page."""
        return "/v1beta/models?pageSize=1000"

    def model_list(self, body: bytes) -> Sequence[Mapping[str, object]]:
        """Read `{"models": [{"name": "models/..."}]}`."""
        listed = parsed_object(body).get("models")
        if not isinstance(listed, list):
            raise broken("it has no model list")
        return [
            {"id": model["name"].removeprefix("models/"), "created": 0, "owned_by": "google"}
            for model in listed
            if isinstance(model, dict) and isinstance(model.get("name"), str)
        ]

    def encode(self, call: Call, upstream: Upstream) -> UpstreamRequest:
        """Write generateContent's request, or batchEmbedContents' for embeddings."""
        body = canonical(call, upstream)
        model, base_url = upstream.model, upstream.account.base_url
        if call.wire == EMBEDDINGS:
            left_out = dropped(body, gemini_embeddings.KNOWN, upstream)
            request = gemini_embeddings.embeddings_body(body, _resource(model))
            method = "batchEmbedContents"
        else:
            left_out = dropped(body, gemini_request.KNOWN, upstream)
            request = gemini_request.generate_body(body, model, ids=_VERTEX.search(base_url) is None)
            method = "streamGenerateContent?alt=sse" if call.stream else "generateContent"
        return UpstreamRequest(
            path=f"{_path_of(model, base_url)}:{method}",
            body=written(request),
            headers=_JSON,
            dropped_params=left_out,
        )

    def decode(self, body: bytes, call: Call) -> Answer:
        """Read a whole answer, or embeddings."""
        message = parsed_object(body)
        with expected_shape():
            if call.wire != EMBEDDINGS:
                return answer_of(message, one_call=at_most_one(call.body))
            if message.get("error"):
                raise error_in_body(message["error"])
            return gemini_embeddings.embeddings_of(message, call)

    def stream(self, call: Call) -> StreamDecoder:
        """Return the decoder of one stream."""
        return GeminiStream(one_call=at_most_one(call.body))

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
        """Classify by status and the details of Google's error model."""
        return read_error(status, headers, body)


def _resource(model: str) -> str:
    return model if model.startswith(_PLACES) else f"models/{model}"


def _path_of(model: str, base_url: str) -> str:
    """Return the model's path under the base URL."""
    place, _, name = _resource(model).partition("/")
    versioned = _VERSIONED.search(base_url) or _VERTEX.search(base_url)
    return f"{'' if versioned else '/v1beta'}/{place}/{path_segment(name)}"
