from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.pricing import (
    RATE_COLUMNS,
    RATE_NAMES,
    PriceRule,
    Rates,
    RateSchedule,
    context_window,
    cost_nanousd,
    max_output,
    price_rule,
)
from providers.tiers import Tier
from providers.usage import Usage

RATE = st.integers(0, 10**14)  # up to $100,000 per million tokens
TOKENS = st.integers(0, 10**9)


# The kinds of tokens that there are, disjoint, and the rate of each.
PROMPT_KINDS = {
    "plain": "input",
    "cached": "cached_input",
    "written": "cache_write",
    "written_1h": "cache_write_1h",
    "audio": "audio_input",
    "audio_cached": "cached_audio_input",
    "image": "image_input",
    "image_cached": "cached_image_input",
}
COMPLETION_KINDS = {
    "text": "output",
    "reasoning": "reasoning",
    "audio_out": "audio_output",
    "image_out": "image_output",
}
KINDS = {**PROMPT_KINDS, **COMPLETION_KINDS}
COUNTS = st.fixed_dictionaries(dict.fromkeys(KINDS, TOKENS | st.just(0)))
# What is billed where a row does not say a rate.
FALLBACKS = {
    "cached_input": ("input",),
    "cache_write": ("input",),
    "cache_write_1h": ("cache_write", "input"),
    "reasoning": ("output",),
    "audio_input": ("input",),
    "cached_audio_input": ("audio_input", "cached_input", "input"),
    "audio_output": ("output",),
    "image_input": ("input",),
    "cached_image_input": ("image_input", "cached_input", "input"),
    "image_output": ("output",),
}


def usage_of(counts):
    """Put disjoint counts together as a Usage tells them: totals, and parts of totals."""
    return Usage(
        prompt=sum(counts[kind] for kind in PROMPT_KINDS),
        completion=sum(counts[kind] for kind in COMPLETION_KINDS),
        cached=counts["cached"] + counts["audio_cached"] + counts["image_cached"],
        cache_write=counts["written"] + counts["written_1h"],
        reasoning=counts["reasoning"],
        cache_write_1h=counts["written_1h"],
        audio_prompt=counts["audio"] + counts["audio_cached"],
        audio_cached=counts["audio_cached"],
        audio_completion=counts["audio_out"],
        image_prompt=counts["image"] + counts["image_cached"],
        image_cached=counts["image_cached"],
        image_completion=counts["image_out"],
    )


def rates(**values):
    return Rates(**{"price_id": 1, "effective_from": 0.0, "input": 0, "output": 0, **values})


def said_in(price, prompt):
    """Return the rates that `price` says for a prompt of that length."""
    said = {name: getattr(price, name) for name in RATE_NAMES}
    for tier in price.tiers:
        if prompt > tier.above_prompt_tokens:
            said |= dict(tier.rates)
    return said


def rate_of(said, name):
    names = (name, *FALLBACKS.get(name, ()))
    return next(said[each] for each in names if said[each] is not None)


def exact(counts, price):
    """Say the cost in nano-dollars as a fraction, kind by kind."""
    said = said_in(price, sum(counts[kind] for kind in PROMPT_KINDS))
    return sum(
        (Fraction(counts[kind] * rate_of(said, name), 10**6) for kind, name in KINDS.items()), Fraction(0)
    )


OPTIONAL_RATES = {name: st.none() | RATE for name in FALLBACKS}
FLAT_PRICES = st.builds(rates, input=RATE, output=RATE, **OPTIONAL_RATES)
TIERS = st.lists(
    st.builds(
        Tier,
        st.integers(1, 10**10),
        st.dictionaries(st.sampled_from(RATE_NAMES), RATE, min_size=1).map(lambda said: tuple(said.items())),
    ),
    unique_by=lambda tier: tier.above_prompt_tokens,
    max_size=3,
).map(lambda tiers: tuple(sorted(tiers)))
PRICES = st.builds(rates, input=RATE, output=RATE, **OPTIONAL_RATES, tiers=TIERS)


@given(COUNTS, PRICES)
def test_it_rounds_the_exact_sum_half_up_once(counts, price):
    cost = cost_nanousd(usage_of(counts), price)
    assert type(cost) is int
    assert Fraction(-1, 2) < cost - exact(counts, price) <= Fraction(1, 2)


@given(COUNTS, COUNTS, FLAT_PRICES)
def test_it_bills_two_calls_as_much_as_one_with_the_tokens_of_both(one, other, price):
    """Where there are no tiers, and but for what is rounded; so more tokens are never cheaper, too."""
    both = {kind: one[kind] + other[kind] for kind in KINDS}
    apart = cost_nanousd(usage_of(one), price) + cost_nanousd(usage_of(other), price)
    assert abs(cost_nanousd(usage_of(both), price) - apart) <= 1
    assert cost_nanousd(usage_of(both), price) >= cost_nanousd(usage_of(one), price)


@given(st.builds(Usage, *[TOKENS] * 5, st.booleans(), *[TOKENS] * 7), PRICES)
def test_it_never_bills_a_token_twice_whatever_a_vendor_counts(usage, price):
    """Not even where the parts that it tells are more than the whole."""
    cost = cost_nanousd(usage, price)
    assert type(cost) is int
    tokens = max(usage.prompt, usage.cached + usage.cache_write)
    most = tokens * price.dearest_input + usage.completion * price.dearest_output
    assert 0 <= cost <= (most + 10**6 // 2) // 10**6


@given(PRICES)
def test_it_knows_the_dearest_rates_of_all_parts_and_tiers(price):
    prompts = [0, *(tier.above_prompt_tokens + 1 for tier in price.tiers)]
    every = [said_in(price, prompt) for prompt in prompts]
    assert price.dearest_input == max(rate_of(said, name) for said in every for name in PROMPT_KINDS.values())
    assert price.dearest_output == max(
        rate_of(said, name) for said in every for name in COMPLETION_KINDS.values()
    )


@pytest.mark.parametrize(
    ("usage", "price", "cost"),
    [
        # 1,000 in at $0.15 and 500 out at $0.60 per million.
        (Usage(1000, 500), rates(input=150_000_000, output=600_000_000), 450_000),
        (Usage(1, 0), rates(input=499_999), 0),
        (Usage(1, 0), rates(input=500_000), 1),
        (Usage(3, 0), rates(input=500_000), 2),
        (Usage(100, 0, cached=100), rates(input=10**6, cached_input=0), 0),
        (Usage(100, 0, cached=40), rates(input=10**6, cached_input=5 * 10**5), 80),
        (Usage(100, 0, cache_write=100), rates(input=10**6, cache_write=125 * 10**4), 125),
        (Usage(100, 0, cache_write=100), rates(input=10**6), 100),
        (Usage(0, 50, reasoning=50), rates(output=10**6), 50),
        (Usage(), rates(input=10**6, output=10**6), 0),
        (Usage(0, 50, reasoning=20), rates(output=10**6, reasoning=3 * 10**6), 90),
        (
            Usage(10, 0, cache_write=10, cache_write_1h=4),
            rates(cache_write=10**6, cache_write_1h=2 * 10**6),
            14,
        ),
        (Usage(10, 0, cache_write=10, cache_write_1h=4), rates(input=10**6, cache_write=2 * 10**6), 20),
        (Usage(10, 0, audio_prompt=7), rates(input=10**6, audio_input=10**7), 73),
        (Usage(10, 0, audio_prompt=7), rates(input=10**6, image_input=10**7), 10),
        (Usage(0, 10, audio_completion=2, image_completion=3), rates(output=10**6, audio_output=10**7), 28),
        # 4 of 10 are cached; of those 3 of the 5 of sound.
        (
            Usage(10, 0, cached=4, audio_prompt=5, audio_cached=3),
            rates(input=10**6, cached_input=10**5, audio_input=10**7, cached_audio_input=2 * 10**6),
            30,  # 4 + 0.1 + 20 + 6 = 30.1
        ),
        # The vendor does not say what was cached: all 8 of sound fit in only if 4 of them were.
        (
            Usage(10, 0, cached=6, audio_prompt=8),
            rates(input=10**6, cached_input=10**5, audio_input=10**7, cached_audio_input=10**6),
            44,  # 4 x 10 + 4 x 1 + 2 x 0.1
        ),
    ],
)
def test_it_bills(usage, price, cost):
    assert cost_nanousd(usage, price) == cost


def test_it_never_bills_less_than_nothing_for_a_vendor_that_miscounts():
    """More cached tokens than prompt tokens: the plain part is none, not a refund."""
    assert cost_nanousd(Usage(prompt=10, cached=25), rates(input=10**6, cached_input=10**5)) == 3


LONG = rates(
    input=10**6,
    output=10**6,
    cached_input=10**5,
    tiers=(Tier(100, (("input", 2 * 10**6), ("output", 3 * 10**6))), Tier(200, (("input", 5 * 10**6),))),
)


@pytest.mark.parametrize(
    ("usage", "cost"),
    [
        (Usage(100, 10), 110),
        (Usage(101, 10), 232),  # all of it at the tier's rates
        (Usage(101, 10, cached=100), 42),  # cached tokens count, and cost what is said outside the tiers
        (Usage(200, 10), 430),
        (Usage(201, 10), 1035),  # the second tier says no output: the first one's holds
        (Usage(50, 1000), 1050),  # a long answer is no long prompt
    ],
)
def test_it_bills_the_whole_call_in_the_tier_of_its_prompt(usage, cost):
    assert cost_nanousd(usage, LONG) == cost


def test_it_knows_the_dearest_of_tiers_that_few_calls_reach():
    assert (LONG.dearest_input, LONG.dearest_output) == (5 * 10**6, 3 * 10**6)


def test_rates_of_the_same_row_are_equal():
    again = Rates(
        **{name: getattr(LONG, name) for name in ("price_id", "effective_from", *RATE_NAMES, "tiers")}
    )
    assert (again, hash(again)) == (LONG, hash(LONG))
    assert again != rates(input=10**6)


ROW = {
    "id": 7,
    "model": "m*",
    "source": "operator",
    "effective_from": 1.5,
    "input_nanousd_per_mtok": 1,
    "output_nanousd_per_mtok": 2,
}


def test_it_reads_a_price_row():
    columns = {column: number for number, column in enumerate(RATE_COLUMNS.values(), start=1)}
    tiers = [{"above_prompt_tokens": 5, "output": 9, "input": 8}]
    row = {**ROW, **columns, "tiers": tiers, "context_window": 10, "max_output_tokens": 11}
    rule = price_rule(row)
    numbers = {name: number for number, name in enumerate(RATE_NAMES, start=1)}
    told = Rates(price_id=7, effective_from=1.5, **numbers, tiers=(Tier(5, (("input", 8), ("output", 9))),))
    assert rule == PriceRule("m*", operator=True, rates=told, context_window=10, max_output=11)


def test_it_reads_a_price_row_from_before_there_were_parts():
    assert price_rule(ROW) == PriceRule(
        "m*", operator=True, rates=Rates(price_id=7, effective_from=1.5, input=1, output=2)
    )


def test_it_finds_the_rates_in_force():
    operators = rates(price_id=2, effective_from=100.0)
    old = rates(price_id=1, effective_from=0.0)
    schedule = RateSchedule((operators, old))
    assert schedule.at(99.9) is old
    assert schedule.at(100.0) is operators
    assert schedule.at(-1.0) is None
    assert RateSchedule(()).at(0.0) is None


def rule(pattern, window, *, operator=False, at=0.0):
    return PriceRule(pattern, operator, rates(effective_from=at), window)


@pytest.mark.parametrize(
    ("rules", "window"),
    [
        ([], None),
        ([rule("m", None)], None),
        ([rule("other", 5)], None),
        ([rule("m*", 5), rule("m", 6)], 6),
        ([rule("m", 5), rule("m*", 6, operator=True)], 6),
        ([rule("m", 5), rule("m", None, operator=True)], 5),
        # One of the future holds already: a model does not grow with its price.
        ([rule("m", 6, at=10.0**10), rule("m", 5)], 6),
    ],
)
def test_it_takes_a_models_window_from_the_best_rule_that_says_it(rules, window):
    assert context_window(rules, "m") == window


def test_it_takes_a_models_longest_answer_from_the_best_rule_that_says_it():
    rules = [
        PriceRule("m", operator=True, rates=rates()),
        PriceRule("m*", operator=False, rates=rates(), max_output=9),
        PriceRule("m", operator=False, rates=rates(), max_output=8),
    ]
    assert max_output(rules, "m") == 8
    assert max_output(rules, "mm") == 9
    assert max_output(rules, "other") is None
