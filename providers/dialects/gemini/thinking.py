"""How much a Gemini model thinks: levels from Gemini 3 on, budgets before.

https://ai.google.dev/gemini-api/docs/generate-content/thinking
"""

import re
from collections.abc import Mapping
from typing import Any

from providers.dialects.params import invalid
from providers.dialects.reasoning import BUDGETS, budget_asked, effort_of

_VERSION = re.compile(r"gemini-(\d{1,3})(?!\d)")
_KINDS = ("enabled", "disabled", "adaptive")
_LEVELS = {"minimal": "MINIMAL", "low": "LOW", "medium": "MEDIUM", "high": "HIGH", "xhigh": "HIGH"}
# The largest budget and the least one; a budget is an upper limit, so a larger one says the same.
_LARGEST_PRO, _LARGEST_FLASH = 32_768, 24_576
_LEAST_PRO = 128  # 2.5 Pro cannot be stopped from thinking
_DYNAMIC = -1


def is_gemini_3(model: str) -> bool:
    """Is it of the third generation or later? An alias (gemini-flash-latest) names one of these."""
    name = model.lower()
    found = _VERSION.search(name)
    return int(found[1]) >= 3 if found else "gemini" in name and "latest" in name


def thinking_config(body: Mapping[str, Any], model: str) -> dict[str, Any] | None:
    """Return Gemini's thinkingConfig for a canonical request; None where it says nothing of thinking.

    What a model thinks is shown when thinking is asked for. Raises UnsupportedParameter.
    """
    effort, thinking = _checked(body)
    if effort is None and thinking is None:
        return None
    budget = budget_asked(body)
    if is_gemini_3(model):
        return _by_level(effort, budget, model)
    pro = "pro" in model.lower()
    if budget == 0:
        return {"thinkingBudget": _LEAST_PRO if pro else 0}
    largest = _LARGEST_PRO if pro else _LARGEST_FLASH
    return {"includeThoughts": True, "thinkingBudget": _DYNAMIC if budget is None else min(budget, largest)}


def _by_level(effort: str | None, budget: int | None, model: str) -> dict[str, Any]:
    if budget == 0:
        # It cannot be switched off: the least is what comes nearest.
        return {"thinkingLevel": _level("minimal", model)}
    if effort in (None, "none"):
        effort = None if budget is None else effort_of(budget)
    level = {} if effort is None else {"thinkingLevel": _level(effort, model)}
    return {"includeThoughts": True, **level}


def _level(effort: str, model: str) -> str:
    # Google's own OpenAI endpoint reads minimal as low for Pro models, which have no minimal:
    # https://ai.google.dev/gemini-api/docs/openai#thinking
    return "LOW" if effort == "minimal" and "pro" in model.lower() else _LEVELS[effort]


def _checked(body: Mapping[str, Any]) -> tuple[str | None, Mapping[str, Any] | None]:
    effort, thinking = body.get("reasoning_effort"), body.get("thinking")
    if effort is not None and (not isinstance(effort, str) or effort not in BUDGETS):
        raise invalid("reasoning_effort", f"must be one of {', '.join(BUDGETS)}")
    if thinking is not None and (not isinstance(thinking, dict) or thinking.get("type") not in _KINDS):
        raise invalid("thinking", f"must be an object whose type is one of {', '.join(_KINDS)}")
    return effort, thinking
