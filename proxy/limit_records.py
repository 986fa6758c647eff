"""What a record says of limits: which ones measured its request, and which one refused it.

Written once for each key, model and way there (proxy.demand), so that a request costs nothing more.
"""

from collections.abc import Sequence

import orjson

from config.money import usd
from keys.limits import EVERYONE, Ceiling, RateRule
from proxy.limit_errors import in_words

Rule = RateRule | Ceiling


def told(rules: Sequence[Rule], by: Rule | None = None) -> bytes:
    """Return JSON: `[{"limit": "60 requests per minute for key acme-ci", "refused": true}]`. Empty: none.

    `by`: the one that refuses the request.
    """
    if by is not None and all(rule is not by for rule in rules):
        rules = (*rules, by)
    if not rules:
        return b""
    return orjson.dumps(
        [{"limit": label(rule), "refused": True} if rule is by else {"limit": label(rule)} for rule in rules]
    )


def label(rule: Rule) -> str:
    """Say a limit or budget in words."""
    if isinstance(rule, RateRule):
        return in_words(rule)
    window = "in total" if rule.window == "total" else f"per {rule.window}"
    model = f", model {rule.model}" if rule.model else ""
    # What everyone may spend together is nothing that a tenant is told.
    amount = "budget" if rule.holds_for == EVERYONE else f"${usd(rule.amount_nanousd)}"
    return f"{amount} {window} for {rule.holds_for}{model}"
