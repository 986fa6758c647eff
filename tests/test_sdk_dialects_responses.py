"""The real OpenAI SDK at `/v1/responses`, with each vendor's format behind it."""

import json
from typing import Any

import openai
import pytest
from openai import OpenAI
from pydantic import BaseModel

from tests.dialects import EACH, TRANSLATED
from tests.upstream import FakeVendor, unique
from tests.vendor_forms import IMAGE, images_in, signatures_in, system_of, tool_calls, tool_results

HELLO: Any = [{"role": "user", "content": "Hello there"}]
WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    "strict": False,
}
CITY = {"city": 'naïve "text"'}  # as the fake vendor fills it in
STREAMED = pytest.mark.parametrize("streamed", [False, True])


class City(BaseModel):
    """What the model has to answer with."""

    name: str
    people: int


def response_of(openai_sdk: OpenAI, model: str, *, streamed: bool, **more: Any) -> Any:
    fields: Any = {"model": model, "input": "Hello there", **more}
    if not streamed:
        return openai_sdk.responses.create(**fields)
    with openai_sdk.responses.stream(**fields) as stream:
        return stream.get_final_response()


@EACH
@STREAMED
def test_it_responds(openai_sdk: OpenAI, vendor: FakeVendor, dialect: str, *, streamed: bool) -> None:
    model = unique("synthetic~text=Good%20day~prompt=9~cached=2~reasoning=3")
    shown = [
        {"type": "input_text", "text": "What is this?"},
        {"type": "input_image", "image_url": f"data:image/png;base64,{IMAGE}"},
    ]
    response = response_of(
        openai_sdk,
        f"{dialect}/{model}",
        streamed=streamed,
        instructions="Be brief.",
        input=[{"role": "user", "content": shown}],
    )
    assert (response.output_text, response.status, response.error) == ("Good day", "completed", None)
    usage = response.usage
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (9, 5, 14)
    assert usage.input_tokens_details.cached_tokens == (0 if dialect == "ollama" else 2)
    (asked,) = vendor.asked(model)
    if dialect != "openai":  # which is asked as the client asked
        assert system_of(dialect, asked["body"]) == "Be brief."
        assert images_in(dialect, asked["body"]) == [IMAGE]
        assert [item.type for item in response.output] == ["reasoning", "message"]


@EACH
def test_it_streams_numbered_events(openai_sdk: OpenAI, dialect: str) -> None:
    model = f"{dialect}/{unique('synthetic~text=one%20two%20three')}"
    events: Any = list(openai_sdk.responses.create(model=model, input="Hello", stream=True))
    assert [events[0].type, events[-1].type] == ["response.created", "response.completed"]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    texts = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert texts == ["one", " two", " three"]


@EACH
@STREAMED
def test_it_parses_a_response_into_a_model(openai_sdk: OpenAI, dialect: str, *, streamed: bool) -> None:
    fields: Any = {"model": f"{dialect}/{unique()}", "input": "Tell me of a city.", "text_format": City}
    if streamed:
        with openai_sdk.responses.stream(**fields) as stream:
            parsed = stream.get_final_response()
    else:
        parsed = openai_sdk.responses.parse(**fields)
    assert isinstance(parsed.output_parsed, City)


@EACH
@STREAMED
def test_it_goes_round_with_tools(
    openai_sdk: OpenAI, vendor: FakeVendor, dialect: str, *, streamed: bool
) -> None:
    model = unique("synthetic~tool=2")
    first = response_of(openai_sdk, f"{dialect}/{model}", streamed=streamed, input=HELLO, tools=[WEATHER])
    calls = [item for item in first.output if item.type == "function_call"]
    assert [(call.name, json.loads(call.arguments)) for call in calls] == [("weather", CITY)] * 2
    said = ["sunny", "rainy"]
    results = [
        {"type": "function_call_output", "call_id": call.call_id, "output": text}
        for call, text in zip(calls, said, strict=True)
    ]
    last = unique("synthetic~text=It%20varies.")
    final = response_of(
        openai_sdk, f"{dialect}/{last}", streamed=streamed, input=[*HELLO, *first.output, *results]
    )
    assert final.output_text == "It varies."
    (asked,) = vendor.asked(last)
    if dialect != "openai":
        made, told = tool_calls(dialect, asked["body"]), tool_results(dialect, asked["body"])
        assert [named for named, _ in made] == [named for named, _ in told]
        assert [text for _, text in told] == said


@pytest.mark.parametrize(
    ("dialect", "model"),
    [
        ("anthropic", "claude-sonnet-4-5~tool=1~reasoning=3"),
        ("gemini", "gemini-generate-d-fb-thinking-tool"),
    ],
)
@STREAMED
def test_it_signs_the_thinking_that_goes_back(
    openai_sdk: OpenAI, vendor: FakeVendor, dialect: str, model: str, *, streamed: bool
) -> None:
    """Reasoning items carry it, as clients of this endpoint send them back."""
    if dialect == "gemini" and streamed:
        model = "gemini-generate-d-vercel-stream-tool-gemini3"
    more: Any = {
        "tools": [WEATHER],
        "reasoning": {"effort": "low"},
        "include": ["reasoning.encrypted_content"],
    }
    first = response_of(openai_sdk, f"{dialect}/{unique(model)}", streamed=streamed, input=HELLO, **more)
    results = [
        {"type": "function_call_output", "call_id": item.call_id, "output": "sunny"}
        for item in first.output
        if item.type == "function_call"
    ]
    second = unique("claude-sonnet-4-5" if dialect == "anthropic" else "gemini-3-pro")
    turns = [*HELLO, *first.output, *results]
    response_of(openai_sdk, f"{dialect}/{second}", streamed=False, input=turns, **more)
    (asked,) = vendor.asked(second)
    (signature,) = signatures_in(dialect, asked["body"])
    assert signature != "skip_thought_signature_validator"


@TRANSLATED
def test_it_stores_nothing(openai_sdk: OpenAI, dialect: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        openai_sdk.responses.create(model=f"{dialect}/synthetic", input="On.", previous_response_id="resp_1")
    assert caught.value.param == "previous_response_id"


def test_it_names_what_a_vendor_cannot_be_shown_as_the_client_does(openai_sdk: OpenAI) -> None:
    paper: Any = {"type": "input_file", "file_url": "https://x.test/a.pdf"}
    with pytest.raises(openai.BadRequestError) as caught:
        openai_sdk.responses.create(
            model="ollama/synthetic", instructions="Be brief.", input=[{"role": "user", "content": [paper]}]
        )
    assert caught.value.param == "input[0]"
    assert "'input[0]'" in caught.value.message


@EACH
def test_it_says_that_a_response_broke(openai_sdk: OpenAI, dialect: str) -> None:
    model = f"{dialect}/{unique('synthetic~tokens=60~end=4000')}"
    stream: Any = openai_sdk.responses.create(model=model, input="Hello", stream=True)
    kinds: list[str] = []
    with pytest.raises(openai.APIError):
        kinds.extend(event.type for event in stream)
    assert "response.output_text.delta" in kinds
    assert "response.completed" not in kinds
