"""Canonical requests to Ollama's: /api/chat, /api/generate, /api/embed.

Whether to stream is always said: Ollama's default is to do so. Options that a request does not name are the
model's own (its Modelfile). https://docs.ollama.com/api
"""

from collections.abc import Mapping
from typing import Any

from providers.call import Call
from providers.dialects.conversation import choice_in, output_limit, tools_in
from providers.dialects.embedding_texts import check_encoding, texts_to_embed
from providers.dialects.ollama.messages import messages_of
from providers.dialects.params import HINTS, canonical, dropped, invalid, is_default, unsupported, written
from providers.dialects.reasoning import budget_asked
from providers.upstream import Upstream, UpstreamRequest
from providers.wires import COMPLETIONS

_JSON = {"content-type": "application/json"}
_OPTIONS = ("temperature", "top_p", "top_k", "seed", "presence_penalty", "frequency_penalty")
# Ollama's own, for clients that know whom they talk to; `options` has any that OpenAI has no name for.
_OWN = ("keep_alive", "options", "think")
_OPTION_NAMES = frozenset({*_OPTIONS, *_OWN, "stop", "max_tokens"})
_CHAT_KNOWN = _OPTION_NAMES | {
    "max_completion_tokens",
    "tools",
    "tool_choice",
    "response_format",
    "reasoning_effort",
    "thinking",
    "logprobs",
    "top_logprobs",
    "parallel_tool_calls",  # kept to by who reads the answer
}
# `echo` is done by who writes the answer for the client.
_GENERATE_KNOWN = _OPTION_NAMES | {"model", "prompt", "suffix", "stream", "stream_options", "raw", "echo"}
_EMBED_KNOWN = frozenset({"input", "dimensions", "encoding_format", "keep_alive", "options", "truncate"})
# As Ollama's own compatible endpoint maps them: https://github.com/ollama/ollama (openai/openai.go).
_LEVELS: Mapping[str, bool | str] = {
    "none": False,
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "max",
}


def chat_request(call: Call, upstream: Upstream) -> UpstreamRequest:
    """Return the chat request. Raises UnsupportedParameter."""
    body = canonical(call, upstream)
    left_out = dropped(body, _CHAT_KNOWN, upstream)
    sent: dict[str, Any] = {
        "model": upstream.model,
        "messages": messages_of(body, upstream),
        "stream": call.stream,
        **_settings(body),
    }
    tools = tools_in(body, upstream, strict=False)
    choice = choice_in(body, tools)
    if choice not in (None, "auto", "none"):
        if not upstream.account.drop_unsupported_params:
            raise unsupported("tool_choice", upstream, "It has none but auto and none.")
        left_out = (*left_out, "tool_choice")
    if tools and choice != "none":
        sent["tools"] = tools
    wanted = _format(body.get("response_format"), upstream)
    if wanted is not None:
        sent["format"] = wanted
    for name in ("logprobs", "top_logprobs"):
        if body.get(name):
            sent[name] = body[name]
    return UpstreamRequest("/api/chat", written(sent), _JSON, left_out)


def completes(call: Call) -> bool:
    """Can /api/generate say the whole call? It takes one prompt, with or without a suffix."""
    if call.wire != COMPLETIONS or not _prompt(call.sent):  # an empty one only loads the model
        return False
    if not isinstance(call.sent.get("suffix"), (str, type(None))):
        return False
    return all(
        name in _GENERATE_KNOWN or name in HINTS or is_default(name, value)
        for name, value in call.sent.items()
    )


def generate_request(call: Call, upstream: Upstream) -> UpstreamRequest:
    """Return the request for a call that `completes`. Raises UnsupportedParameter."""
    body = call.sent
    left_out = dropped(body, _GENERATE_KNOWN, upstream)
    sent: dict[str, Any] = {
        "model": upstream.model,
        "prompt": _prompt(body),
        "stream": call.stream,
        **_settings(body),
    }
    for name in ("suffix", "raw"):
        if body.get(name):
            sent[name] = body[name]
    return UpstreamRequest("/api/generate", written(sent), _JSON, left_out)


def embed_request(call: Call, upstream: Upstream) -> UpstreamRequest:
    """Return the embeddings request. Raises UnsupportedParameter."""
    body = call.body
    left_out = dropped(body, _EMBED_KNOWN, upstream)
    check_encoding(body)
    sent: dict[str, Any] = {"model": upstream.model, "input": texts_to_embed(body)}
    for name in ("dimensions", "keep_alive", "options", "truncate"):
        if body.get(name) is not None:
            sent[name] = body[name]
    return UpstreamRequest("/api/embed", written(sent), _JSON, left_out)


def _settings(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return `options`, `think` and `keep_alive`, as far as the request says something of them."""
    settings: dict[str, Any] = {}
    options = _options(body)
    if options:
        settings["options"] = options
    think = _think(body)
    if think is not None:
        settings["think"] = think
    if body.get("keep_alive") is not None:
        settings["keep_alive"] = body["keep_alive"]
    return settings


def _options(body: Mapping[str, Any]) -> dict[str, Any]:
    own = body.get("options")
    if not isinstance(own, (dict, type(None))):
        raise invalid("options", "must be an object")
    options: dict[str, Any] = dict(own or {})
    options |= {name: body[name] for name in _OPTIONS if body.get(name) is not None}
    limit, stop = output_limit(body), body.get("stop")
    if limit is not None:
        options["num_predict"] = limit
    if isinstance(stop, str):
        stop = [stop]
    if not isinstance(stop, (list, type(None))) or not all(isinstance(text, str) for text in stop or ()):
        raise invalid("stop", "must be a string or a list of strings")
    if stop:
        options["stop"] = stop
    return options


def _think(body: Mapping[str, Any]) -> Any:
    """Return false, or how much; None for the model's own way: https://docs.ollama.com/capabilities/thinking.

    A model that can think does so unless it is told not to; any other is an error when it is told to. Coding
    agents ask every model to think (`thinking`), so that is not said, nor the effort beside it.
    """
    if body.get("think") is not None:
        return body["think"]
    effort = body.get("reasoning_effort")
    if budget_asked(body) == 0:
        return False
    if isinstance(body.get("thinking"), dict):
        return None
    if effort is not None:
        if not isinstance(effort, str) or effort not in _LEVELS:
            raise invalid("reasoning_effort", f"must be one of {', '.join(_LEVELS)}")
        return _LEVELS[effort]
    return None


def _format(wanted: Any, upstream: Upstream) -> Any:
    """Return "json", a schema, or None for text."""
    kind = wanted.get("type") if isinstance(wanted, dict) else wanted
    if kind in (None, "text"):
        return None
    if kind == "json_object":
        return "json"
    if kind != "json_schema" or not isinstance(wanted, dict):
        raise unsupported("response_format", upstream)
    described = wanted.get("json_schema")
    schema = described.get("schema") if isinstance(described, dict) else None
    if not isinstance(schema, dict):
        raise invalid("response_format.json_schema.schema", "must be an object")
    return schema


def _prompt(body: Mapping[str, Any]) -> str | None:
    prompt = body.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    return prompt if isinstance(prompt, str) else None
