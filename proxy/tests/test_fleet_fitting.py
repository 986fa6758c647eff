from dataclasses import replace

import pytest

from providers.tests.samples import make_upstream
from proxy.fleet.fitting import fitting


def window(tokens):
    return replace(make_upstream(str(tokens)), context_window=tokens)


SMALL, LARGE, HUGE, UNKNOWN = window(1000), window(8000), window(90_000), window(None)


@pytest.mark.parametrize(
    ("upstreams", "tokens", "larger", "left"),
    [
        ([SMALL, LARGE], 900, [], [SMALL, LARGE]),
        ([SMALL, LARGE], 2001, [], [SMALL, LARGE]),  # it may well be half as many
        ([SMALL, LARGE], 2002, [], [LARGE]),
        ([SMALL, UNKNOWN], 10**6, [], [UNKNOWN]),
        ([SMALL, LARGE], 50_000, [HUGE], [HUGE]),
        ([SMALL], 50_000, [LARGE, HUGE], [HUGE]),
        ([SMALL], 50_000, [UNKNOWN], [UNKNOWN]),
        # Nobody is large enough: the vendor says so best.
        ([SMALL, LARGE], 10**6, [HUGE], [SMALL, LARGE]),
        ([SMALL], 10**6, [], [SMALL]),
    ],
)
def test_it_leaves_out_those_that_surely_cannot_hold_it(upstreams, tokens, larger, left):
    assert fitting(upstreams, tokens, larger) == left
