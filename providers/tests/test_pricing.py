from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.pricing import PriceRule, Rates, RateSchedule, context_window, cost_nanousd
from providers.usage import Usage

RATE = st.integers(0, 10**14)  # up to $100,000 per million tokens
TOKENS = st.integers(0, 10**9)


@st.composite
def usages(draw):
    prompt, completion = draw(TOKENS), draw(TOKENS)
    cached = draw(st.integers(0, prompt))
    written = draw(st.integers(0, prompt - cached))
    return Usage(prompt, completion, cached, written, draw(st.integers(0, completion)))


def rates(**values):
    return Rates(**{"price_id": 1, "effective_from": 0.0, "input": 0, "output": 0, **values})


def exact(usage, price):
    """Say the cost in nano-dollars as a fraction, term by term."""
    cached = price.input if price.cached_input is None else price.cached_input
    written = price.input if price.cache_write is None else price.cache_write
    plain = usage.prompt - usage.cached - usage.cache_write
    terms = [(plain, price.input), (usage.cached, cached), (usage.cache_write, written)]
    terms.append((usage.completion, price.output))
    return sum((Fraction(tokens * rate, 10**6) for tokens, rate in terms), Fraction(0))


PRICES = st.builds(Rates, st.just(1), st.just(0.0), RATE, RATE, st.none() | RATE, st.none() | RATE)


@given(usages(), PRICES)
def test_it_rounds_the_exact_sum_half_up_once(usage, price):
    cost = cost_nanousd(usage, price)
    assert type(cost) is int
    assert Fraction(-1, 2) < cost - exact(usage, price) <= Fraction(1, 2)


@given(usages(), usages(), RATE, RATE)
def test_it_never_makes_more_tokens_cheaper(usage, more, dear, dearer):
    price = rates(input=dear, output=dearer)
    both = Usage(usage.prompt + more.prompt, usage.completion + more.completion)
    assert cost_nanousd(both, price) >= cost_nanousd(usage, price)


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
    ],
)
def test_it_bills(usage, price, cost):
    assert cost_nanousd(usage, price) == cost


def test_it_never_bills_less_than_nothing_for_a_vendor_that_miscounts():
    """More cached tokens than prompt tokens: the plain part is none, not a refund."""
    assert cost_nanousd(Usage(prompt=10, cached=25), rates(input=10**6, cached_input=10**5)) == 3


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
