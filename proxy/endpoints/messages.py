"""`/v1/messages` and `/v1/messages/count_tokens`: Anthropic's request, read into the canonical form.

A vendor of Anthropic's own format gets what the client sent. For all others the request is translated
here; what cannot be is noted (Call.only_native), so that such a vendor refuses it by name.
https://platform.claude.com/docs/en/api/messages
"""

import hashlib
from collections.abc import Mapping
from typing import Any

from providers.call import Call
from providers.dialects.reasoning import effort_of
from providers.wires import COUNT_TOKENS, MESSAGES
from proxy.endpoints.base import Endpoint
from proxy.endpoints.messages_reading import object_at
from proxy.endpoints.messages_tools import tool_fields
from proxy.endpoints.messages_turns import canonical_messages
from proxy.endpoints.native_only import NativeOnly, wrong
from proxy.endpoints.reading import flag, is_verbatim, model_of, object_in

MAX_USER_LENGTH = 64
# The same in both formats.
_SHARED = ("temperature", "top_p", "top_k")
_TRANSLATED = frozenset(
    {
        *_SHARED,
        "max_tokens",
        "messages",
        "metadata",
        "model",
        "output_config",
        "output_format",
        "service_tier",
        "stop_sequences",
        "stream",
        "system",
        "thinking",
        "tool_choice",
        "tools",
    }
)
# They do not shape the answer: where something is cached, and what Anthropic's own console shows of it.
_HINTS = frozenset({"cache_control", "diagnostics", "user_profile_id", "workspace_id"})
_SERVICE_TIERS = {"auto": "auto", "standard_only": "default"}


def parse_messages(raw: bytes) -> Call:
    """Read a request for a message. Raises BadRequest."""
    body = object_in(raw)
    limit = body.get("max_tokens")
    model = model_of(body)
    if limit is None:
        raise wrong("max_tokens", "is missing")
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        raise wrong("max_tokens", "must be a whole number of at least 1")
    stream = flag(body, "stream")
    native = NativeOnly()
    request = _canonical(body, native)
    # OpenAI's reasoning models know the limit under this name alone.
    request["max_completion_tokens"] = limit
    if stream:
        # The last event of Anthropic's streams tells the usage.
        request |= {"stream": True, "stream_options": {"include_usage": True}}
    return Call(
        wire=MESSAGES,
        model=model,
        body=request,
        raw=raw,
        stream=stream,
        wants_usage=stream,
        verbatim=is_verbatim(raw, body),
        sent=body,
        only_native=native.found,
    )


def parse_count_tokens(raw: bytes) -> Call:
    """Read a request for the number of tokens that a message's prompt has. Raises BadRequest."""
    body = object_in(raw)
    model = model_of(body)
    native = NativeOnly()
    request = _canonical(body, native)
    return Call(
        wire=COUNT_TOKENS,
        model=model,
        body=request,
        raw=raw,
        verbatim=is_verbatim(raw, body),
        sent=body,
        only_native=native.found,
    )


def _canonical(body: Mapping[str, Any], native: NativeOnly) -> dict[str, Any]:
    """Return the canonical request of everything but how much is to be written, and how."""
    request: dict[str, Any] = {"model": body["model"], "messages": canonical_messages(body, native)}
    request |= {name: body[name] for name in _SHARED if body.get(name) is not None}
    request |= tool_fields(body, native)
    request |= _reasoning(body, native)
    request |= _output(body, native)
    if body.get("stop_sequences"):
        request["stop"] = body["stop_sequences"]
    request |= _about_the_client(body)
    for name, value in body.items():
        if name not in _TRANSLATED and name not in _HINTS and not _asks_nothing(name, value):
            native.note_extra(name, f"{name!r} is known to Anthropic's own API alone.")
    return request


def _reasoning(body: Mapping[str, Any], native: NativeOnly) -> dict[str, Any]:
    thinking = object_at(body, "thinking")
    config = object_at(body, "output_config") or {}
    fields: dict[str, Any] = {}
    if thinking is not None:
        kind, budget = thinking.get("type"), thinking.get("budget_tokens")
        if kind == "enabled":
            if not isinstance(budget, int) or isinstance(budget, bool) or budget < 1:
                raise wrong("thinking.budget_tokens", "must be a whole number of at least 1")
            fields = {
                "thinking": {"type": kind, "budget_tokens": budget},
                "reasoning_effort": effort_of(budget),
            }
        elif kind in ("disabled", "adaptive"):
            # No effort beside it: OpenAI's models before GPT-5.1 refuse "none", those without reasoning any.
            fields = {"thinking": {"type": kind}}
        else:
            native.note_extra(
                "thinking.type", f"Thinking of the type {kind!r} is known to Anthropic's API alone."
            )
    effort = config.get("effort")
    if effort is not None:
        if not isinstance(effort, str):
            raise wrong("output_config.effort", "must be a string")
        fields["reasoning_effort"] = "xhigh" if effort == "max" else effort
    return fields


def _output(body: Mapping[str, Any], native: NativeOnly) -> dict[str, Any]:
    """Return the format of the answer; `output_format` is the beta's older name of it."""
    config = object_at(body, "output_config") or {}
    for name in config:
        if name not in ("effort", "format"):
            native.note_extra(
                f"output_config.{name}", f"'output_config.{name}' is known to Anthropic's API alone."
            )
    name = "output_config.format" if config.get("format") is not None else "output_format"
    asked = config.get("format") if config.get("format") is not None else body.get("output_format")
    if asked is None:
        return {}
    if not isinstance(asked, dict) or asked.get("type") != "json_schema":
        raise wrong(name, "must be an object of the type 'json_schema'")
    schema = asked.get("schema")
    if not isinstance(schema, dict):
        raise wrong(f"{name}.schema", "must be an object")
    described = {"name": "answer", "schema": schema, "strict": _is_strict(schema)}
    return {"response_format": {"type": "json_schema", "json_schema": described}}


def _is_strict(schema: Any) -> bool:
    """Is it a schema that OpenAI takes as strict: every object closed, and each of its properties required?

    Anthropic's rule is the first half of it:
    https://platform.claude.com/docs/en/build-with-claude/structured-outputs
    """
    if isinstance(schema, list):
        return all(_is_strict(each) for each in schema)
    if not isinstance(schema, dict):
        return True
    properties = schema.get("properties")
    if isinstance(properties, dict) or schema.get("type") == "object":
        required = schema.get("required")
        named = set(properties) if isinstance(properties, dict) else set()
        if schema.get("additionalProperties") is not False or not isinstance(required or [], list):
            return False
        if named - {each for each in required or [] if isinstance(each, str)}:
            return False
    return all(_is_strict(each) for each in schema.values())


def _about_the_client(body: Mapping[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    user = (object_at(body, "metadata") or {}).get("user_id")
    if isinstance(user, str) and user:
        # OpenAI takes at most 64 characters; coding agents send more. It names somebody, whatever it says.
        fields["user"] = user if len(user) <= MAX_USER_LENGTH else hashlib.sha256(user.encode()).hexdigest()
    tier = body.get("service_tier")
    if isinstance(tier, str):
        fields["service_tier"] = _SERVICE_TIERS.get(tier, tier)
    return fields


def _asks_nothing(name: str, value: Any) -> bool:
    """Does a parameter of Anthropic's alone ask for what happens without it?"""
    if value is None or value in ([], {}) or (name == "speed" and value == "standard"):
        return True
    if name != "context_management" or not isinstance(value, dict):
        return False
    # Coding agents send this with each request. Clearing spares tokens of a long conversation: without it
    # the model sees all of it. https://platform.claude.com/docs/en/build-with-claude/context-editing
    edits = value.get("edits") or []
    return isinstance(edits, list) and all(
        isinstance(edit, dict) and str(edit.get("type")).startswith("clear_") for edit in edits
    )


_HEADERS = ("anthropic-beta", "anthropic-version")
ANTHROPIC_MESSAGES = Endpoint("messages", parse_messages, headers=_HEADERS)
TOKEN_COUNT = Endpoint("count_tokens", parse_count_tokens, cacheable=False, headers=_HEADERS)
