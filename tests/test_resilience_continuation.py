"""A stream that breaks off is continued by the next target, and both SDKs see one whole answer."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from openai import OpenAI

from tests.fault_bodies import WORDS, bodies
from tests.gateway import Gateway, running_gateway
from tests.records import ledger, logged
from tests.resilience import (
    CALM,
    anthropic_of,
    ask,
    attempts_of,
    client_of,
    configuration,
    credential,
    error_of,
    openai_of,
    provider,
    route,
    shown,
    text_of,
    told,
    treat,
)
from tests.upstream import FakeVendor, unique

HELLO: Any = [{"role": "user", "content": "Hello there"}]
SDKS = pytest.mark.parametrize("sdk", ["openai", "anthropic"])
# Who goes on, by dialect: with the text as the beginning of its own answer, or by an instruction.
GOES_ON = pytest.mark.parametrize("dialect", ["openai", "anthropic", "mistral"])
HALF, REST = "This much was said", " and no more"
TOOL: Any = {
    "type": "function",
    "function": {
        "name": "look_up",
        "parameters": {"type": "object", "properties": {"words": {"type": "string"}}},
    },
}


@pytest.fixture(scope="module")
def served(vendor: FakeVendor) -> Iterator[Gateway]:
    for case, dialect, stream, body in bodies():
        if (case, dialect, stream) == ("error-late", "openai", True):
            learn(vendor, "half", body)
            learn(vendor, "half-with-blank", body.replace('"said"', '"said "'))
    learn(vendor, "echo", mistral_echo())
    names = {"breaks": "openai", "openai": "openai", "anthropic": "anthropic", "mistral": "mistral"}
    providers = [provider(vendor, name, dialect=dialect) for name, dialect in names.items()]
    routes = [route(f"continued-{name}*", "breaks", name, continue_streams=True) for name in names]
    routes += [
        route("continued-twice*", "breaks", "openai", "mistral", continue_streams=True),
        route("uncontinued*", "breaks", "openai"),
    ]
    prices = [
        {"provider": name, "model": "continued*", "input_usd_per_mtok": rate, "output_usd_per_mtok": rate}
        for name, rate in zip(names, ("1.00", "2.00", "3.00", "4.00"), strict=True)
    ]
    with running_gateway(CALM, files=configuration(providers, routes, prices=prices)) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def client(served: Gateway) -> Iterator[httpx.Client]:
    with client_of(served) as made:
        yield made


@pytest.fixture(scope="module")
def openai_sdk(served: Gateway) -> Iterator[OpenAI]:
    with openai_of(served) as made:
        yield made


def learn(vendor: FakeVendor, case: str, body: str) -> None:
    vendor.learn(case, provider="openai", status=200, body=body, content_type="text/event-stream")


def mistral_echo() -> str:
    """Return a stream as Mistral's are: it says the beginning that it was given once more."""
    base = {"id": "cmpl-echo", "object": "chat.completion.chunk", "created": 1, "model": "echo"}

    def event(delta: dict[str, Any], finish: str | None = None, **more: Any) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return f"data: {json.dumps({**base, 'choices': [choice], **more})}\n\n"

    usage = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
    pieces = [{"role": "assistant", "content": ""}, {"content": HALF[:7]}, {"content": HALF[7:]}]
    said = "".join(map(event, [*pieces, {"content": REST}]))
    return said + event({"content": ""}, "stop", usage=usage) + "data: [DONE]\n\n"


def breaks_off(vendor: FakeVendor, model: str, *, case: str = "half", name: str = "breaks") -> None:
    """Have a provider's stream break off in the middle; `delay` has it arrive piece by piece."""
    treat(vendor, model, name, case=f"{case}~delay=50")


def sent_by(vendor: FakeVendor, model: str, name: str) -> list[list[dict[str, Any]]]:
    """Return the messages of each request of a provider."""
    return [each["body"]["messages"] for each in vendor.asked(model) if credential(each) == name]


# ---------------------------------------------------------------- one whole answer


@GOES_ON
def test_openais_sdk_sees_one_whole_answer(
    openai_sdk: OpenAI, vendor: FakeVendor, served: Gateway, dialect: str
) -> None:
    model = unique(f"continued-{dialect}")
    breaks_off(vendor, model)
    treat(vendor, model, dialect, text=REST)
    raw = openai_sdk.chat.completions.with_raw_response.create(
        model=model, messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(raw.parse())
    assert "".join(each.choices[0].delta.content or "" for each in chunks if each.choices) == HALF + REST
    assert len({each.id for each in chunks}) == 1
    reasons = [choice.finish_reason for each in chunks for choice in each.choices if choice.finish_reason]
    assert reasons == ["stop"]
    usages = [each.usage for each in chunks if each.usage]
    assert len(usages) == 1

    row = logged(served, raw.headers["x-request-id"])
    first, second = json.loads(row["attempts"])
    assert (first["provider"], first["outcome"]) == ("breaks", "health")
    assert (second["provider"], second["outcome"]) == (dialect, "ok")
    assert first["usage"]["estimated"]
    assert not second["usage"]["estimated"]
    for each in ("prompt", "completion"):
        parts = [first["usage"][each], second["usage"][each]]
        assert min(parts) > 0
        assert row[f"{each}_tokens"] == getattr(usages[0], f"{each}_tokens") == sum(parts)
    costs = [first["cost_nanousd"], second["cost_nanousd"]]
    assert min(costs) > 0
    assert row["cost_nanousd"] == sum(costs)
    assert (row["outcome"], row["status"], row["provider"]) == ("ok", 200, dialect)
    assert sum(each["cost_nanousd"] for each in ledger(served, row["completion_id"])) == sum(costs)


@GOES_ON
def test_anthropics_sdk_sees_one_whole_answer(served: Gateway, vendor: FakeVendor, dialect: str) -> None:
    model = unique(f"continued-{dialect}")
    breaks_off(vendor, model)
    treat(vendor, model, dialect, text=REST)
    with (
        anthropic_of(served) as sdk,
        sdk.messages.stream(model=model, max_tokens=1000, messages=HELLO) as stream,
    ):
        text = "".join(stream.text_stream)
        message = stream.get_final_message()
        row = logged(served, stream.response.headers["x-request-id"])
    assert text == HALF + REST
    assert [block.type for block in message.content] == ["text"]
    assert message.stop_reason == "end_turn"
    usages = [each["usage"] for each in json.loads(row["attempts"])]
    assert message.usage.output_tokens == sum(each["completion"] for each in usages)
    assert row["completion_tokens"] == message.usage.output_tokens


@GOES_ON
def test_who_goes_on_is_given_the_text_so_far(client: httpx.Client, vendor: FakeVendor, dialect: str) -> None:
    model = unique(f"continued-{dialect}")
    breaks_off(vendor, model)
    answer = ask(client, model, stream=True, max_tokens=500)
    assert told(answer)[0] == 200
    (messages,) = sent_by(vendor, model, dialect)
    question, said, *instruction = messages
    assert "Hello there" in json.dumps(question)
    assert said["role"] == "assistant"
    assert HALF in json.dumps(said)
    assert [each["role"] for each in instruction] == (["user"] if dialect == "openai" else [])
    assert said.get("prefix", False) is (dialect == "mistral")
    assert f": continued by {dialect}/{model}" in answer.text
    limit = vendor.asked(model)[-1]["body"]["max_tokens"]
    assert 400 < limit < 500  # what has been said already counts


def test_an_echo_of_the_text_so_far_is_left_out(client: httpx.Client, vendor: FakeVendor) -> None:
    """Mistral's answers begin with the beginning that they were given."""
    model = unique("continued-mistral")
    breaks_off(vendor, model)
    treat(vendor, model, "mistral", case="echo")
    assert text_of(ask(client, model, stream=True)) == HALF + REST


@pytest.mark.parametrize("dialect", ["anthropic", "mistral"])
def test_blanks_at_the_break_are_neither_lost_nor_doubled(
    client: httpx.Client, vendor: FakeVendor, dialect: str
) -> None:
    """A beginning that ends in blanks is refused: it is given without, and they are not said twice."""
    model = unique(f"continued-{dialect}")
    breaks_off(vendor, model, case="half-with-blank")
    treat(vendor, model, dialect, case="echo" if dialect == "mistral" else "", text=REST)
    assert text_of(ask(client, model, stream=True)) == HALF + REST
    (*_, said) = sent_by(vendor, model, dialect)[0]
    assert HALF in json.dumps(said)
    assert f"{HALF} " not in json.dumps(said)


def test_a_model_that_takes_no_beginning_is_told_to_go_on(client: httpx.Client, vendor: FakeVendor) -> None:
    model = unique("continued-anthropic")
    breaks_off(vendor, model)
    treat(vendor, model, "anthropic", text=REST, fail="1x400")
    assert text_of(ask(client, model, stream=True)) == HALF + REST
    prefilled, instructed = sent_by(vendor, model, "anthropic")
    assert (prefilled[-1]["role"], instructed[-1]["role"]) == ("assistant", "user")


def test_a_continuation_that_breaks_off_is_continued(
    client: httpx.Client, vendor: FakeVendor, served: Gateway
) -> None:
    model = unique("continued-twice")
    breaks_off(vendor, model)
    breaks_off(vendor, model, name="openai")
    treat(vendor, model, "mistral", text=REST)
    answer = ask(client, model, stream=True)
    assert text_of(answer) == HALF + HALF + REST
    attempts = attempts_of(served, answer)
    assert shown(vendor, model) == ["breaks", "openai", "mistral"]
    assert [each["outcome"] for each in attempts] == ["health", "health", "ok"]
    row = logged(served, answer.headers["x-request-id"])
    assert row["cost_nanousd"] == sum(each["cost_nanousd"] for each in attempts)


# ---------------------------------------------------------------- broken for good


def test_a_failing_continuation_does_not_hide_the_first_failure(
    client: httpx.Client, vendor: FakeVendor, served: Gateway
) -> None:
    model = unique("continued-openai")
    breaks_off(vendor, model)
    treat(vendor, model, "openai", fail="9x400")
    answer = ask(client, model, stream=True)
    assert WORDS in error_of(answer)["message"]
    assert "[DONE]" not in answer.text
    # The one that broke off is asked to go on as well, once: nobody is asked for ever.
    assert shown(vendor, model) == ["breaks", "openai", "breaks"]
    row = logged(served, answer.headers["x-request-id"])
    attempts = json.loads(row["attempts"])
    assert (row["outcome"], row["error_code"]) == ("error", "upstream_error")
    assert [each["outcome"] for each in attempts] == ["health", "caller", "health"]
    assert row["completion_tokens"] == sum(each["usage"]["completion"] for each in attempts[::2]) > 0


def test_a_tool_call_is_never_continued(client: httpx.Client, vendor: FakeVendor) -> None:
    """Nobody could tell where its arguments broke off."""
    model = unique("continued-openai")
    treat(vendor, model, "breaks", tool=1, reset="body:1200", delay=50)
    answer = ask(client, model, stream=True, tools=[TOOL])
    assert '"tool_calls"' in answer.text
    assert error_of(answer)["type"] == "api_error"
    assert shown(vendor, model) == ["breaks"]


def test_without_the_routes_word_nothing_is_continued(client: httpx.Client, vendor: FakeVendor) -> None:
    model = unique("uncontinued")
    breaks_off(vendor, model)
    assert WORDS in error_of(ask(client, model, stream=True))["message"]
    assert shown(vendor, model) == ["breaks"]


def test_a_whole_stream_of_such_a_route_is_as_any_other(client: httpx.Client, served: Gateway) -> None:
    model = unique("continued-openai~tokens=5")
    answer = ask(client, model, stream=True)
    assert told(answer) == (200, "breaks", "1")
    assert len(text_of(answer).split()) == 5
    (attempt,) = attempts_of(served, answer)
    assert "usage" not in attempt  # it is the request's own
