"""Prices by the length of the prompt, as a Price row holds them: a list of JSON objects."""

from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

ABOVE = "above_prompt_tokens"
MOST_TOKENS, MOST_NANOUSD = 2**31 - 1, 2**63 - 1


class Tier(NamedTuple):
    """Rates (name, nano-dollars per million tokens) of calls with more than so many tokens of prompt."""

    above_prompt_tokens: int
    rates: tuple[tuple[str, int], ...]


def read_tiers(value: Any, names: Collection[str]) -> tuple[Tier, ...]:
    """Return the tiers of a row, `names` being those of rates.

    Raises ValueError, with the end of a sentence, for what cannot be a tier or is not in rising order.
    """
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise ValueError("must be a list of tiers")  # noqa: TRY004 - a value of the file or the form
    tiers = tuple(_tier(each, names) for each in value)
    for lower, higher in pairwise(tiers):
        if higher.above_prompt_tokens <= lower.above_prompt_tokens:
            raise ValueError(
                f"must rise: {higher.above_prompt_tokens} comes after {lower.above_prompt_tokens}"
            )
    return tiers


def _tier(value: Any, names: Collection[str]) -> Tier:
    if not isinstance(value, Mapping):
        raise ValueError("must be a list of tiers")  # noqa: TRY004 - a value of the file or the form
    above = value.get(ABOVE)
    if type(above) is not int or not 0 < above <= MOST_TOKENS:
        raise ValueError(f"must say above how many tokens of prompt each tier begins: 1 to {MOST_TOKENS}")
    rates = {name: rate for name, rate in value.items() if name != ABOVE}
    unknown = next((name for name in rates if name not in names), None)
    if unknown is not None:
        raise ValueError(f"know no rate {unknown!r}")
    if not rates:
        raise ValueError(f"must say a rate above {above} tokens")
    for name, rate in rates.items():
        if type(rate) is not int or not 0 <= rate <= MOST_NANOUSD:
            raise ValueError(f"must have a rate that is not negative for {name} above {above} tokens")
    return Tier(above, tuple(sorted(rates.items())))
