"""What one model cannot take or its filter stops goes to the targets that the route has for that."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.gateway import Gateway, running_gateway
from tests.resilience import (
    CALM,
    anthropic_of,
    ask,
    attempts_of,
    client_of,
    configuration,
    error_of,
    provider,
    route,
    shown,
    text_of,
    told,
    treat,
)
from tests.upstream import FakeVendor, unique

STREAMED = pytest.mark.parametrize("stream", [False, True])
LARGER = {"provider": "larger", "context_window": 100_000}
# OpenAI's and Azure's ways to say that a filter has stopped the prompt.
FILTERS = {"filter-code": "content_filter", "filter-policy": "content_policy_violation"}


@pytest.fixture(scope="module")
def served(vendor: FakeVendor) -> Iterator[Gateway]:
    refuse(vendor, "overflowing", "context_length_exceeded")
    for case, code in FILTERS.items():
        refuse(vendor, case, code)
    providers = [provider(vendor, name) for name in ("small", "spare", "larger", "largest", "freer")]
    small = {"provider": "small", "context_window": 1000}
    routes = [
        route("overflowing*", "small", "spare", on_context_overflow=[LARGER]),
        route("filter-*", "small", "spare", on_content_filter=[{"provider": "freer"}]),
        route("filtered*", "small", "spare", on_content_filter=[{"provider": "freer"}]),
        route("unchained*", "small", "spare"),
        route("sized*", small, "spare"),
        route("chained*", small, on_context_overflow=[LARGER, {"provider": "largest"}]),
        route("hopeful*", small),
    ]
    with running_gateway(CALM, files=configuration(providers, routes)) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def client(served: Gateway) -> Iterator[httpx.Client]:
    with client_of(served) as made:
        yield made


def refuse(vendor: FakeVendor, case: str, code: str) -> None:
    """Teach the vendor to answer `case` with a 400 of that code."""
    error = {"message": f"Refused: {code}.", "type": "invalid_request_error", "param": None, "code": code}
    vendor.learn(case, provider="openai", status=400, body=json.dumps({"error": error}))


def answers_only(vendor: FakeVendor, model: str, provider: str) -> None:
    """Have one provider's model answer, where the case named by the model is a refusal."""
    treat(vendor, model, provider, case="synthetic~text=taken")


@STREAMED
def test_it_asks_a_larger_model_where_the_prompt_is_too_long(
    client: httpx.Client, vendor: FakeVendor, served: Gateway, stream: bool
) -> None:
    model = unique("overflowing")
    answers_only(vendor, model, "larger")
    answer = ask(client, model, stream=stream)
    assert told(answer) == (200, "larger", "2")
    assert text_of(answer) == "taken"
    assert shown(vendor, model) == ["small", "larger"]  # its equals would say the same
    outcomes = [each["outcome"] for each in attempts_of(served, answer)]
    assert outcomes == ["context_length_exceeded", "ok"]


@STREAMED
def test_it_tells_of_the_length_when_the_larger_model_cannot_take_it_either(
    client: httpx.Client, vendor: FakeVendor, stream: bool
) -> None:
    model = unique("overflowing")
    answer = ask(client, model, stream=stream)
    assert answer.status_code == 400
    assert error_of(answer)["code"] == "context_length_exceeded"
    assert shown(vendor, model) == ["small", "larger"]


@STREAMED
def test_it_asks_nobody_else_without_a_chain(client: httpx.Client, vendor: FakeVendor, stream: bool) -> None:
    model = unique("unchained")
    treat(vendor, model, case="overflowing")
    answer = ask(client, model, stream=stream)
    assert (answer.status_code, error_of(answer)["code"]) == (400, "context_length_exceeded")
    assert shown(vendor, model) == ["small"]


@pytest.mark.parametrize("case", FILTERS)
@STREAMED
def test_it_asks_another_model_where_a_filter_has_refused_the_prompt(
    client: httpx.Client, vendor: FakeVendor, case: str, stream: bool
) -> None:
    model = unique(case)
    answers_only(vendor, model, "freer")
    answer = ask(client, model, stream=stream)
    assert told(answer) == (200, "freer", "2")
    assert shown(vendor, model) == ["small", "freer"]


@STREAMED
def test_it_asks_another_model_where_a_filter_has_left_nothing_of_the_answer(
    client: httpx.Client, vendor: FakeVendor, stream: bool
) -> None:
    model = unique("filtered")
    treat(vendor, model, "small", tokens=0, finish="content_filter")
    answer = ask(client, model, stream=stream)
    assert told(answer) == (200, "freer", "2")
    assert len(text_of(answer).split()) == 20
    assert shown(vendor, model) == ["small", "freer"]


def test_anthropics_clients_get_the_chain_too(served: Gateway, vendor: FakeVendor) -> None:
    model = unique("filtered")
    treat(vendor, model, "small", tokens=0, finish="content_filter")
    question: Any = [{"role": "user", "content": "Hello there"}]
    with (
        anthropic_of(served) as sdk,
        sdk.messages.stream(model=model, max_tokens=100, messages=question) as stream,
    ):
        message = stream.get_final_message()
    assert message.stop_reason == "end_turn"
    assert shown(vendor, model) == ["small", "freer"]


@STREAMED
def test_it_keeps_what_a_filter_has_left(client: httpx.Client, vendor: FakeVendor, stream: bool) -> None:
    """Half an answer is the client's to judge, and in a stream it is on its way already."""
    model = unique("filtered~tokens=5~finish=content_filter")
    answer = ask(client, model, stream=stream)
    assert told(answer) == (200, "small", "1")
    assert len(text_of(answer).split()) == 5
    assert "content_filter" in answer.text


@STREAMED
def test_it_tells_of_the_filter_where_the_last_model_has_one_too(
    client: httpx.Client, vendor: FakeVendor, stream: bool
) -> None:
    """An empty answer that is filtered is an answer, when nobody has a better one."""
    model = unique("filtered")
    treat(vendor, model, tokens=0, finish="content_filter")
    answer = ask(client, model, stream=stream)
    assert told(answer) == (200, "freer", "2")
    assert text_of(answer) == ""
    assert "content_filter" in answer.text


# ---------------------------------------------------------------- the check before anybody is asked

SHORT, LONG = "a word " * 300, "a word " * 20_000


@STREAMED
@pytest.mark.parametrize(
    ("match", "text", "asked"),
    [
        ("sized", SHORT, "small"),
        ("sized", LONG, "spare"),  # one of whose window nobody knows may hold it
        ("chained", SHORT, "small"),
        ("chained", LONG, "larger"),
        ("chained", LONG * 12, "largest"),
        ("hopeful", LONG, "small"),  # there is nobody else: the vendor knows best
    ],
)
def test_it_passes_over_a_model_that_surely_cannot_hold_the_prompt(
    client: httpx.Client, vendor: FakeVendor, *, match: str, text: str, asked: str, stream: bool
) -> None:
    model = unique(match)
    assert told(ask(client, model, text, stream=stream)) == (200, asked, "1")
    assert shown(vendor, model) == [asked]
