"""Canonical requests to Mistral's: chat, fill-in-the-middle, embeddings.

What Mistral does not know it refuses with 422, so nothing goes out but what it documents:
https://docs.mistral.ai/api/endpoint/chat, .../fim, .../embeddings
"""

import re
from collections.abc import Mapping
from typing import Any

from providers.call import Call
from providers.canonical import text_in
from providers.dialects.conversation import choice_in, chosen_name, output_limit, tools_in
from providers.dialects.embedding_texts import check_encoding, texts_to_embed
from providers.dialects.mistral.messages import messages_of
from providers.dialects.params import DETAIL, STRICT, canonical, dropped, invalid, unsupported, written
from providers.dialects.reasoning import budget_asked
from providers.upstream import Upstream, UpstreamRequest
from providers.wires import COMPLETIONS

_JSON = {"content-type": "application/json"}
# Known by the same name, with the same meaning.
_AS_THEY_ARE = (
    "temperature",
    "top_p",
    "stop",
    "metadata",
    "response_format",
    "presence_penalty",
    "frequency_penalty",
    "n",
    "prediction",
    "parallel_tool_calls",
    "reasoning_effort",
    "prompt_mode",
    "guardrails",
    "prompt_cache_key",
    "safe_prompt",
    "random_seed",
    # Taken, though the reference is silent about them:
    "min_tokens",
    "repetition_penalty",
    "top_k",
    "logprobs",
    "top_logprobs",
    "prompt_logprobs",
    "top_prompt_logprobs",
)
_TRANSLATED = frozenset({"max_tokens", "max_completion_tokens", "seed", "tools", "tool_choice", "thinking"})
_KNOWN = _TRANSLATED.union(_AS_THEY_ARE, (DETAIL, STRICT))
# The models that think or do not, as they are told, and the first versions of them that do.
_CHOOSING, _FIRST_TO_CHOOSE = ("mistral-small", "mistral-medium"), "2603"
_DATE = re.compile(r"-(2\d{3})$", re.ASCII)
_SERVICE_TIERS = ("auto", "standard_only")
_FIM_AS_THEY_ARE = (
    "prompt",
    "suffix",
    "max_tokens",
    "temperature",
    "top_p",
    "stop",
    "metadata",
    "random_seed",
    "min_tokens",
    "prompt_cache_key",
)
# `echo` is done by who writes the answer for the client.
_FIM_KNOWN = frozenset({*_FIM_AS_THEY_ARE, "seed", "echo"})
_EMBEDDINGS_KNOWN = frozenset(
    {"input", "dimensions", "output_dimension", "encoding_format", "output_dtype", "metadata"}
)


def chat_request(call: Call, upstream: Upstream) -> UpstreamRequest:
    """Return the chat request. Raises UnsupportedParameter."""
    body = canonical(call, upstream)
    known: frozenset[str] = _KNOWN
    if body.get("service_tier") in _SERVICE_TIERS:  # OpenAI's others are a hint that Mistral would refuse
        known = known | {"service_tier"}
    left_out = dropped(body, known, upstream)
    sent: dict[str, Any] = {"model": upstream.model, "messages": messages_of(body, upstream)}
    sent |= _kept(body, _AS_THEY_ARE)
    expected = body.get("prediction")
    if isinstance(expected, dict):  # OpenAI's may be a list of parts
        sent["prediction"] = {"type": "content", "content": text_in(expected.get("content"))}
    if "service_tier" in known:
        sent["service_tier"] = body["service_tier"]
    _put(sent, "max_tokens", output_limit(body))
    _put(sent, "random_seed", body.get("seed"))
    if body.get("thinking") is not None:
        left_out += _think(sent, body, upstream.model)
    tools = tools_in(body, upstream, strict=True)
    choice = choice_in(body, tools)
    if tools:
        sent["tools"] = tools
        _put(sent, "tool_choice", _choice(choice, upstream))
    if call.stream:
        sent["stream"] = True
    return UpstreamRequest("/chat/completions", written(sent), _JSON, left_out)


def _think(sent: dict[str, Any], body: Mapping[str, Any], model: str) -> tuple[str, ...]:
    """Say how much to think as far as the model can be told, and return what could not be said.

    Coding agents ask every model to think (`thinking`); models without a choice refuse to hear of an effort,
    "none" included. https://github.com/mistralai/mistral-common (protocol/instruct/validator.py)
    """
    dated = _DATE.search(model)
    if not model.startswith(_CHOOSING) or (dated is not None and dated[1] < _FIRST_TO_CHOOSE):
        return ("thinking",) if sent.pop("reasoning_effort", None) or budget_asked(body) else ()
    thinking = body.get("thinking")
    if isinstance(thinking, dict) and (thinking.get("type") == "disabled" or thinking.get("budget_tokens")):
        # They take "high" and "none", few of them more, whatever a budget comes nearest to:
        # https://docs.mistral.ai/capabilities/reasoning/adjustable
        sent["reasoning_effort"] = "high" if budget_asked(body) else "none"
    return ()


def fills_in(call: Call) -> bool:
    """Does the call ask for what stands between a prompt and a suffix, which chat cannot say?"""
    return call.wire == COMPLETIONS and bool(call.sent.get("suffix"))


def fim_request(call: Call, upstream: Upstream) -> UpstreamRequest:
    """Return the request for what stands between `prompt` and `suffix`. Raises UnsupportedParameter."""
    body = call.sent
    left_out = dropped(body, _FIM_KNOWN, upstream)
    prompt = body.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str):
        raise invalid("prompt", "must be one string beside a 'suffix'")
    if not isinstance(body["suffix"], str):
        raise invalid("suffix", "must be a string")
    sent: dict[str, Any] = {"model": upstream.model, **_kept(body, _FIM_AS_THEY_ARE), "prompt": prompt}
    _put(sent, "random_seed", body.get("seed"))
    if call.stream:
        sent["stream"] = True
    return UpstreamRequest("/fim/completions", written(sent), _JSON, left_out)


def embeddings_request(call: Call, upstream: Upstream) -> UpstreamRequest:
    """Return the embeddings request, always for floats. Raises UnsupportedParameter."""
    body = call.body
    left_out = dropped(body, _EMBEDDINGS_KNOWN, upstream)
    check_encoding(body)
    if body.get("output_dtype") not in (None, "float"):
        raise unsupported("output_dtype", upstream, "OpenAI's format holds floats only.")
    sent: dict[str, Any] = {"model": upstream.model, "input": texts_to_embed(body)}
    _put(sent, "metadata", body.get("metadata"))
    wanted = body.get("dimensions")
    _put(sent, "output_dimension", body.get("output_dimension") if wanted is None else wanted)
    return UpstreamRequest("/embeddings", written(sent), _JSON, left_out)


def _choice(choice: Any, upstream: Upstream) -> Any:
    if choice in (None, "auto", "none", "any"):
        return choice
    if choice == "required":
        return "any"
    name = chosen_name(choice)
    if name is None:
        raise unsupported("tool_choice", upstream, "It may be auto, none, required, or name a function.")
    return {"type": "function", "function": {"name": name}}


def _kept(body: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: body[name] for name in names if body.get(name) is not None}


def _put(sent: dict[str, Any], name: str, value: Any) -> None:
    if value is not None:
        sent[name] = value
