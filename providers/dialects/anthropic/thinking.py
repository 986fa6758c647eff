"""How much a model shall think, and what it may not be told meanwhile.

Models before Claude 4.6 think within a budget of tokens, which counts toward `max_tokens`; later ones as
they see fit, with an effort. https://platform.claude.com/docs/en/build-with-claude/thinking
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from providers.dialects.anthropic.models import Traits
from providers.dialects.anthropic.tools import Refuse
from providers.dialects.params import invalid
from providers.dialects.reasoning import BUDGETS, budget_asked, effort_of

MIN_BUDGET = 1024
ROOM_FOR_ANSWER = 1024
_MIN_TOP_P = 0.95
_KINDS = ("enabled", "disabled", "adaptive")
_EFFORTS = {"minimal": "low", "low": "low", "medium": "medium", "high": "high"}


class Thinking(NamedTuple):
    """Anthropic's `thinking` and `output_config.effort`, where they are to be said.

    `exact`: the budget is the client's own number. `asked_by`: the parameter that asked for it.
    """

    config: Mapping[str, Any] | None = None
    effort: str | None = None
    exact: bool = False
    asked_by: str = ""

    @property
    def budget(self) -> int:
        """The tokens to think within; 0 where there is no such limit."""
        return int((self.config or {}).get("budget_tokens") or 0)

    @property
    def on(self) -> bool:
        """Will the model think because we ask it to?"""
        return self.config is not None and self.config["type"] != "disabled"


def thinking_of(body: Mapping[str, Any], traits: Traits, *, refuse: Refuse) -> Thinking:
    """Read `thinking` and `reasoning_effort`. Raises UnsupportedParameter."""
    config, effort = _config(body.get("thinking")), _effort(body.get("reasoning_effort"))
    if config is None and effort is None:
        return Thinking()
    asked_by = "reasoning_effort" if config is None else "thinking"
    kind = "" if config is None else config["type"]
    if kind == "disabled" or (not kind and effort == "none"):
        if traits.always:
            refuse(asked_by, "This model always thinks.")
            return Thinking()
        return Thinking({"type": "disabled"} if traits.by_default else None)
    if not traits.thinks:
        refuse(asked_by, "This model does not think.")
        return Thinking()
    shown = {} if config is None or config.get("display") is None else {"display": config["display"]}
    exact = config is not None and kind == "enabled" and config.get("budget_tokens") is not None
    if traits.adaptive and not (exact and traits.budgets):
        # The models that no longer take a budget keep their thoughts to themselves unless asked.
        shown = shown or ({} if traits.budgets else {"display": "summarized"})
        named = _named(effort, traits) or (effort_of(budget_asked(body) or 0) if exact else None)
        return Thinking({"type": "adaptive", **shown}, named, asked_by=asked_by)
    budget = budget_asked(body) if effort != "max" or exact else BUDGETS["xhigh"]
    enabled = {"type": "enabled", "budget_tokens": max(budget or BUDGETS["medium"], MIN_BUDGET), **shown}
    return Thinking(enabled, exact=exact, asked_by=asked_by)


def with_room(thinking: Thinking, max_tokens: int) -> tuple[Thinking, int]:
    """Return thinking and `max_tokens` such that the budget is the smaller, as Anthropic wants it.

    An effort is a wish and fits itself to the client's limit. The limit gives way to a budget that the client
    named, and to the least that Anthropic takes.
    """
    budget = thinking.budget
    if budget < max_tokens - (0 if thinking.exact else ROOM_FOR_ANSWER) or not budget:
        return thinking, max_tokens
    if not thinking.exact:
        budget = max(min(budget, max_tokens - ROOM_FOR_ANSWER), MIN_BUDGET)
        thinking = thinking._replace(config={**(thinking.config or {}), "budget_tokens": budget})
    return thinking, max_tokens if budget < max_tokens else budget + max_tokens


def sampling_of(body: Mapping[str, Any], traits: Traits, *, thinking: bool, refuse: Refuse) -> dict[str, Any]:
    """Read temperature, top_p and top_k. Raises UnsupportedParameter.

    What asks for the default is not said: the newest models refuse to hear of it.
    https://platform.claude.com/docs/en/build-with-claude/thinking#sampling-parameters
    """
    said = {}
    for name in ("temperature", "top_p", "top_k"):
        value = body.get(name)
        if value is None or (value == 1 and name != "top_k"):
            continue
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise invalid(name, "must be a number")
        why = _why_not(name, value, traits, thinking=thinking)
        if why:
            refuse(name, why)
        else:
            said[name] = value
    return said


def _why_not(name: str, value: float, traits: Traits, *, thinking: bool) -> str:
    if not traits.sampling:
        return "This model takes no sampling parameters."
    if thinking and not (name == "top_p" and value >= _MIN_TOP_P):
        return "A model that thinks does not take this value."
    if name == "temperature" and value > 1:
        return "Its range ends at 1."
    return ""


def _config(value: Any) -> Mapping[str, Any] | None:
    if value is None:
        return None
    if not isinstance(value, dict) or value.get("type") not in _KINDS:
        raise invalid("thinking", "must be an object of type enabled, disabled or adaptive")
    budget = value.get("budget_tokens")
    if budget is not None and (not isinstance(budget, int) or isinstance(budget, bool) or budget < 1):
        raise invalid("thinking.budget_tokens", "must be a whole number above 0")
    return value


def _effort(value: Any) -> str | None:
    if value is None or (isinstance(value, str) and (value in BUDGETS or value == "max")):
        return value
    raise invalid("reasoning_effort", f"must be one of {', '.join(BUDGETS)}")


def _named(effort: str | None, traits: Traits) -> str | None:
    if effort in ("xhigh", "max"):
        return "xhigh" if effort == "xhigh" and traits.xhigh else "max"
    return _EFFORTS.get(effort or "")
