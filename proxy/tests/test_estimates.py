"""What a request is likely to cost, and the dearest of its targets."""

import pytest

from providers.call import Call
from providers.pricing import Rates, RateSchedule
from providers.upstream import Account, Timeouts, Upstream
from providers.wires import CHAT, COUNT_TOKENS, EMBEDDINGS
from proxy.estimating import (
    IMAGE_TOKENS,
    MOST_OUTPUT,
    THINKING_TOKENS,
    TOOLS_TOKENS,
    USUAL_OUTPUT,
    dearest,
    size_of,
)

NOW = 1_000.0


def call(raw=b"x" * 40, *, wire=CHAT, choices=1, **body):
    return Call(wire=wire, model="m", body=body, raw=raw, choices=choices)


def size(asked, *, learned=None, thinks_beyond=False, output_limit=1000):
    return size_of(
        asked,
        prompt_bytes=len(asked.raw),
        output_limit=output_limit,
        learned=learned,
        thinks_beyond=thinks_beyond,
    )


def upstream(*rates, dialect="openai", **fields):
    account = Account("p", dialect, "http://p.test", {}, Timeouts(), 10)
    return Upstream("p/m", account, "m", RateSchedule(rates), Timeouts(), **fields)


def rates(input_, output, since=0.0, **fields):
    return Rates(1, since, input_, output, **fields)


def test_a_prompt_has_no_more_tokens_than_bytes_and_about_a_quarter_of_them():
    assert size(call(b"x" * 40))[:1] + size(call(b"x" * 40))[2:3] == (40, 10)


@pytest.mark.parametrize(
    ("body", "worst", "likely"),
    [
        ({}, 1000, USUAL_OUTPUT),
        ({"max_tokens": 30}, 30, 30),
        ({"max_completion_tokens": 20, "max_tokens": 30}, 30, 30),
        ({"max_tokens": True}, 1000, USUAL_OUTPUT),
        ({"max_tokens": -1}, 1000, USUAL_OUTPUT),
        ({"max_tokens": 2.5}, 1000, USUAL_OUTPUT),
    ],
)
def test_an_answer_has_what_the_request_allows_or_what_the_model_gives(body, worst, likely):
    found = size(call(**body))
    assert (found.worst_output, found.output) == (worst, likely)


def test_history_says_what_is_likely_and_never_more_than_allowed():
    assert size(call(max_tokens=500), learned=40).output == 40
    assert size(call(max_tokens=30), learned=40).output == 30
    assert size(call(max_tokens=500), learned=40).worst_output == 500


def test_each_choice_may_be_as_long():
    found = size(call(choices=3, max_tokens=10))
    assert (found.worst_output, found.output) == (30, 30)


def test_images_and_tools_cost_more_than_their_bytes_say():
    shown = b'{"type":"image_url","image_url":{"url":"https://x"}}'
    assert size(call(shown)).worst_prompt == len(shown) + 2 * IMAGE_TOKENS
    assert size(call(b'{"tools":[]}')).worst_prompt == 12 + TOOLS_TOKENS


def test_thinking_may_come_on_top_of_the_limit_where_a_target_thinks_so():
    asked = call(max_tokens=10, thinking={"type": "enabled", "budget_tokens": 70})
    assert size(asked).worst_output == 10
    assert size(asked, thinks_beyond=True).worst_output == 80
    effort = call(max_tokens=10, reasoning_effort="high")
    assert size(effort, thinks_beyond=True).worst_output == 10 + THINKING_TOKENS


def test_embeddings_have_no_answer_and_counting_costs_nothing():
    assert size(call(wire=EMBEDDINGS)).worst_output == 0
    assert tuple(size(call(wire=COUNT_TOKENS)))[:4] == (0, 0, 0, 0)


def test_the_dearest_target_decides():
    cheap, dear = upstream(rates(100, 200)), upstream(rates(50, 4000))
    costs = dearest([cheap, dear], NOW).costs(size(call(b"x" * 10_000, max_tokens=1000)))
    assert costs.worst == max(10_000 * 100 + 1000 * 200, 10_000 * 50 + 1000 * 4000) // 10**6 + 1
    assert costs.expected <= costs.worst


def test_a_price_that_nobody_knows_is_told():
    assert dearest([upstream(rates(1, 1)), upstream()], NOW).costs(size(call())).unpriced
    assert not dearest([upstream(rates(1, 1))], NOW).costs(size(call())).unpriced


def test_no_prompt_is_longer_than_every_target_takes():
    known, unknown = upstream(rates(10**6, 0), context_window=30), upstream(rates(10**6, 0))
    assert dearest([known], NOW).costs(size(call())).worst == 30
    assert dearest([known, unknown], NOW).costs(size(call())).worst == 40


def test_a_model_gives_what_its_price_says_or_its_window_or_a_lot():
    assert dearest([upstream(max_output=77)], NOW).output_limit == 77
    assert dearest([upstream(context_window=8000)], NOW).output_limit == 8000
    assert dearest([upstream()], NOW).output_limit == MOST_OUTPUT


def test_it_says_until_when_it_holds():
    later = rates(5, 5, since=NOW + 60)
    assert dearest([upstream(later, rates(1, 1))], NOW).until == NOW + 60
    assert dearest([upstream(rates(1, 1))], NOW).until == float("inf")
