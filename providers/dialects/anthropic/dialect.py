"""The Anthropic dialect: the Messages API, for clients of OpenAI's format and for those of its own.

https://platform.claude.com/docs/en/api/messages. A request in Anthropic's own format is sent on as it came
but for the model's name and other vendors' thoughts, and so is its answer.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from providers.call import Call
from providers.dialects.anthropic.answer import canonical_answer, stop_of, usage_of
from providers.dialects.anthropic.errors import error_inside, read_error
from providers.dialects.anthropic.history import without_foreign_thoughts
from providers.dialects.anthropic.passed import MessagesStream
from providers.dialects.anthropic.request import request_of
from providers.dialects.anthropic.stream import AnthropicStream
from providers.dialects.base import StreamDecoder
from providers.dialects.openai.quirks import path_for
from providers.dialects.params import canonical, written
from providers.dialects.shapes import broken, parsed_object
from providers.errors import UnsupportedParameter, UpstreamError
from providers.events import Answer
from providers.upstream import Upstream, UpstreamRequest
from providers.wires import COUNT_TOKENS, EMBEDDINGS, MESSAGES

# The later version takes no sampling parameters, at no value and for no model:
# https://platform.claude.com/docs/en/api/versioning. A client that speaks it says so itself.
VERSION = "2023-06-01"
_PATHS = {MESSAGES: "/v1/messages", COUNT_TOKENS: "/v1/messages/count_tokens"}


class Anthropic:
    """Anthropic, and servers that speak its format."""

    name = "anthropic"
    label = "Anthropic"
    counts_tokens = True
    prefills = True
    repeats_prefill = False

    def auth_headers(self, credential: str, header: str) -> Mapping[str, str]:
        """Return the key in its own header, or as a Bearer token where that is asked for."""
        if not credential:
            return {}
        if header.lower() == "authorization":
            return {"authorization": f"Bearer {credential}"}
        return {header.lower() or "x-api-key": credential}

    def models_path(self) -> str:
        """Return Anthropic's list, all of it in one page."""
        return "/v1/models?limit=1000"

    def model_list(self, body: bytes) -> Sequence[Mapping[str, object]]:
        """Read `{"data": [{"id", "display_name", "created_at"}]}`."""
        listed = parsed_object(body).get("data")
        if not isinstance(listed, list):
            raise broken("it has no model list")
        return [
            {"id": model["id"], "created": _unix(model.get("created_at")), "owned_by": self.name}
            for model in listed
            if isinstance(model, dict) and isinstance(model.get("id"), str)
        ]

    def encode(self, call: Call, upstream: Upstream) -> UpstreamRequest:
        """Pass the client's own request on, or translate the canonical one."""
        if call.wire == EMBEDDINGS:
            raise UnsupportedParameter(
                "model", "Anthropic has no embeddings; choose another provider's model."
            )
        dropped: tuple[str, ...] = ()
        native = call.wire in _PATHS
        if not native:
            request, dropped = request_of(canonical(call, upstream), upstream, stream=call.stream)
            body = written(request)
        else:
            sent, dropped = without_foreign_thoughts(call.sent, call.raw, upstream.model)
            if sent is call.sent and call.verbatim and sent.get("model") == upstream.model:
                body = call.raw
            else:
                body = written({**sent, "model": upstream.model})
        version, beta = (
            call.headers.get("anthropic-version") or VERSION,
            call.headers.get("anthropic-beta") or "",
        )
        return UpstreamRequest(
            path=_path(call.wire if native else MESSAGES, upstream),
            body=body,
            headers=_headers(version, beta),
            dropped_params=dropped,
            wire=call.wire if native else "",
        )

    def decode(self, body: bytes, call: Call) -> Answer:
        """Check that it is an answer and find usage and stop reason."""
        body = body.strip()
        message = parsed_object(body)
        if message.get("type") == "error" or message.get("error"):
            raise error_inside(message.get("error"))
        if call.wire == COUNT_TOKENS:
            if "input_tokens" not in message:
                raise broken("it has no count")
            return Answer(body=body, wire=COUNT_TOKENS, message=message, usage=None, finish_reasons=("stop",))
        usage = usage_of(message.get("usage"))
        if call.wire == MESSAGES:
            reasons = (stop_of(message),)
            return Answer(body=body, wire=MESSAGES, parse=_reread, usage=usage, finish_reasons=reasons)
        answer = canonical_answer(message, call.body)
        reasons = (answer["choices"][0]["finish_reason"],)
        return Answer(message=answer, usage=usage, finish_reasons=reasons)

    def stream(self, call: Call) -> StreamDecoder:
        """Return the decoder of one stream."""
        return MessagesStream() if call.wire == MESSAGES else AnthropicStream(call)

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
        """Classify by status, and by words where Anthropic uses nothing else."""
        return read_error(status, headers, body)


def _reread(body: bytes) -> Mapping[str, Any]:
    return canonical_answer(parsed_object(body), {})


def _path(wire: str, upstream: Upstream) -> str:
    """Return the endpoint's path; a base URL may end in the version, as OpenAI's does."""
    path = _PATHS[wire]
    if upstream.account.base_url.rstrip("/").endswith("/v1"):
        path = path.removeprefix("/v1")
    return path_for(path, upstream)


@lru_cache(maxsize=256)
def _headers(version: str, beta: str) -> Mapping[str, str]:
    """Return the same object for the same headers: the connection writes them once."""
    headers = {"content-type": "application/json", "anthropic-version": version}
    return {**headers, "anthropic-beta": beta} if beta else headers


def _unix(moment: object) -> int:
    """Return an ISO 8601 date as Unix seconds; 0 where there is none."""
    try:
        read = datetime.fromisoformat(moment) if isinstance(moment, str) else None
        return 0 if read is None else max(int(read.replace(tzinfo=read.tzinfo or UTC).timestamp()), 0)
    except (ValueError, OverflowError):
        return 0
