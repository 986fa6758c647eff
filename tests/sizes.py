"""How much the whole-system tests do: reduced counts, and the full ones with GATEWAY_SOAK=1 (`make soak`).

Each count is asked for once, where its module begins, under the name that the table at the end of a full
run gives it (tests/conftest.py). Tests that have a full size are `at_full_size`: `make soak` chooses them.
"""

import os
from typing import NamedTuple

import pytest

SOAK = os.environ.get("GATEWAY_SOAK") == "1"
FULL_RUN_S = 3600  # a test's time


class Size(NamedTuple):
    """A count of this run, and what it is without GATEWAY_SOAK."""

    what: str
    run: int
    reduced: int


sizes: list[Size] = []
told: dict[str, int] = {}


def sized(what: str, reduced: int, *, full: int) -> int:
    """Return the count of this run, and have it told at its end."""
    count = full if SOAK else reduced
    sizes.append(Size(what, count, reduced))
    return count


def tell(what: str, count: int) -> None:
    """Have a count that a test has come to told at the end of the run."""
    told[what] = told.get(what, 0) + count


def times(what: str, *, full: int) -> pytest.MarkDecorator:
    """Run a test once, and `full` times at full size."""
    return pytest.mark.parametrize("time", range(1, sized(what, 1, full=full) + 1))


def at_full_size(reduced_s: int) -> list[pytest.MarkDecorator]:
    """Return the marks of tests that have a full size; `reduced_s`: their timeout without it."""
    return [pytest.mark.soak, pytest.mark.timeout(FULL_RUN_S)] if SOAK else [pytest.mark.timeout(reduced_s)]


def table() -> list[str]:
    """Return the counts of this run, a line each."""
    width = max((len(what) for what in [*(size.what for size in sizes), *told]), default=0)
    lines = [f"{size.what:<{width}}  {size.run:>7,}  {size.reduced:>7,}" for size in sizes]
    lines += [f"{what:<{width}}  {count:>7,}" for what, count in told.items()]
    return [f"{'what':<{width}}  {'run':>7}  {'reduced':>7}", *lines]
