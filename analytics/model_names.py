"""Which of the names that a vendor's bill and the ledger use are one model's.

A bill may say "gpt-4o-2024-08-06" where "gpt-4o" was asked for, or "Claude Haiku 4.5" where the API knows
"claude-haiku-4-5-20251001". Where both sides use the same names, these are compared one by one. Otherwise all
that differ in their date alone are compared together: no bill says which part of a dated model was asked for
by its short name.
"""

import re
from collections import defaultdict
from collections.abc import Collection, Mapping

_NOT_IN_NAMES = re.compile(r"[^a-z0-9]+")
# 2024-08-06, 20241022, 0613, 2411, 001, latest: at the end of a name.
_DATE = re.compile(r"-(?:\d{4}-\d{2}-\d{2}|\d{8}|\d{4}|00\d|latest)$")


def comparable(ours: Collection[str], theirs: Collection[str]) -> Mapping[str, str]:
    """Return the name under which each model of both sides is compared."""
    groups: dict[tuple[str, ...], tuple[set[str], set[str]]] = defaultdict(lambda: (set(), set()))
    for side, names in enumerate((ours, theirs)):
        for name in names:
            groups[undated(name)][side].add(name)
    found: dict[str, str] = {}
    for mine, billed in groups.values():
        apart = not mine or not billed or set(map(plain, mine)) == set(map(plain, billed))
        together = min(mine | billed, key=lambda name: (len(name), name))
        found |= {name: plain(name) if apart else plain(together) for name in mine | billed}
    return found


def plain(model: str) -> str:
    """Return a name in small letters, its words joined by dashes."""
    return _NOT_IN_NAMES.sub("-", model.lower()).strip("-")


def undated(model: str) -> tuple[str, ...]:
    """Return the words of a name without a date, sorted: as in "claude-3-5-sonnet-20241022"."""
    return tuple(sorted(_DATE.sub("", plain(model)).split("-")))
