import itertools

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.usage import Usage
from proxy.metering import StreamMeter, usage_in


@pytest.mark.parametrize(
    ("usage", "read"),
    [
        ({"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}, Usage(3, 4)),
        (
            {
                "input_tokens": 100,
                "output_tokens": 50,
                "input_tokens_details": {"cached_tokens": 10},
                "output_tokens_details": {"reasoning_tokens": 5},
            },
            Usage(100, 50, cached=10, reasoning=5),
        ),
        # A picture made of a text and a picture, by gpt-image-1, which says nothing of its answer.
        (
            {
                "input_tokens": 50,
                "output_tokens": 1056,
                "total_tokens": 1106,
                "input_tokens_details": {"text_tokens": 10, "image_tokens": 40},
            },
            Usage(50, 1056, image_prompt=40, image_completion=1056),
        ),
        (
            {
                "input_tokens": 50,
                "output_tokens": 1100,
                "input_tokens_details": {"text_tokens": 50, "image_tokens": 0},
                "output_tokens_details": {"text_tokens": 44, "image_tokens": 1056},
            },
            Usage(50, 1100, image_completion=1056),
        ),
        # A transcription.
        (
            {
                "type": "tokens",
                "input_tokens": 14,
                "input_token_details": {"text_tokens": 0, "audio_tokens": 14},
                "output_tokens": 45,
                "total_tokens": 59,
            },
            Usage(14, 45, audio_prompt=14),
        ),
        ({"input_tokens": 0, "output_tokens": 0}, Usage()),
        ({"total_tokens": 15}, Usage(15)),
        ({"prompt_tokens": 15, "total_tokens": 15}, Usage(15)),
        ({"type": "duration", "seconds": 3}, None),
        ({"input_tokens": "many", "output_tokens_details": [1]}, Usage()),
        (None, None),
        ("a lot", None),
    ],
)
def test_it_reads_usage_in_the_forms_that_vendors_have(usage, read):
    assert usage_in(orjson.dumps({"data": [], "usage": usage})) == read


@pytest.mark.parametrize("body", [b"", b'"usage"', b'["usage"]', b'{"usage"', b"{}"])
def test_it_finds_none_where_there_is_none(body):
    assert usage_in(body) is None


STREAM = (
    b'event: a\ndata: {"type":"partial"}\n\n'
    b'data: {"usage":{"input_tokens":1,"output_tokens":1}}\r\n\r\n'
    b'event: done\ndata: {"usage":{"input_tokens":9,"output_tokens":7}}\n\ndata: {"usage":null}\n'
)


@given(st.lists(st.integers(0, len(STREAM)), max_size=5))
def test_it_takes_the_last_usage_of_a_stream_however_it_is_cut(cuts):
    meter = StreamMeter()
    bounds = [0, *sorted(cuts), len(STREAM)]
    for start, stop in itertools.pairwise(bounds):
        meter.see(STREAM[start:stop])
    meter.close()
    assert meter.usage == Usage(9, 7)
