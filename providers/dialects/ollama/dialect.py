"""The Ollama dialect: its own API, not the compatible one. The base URL has no path: http://localhost:11434.

A server that is to be asked through its compatible endpoint (http://localhost:11434/v1) is a provider of the
openai dialect. What is sent and what comes back: the modules request, messages, answers,
errors. https://docs.ollama.com/api
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from providers.call import Call
from providers.dialects.base import StreamDecoder
from providers.dialects.ollama.answers import OllamaStream, whole_answer
from providers.dialects.ollama.errors import error_in_line, read_error
from providers.dialects.ollama.request import chat_request, completes, embed_request, generate_request
from providers.dialects.openai.dialect import OpenAI
from providers.dialects.shapes import broken, parsed_object
from providers.dialects.toolcalls import at_most_one
from providers.dialects.translated import expected_shape
from providers.dialects.vectors import embeddings_answer
from providers.errors import UpstreamError
from providers.events import Answer
from providers.upstream import Upstream, UpstreamRequest
from providers.usage import Usage, count
from providers.wires import EMBEDDINGS

_AS_AT_OPENAI = OpenAI()


class Ollama:
    """Ollama's own API, on this machine or another, or at ollama.com."""

    name = "ollama"
    label = "Ollama"
    counts_tokens = False
    prefills = True
    repeats_prefill = False

    def auth_headers(self, credential: str, header: str) -> Mapping[str, str]:
        """Return nothing for a local server; a Bearer token for ollama.com or a proxy that wants one."""
        return _AS_AT_OPENAI.auth_headers(credential, header)

    def models_path(self) -> str:
        """Return the list of what has been pulled."""
        return "/api/tags"

    def model_list(self, body: bytes) -> Sequence[Mapping[str, object]]:
        """Read `{"models": [{"name", "model", ...}]}`."""
        listed = parsed_object(body).get("models")
        if not isinstance(listed, list):
            raise broken("it has no model list")
        named = [(each.get("model") or each.get("name"), each) for each in listed if isinstance(each, dict)]
        return [
            {"id": name, "created": _created(each.get("modified_at")), "owned_by": "ollama"}
            for name, each in named
            if isinstance(name, str)
        ]

    def encode(self, call: Call, upstream: Upstream) -> UpstreamRequest:
        """Return the request for the endpoint that can say the call."""
        if call.wire == EMBEDDINGS:
            return embed_request(call, upstream)
        return generate_request(call, upstream) if completes(call) else chat_request(call, upstream)

    def decode(self, body: bytes, call: Call) -> Answer:
        """Read a whole answer, of whichever endpoint."""
        message = parsed_object(body)
        with expected_shape():
            if call.wire != EMBEDDINGS:
                return whole_answer(message, one_call=at_most_one(call.body))
            if message.get("error"):
                raise error_in_line(message["error"])
            tokens = message.get("prompt_eval_count")
            usage = None if tokens is None else Usage(prompt=count(tokens))
            return embeddings_answer(message["embeddings"], call, usage=usage)

    def stream(self, call: Call) -> StreamDecoder:
        """Return the decoder of one stream."""
        return OllamaStream(one_call=at_most_one(call.body))

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
        """Classify by status and words."""
        return read_error(status, headers, body)


def _created(modified_at: Any) -> int:
    """Return when a model was pulled or made, in seconds; 0 where that is not told."""
    try:
        return count(int(datetime.fromisoformat(modified_at).timestamp()))
    except (TypeError, ValueError, OverflowError, OSError):
        return 0
