"""Where tokens become money: the only place that multiplies a count by a rate."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from providers.tiers import Tier, read_tiers
from providers.usage import Usage

_PER_MTOK = 10**6


class Scale(NamedTuple):
    """What a token of each kind costs, all of them known: nano-dollars per million tokens."""

    input: int
    output: int
    cached_input: int
    cache_write: int
    cache_write_1h: int
    reasoning: int
    audio_input: int
    cached_audio_input: int
    audio_output: int
    image_input: int
    cached_image_input: int
    image_output: int

    @property
    def dearest_input(self) -> int:
        """Return the most that a token of a prompt costs."""
        return max(
            self.input,
            self.cached_input,
            self.cache_write,
            self.cache_write_1h,
            self.audio_input,
            self.cached_audio_input,
            self.image_input,
            self.cached_image_input,
        )

    @property
    def dearest_output(self) -> int:
        """Return the most that a token of an answer costs."""
        return max(self.output, self.reasoning, self.audio_output, self.image_output)


RATE_NAMES = Scale._fields
# Where a Price row has each of them.
RATE_COLUMNS: Mapping[str, str] = {name: f"{name}_nanousd_per_mtok" for name in RATE_NAMES}
_ALWAYS_THERE = ("input", "output", "cached_input", "cache_write")


@dataclass(frozen=True, slots=True)
class Rates:
    """Nano-dollars per million tokens, as one Price row says, in force from `effective_from` (epoch s).

    A rate that is None is another's: cached input and cache write as input, the longer write as cache write,
    reasoning as output; sound and pictures as text of the same kind, but cached ones as those that are not
    cached where these have a rate. `tiers`, in rising order, hold for the whole of a call whose prompt is
    above their number, cached tokens counted; what a tier does not say is as below it.

    The others are made of those, once, since each call asks for them. `dearest_*`: the most that a token can
    cost, in whatever part and tier.
    """

    price_id: int
    effective_from: float
    input: int
    output: int
    cached_input: int | None = None
    cache_write: int | None = None
    cache_write_1h: int | None = None
    reasoning: int | None = None
    audio_input: int | None = None
    cached_audio_input: int | None = None
    audio_output: int | None = None
    image_input: int | None = None
    cached_image_input: int | None = None
    image_output: int | None = None
    tiers: tuple[Tier, ...] = ()
    base: Scale = field(init=False, repr=False, compare=False)
    scales: tuple[tuple[int, Scale], ...] = field(init=False, repr=False, compare=False)
    by_part: bool = field(init=False, repr=False, compare=False)
    dearest_input: int = field(init=False, repr=False, compare=False)
    dearest_output: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Work out the rates of every kind and tier."""
        said = {name: getattr(self, name) for name in RATE_NAMES}
        base, scales = _scale(said), list[tuple[int, Scale]]()
        for tier in self.tiers:
            said |= dict(tier.rates)
            scales.insert(0, (tier.above_prompt_tokens, _scale(said)))
        every = (base, *(scale for _, scale in scales))
        for name, value in (
            ("base", base),
            ("scales", tuple(scales)),
            ("by_part", any(said[name] is not None for name in RATE_NAMES if name not in _ALWAYS_THERE)),
            ("dearest_input", max(scale.dearest_input for scale in every)),
            ("dearest_output", max(scale.dearest_output for scale in every)),
        ):
            object.__setattr__(self, name, value)

    def scale(self, prompt: int) -> Scale:
        """Return what tokens cost in a call whose prompt has `prompt` tokens, cached ones among them."""
        for above, scale in self.scales:
            if prompt > above:
                return scale
        return self.base


def _scale(said: Mapping[str, int | None]) -> Scale:
    def first(*names: str) -> int:
        return next(rate for name in names if (rate := said[name]) is not None)

    return Scale(
        input=first("input"),
        output=first("output"),
        cached_input=first("cached_input", "input"),
        cache_write=first("cache_write", "input"),
        cache_write_1h=first("cache_write_1h", "cache_write", "input"),
        reasoning=first("reasoning", "output"),
        audio_input=first("audio_input", "input"),
        cached_audio_input=first("cached_audio_input", "audio_input", "cached_input", "input"),
        audio_output=first("audio_output", "output"),
        image_input=first("image_input", "input"),
        cached_image_input=first("cached_image_input", "image_input", "cached_input", "input"),
        image_output=first("image_output", "output"),
    )


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

    `context_window`: the tokens that those models take, `max_output` those that they answer with at the most;
    None where the row does not say.
    """

    pattern: str
    operator: bool
    rates: Rates
    context_window: int | None = None
    max_output: int | None = None

    def match(self, model: str) -> bool:
        """Does it price `model`?"""
        if self.pattern.endswith("*"):
            return model.startswith(self.pattern[:-1])
        return model == self.pattern

    def preference(self) -> tuple[bool, bool, int, float]:
        """Sort best first: the operator's, the exact, the longest prefix, the latest."""
        by_prefix = self.pattern.endswith("*")
        return (not self.operator, by_prefix, -len(self.pattern), -self.rates.effective_from)


# The columns of a Price row that `price_rule` reads.
RULE_COLUMNS = (
    "id",
    "model",
    "source",
    "effective_from",
    "context_window",
    "max_output_tokens",
    "tiers",
    *RATE_COLUMNS.values(),
)


def price_rule(row: Mapping[str, Any]) -> PriceRule:
    """Return the rule of a Price row's columns, `effective_from` as epoch second. Raises ValueError.

    Those that a row from before there were so many does not have are as if they were empty.
    """
    said = {name: row.get(column) for name, column in RATE_COLUMNS.items()}
    rates = Rates(
        price_id=row["id"],
        effective_from=row["effective_from"],
        **{**said, "input": row[RATE_COLUMNS["input"]], "output": row[RATE_COLUMNS["output"]]},
        tiers=read_tiers(row.get("tiers") or (), RATE_NAMES),
    )
    return PriceRule(
        pattern=row["model"],
        operator=row["source"] == "operator",
        rates=rates,
        context_window=row.get("context_window"),
        max_output=row.get("max_output_tokens"),
    )


def schedule(rules: Iterable[PriceRule], model: str) -> RateSchedule:
    """Return the rates of `model` among one provider's `rules`."""
    return RateSchedule(tuple(rule.rates for rule in _fitting(rules, model)))


def context_window(rules: Iterable[PriceRule], model: str) -> int | None:
    """Return the tokens that `model` takes, by the best of the rules that say it; None when none does.

    Whatever their dates: a model does not grow with its price.
    """
    windows = (rule.context_window for rule in _fitting(rules, model))
    return next((window for window in windows if window is not None), None)


def max_output(rules: Iterable[PriceRule], model: str) -> int | None:
    """Return the most tokens that `model` answers with, told as its context window is."""
    limits = (rule.max_output for rule in _fitting(rules, model))
    return next((limit for limit in limits if limit is not None), None)


def _fitting(rules: Iterable[PriceRule], model: str) -> list[PriceRule]:
    return sorted((rule for rule in rules if rule.match(model)), key=PriceRule.preference)


def cost_nanousd(usage: Usage, rates: Rates) -> int:
    """Return the cost of `usage` in nano-dollars, rounded half up once.

    The tokens of a part are billed at the part's rate, and not at that of the whole as well.
    """
    scale = rates.scale(usage.prompt) if rates.scales else rates.base
    if rates.by_part and usage.has_parts:
        total = _in_parts(usage, scale)
    else:
        cached, written = usage.cached, usage.cache_write
        plain = usage.prompt - cached - written
        total = (
            (plain * scale.input if plain > 0 else 0)
            + cached * scale.cached_input
            + written * scale.cache_write
            + usage.completion * scale.output
        )
    return (total + _PER_MTOK // 2) // _PER_MTOK


def _in_parts(usage: Usage, scale: Scale) -> int:
    return _prompt_in_parts(usage, scale) + _completion_in_parts(usage, scale)


def _prompt_in_parts(usage: Usage, scale: Scale) -> int:
    cached, written = usage.cached, usage.cache_write
    audio_cached = min(usage.audio_cached, usage.audio_prompt, cached)
    image_cached = min(usage.image_cached, usage.image_prompt, cached - audio_cached)
    audio, image = usage.audio_prompt - audio_cached, usage.image_prompt - image_cached
    plain = usage.prompt - cached - written - audio - image
    cached -= audio_cached + image_cached
    if plain < 0:
        # The vendor does not say which tokens it had in its cache: those of sound and pictures, too, then.
        over = min(-plain, audio)
        audio, plain, had = audio - over, plain + over, min(over, cached)
        audio_cached, cached = audio_cached + had, cached - had
        over = min(-plain, image)
        image, had = image - over, min(over, cached)
        image_cached, cached = image_cached + had, cached - had
    longer = min(usage.cache_write_1h, written)
    return (
        max(plain, 0) * scale.input
        + cached * scale.cached_input
        + (written - longer) * scale.cache_write
        + longer * scale.cache_write_1h
        + audio * scale.audio_input
        + audio_cached * scale.cached_audio_input
        + image * scale.image_input
        + image_cached * scale.cached_image_input
    )


def _completion_in_parts(usage: Usage, scale: Scale) -> int:
    audio = min(usage.audio_completion, usage.completion)
    image = min(usage.image_completion, usage.completion - audio)
    reasoning = min(usage.reasoning, usage.completion - audio - image)
    return (
        (usage.completion - audio - image - reasoning) * scale.output
        + reasoning * scale.reasoning
        + audio * scale.audio_output
        + image * scale.image_output
    )
