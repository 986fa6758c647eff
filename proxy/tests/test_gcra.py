import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.store.gcra import decide

AMOUNTS, WINDOWS = st.integers(1, 1000), st.sampled_from([1.0, 60.0, 3600.0, 86400.0])


def let_through(moments, *, amount, window_s):
    tat, through = 0.0, []
    for now in moments:
        tat, wait_s = decide(tat, now=now, amount=amount, window_s=window_s)
        assert wait_s >= 0
        if not wait_s:
            through.append(now)
    return through


@given(AMOUNTS, WINDOWS, st.floats(1e9, 2e9))
def test_it_lets_the_whole_amount_through_at_once_from_rest(amount, window_s, now):
    assert len(let_through([now] * (amount + 5), amount=amount, window_s=window_s)) == amount


@given(AMOUNTS, WINDOWS, st.lists(st.floats(0, 5), min_size=1, max_size=60))
def test_it_never_lets_more_through_than_burst_and_rate(amount, window_s, gaps):
    moments, now = [], 1e9
    for gap in gaps:
        now += gap * window_s / amount
        moments.append(now)
    through = let_through(moments, amount=amount, window_s=window_s)
    for first in range(len(through)):
        for last in range(first, len(through)):
            span_s = through[last] - through[first]
            assert last - first + 1 <= amount + span_s * amount / window_s + 1e-3


@given(AMOUNTS, WINDOWS, st.integers(1, 50))
def test_it_lets_through_again_after_exactly_the_wait_it_names(amount, window_s, extra):
    now, tat = 1e9, 0.0
    for _ in range(amount):
        tat, _wait_s = decide(tat, now=now, amount=amount, window_s=window_s)
    refused_tat, wait_s = decide(tat, now=now, amount=amount, window_s=window_s)
    assert refused_tat == tat
    assert 0 < wait_s <= window_s / amount + 1e-6
    assert decide(tat, now=now + wait_s + 1e-6, amount=amount, window_s=window_s)[1] == 0
    # A refusal costs nothing: however often one asks, the wait grows no longer.
    for _ in range(extra):
        assert decide(tat, now=now, amount=amount, window_s=window_s) == (tat, wait_s)


@pytest.mark.parametrize("interval", [0.2, 0.21])
def test_it_never_refuses_who_keeps_to_the_rate(interval):
    moments = [1e9 + place * interval for place in range(1000)]
    assert len(let_through(moments, amount=5, window_s=1.0)) == 1000
