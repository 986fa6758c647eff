"""The real OpenAI SDK at `/v1/responses`: passed on to a vendor that has it, else translated to chat."""

from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI
from pydantic import BaseModel

from tests.gateway import Gateway, running_gateway
from tests.upstream import QUIET, UPSTREAM_KEY, FakeVendor, fake_vendor, unique, wired

WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "description": "Tells the weather.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    "strict": False,
}
BOTH = pytest.mark.parametrize("provider", ["native", "plain"])


@pytest.fixture(scope="module")
def seen() -> Iterator[FakeVendor]:
    with fake_vendor() as running:
        yield running


@pytest.fixture(scope="module")
def served(seen: FakeVendor) -> Iterator[Gateway]:
    here = {"dialect": "openai", "base_url": f"{seen.url}/openai/v1", "api_key": UPSTREAM_KEY}
    providers = [
        {"name": "native", **here},
        {"name": "plain", **here, "quirks": {"responses": False}},
    ]
    with running_gateway(
        {**QUIET, "CACHE_MODE": "memory"}, files=wired(seen, providers=providers, routes=[])
    ) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def client(served: Gateway) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{served.url}/v1", api_key=served.key, max_retries=0, timeout=30) as made:
        yield made


def paths(vendor: FakeVendor, model: str) -> list[str]:
    return [each["path"].rsplit("/v1", 1)[1] for each in vendor.asked(model)]


def other_form(provider: str) -> str:
    return "/responses" if provider == "native" else "/chat/completions"


@BOTH
def test_it_answers(client: OpenAI, seen: FakeVendor, provider: str) -> None:
    model = unique("synthetic~text=Good%20day~prompt=7~tokens=2~cached=3")
    response = client.responses.create(
        model=f"{provider}/{model}", input="Hello there", instructions="Be brief.", max_output_tokens=50
    )
    assert response.output_text == "Good day"
    assert (response.status, response.error) == ("completed", None)
    assert response.usage is not None
    assert (response.usage.input_tokens, response.usage.output_tokens) == (7, 2)
    assert response.usage.input_tokens_details.cached_tokens == 3
    assert response.instructions == "Be brief."
    assert paths(seen, model) == [other_form(provider)]


@BOTH
def test_it_streams(client: OpenAI, provider: str) -> None:
    model = unique("synthetic~text=one%20two%20three")
    with client.responses.stream(model=f"{provider}/{model}", input="Hello") as stream:
        texts = [event.delta for event in stream if event.type == "response.output_text.delta"]
        final = stream.get_final_response()
    assert len(texts) > 1
    assert "".join(texts) == final.output_text == "one two three"
    assert final.usage is not None
    assert final.usage.output_tokens > 0
    events = list(client.responses.create(model=f"{provider}/{model}2", input="Hello", stream=True))
    assert [events[0].type, events[-1].type] == ["response.created", "response.completed"]
    assert [event.sequence_number for event in events] == list(range(len(events)))


@BOTH
def test_it_says_that_an_answer_was_cut(client: OpenAI, provider: str) -> None:
    model = unique("synthetic~tokens=40")
    response = client.responses.create(model=f"{provider}/{model}", input="Hello", max_output_tokens=16)
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"


class City(BaseModel):
    name: str
    people: int


@BOTH
def test_it_parses_into_a_model(client: OpenAI, provider: str) -> None:
    response = client.responses.parse(
        model=f"{provider}/{unique()}", input="Tell me of a city.", text_format=City
    )
    assert isinstance(response.output_parsed, City)
    with client.responses.stream(
        model=f"{provider}/{unique()}", input="Tell me of a city.", text_format=City
    ) as stream:
        assert isinstance(stream.get_final_response().output_parsed, City)


@BOTH
def test_it_goes_round_with_tools(client: OpenAI, seen: FakeVendor, provider: str) -> None:
    model = unique("synthetic~tool=2")
    conversation: Any = [{"role": "user", "content": "What is the weather?"}]
    first = client.responses.create(model=f"{provider}/{model}", input=conversation, tools=[WEATHER])
    calls = [item for item in first.output if item.type == "function_call"]
    assert [call.name for call in calls] == ["weather", "weather"]
    conversation += first.output
    conversation += [
        {"type": "function_call_output", "call_id": call.call_id, "output": "Sunny."} for call in calls
    ]
    last = unique("synthetic~text=It%20is%20sunny.")
    final = client.responses.create(model=f"{provider}/{last}", input=conversation, tools=[WEATHER])
    assert final.output_text == "It is sunny."
    if provider == "plain":
        (asked,) = seen.asked(last)
        roles = [message["role"] for message in asked["body"]["messages"]]
        assert roles == ["user", "assistant", "tool", "tool"]
        assert [call["id"] for call in asked["body"]["messages"][1]["tool_calls"]] == [
            call.call_id for call in calls
        ]


@BOTH
def test_it_streams_tool_calls(client: OpenAI, provider: str) -> None:
    with client.responses.stream(
        model=f"{provider}/{unique('synthetic~tool=2')}", input="Weather?", tools=[WEATHER]
    ) as stream:
        final = stream.get_final_response()
    calls = [item for item in final.output if item.type == "function_call"]
    assert [call.name for call in calls] == ["weather", "weather"]
    assert all(call.arguments.startswith("{") for call in calls)


@BOTH
def test_it_raises_when_a_stream_breaks(client: OpenAI, provider: str) -> None:
    model = f"{provider}/{unique('synthetic~tokens=60~end=4000')}"
    kinds: list[str] = []
    with pytest.raises(openai.APIError) as caught:
        kinds.extend(event.type for event in client.responses.create(model=model, input="Hello", stream=True))
    assert "response.output_text.delta" in kinds
    assert "response.completed" not in kinds
    assert caught.value.type == "api_error"


@BOTH
def test_it_refuses_in_the_usual_envelope(client: OpenAI, provider: str) -> None:
    silent: Any = [{"role": "user"}]
    with pytest.raises(openai.BadRequestError) as ours:
        client.responses.create(model=f"{provider}/{unique()}", input=silent)
    assert (ours.value.param, ours.value.type) == ("input[0].content", "invalid_request_error")
    with pytest.raises(openai.InternalServerError) as theirs:
        client.responses.create(model=f"{provider}/{unique('synthetic~fail=99x503')}", input="Hello")
    assert theirs.value.status_code == 503


def test_it_leaves_stored_state_to_those_who_store_it(client: OpenAI, seen: FakeVendor) -> None:
    model = unique()
    client.responses.create(model=f"native/{model}", input="Hello", previous_response_id="resp_1")
    (asked,) = seen.asked(model)
    assert asked["body"] == {"model": model, "input": "Hello", "previous_response_id": "resp_1"}
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model=f"plain/{model}", input="Hello", previous_response_id="resp_1")
    assert (caught.value.param, caught.value.code) == ("previous_response_id", "unsupported_parameter")
    assert "stored at OpenAI" in caught.value.message


def test_it_asks_for_a_stored_response_only_whom_the_request_names(served: Gateway, client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.retrieve("resp_1")
    assert (caught.value.code, caught.value.param) == ("provider_not_named", "provider")
    assert httpx.get(f"{served.url}/v1/responses", headers=served.headers).status_code == 405


@BOTH
def test_it_answers_again_from_the_cache_in_either_form(
    client: OpenAI, seen: FakeVendor, provider: str
) -> None:
    model = unique("synthetic~text=Kept")
    create = client.responses.with_raw_response.create
    streamed = create(model=f"{provider}/{model}", input="Hello", stream=True)
    assert list(streamed.parse())[-1].type == "response.completed"
    whole = create(model=f"{provider}/{model}", input="Hello")
    assert whole.headers["x-gateway-cache"] == "hit"
    assert whole.parse().output_text == "Kept"
    again = create(model=f"{provider}/{model}", input="Hello", stream=True)
    assert again.headers["x-gateway-cache"] == "hit"
    assert list(again.parse())[-1].response.output_text == "Kept"  # type: ignore[union-attr]
    assert len(seen.asked(model)) == 1


def test_it_keeps_no_answer_that_goes_on_with_stored_state(client: OpenAI) -> None:
    model = f"native/{unique()}"
    for _ in range(2):
        answer = client.responses.with_raw_response.create(
            model=model, input="On.", previous_response_id="resp_1"
        )
        assert answer.headers["x-gateway-cache"] == "bypass"


def test_it_translates_for_the_demo(client: OpenAI) -> None:
    assert client.responses.create(model="demo/echo", input="Hello there").output_text == "Hello there"
    with client.responses.stream(model="demo/lorem", input="5 words 1ms") as stream:
        assert len(stream.get_final_response().output_text.split()) == 5
