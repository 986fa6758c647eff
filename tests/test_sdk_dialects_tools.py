"""The real OpenAI SDK through a served gateway, with each vendor's format behind it: tools and thinking."""

import json
from collections.abc import Mapping
from typing import Any, Literal

import openai
import pytest
from openai import OpenAI
from pydantic import BaseModel

from tests.dialects import CALLING, DROPPING, EACH, GOING_ON, PATHS
from tests.upstream import FakeVendor, unique
from tests.vendor_forms import own_only, signatures_in, thoughts_in, tool_calls, tool_results, tool_schemas

HELLO: Any = [{"role": "user", "content": "What is the weather?"}]
SCHEMA: Any = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
CITY = {"city": 'naïve "text"'}  # as the fake vendor fills it in
WEATHER: Any = {
    "type": "function",
    "function": {"name": "weather", "description": "Tells the weather.", "parameters": SCHEMA},
}
CLOCK: Any = {"type": "function", "function": {"name": "clock", "parameters": SCHEMA}}
BOTH: Any = [WEATHER, CLOCK]
# How each is told to call nothing; Ollama is not told of tools at all.
NONE: Mapping[str, Any] = {
    "openai": {"tool_choice": "none"},
    "anthropic": {"tool_choice": {"type": "none"}},
    "gemini": {"toolConfig": {"functionCallingConfig": {"mode": "NONE"}}},
    "mistral": {"tool_choice": "none"},
    "ollama": {},
}
STREAMED = pytest.mark.parametrize("streamed", [False, True])


def answer_of(openai_sdk: OpenAI, model: str, *, streamed: bool = False, **more: Any) -> Any:
    """Return the one choice, assembled by the SDK where it is streamed."""
    fields: Any = {"model": model, "messages": HELLO, "tools": BOTH, **more}
    if not streamed:
        return openai_sdk.chat.completions.create(**fields).choices[0]
    with openai_sdk.chat.completions.stream(**fields) as stream:
        return stream.get_final_completion().choices[0]


def answered(message: Any, results: list[str], last: str = "") -> Any:
    """Return the conversation that goes on with what the tools said."""
    told = [
        {"role": "tool", "tool_call_id": call.id, "content": result}
        for call, result in zip(message.tool_calls, results, strict=True)
    ]
    added = [{"role": "user", "content": last}] if last else []
    return [*HELLO, message.model_dump(exclude_none=True), *told, *added]


@EACH
@STREAMED
def test_it_goes_round_with_parallel_tool_calls(
    openai_sdk: OpenAI, vendor: FakeVendor, dialect: str, *, streamed: bool
) -> None:
    first = unique("synthetic~tool=2")
    choice = answer_of(openai_sdk, f"{dialect}/{first}", streamed=streamed, parallel_tool_calls=True)
    calls = choice.message.tool_calls
    assert choice.finish_reason == "tool_calls"
    assert [call.function.name for call in calls] == ["weather", "clock"]
    assert [json.loads(call.function.arguments) for call in calls] == [CITY, CITY]
    assert len({call.id for call in calls}) == 2
    (asked,) = vendor.asked(first)
    assert tool_schemas(dialect, asked["body"]) == [("weather", SCHEMA), ("clock", SCHEMA)]

    second = unique("synthetic~text=It%20is%20sunny.")
    messages = answered(choice.message, ["sunny", "noon"], "Really?")
    final = answer_of(openai_sdk, f"{dialect}/{second}", streamed=streamed, messages=messages)
    assert (final.message.content, final.finish_reason) == ("It is sunny.", "stop")
    (asked,) = vendor.asked(second)
    made = tool_calls(dialect, asked["body"])
    assert [json.loads(each) if isinstance(each, str) else each for _, each in made] == [CITY, CITY]
    told = tool_results(dialect, asked["body"])
    assert told == [(made[0][0], "sunny"), (made[1][0], "noon")]
    assert len({called for called, _ in told}) == 2


@EACH
def test_it_goes_on_with_another_vendor(openai_sdk: OpenAI, vendor: FakeVendor, dialect: str) -> None:
    """Each vendor is told of the calls in its own way, and shown no signature but its own."""
    model = f"{dialect}/{unique(CALLING[dialect])}"
    message = answer_of(openai_sdk, model, reasoning_effort="low").message
    messages = answered(message, ["sunny", "noon"])
    for other in PATHS:
        model = unique(GOING_ON[other])
        final = answer_of(openai_sdk, f"{other}/{model}", messages=messages, reasoning_effort="low")
        assert final.finish_reason == "stop"
        (asked,) = vendor.asked(model)
        made, told = tool_calls(other, asked["body"]), tool_results(other, asked["body"])
        assert [named for named, _ in made] == [named for named, _ in told]
        assert [text for _, text in told] == ["sunny", "noon"]
        if other in ("anthropic", "gemini"):
            assert bool(own_only(signatures_in(other, asked["body"]))) is (other == dialect)


@EACH
@STREAMED
@pytest.mark.parametrize(
    "more", [{}, {"parameters": {}}, {"parameters": {"type": "object", "properties": {}}}]
)
def test_it_calls_tools_without_arguments(
    openai_sdk: OpenAI, *, dialect: str, more: dict[str, Any], streamed: bool
) -> None:
    fields: Any = {"tools": [{"type": "function", "function": {"name": "now", **more}}]}
    model = f"{dialect}/{unique('synthetic~tool=2')}"
    message = answer_of(openai_sdk, model, streamed=streamed, **fields).message
    assert [call.function.arguments for call in message.tool_calls] == ["{}", "{}"]
    messages = answered(message, ["", ""])
    assert answer_of(openai_sdk, f"{dialect}/{unique()}", messages=messages, **fields).message.content


class Place(BaseModel):
    """Where to look."""

    city: str
    country: Literal["fr", "jp"] | None


class Forecast(BaseModel):
    """Tells the weather."""

    places: list[Place]
    days: int


@EACH
def test_it_parses_the_arguments_of_tools(openai_sdk: OpenAI, dialect: str) -> None:
    model = f"{dialect}/{unique('synthetic~tool=1')}"
    tools = [openai.pydantic_function_tool(Forecast)]
    made = openai_sdk.chat.completions.parse(model=model, messages=HELLO, tools=tools)
    with openai_sdk.chat.completions.stream(model=model, messages=HELLO, tools=tools) as stream:
        kinds = [event.type for event in stream]
        streamed = stream.get_final_completion()
    assert "tool_calls.function.arguments.done" in kinds
    for completion in (made, streamed):
        calls = completion.choices[0].message.tool_calls or []
        assert [type(call.function.parsed_arguments) for call in calls] == [Forecast]


@EACH
def test_it_streams_the_pieces_of_calls(openai_sdk: OpenAI, dialect: str) -> None:
    chunks: Any = openai_sdk.chat.completions.create(
        model=f"{dialect}/{unique('synthetic~tool=2')}", messages=HELLO, tools=BOTH, stream=True
    )
    deltas = [piece for chunk in chunks for piece in chunk.choices[0].delta.tool_calls or ()]
    for index, name in enumerate(["weather", "clock"]):
        pieces = [piece for piece in deltas if piece.index == index]
        assert [piece.function.name for piece in pieces if piece.function.name] == [name]
        assert [piece.id for piece in pieces if piece.id] == [pieces[0].id]
        assert json.loads("".join(piece.function.arguments or "" for piece in pieces)) == CITY


@EACH
@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "clock"}}])
def test_it_makes_the_model_call_a_tool(
    openai_sdk: OpenAI, vendor: FakeVendor, dialect: str, choice: Any
) -> None:
    model = unique()
    if dialect == "ollama":  # it cannot: the request is refused, or the row says to ask all the same
        with pytest.raises(openai.BadRequestError) as caught:
            answer_of(openai_sdk, f"{dialect}/{model}", tool_choice=choice)
        assert (caught.value.param, caught.value.code) == ("tool_choice", "unsupported_parameter")
        assert vendor.asked(model) == []
        assert answer_of(openai_sdk, f"{DROPPING}{dialect}/{model}", tool_choice=choice).message.content
        return
    for streamed in (False, True):
        made = answer_of(openai_sdk, f"{dialect}/{model}", tool_choice=choice, streamed=streamed)
        wanted = "weather" if choice == "required" else "clock"
        assert [call.function.name for call in made.message.tool_calls] == [wanted]
        assert made.finish_reason == "tool_calls"


@EACH
def test_it_keeps_the_model_from_calling_a_tool(openai_sdk: OpenAI, vendor: FakeVendor, dialect: str) -> None:
    model = unique()
    choice = answer_of(openai_sdk, f"{dialect}/{model}", tool_choice="none")
    assert (choice.finish_reason, choice.message.tool_calls) == ("stop", None)
    (asked,) = vendor.asked(model)
    assert {name: asked["body"][name] for name in NONE[dialect]} == NONE[dialect]
    assert dialect != "ollama" or "tools" not in asked["body"]


@pytest.mark.parametrize(
    ("dialect", "model"),
    [
        ("anthropic", "claude-sonnet-4-5~tool=1~reasoning=3"),
        # Made-up answers in Gemini's format are not signed; recorded ones are.
        ("gemini", "gemini-generate-d-fb-thinking-tool"),
        ("gemini", "gemini-generate-d14-partools-tool"),
        ("gemini", "gemini-generate-d-vercel-stream-tool-gemini3"),
    ],
)
def test_it_signs_the_thinking_that_goes_back(
    openai_sdk: OpenAI, vendor: FakeVendor, dialect: str, model: str
) -> None:
    fields: Any = {"reasoning_effort": "low", "streamed": "stream" in model}
    message = answer_of(openai_sdk, f"{dialect}/{unique(model)}", **fields).message
    signed = [block["signature"] for block in message.thinking_blocks]
    assert all(signed)
    second = unique("claude-sonnet-4-5" if dialect == "anthropic" else "gemini-3-pro")
    results = ["sunny"] * len(message.tool_calls)
    answer_of(openai_sdk, f"{dialect}/{second}", messages=answered(message, results), reasoning_effort="low")
    (asked,) = vendor.asked(second)
    # Between the two, Gemini's have its name before them, and that of their call.
    assert signatures_in(dialect, asked["body"]) == [each.rpartition(":")[2] for each in signed]
    if dialect == "anthropic":
        assert asked["body"]["thinking"]["type"] == "enabled"


@pytest.mark.parametrize("dialect", ["mistral", "ollama"])
@STREAMED
def test_it_hands_thinking_back_that_needs_no_signature(
    openai_sdk: OpenAI, vendor: FakeVendor, dialect: str, *, streamed: bool
) -> None:
    message = answer_of(openai_sdk, f"{dialect}/{unique('synthetic~reasoning=3')}", streamed=streamed).message
    assert message.reasoning_content == "thinking step 0 thinking step 1 thinking step 2"
    second = unique()
    turns = [*HELLO, message.model_dump(exclude_none=True), *HELLO]
    answer_of(openai_sdk, f"{dialect}/{second}", messages=turns)
    (asked,) = vendor.asked(second)
    assert thoughts_in(dialect, asked["body"]) == message.reasoning_content
