import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.usage import MAX_COUNT, Usage, count, estimate, from_openai

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
FIELDS = ["prompt_tokens", "completion_tokens", "prompt_tokens_details", "completion_tokens_details"]


@pytest.mark.parametrize(
    ("value", "counted"),
    [(0, 0), (7, 7), (-7, 0), (True, 0), (None, 0), ("7", 0), (7.5, 0), ([7], 0), (2**70, MAX_COUNT)],
)
def test_it_counts_only_what_is_a_count(value, counted):
    assert count(value) == counted


def test_it_reads_openais_usage():
    usage = from_openai(
        {
            "prompt_tokens": 100,
            "completion_tokens": 20,
            "total_tokens": 120,
            "prompt_tokens_details": {"cached_tokens": 64, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 12},
        }
    )
    assert usage == Usage(prompt=100, completion=20, cached=64, reasoning=12)
    assert usage is not None
    assert usage.total == 120


@pytest.mark.parametrize(("completion", "total"), [(5, 115), (105, 115), (5, None), (5, 1015)])
def test_it_counts_thoughts_as_completion_where_the_total_says_that_they_are_not(completion, total):
    usage = from_openai(
        {
            "prompt_tokens": 10,
            "completion_tokens": completion,
            "total_tokens": total,
            "completion_tokens_details": {"reasoning_tokens": 100},
        }
    )
    counted = 105 if total == 115 else 5
    assert usage == Usage(prompt=10, completion=counted, reasoning=100)


def test_it_reads_deepseeks_cache_hits():
    usage = from_openai({"prompt_tokens": 100, "completion_tokens": 1, "prompt_cache_hit_tokens": 90})
    assert usage == Usage(prompt=100, completion=1, cached=90)


def test_it_keeps_an_explicit_zero_apart_from_nothing():
    assert from_openai({"prompt_tokens": 0, "completion_tokens": 0}) == Usage()
    assert from_openai({"prompt_tokens": 3}) == Usage(prompt=3)


@pytest.mark.parametrize("value", [None, {}, [], "usage", 7, {"total_tokens": 5}, {"input_tokens": 5}])
def test_it_says_none_when_the_vendor_counted_nothing(value):
    assert from_openai(value) is None


@given(st.dictionaries(st.sampled_from(FIELDS), JSON))
def test_it_never_counts_below_zero_whatever_the_vendor_sends(fields):
    usage = from_openai(fields)
    if usage is not None:
        assert min(usage.prompt, usage.completion, usage.cached, usage.reasoning) >= 0


@given(st.builds(Usage, *[st.integers(0, 10**9)] * 5, *[st.just(0)] * 8))
def test_it_writes_what_it_reads(usage):
    assert from_openai(usage.to_openai()) == usage


@given(st.builds(Usage, *[st.integers(0, 10**9)] * 5, st.booleans(), *[st.integers(0, 10**9)] * 7))
def test_it_keeps_every_count_in_the_spool(usage):
    assert Usage(**usage.to_json()) == usage


def test_it_reads_a_spool_from_before_there_were_parts():
    told = {"prompt": 3, "completion": 2, "cached": 1, "cache_write": 0, "reasoning": 1, "estimated": False}
    assert Usage(**told) == Usage(3, 2, 1, 0, 1)
    assert Usage(**told).to_json() == told


DETAILED = {
    "prompt_tokens": 900,
    "completion_tokens": 80,
    "prompt_tokens_details": {"cached_tokens": 50, "audio_tokens": 300, "image_tokens": 200},
    "completion_tokens_details": {"reasoning_tokens": 5, "audio_tokens": 30, "image_tokens": 20},
}


def test_it_reads_and_tells_sound_and_pictures():
    usage = Usage(
        prompt=900,
        completion=80,
        cached=50,
        reasoning=5,
        audio_prompt=300,
        audio_completion=30,
        image_prompt=200,
        image_completion=20,
    )
    assert from_openai(DETAILED) == usage
    assert usage.to_openai() == {**DETAILED, "total_tokens": 980}
    assert Usage(prompt=9, audio_prompt=9).to_openai()["prompt_tokens_details"] == {"audio_tokens": 9}


def test_it_reads_what_of_the_cached_was_sound_and_how_long_what_was_written_stays():
    into = {
        "cached_tokens": 50,
        "cached_tokens_details": {"text_tokens": 20, "audio_tokens": 20, "image_tokens": 10},
        "audio_tokens": 30,
        "image_tokens": 10,
        "cache_write_tokens": 9,
        "cache_write_tokens_details": {"ttl_30m_tokens": 2, "ttl_12h_tokens": 7},
    }
    usage = from_openai({"prompt_tokens": 90, "completion_tokens": 0, "prompt_tokens_details": into})
    assert usage == Usage(
        prompt=90,
        cached=50,
        cache_write=9,
        cache_write_1h=7,
        audio_prompt=30,
        audio_cached=20,
        image_prompt=10,
        image_cached=10,
    )


@pytest.mark.parametrize("broken", [None, 7, "x", [], {"audio_tokens": "x"}, {"audio_tokens": -3}])
def test_it_reads_no_parts_from_what_tells_none(broken):
    body = {"prompt_tokens": 3, "prompt_tokens_details": broken, "completion_tokens_details": broken}
    assert from_openai(body) == Usage(prompt=3)
    nested = {"cache_write_tokens": 1, "cached_tokens_details": broken, "cache_write_tokens_details": broken}
    assert from_openai({"prompt_tokens": 3, "prompt_tokens_details": nested}) == Usage(3, cache_write=1)


@given(st.builds(Usage, *[st.integers(0, 9)] * 5, st.booleans(), *[st.integers(0, 9)] * 7))
def test_the_usage_of_two_attempts_has_the_parts_of_both(usage):
    both = usage.plus(usage)
    assert both == Usage(**{n: c if n == "estimated" else 2 * c for n, c in usage._asdict().items()})
    assert both.has_parts == (usage.reasoning > 0 or any(usage[6:]))


def test_it_leaves_details_out_that_say_nothing():
    assert Usage(prompt=3, completion=4).to_openai() == {
        "prompt_tokens": 3,
        "completion_tokens": 4,
        "total_tokens": 7,
    }


def test_it_estimates_four_bytes_a_token_and_says_so():
    assert estimate(prompt_bytes=9, completion_bytes=4) == Usage(prompt=3, completion=1, estimated=True)
    assert estimate(prompt_bytes=0, completion_bytes=0) == Usage(estimated=True)
