import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.store.gcra import EMPTY, decide

AMOUNTS = st.integers(1, 1000)
WINDOWS = st.sampled_from([1_000_000, 60_000_000, 3_600_000_000, 86_400_000_000])
NOW = 1_800_000_000_000_000


def let_through(moments, *, amount, window_us):
    bucket, through = EMPTY, []
    for now_us in moments:
        bucket, wait_us = decide(bucket, now_us=now_us, amount=amount, window_us=window_us)
        assert wait_us >= 0
        if not wait_us:
            through.append(now_us)
    return through


@given(AMOUNTS, WINDOWS, st.integers(NOW, 2 * NOW))
def test_it_lets_the_whole_amount_through_at_once_from_rest(amount, window_us, now_us):
    assert len(let_through([now_us] * (amount + 5), amount=amount, window_us=window_us)) == amount


@given(AMOUNTS, WINDOWS, st.lists(st.floats(0, 5), min_size=1, max_size=60))
def test_it_never_lets_more_through_than_burst_and_rate(amount, window_us, gaps):
    moments, now_us = [], NOW
    for gap in gaps:
        now_us += int(gap * window_us / amount)
        moments.append(now_us)
    through = let_through(moments, amount=amount, window_us=window_us)
    for first in range(len(through)):
        for last in range(first, len(through)):
            # So many beyond the burst must have leaked out since: whole numbers, no tolerance.
            beyond = last - first + 1 - amount
            assert beyond * window_us <= (through[last] - through[first]) * amount


@given(AMOUNTS, WINDOWS, st.integers(1, 50))
def test_it_lets_through_again_after_exactly_the_wait_it_names(amount, window_us, extra):
    bucket = EMPTY
    for _ in range(amount):
        bucket, _wait_us = decide(bucket, now_us=NOW, amount=amount, window_us=window_us)
    refused, wait_us = decide(bucket, now_us=NOW, amount=amount, window_us=window_us)
    assert refused == bucket
    assert 0 < wait_us <= -(-window_us // amount)
    assert decide(bucket, now_us=NOW + wait_us - 1, amount=amount, window_us=window_us)[1] > 0
    assert decide(bucket, now_us=NOW + wait_us, amount=amount, window_us=window_us)[1] == 0
    # A refusal costs nothing: however often one asks, the wait grows no longer.
    for _ in range(extra):
        assert decide(bucket, now_us=NOW, amount=amount, window_us=window_us) == (bucket, wait_us)


@pytest.mark.parametrize("interval_us", [200_000, 210_000])
def test_it_never_refuses_who_keeps_to_the_rate(interval_us):
    moments = [NOW + place * interval_us for place in range(1000)]
    assert len(let_through(moments, amount=5, window_us=1_000_000)) == 1000


def test_it_takes_a_clock_that_goes_back_for_one_that_stands_still():
    bucket, _ = decide(EMPTY, now_us=NOW, amount=2, window_us=1_000_000)
    bucket, wait_us = decide(bucket, now_us=NOW - 5_000_000, amount=2, window_us=1_000_000)
    assert not wait_us
    assert decide(bucket, now_us=NOW - 5_000_000, amount=2, window_us=1_000_000)[1] == 500_000
