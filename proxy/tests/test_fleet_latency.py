import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.fleet.latency import LEAST_SAMPLES, SAMPLES, PeakEwma, Quantiles

LATENCIES = st.floats(0.001, 600.0)
GAPS = st.floats(0.0, 100.0)
OBSERVATIONS = st.lists(st.tuples(LATENCIES, GAPS), min_size=1, max_size=40)


def observed(observations, **settings):
    ewma, now = PeakEwma(**settings), 1000.0
    for sample_s, gap_s in observations:
        now += gap_s
        ewma.observe(sample_s, now)
    return ewma, now


@given(OBSERVATIONS)
def test_the_average_is_never_below_the_last_sample_nor_above_the_highest(observations):
    """It believes bad news at once, and makes up none."""
    ewma, _ = observed(observations)
    samples = [sample for sample, _gap in observations]
    assert samples[-1] <= ewma.average_s * (1 + 1e-9)
    assert ewma.average_s <= max(samples) * (1 + 1e-9)


@given(OBSERVATIONS, LATENCIES)
def test_a_higher_sample_is_taken_at_once(observations, more_s):
    """However long it has been fast before."""
    ewma, now = observed(observations)
    peak_s = ewma.average_s + more_s
    ewma.observe(peak_s, now)
    assert ewma.average_s == peak_s


@given(LATENCIES, st.floats(0.001, 1.0), st.floats(0.1, 60.0), st.integers(1, 20))
def test_good_news_weighs_by_time_and_not_by_number(high_s, part, decay_s, steps):
    """After `decay_s` of lower samples 1/e of the distance is left, be they one or many."""
    low_s = high_s * part
    ewma, now = observed([(high_s, 0.0)], decay_s=decay_s)
    for step in range(1, steps + 1):
        ewma.observe(low_s, now + decay_s * step / steps)
    left = (ewma.average_s - low_s) / high_s
    assert left == pytest.approx((1 - part) / math.e, abs=1e-6)


@given(OBSERVATIONS, st.integers(0, 100), st.integers(1, 100), GAPS)
def test_the_cost_grows_with_what_is_in_flight(observations, in_flight, more, later_s):
    """Each request under way makes the next one dearer by the average."""
    ewma, now = observed(observations)
    at = now + later_s
    assert ewma.cost(at, in_flight + more) > ewma.cost(at, in_flight)
    assert ewma.cost(at, in_flight) == pytest.approx(ewma.cost(at, 0) * (in_flight + 1))
    assert ewma.cost(now, 0) == ewma.average_s


@given(OBSERVATIONS, st.floats(0.1, 1e4), st.floats(0.1, 1e4))
def test_an_upstream_that_is_avoided_becomes_cheaper_until_it_is_tried_again(observations, soon_s, later_s):
    """The cost sinks while nothing is asked of it."""
    ewma, now = observed(observations)
    assert ewma.cost(now + soon_s + later_s, 0) < ewma.cost(now + soon_s, 0) < ewma.cost(now, 0)


def test_a_slow_upstream_stays_dearer_at_a_request_a_minute():
    """What was asked last must not look the slowest only because the rest has been forgotten."""
    fast, slow = PeakEwma(), PeakEwma()
    slow.observe(4.0, 0.0)
    fast.observe(0.5, 0.0)
    for minute in range(1, 6):
        assert fast.cost(minute * 60.0, 0) < slow.cost(minute * 60.0, 0)
        fast.observe(0.5, minute * 60.0)


@given(LATENCIES, st.integers(1, 50))
def test_an_upstream_never_tried_is_tried_once_at_a_time(latency_s, in_flight):
    """It is the cheapest until it has been asked, and then the dearest until it has answered."""
    known, never = PeakEwma(), PeakEwma()
    known.observe(latency_s, 0.0)
    assert never.cost(0.0, 0) < known.cost(0.0, 0)
    assert never.cost(0.0, in_flight) > known.cost(0.0, 10)
    assert never.cost(0.0, in_flight + 1) > never.cost(0.0, in_flight)
    assert never.average_s is None


@given(
    st.integers(LEAST_SAMPLES, 3 * SAMPLES),
    st.integers(0, 2**32),
    st.floats(0.01, 1.0),
    st.integers(0, 3 * SAMPLES),
)
def test_a_quantile_is_that_of_the_last_samples(size, seed, share, asked_after):
    """The same whether it was first asked early, late, or only at the end."""
    rng = random.Random(seed)
    samples = [rng.choice((rng.random(), 0.5)) for _ in range(size)]
    quantiles = Quantiles()
    for number, sample in enumerate(samples):
        quantiles.observe(sample)
        if number >= asked_after:
            quantiles.p(share)
    last = samples[-SAMPLES:]
    found = quantiles.p(share)
    assert len(quantiles) == len(last)
    assert found in last
    assert sum(each <= found for each in last) >= share * len(last) * (1 - 1e-9)
    assert sum(each < found for each in last) < share * len(last)


def test_it_gives_no_quantile_of_a_few():
    """From 20 samples on, the 95th of a hundred means something."""
    quantiles = Quantiles()
    for number in range(1, LEAST_SAMPLES):
        quantiles.observe(float(number))
        assert quantiles.p(0.95) is None
    quantiles.observe(float(LEAST_SAMPLES))
    assert quantiles.p(0.95) == 19.0
    assert quantiles.p(1.0) == 20.0
