import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.pricing import RATE_NAMES
from providers.tier_text import read, written

TIERS = st.lists(
    st.tuples(
        st.integers(1, 10**7),
        st.dictionaries(st.sampled_from(RATE_NAMES), st.integers(0, 10**15), min_size=1),
    ),
    unique_by=lambda tier: tier[0],
    max_size=3,
).map(lambda tiers: [{"above_prompt_tokens": above, **rates} for above, rates in tiers])


@given(TIERS.map(lambda tiers: sorted(tiers, key=lambda tier: tier["above_prompt_tokens"])))
def test_it_reads_what_it_writes(tiers):
    assert read(written(tiers)) == tiers


def test_it_writes_a_tier_a_line():
    tiers = [
        {"above_prompt_tokens": 200_000, "output": 22_500_000_000, "input": 6 * 10**9},
        {"above_prompt_tokens": 400_000, "cached_input": 600_000_000},
    ]
    assert written(tiers) == "above 200000: input 6, output 22.5\nabove 400000: cached input 0.6"
    assert written([]) == ""


@pytest.mark.parametrize(
    "text",
    [
        "above 200000: input 6.00, cached input 0.60",
        "\n  Above 200,000 tokens :  Input $6,cached_input   0.6 \n\n",
        "ABOVE 200_000:cached  input 0.6 , input 6",
    ],
)
def test_it_reads_what_people_type(text):
    tier = {"above_prompt_tokens": 200_000, "input": 6 * 10**9, "cached_input": 6 * 10**8}
    assert read(text) == [tier]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("200000: input 6", 'Line 1: must be as "above 200000: input 6, output 22.5'),
        ("above many: input 6", "Line 1: must be as"),
        ("above 5: input 6\nabove 6 input 7", "Line 2: must be as"),
        ("above 5:", "Line 1: '' is not a rate and its dollars; rates are input, output, cached input"),
        ("above 5: input", "Line 1: 'input' is not a rate and its dollars"),
        ("above 5: imput 6", "Line 1: 'imput 6' is not a rate"),
        ("above 5: input 6,", "Line 1: '' is not a rate"),
        ("above 5: input 6, input 7", "Line 1: input is given twice"),
        ("above 5: input six", "Line 1: six must be a decimal number of dollars"),
        ("above 5: input -6", "Line 1: -6 must not be negative"),
        ("above 5: input 0.0000000001", "Line 1: 0.0000000001 has more than nine decimal places"),
        ("above 0: input 6", "Tiers must say above how many tokens"),
        ("above 5: input 6\nabove 5: input 7", "Tiers must rise: 5 comes after 5."),
    ],
)
def test_it_says_what_is_wrong_and_where(text, problem):
    with pytest.raises(ValueError, match=problem.replace("(", r"\(")):
        read(text)
