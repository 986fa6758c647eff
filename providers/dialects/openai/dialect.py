"""The OpenAI dialect: the canonical form itself, and every OpenAI-compatible server.

A request body is sent on as it came unless the model's name or the forced usage chunk changes it.
A stream's events go through untouched: they are only searched for what the relay must know (finish
reason, usage, error), and parsed only where that search hits.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from providers import usage as usages
from providers.call import Call
from providers.carried import without_carried
from providers.dialects.base import StreamDecoder
from providers.dialects.openai.errors import error_in_body, read_error
from providers.dialects.openai.plain import plain, unsaid, without_effort
from providers.dialects.openai.quirks import fitted, path_for
from providers.dialects.openai.responses import ResponsesStream, responses_answer
from providers.dialects.openai.shapes import answer_choices, text_choices
from providers.dialects.openai.stream import CompletionsStream, OpenAIStream
from providers.dialects.params import canonical, written
from providers.dialects.shapes import broken, parsed_object
from providers.errors import UpstreamError
from providers.events import Answer
from providers.upstream import NO_QUIRKS, Quirks, Upstream, UpstreamRequest
from providers.wires import CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES

_PATHS = {
    CHAT: "/chat/completions",
    COMPLETIONS: "/completions",
    EMBEDDINGS: "/embeddings",
    RESPONSES: "/responses",
}
_WITH_USAGE_OPTION = frozenset({CHAT, COMPLETIONS})
_JSON = {"content-type": "application/json"}


class OpenAI:
    """OpenAI and compatible servers."""

    name = "openai"
    label = "OpenAI and compatible"
    counts_tokens = False
    prefills = False
    repeats_prefill = False

    def auth_headers(self, credential: str, header: str) -> Mapping[str, str]:
        """Return a Bearer token, or the bare key in the provider's own header (Azure: api-key)."""
        if not credential:
            return {}
        if header and header.lower() != "authorization":
            return {header.lower(): credential}
        return {"authorization": f"Bearer {credential}"}

    def models_path(self) -> str:
        """Return OpenAI's list."""
        return "/models"

    def model_list(self, body: bytes) -> Sequence[Mapping[str, object]]:
        """Read `{"data": [{"id", "created", "owned_by"}]}`."""
        listed = parsed_object(body).get("data")
        if not isinstance(listed, list):
            raise broken("it has no model list")
        return [
            {
                "id": model["id"],
                "created": usages.count(model.get("created")),
                "owned_by": str(model.get("owned_by") or ""),
            }
            for model in listed
            if isinstance(model, dict) and isinstance(model.get("id"), str)
        ]

    def encode(self, call: Call, upstream: Upstream) -> UpstreamRequest:
        """Send the body as it came but for the vendor's model name, the forced usage chunk and its quirks."""
        quirks = upstream.account.quirks
        wire = call.wire if _speaks(call.wire, quirks) else CHAT
        native = wire == call.wire
        source, left_out = call.sent or call.body, tuple[str, ...]()
        if not native:
            translated = plain(canonical(call, upstream), thoughts=quirks.reasoning_content)
            source, left_out = without_effort(translated, upstream.model)
            left_out = (*unsaid(call.body), *left_out)
        body = without_carried(source, call.raw) if wire == RESPONSES else source
        body, dropped = fitted(body, upstream) if quirks is not NO_QUIRKS else (body, ())
        changes: dict[str, Any] = {}
        if body.get("model") != upstream.model:
            changes["model"] = upstream.model
        asks_usage = wire in _WITH_USAGE_OPTION and quirks.stream_usage
        if call.stream and not call.wants_usage and asks_usage:
            changes["stream_options"] = {**(body.get("stream_options") or {}), "include_usage": True}
        verbatim = native and call.verbatim and body is source and not changes
        return UpstreamRequest(
            path=path_for(_PATHS[wire], upstream),
            body=call.raw if verbatim else written({**body, **changes}),
            headers=_JSON,
            dropped_params=(*left_out, *dropped),
            wire=wire,
        )

    def decode(self, body: bytes, call: Call) -> Answer:
        """Check that it is an answer and find usage and finish reasons."""
        # OpenRouter keeps connections alive with blank lines before the JSON.
        body = body.strip()
        message = parsed_object(body)
        if message.get("error"):
            raise error_in_body(message["error"])
        return _DECODERS.get(call.wire, _chat)(body, message)

    def stream(self, call: Call) -> StreamDecoder:
        """Return the decoder of one stream."""
        return _STREAMS.get(call.wire, OpenAIStream)(choices=call.choices)

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
        """Classify by status, code and, where servers say it in words only, by their words."""
        return read_error(status, headers, body)


def _chat(body: bytes, message: Mapping[str, Any]) -> Answer:
    choices = answer_choices(message)
    return Answer(
        body=body,
        wire=CHAT,
        message=message,
        usage=usages.from_openai(message.get("usage")),
        finish_reasons=[choice["finish_reason"] for choice in choices if choice.get("finish_reason")],
    )


def _embeddings(body: bytes, message: Mapping[str, Any]) -> Answer:
    if not isinstance(message.get("data"), list):
        raise broken("it has no embeddings")
    return Answer(
        body=body,
        wire=EMBEDDINGS,
        message=message,
        usage=usages.from_openai(message.get("usage")),
        finish_reasons=("stop",),
    )


def _completions(body: bytes, message: Mapping[str, Any]) -> Answer:
    choices = text_choices(message, "message")
    if not choices:
        raise broken("it has no choices")
    return Answer(
        body=body,
        wire=COMPLETIONS,
        message={**message, "object": "chat.completion", "choices": choices},
        usage=usages.from_openai(message.get("usage")),
        finish_reasons=[choice["finish_reason"] for choice in choices if choice.get("finish_reason")],
    )


def _speaks(wire: str, quirks: Quirks) -> bool:
    """Does the server have the endpoint that takes this format?"""
    if wire == COMPLETIONS:
        return quirks.completions
    if wire == RESPONSES:
        return quirks.responses
    return wire in _PATHS


_DECODERS: Mapping[str, Callable[[bytes, Mapping[str, Any]], Answer]] = {
    CHAT: _chat,
    COMPLETIONS: _completions,
    EMBEDDINGS: _embeddings,
    RESPONSES: responses_answer,
}
_STREAMS: Mapping[str, Callable[..., StreamDecoder]] = {
    CHAT: OpenAIStream,
    COMPLETIONS: CompletionsStream,
    RESPONSES: ResponsesStream,
}
