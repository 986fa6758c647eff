"""Where tokens become money: the only place that multiplies a count by a rate."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from providers.usage import Usage

_PER_MTOK = 10**6


@dataclass(frozen=True, slots=True)
class Rates:
    """Nano-dollars per million tokens, as one Price row says, in force from `effective_from` (epoch s)."""

    price_id: int
    effective_from: float
    input: int
    output: int
    cached_input: int | None = None
    cache_write: int | None = None

    @property
    def dearest_input(self) -> int:
        """Return the most that any token of a prompt can cost."""
        return max(self.input, self.cached_input or 0, self.cache_write or 0)

    @property
    def dearest_output(self) -> int:
        """Return the most that any token of an answer can cost."""
        return self.output


@dataclass(frozen=True, slots=True)
class RateSchedule:
    """All rates of one upstream, best first: operator's before built-in, then the latest."""

    rates: Sequence[Rates]

    def at(self, now: float) -> Rates | None:
        """Return the rates in force at epoch second `now`; None when no price is known."""
        for rates in self.rates:
            if rates.effective_from <= now:
                return rates
        return None

    def changes_after(self, now: float) -> float:
        """Return the next epoch second at which other rates may hold; infinity if there is none."""
        return min(
            (each.effective_from for each in self.rates if each.effective_from > now), default=math.inf
        )


@dataclass(frozen=True, slots=True)
class PriceRule:
    """One Price row: which model names it is for (exact, or by prefix with a trailing `*`), and its rates.

    `context_window`: the tokens that those models take, None where the row does not say.
    """

    pattern: str
    operator: bool
    rates: Rates
    context_window: int | None = None

    def match(self, model: str) -> bool:
        """Does it price `model`?"""
        if self.pattern.endswith("*"):
            return model.startswith(self.pattern[:-1])
        return model == self.pattern

    def preference(self) -> tuple[bool, bool, int, float]:
        """Sort best first: the operator's, the exact, the longest prefix, the latest."""
        by_prefix = self.pattern.endswith("*")
        return (not self.operator, by_prefix, -len(self.pattern), -self.rates.effective_from)


def schedule(rules: Iterable[PriceRule], model: str) -> RateSchedule:
    """Return the rates of `model` among one provider's `rules`."""
    return RateSchedule(tuple(rule.rates for rule in _fitting(rules, model)))


def context_window(rules: Iterable[PriceRule], model: str) -> int | None:
    """Return the tokens that `model` takes, by the best of the rules that say it; None when none does.

    Whatever their dates: a model does not grow with its price.
    """
    windows = (rule.context_window for rule in _fitting(rules, model))
    return next((window for window in windows if window is not None), None)


def _fitting(rules: Iterable[PriceRule], model: str) -> list[PriceRule]:
    return sorted((rule for rule in rules if rule.match(model)), key=PriceRule.preference)


def cost_nanousd(usage: Usage, rates: Rates) -> int:
    """Return the cost of `usage` in nano-dollars, rounded half up once.

    Cached and cache-write tokens are parts of the prompt and billed at their own rates, which
    default to the input rate. Reasoning tokens are part of the completion.
    """
    plain = max(usage.prompt - usage.cached - usage.cache_write, 0)
    cached_rate = rates.input if rates.cached_input is None else rates.cached_input
    write_rate = rates.input if rates.cache_write is None else rates.cache_write
    total = (
        plain * rates.input
        + usage.cached * cached_rate
        + usage.cache_write * write_rate
        + usage.completion * rates.output
    )
    return (total + _PER_MTOK // 2) // _PER_MTOK
