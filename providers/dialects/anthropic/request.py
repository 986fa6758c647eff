"""A canonical request as Anthropic's Messages API takes it (https://platform.claude.com/docs/en/api/messages)."""

from collections.abc import Mapping
from typing import Any

from providers.dialects.anthropic.content import Block, cached
from providers.dialects.anthropic.messages import conversation_of
from providers.dialects.anthropic.models import traits_of
from providers.dialects.anthropic.thinking import Thinking, sampling_of, thinking_of, with_room
from providers.dialects.anthropic.tools import Refuse, tools_of
from providers.dialects.params import IS_ERROR, STRICT, dropped, invalid, unsupported
from providers.upstream import Upstream

_KNOWN = frozenset(
    {
        "cache_control",
        "max_completion_tokens",
        "max_tokens",
        "parallel_tool_calls",
        "reasoning_effort",
        "response_format",
        "stop",
        "temperature",
        "thinking",
        "tool_choice",
        "tools",
        "top_k",
        "top_p",
        IS_ERROR,
        STRICT,  # by schema: tools_of tells
    }
)
# https://platform.claude.com/docs/en/api/service-tiers: "auto" is what OpenAI calls priority, where there is
# such capacity. Anthropic has nothing like OpenAI's "flex".
_TIERS = {"auto": "auto", "priority": "auto", "default": "standard_only", "standard_only": "standard_only"}
_MAX_USER_ID = 256


def request_of(
    body: Mapping[str, Any], upstream: Upstream, *, stream: bool
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the request, and the parameters of which Anthropic gets nothing. Raises UnsupportedParameter."""
    hints = _hints(body)
    left_out = list(dropped(body, _KNOWN | _said(body, hints), upstream))
    refuse = _refusal(upstream, left_out)
    traits = traits_of(upstream.model)
    conversation = conversation_of(body.get("messages"))
    thinking = thinking_of(body, traits, refuse=refuse)
    if thinking.budget and conversation.lacks_thinking():
        left_out.append(thinking.asked_by)
        thinking = Thinking()
    thinking, max_tokens = with_room(thinking, _max_tokens(body, traits.max_tokens))
    tools = tools_of(body, traits, forcible=not thinking.budget, refuse=refuse)
    left_out += tools.lost
    system = [*conversation.system, *_said_in(tools.instruction)]
    output = {
        "effort": thinking.effort,
        "format": None if tools.schema is None else {"type": "json_schema", "schema": tools.schema},
    }
    said = {
        "system": _system(system),
        "messages": conversation.turns,
        "tools": list(tools.tools),
        "tool_choice": tools.choice,
        "thinking": thinking.config,
        "output_config": {name: value for name, value in output.items() if value is not None},
        "stop_sequences": _stops(body.get("stop"), refuse),
        **sampling_of(body, traits, thinking=thinking.on, refuse=refuse),
        **hints,
        **cached({}, body, "body"),
        "stream": stream,
    }
    request = {"model": upstream.model, "max_tokens": max_tokens}
    # An empty list, no value, a false: not said. A temperature of 0 is.
    request.update(
        {name: value for name, value in said.items() if value or (value == 0 and value is not False)}
    )
    return request, tuple(left_out)


def _refusal(upstream: Upstream, left_out: list[str]) -> Refuse:
    """Return what is done about a value that cannot be said: a refusal, unless the row says to drop it."""

    def refuse(param: str, why: str) -> None:
        if not upstream.account.drop_unsupported_params:
            raise unsupported(param, upstream, why)
        left_out.append(param)

    return refuse


def _max_tokens(body: Mapping[str, Any], default: int) -> int:
    for name in ("max_completion_tokens", "max_tokens"):
        value = body.get(name)
        if value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise invalid(name, "must be a whole number above 0")
        return value
    return default


def _system(blocks: list[Block]) -> str | list[Block]:
    """Return the system prompt as one text, unless a breakpoint stands in it."""
    if any("cache_control" in block for block in blocks):
        return blocks
    return "\n\n".join(block["text"] for block in blocks)


def _said_in(text: str) -> list[Block]:
    return [{"type": "text", "text": text}] if text else []


def _stops(value: Any, refuse: Refuse) -> list[str]:
    stops = [value] if isinstance(value, str) else value
    if stops is None:
        return []
    if not isinstance(stops, list) or not all(isinstance(stop, str) for stop in stops):
        raise invalid("stop", "must be a string or a list of strings")
    said = [stop for stop in stops if stop.strip()]
    if len(said) < len(stops):
        refuse("stop", "A stop sequence must hold more than white space.")
    return said


def _hints(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return what does not shape the answer, as far as Anthropic has it."""
    hints: dict[str, Any] = {}
    metadata = body.get("metadata")
    named = metadata.get("user_id") if isinstance(metadata, dict) else None
    for user in (named, body.get("safety_identifier"), body.get("user")):
        if isinstance(user, str) and 0 < len(user) <= _MAX_USER_ID:
            hints["metadata"] = {"user_id": user}
            break
    tier = body.get("service_tier")
    if isinstance(tier, str) and tier in _TIERS:
        hints["service_tier"] = _TIERS[tier]
    return hints


def _said(body: Mapping[str, Any], hints: Mapping[str, Any]) -> frozenset[str]:
    """Return the hints of `body` that are not lost."""
    user = hints.get("metadata", {}).get("user_id")
    metadata = body.get("metadata")
    names = {name for name in ("user", "safety_identifier") if user and body.get(name) == user}
    if user and isinstance(metadata, dict) and metadata.get("user_id") == user:
        names.add("metadata")
    return frozenset(names | ({"service_tier"} & set(hints)))
