"""What a request can cost at most: nothing that a vendor may bill is left out of a strict budget's hold."""

import orjson
import pytest

from providers.call import Call
from providers.pricing import Rates, RateSchedule
from providers.tests.samples import make_call, make_upstream
from providers.wires import CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES, UNREAD
from proxy import estimating
from proxy.endpoints.completions import parse_completions
from proxy.endpoints.responses import parse_responses
from proxy.estimating import FORWARDED_OUTPUT, FORWARDED_PROMPT, IMAGE_OUTPUT, MOST_COST, MOST_PROMPT, Size

WINDOW, LONGEST = 8000, 500
USER = {"role": "user", "content": "hello"}


def size(call, *, prompt_bytes=None, thinks_beyond=False, output_limit=LONGEST):
    prompt_bytes = len(call.raw) if prompt_bytes is None else prompt_bytes
    return estimating.size_of(
        call,
        prompt_bytes=prompt_bytes,
        output_limit=output_limit,
        learned=None,
        thinks_beyond=thinks_beyond,
    )


def costs(asked, *, window=WINDOW):
    """Return what a call of that size costs at a dollar per token each way, in dollars: prompt and answer."""
    rates = Rates(1, 0.0, 10**15, 10**15)
    upstream = make_upstream(rates=rates)
    object.__setattr__(upstream, "context_window", window)
    assert isinstance(upstream.prices, RateSchedule)
    found = estimating.dearest([upstream], 1.0)
    return found.costs(asked._replace(worst_output=0)).worst / 10**9


@pytest.mark.parametrize(
    ("limits", "most"),
    [
        ({}, LONGEST),
        ({"max_tokens": 7}, 7),
        ({"max_completion_tokens": 7}, 7),
        ({"max_completion_tokens": 1, "max_tokens": 9}, 9),
        ({"max_tokens": 1, "n_predict": 9}, 9),
        ({"max_tokens": 0}, LONGEST),
        ({"max_tokens": -1}, LONGEST),
        ({"max_tokens": 7, "n_predict": -1}, LONGEST),
        ({"max_tokens": True}, LONGEST),
        ({"max_tokens": 7.5}, LONGEST),
        ({"max_tokens": "7"}, LONGEST),
        ({"max_tokens": None}, LONGEST),
    ],
)
def test_an_answer_is_as_long_as_the_highest_limit_allows(limits, most):
    """Of two names each server knows another; what is no limit is none."""
    assert size(make_call(**limits)).worst_output == most


def test_each_choice_and_each_prompt_has_an_answer_of_its_own():
    assert size(make_call(n=3, max_tokens=10)).worst_output == 30
    call = parse_completions(orjson.dumps({"model": "m", "prompt": ["a", "b"], "n": 3, "max_tokens": 10}))
    assert size(call).worst_output == 60


def test_a_wrong_prediction_is_billed_beside_the_answer():
    call = make_call(prediction={"type": "content", "content": "x" * 100}, max_tokens=10)
    assert size(call).worst_output >= 110


def test_one_prompt_is_at_most_as_long_as_the_model_reads():
    assert costs(Size(10**6, 0, 0, 0)) == WINDOW


@pytest.mark.parametrize("wire", [EMBEDDINGS, UNREAD])
def test_several_inputs_are_longer_than_the_model_reads_at_once(wire):
    """Each of 2,048 texts of an embeddings request may fill it."""
    call = Call(wire, "m", {}, b"")
    assert costs(size(call, prompt_bytes=40_000)) == 40_000


def test_several_prompts_of_a_completion_may_each_be_as_long_as_the_model_reads():
    call = make_call(wire=COMPLETIONS)._replace(choices=3)
    assert costs(size(call, prompt_bytes=10**6)) == 3 * WINDOW


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": [{"role": "user", "content": [{"type": kind}]}]}
        for kind in ("file", "input_audio", "document", "video_url")
    ]
    + [
        {
            "messages": [
                {"role": "user", "content": [{"type": "tool_result", "content": [{"type": "document"}]}]}
            ]
        },
        {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
        {"tools": [{"type": "mcp", "server_url": "https://mcp.test"}]},
        {"web_search_options": {"search_context_size": "high"}},
    ],
)
def test_what_a_request_does_not_show_may_be_all_that_the_model_reads(fields):
    call = make_call(**fields)
    assert size(call).worst_prompt >= MOST_PROMPT
    assert costs(size(call)) == WINDOW


@pytest.mark.parametrize(
    "fields",
    [
        {"previous_response_id": "resp_1"},
        {"conversation": "conv_1"},
        {"prompt": {"id": "pmpt_1"}},
        {"tools": [{"type": "file_search", "vector_store_ids": ["vs_1"]}]},
        {
            "input": [
                {"role": "user", "content": [{"type": "input_file", "file_url": "https://a.test/a.pdf"}]}
            ]
        },
    ],
)
def test_earlier_turns_and_files_of_a_response_may_be_all_that_the_model_reads(fields):
    call = parse_responses(orjson.dumps({"model": "m", "input": "hello", **fields}))
    assert call.wire == RESPONSES
    assert size(call).worst_prompt >= MOST_PROMPT


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"messages": [USER, {"role": "user", "content": [{"type": "text", "text": "a file"}]}]},
        {"tools": [{"type": "function", "function": {"name": "file", "parameters": {"type": "file"}}}]},
        {"messages": [{"role": "user", "content": [{"type": ["file"]}, "file", 1]}], "tools": [1]},
    ],
)
def test_a_request_that_shows_all_is_held_for_its_own_size(fields):
    call = make_call(**fields)
    assert call.wire == CHAT
    assert size(call).worst_prompt < 2000


def test_each_picture_that_is_asked_for_costs_its_tokens():
    one, many = (Call(UNREAD, "m", {}, b"", choices=n) for n in (1, 10))
    assert size(one, prompt_bytes=9) == Size(9, FORWARDED_OUTPUT, 3, 0, prompts=0)
    assert size(many, prompt_bytes=9).worst_output == 10 * IMAGE_OUTPUT


def test_a_form_that_has_not_arrived_is_not_free():
    asked = size(Call(UNREAD, "m", {}, b""))
    assert asked.worst_prompt == FORWARDED_PROMPT
    assert costs(asked) == WINDOW


def test_no_request_costs_more_than_every_store_can_count():
    asked = size(make_call(max_tokens=2**63))
    upstream = make_upstream(rates=Rates(1, 0.0, 10**15, 10**15))
    assert estimating.dearest([upstream], 1.0).costs(asked).worst == MOST_COST
