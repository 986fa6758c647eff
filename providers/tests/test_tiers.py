import pytest

from providers.tiers import Tier, read_tiers

NAMES = ("input", "output")
FIRST = {"above_prompt_tokens": 100, "input": 5}


def test_it_reads_tiers():
    second = {"above_prompt_tokens": 200, "output": 0, "input": 7}
    assert read_tiers([FIRST, second], NAMES) == (
        Tier(100, (("input", 5),)),
        Tier(200, (("input", 7), ("output", 0))),
    )
    assert read_tiers([], NAMES) == ()


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (None, "must be a list"),
        ({}, "must be a list"),
        ("above 5", "must be a list"),
        ([5], "must be a list"),
        ([{"input": 5}], "above how many tokens"),
        ([{**FIRST, "above_prompt_tokens": 0}], "above how many tokens"),
        ([{**FIRST, "above_prompt_tokens": True}], "above how many tokens"),
        ([{**FIRST, "above_prompt_tokens": 2**31}], "above how many tokens"),
        ([{"above_prompt_tokens": 5}], "must say a rate above 5 tokens"),
        ([{**FIRST, "imput": 5}], "know no rate 'imput'"),
        ([{**FIRST, "input": -1}], "not negative for input above 100 tokens"),
        ([{**FIRST, "input": 1.5}], "not negative for input above 100 tokens"),
        ([{**FIRST, "input": None}], "not negative for input above 100 tokens"),
        ([{**FIRST, "input": 2**63}], "not negative for input above 100 tokens"),
        ([FIRST, FIRST], "must rise: 100 comes after 100"),
        ([FIRST, {**FIRST, "above_prompt_tokens": 99}], "must rise: 99 comes after 100"),
    ],
)
def test_it_says_what_is_no_tier(value, problem):
    with pytest.raises(ValueError, match=problem):
        read_tiers(value, NAMES)
