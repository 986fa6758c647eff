"""The settings of a Responses request under the names that chat has for them."""

from collections.abc import Mapping
from typing import Any

from proxy.endpoints.native_only import NativeOnly, wrong

# Read elsewhere, said in the answer, or without meaning where OpenAI neither stores nor runs tools.
_READ = frozenset(
    {
        "model",
        "input",
        "instructions",
        "stream",
        "stream_options",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "background",
        "client_metadata",
        "conversation",
        "previous_response_id",
        "prompt",
        "max_tool_calls",
        "metadata",
        "prompt_cache_options",
        "store",
        # Read here:
        "include",
        "max_output_tokens",
        "reasoning",
        "text",
        "top_logprobs",
        "truncation",
    }
)
# Chat's names of what this endpoint calls otherwise, or does not have.
_OF_CHAT = frozenset(
    {
        "audio",
        "function_call",
        "functions",
        "logprobs",
        "max_completion_tokens",
        "max_tokens",
        "messages",
        "modalities",
        "n",
        "reasoning_effort",
        "response_format",
        "verbosity",
    }
)


def settings_of(sent: Mapping[str, Any], native: NativeOnly) -> dict[str, Any]:
    """Return what of chat's parameters is asked for, but for messages and tools. Raises BadRequest.

    What neither format knows stays under its name: the vendor's dialect judges it.
    """
    asked: dict[str, Any] = {}
    for name, value in sent.items():
        if name in _OF_CHAT:
            native.note(name, "It is a parameter of chat completions, not of responses.")
        elif name not in _READ and value is not None:
            asked[name] = value
    limit = sent.get("max_output_tokens")
    if limit is not None:
        if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
            raise wrong("max_output_tokens", "must be a whole number above 0")
        asked["max_completion_tokens"] = limit
    if sent.get("truncation") not in (None, "disabled"):
        native.note_extra("truncation", "Nobody else shortens what does not fit the model.")
    return asked | _text(sent, native) | _reasoning(sent) | _logprobs(sent)


def _text(sent: Mapping[str, Any], native: NativeOnly) -> dict[str, Any]:
    text = _object(sent, "text")
    asked: dict[str, Any] = {}
    if text.get("verbosity") is not None:
        asked["verbosity"] = text["verbosity"]
    form = text.get("format")
    if form is None:
        return asked
    if not isinstance(form, dict):
        raise wrong("text.format", "must be an object")
    kind = form.get("type")
    if kind == "json_object":
        asked["response_format"] = {"type": "json_object"}
    elif kind == "json_schema":
        asked["response_format"] = {"type": "json_schema", "json_schema": _schema(form)}
    elif kind != "text":
        native.note("text.format", f"A format of type {kind!r} is known to OpenAI alone.")
    return asked


def _schema(form: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(form.get("name"), str):
        raise wrong("text.format.name", "must be a string")
    if not isinstance(form.get("schema"), dict):
        raise wrong("text.format.schema", "must be an object")
    names = ("name", "schema", "description", "strict")
    return {name: form[name] for name in names if form.get(name) is not None}


def _reasoning(sent: Mapping[str, Any]) -> dict[str, Any]:
    # `summary` asks for the thoughts in words: they are given wherever a vendor tells them.
    effort = _object(sent, "reasoning").get("effort")
    if effort is None:
        return {}
    if not isinstance(effort, str):
        raise wrong("reasoning.effort", "must be a string")
    return {"reasoning_effort": effort}


def _logprobs(sent: Mapping[str, Any]) -> dict[str, Any]:
    include, top = sent.get("include"), sent.get("top_logprobs")
    if include is not None and not isinstance(include, list):
        raise wrong("include", "must be a list")
    asked: dict[str, Any] = {}
    if top or "message.output_text.logprobs" in (include or ()):
        asked["logprobs"] = True
    if top:
        asked["top_logprobs"] = top
    return asked


def _object(sent: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = sent.get(name)
    if value is not None and not isinstance(value, dict):
        raise wrong(name, "must be an object")
    return value or {}
