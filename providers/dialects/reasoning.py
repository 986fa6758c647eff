"""Between OpenAI's reasoning effort and other vendors' budgets of thinking tokens.

The budgets are those that Google documents for its OpenAI-compatible endpoint:
https://ai.google.dev/gemini-api/docs/openai#thinking
"""

from collections.abc import Mapping
from typing import Any

BUDGETS: Mapping[str, int] = {
    "none": 0,
    "minimal": 1024,
    "low": 1024,
    "medium": 8192,
    "high": 24_576,
    "xhigh": 32_768,
}


def budget_asked(body: Mapping[str, Any]) -> int | None:
    """Return how many tokens a canonical request lets the model think: 0 for none, None for as it likes."""
    thinking = body.get("thinking")
    if isinstance(thinking, dict):
        if thinking.get("type") == "disabled":
            return 0
        budget = thinking.get("budget_tokens")
        if isinstance(budget, int) and not isinstance(budget, bool):
            return max(budget, 0)
    effort = body.get("reasoning_effort")
    return BUDGETS.get(effort) if isinstance(effort, str) else None


def effort_of(budget: int) -> str:
    """Return the effort that comes nearest to a budget."""
    if budget <= 0:
        return "none"
    if budget <= 4096:
        return "low"
    return "medium" if budget <= 16_384 else "high"
