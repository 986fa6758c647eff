"""Tiers of a price as people read and write them: `above 200000: input 6, output 22.5, cached input 0.6`.

A line is a tier. Amounts are US dollars per million tokens; the row keeps nano-dollars.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from config.money import nanousd, usd
from providers.pricing import RATE_NAMES
from providers.tiers import ABOVE, read_tiers

_LINE = re.compile(r"\s*above\s+(?P<above>\d[\d,_']*)\s*(?:tokens\s*)?:(?P<rates>.*)", re.IGNORECASE)
_EXAMPLE = '"above 200000: input 6, output 22.5, cached input 0.6"'
_WORDS = {name: name.replace("_", " ") for name in RATE_NAMES}


def written(tiers: Sequence[Mapping[str, Any]]) -> str:
    """Return the tiers of a row, one a line."""
    return "\n".join(_written(tier) for tier in tiers)


def read(text: str) -> list[dict[str, int]]:
    """Return the tiers that `text` says. Raises ValueError with a sentence that names the line."""
    tiers = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            try:
                tiers.append(_read(line))
            except ValueError as problem:
                raise ValueError(f"Line {number}: {problem}.") from None
    try:
        read_tiers(tiers, RATE_NAMES)
    except ValueError as problem:
        raise ValueError(f"Tiers {problem}.") from None
    return tiers


def _written(tier: Mapping[str, Any]) -> str:
    rates = ", ".join(f"{_WORDS[name]} {usd(tier[name])}" for name in RATE_NAMES if name in tier)
    return f"above {tier[ABOVE]}: {rates}"


def _read(line: str) -> dict[str, int]:
    found = _LINE.fullmatch(line)
    if found is None:
        raise ValueError(f"must be as {_EXAMPLE}")
    tier = {ABOVE: int(re.sub(r"\D", "", found["above"]))}
    for part in found["rates"].split(","):
        words, _, amount = part.strip().rpartition(" ")
        name = "_".join(words.lower().split())
        if name not in _WORDS:
            known = ", ".join(_WORDS.values())
            raise ValueError(f"{part.strip()!r} is not a rate and its dollars; rates are {known}")
        if name in tier:
            raise ValueError(f"{_WORDS[name]} is given twice")
        tier[name] = _dollars(amount)
    return tier


def _dollars(amount: str) -> int:
    try:
        cost = nanousd(amount.removeprefix("$"))
    except ValueError as problem:
        raise ValueError(f"{amount} {problem}") from None
    if cost < 0:
        raise ValueError(f"{amount} must not be negative")
    return cost
