"""The real Anthropic SDK, with each vendor's format behind the gateway: tools, and thinking sent back."""

from typing import Any

import anthropic
import pytest
from anthropic import Anthropic

from tests.dialects import CALLING, DROPPING, EACH, GOING_ON, PATHS
from tests.upstream import FakeVendor, unique
from tests.vendor_forms import own_only, signatures_in, thoughts_in, tool_calls, tool_results, tool_schemas

HELLO: Any = [{"role": "user", "content": "Hello there"}]
SCHEMA: Any = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
CITY = {"city": 'naïve "text"'}  # as the fake vendor fills it in
BOTH: Any = [
    {"name": "weather", "description": "Tells the weather.", "input_schema": SCHEMA},
    {"name": "clock", "input_schema": SCHEMA},
]
THINKING: Any = {"type": "enabled", "budget_tokens": 1024}
STREAMED = pytest.mark.parametrize("streamed", [False, True])


def message_of(anthropic_sdk: Anthropic, model: str, *, streamed: bool = False, **more: Any) -> Any:
    """Return the message, assembled by the SDK where it is streamed."""
    fields: Any = {"model": model, "max_tokens": 2000, "messages": HELLO, **more}
    if not streamed:
        return anthropic_sdk.messages.create(**fields)
    with anthropic_sdk.messages.stream(**fields) as stream:
        return stream.get_final_message()


@EACH
@STREAMED
def test_it_goes_round_with_parallel_tool_uses(
    anthropic_sdk: Anthropic, vendor: FakeVendor, dialect: str, *, streamed: bool
) -> None:
    first = unique("synthetic~tool=2")
    message = message_of(anthropic_sdk, f"{dialect}/{first}", tools=BOTH, streamed=streamed)
    calls = [block for block in message.content if block.type == "tool_use"]
    assert message.stop_reason == "tool_use"
    assert [(call.name, call.input) for call in calls] == [("weather", CITY), ("clock", CITY)]
    assert len({call.id for call in calls}) == 2
    (asked,) = vendor.asked(first)
    assert tool_schemas(dialect, asked["body"]) == [("weather", SCHEMA), ("clock", SCHEMA)]

    second = unique("synthetic~text=It%20is%20sunny.")
    results: Any = [
        {"type": "tool_result", "tool_use_id": calls[0].id, "content": "sunny"},
        {"type": "tool_result", "tool_use_id": calls[1].id, "content": "broken", "is_error": True},
        {"type": "text", "text": "Really?"},
    ]
    turns = [
        *HELLO,
        {"role": "assistant", "content": message.content},
        {"role": "user", "content": results},
    ]
    answer = message_of(anthropic_sdk, f"{dialect}/{second}", messages=turns, tools=BOTH, streamed=streamed)
    assert (answer.content[0].text, answer.stop_reason) == ("It is sunny.", "end_turn")
    (asked,) = vendor.asked(second)
    made = tool_calls(dialect, asked["body"])
    assert tool_results(dialect, asked["body"]) == [(made[0][0], "sunny"), (made[1][0], "broken")]


@EACH
def test_it_goes_on_with_another_vendor(anthropic_sdk: Anthropic, vendor: FakeVendor, dialect: str) -> None:
    """Each vendor is told of the calls in its own way, and shown no signature but its own."""
    more: Any = {"tools": BOTH, "thinking": THINKING}
    message = message_of(anthropic_sdk, f"{dialect}/{unique(CALLING[dialect])}", **more)
    calls = [block for block in message.content if block.type == "tool_use"]
    results: Any = [
        {"type": "tool_result", "tool_use_id": call.id, "content": text}
        for call, text in zip(calls, ["sunny", "noon"], strict=True)
    ]
    turns = [
        *HELLO,
        {"role": "assistant", "content": message.content},
        {"role": "user", "content": results},
    ]
    for other in PATHS:
        model = unique(GOING_ON[other])
        final = message_of(anthropic_sdk, f"{other}/{model}", messages=turns, **more)
        assert final.stop_reason == "end_turn"
        (asked,) = vendor.asked(model)
        made, told = tool_calls(other, asked["body"]), tool_results(other, asked["body"])
        assert [named for named, _ in made] == [named for named, _ in told]
        assert [text for _, text in told] == ["sunny", "noon"]
        if other in ("anthropic", "gemini"):
            assert bool(own_only(signatures_in(other, asked["body"]))) is (other == dialect)


# Anthropic is asked to keep the conversation itself, which the fake one does not.
@pytest.mark.parametrize("dialect", [name for name in PATHS if name != "anthropic"])
def test_it_lets_the_sdk_run_tools(anthropic_sdk: Anthropic, dialect: str) -> None:
    cities = []

    @anthropic.beta_tool
    def weather(city: str) -> str:
        """Tell the weather."""
        cities.append(city)
        return f"sunny in {city}"

    model = f"{dialect}/{unique('synthetic~tool=1')}"
    runner = anthropic_sdk.beta.messages.tool_runner(
        model=model, max_tokens=100, messages=HELLO, tools=[weather], max_iterations=2
    )
    assert [message.stop_reason for message in runner] == ["tool_use", "tool_use"]
    assert cities[0] == CITY["city"]


@EACH
def test_it_shows_a_tools_input_as_it_grows(anthropic_sdk: Anthropic, dialect: str) -> None:
    with anthropic_sdk.messages.stream(
        model=f"{dialect}/{unique('synthetic~tool=1')}", max_tokens=100, messages=HELLO, tools=BOTH
    ) as stream:
        shown: list[Any] = [event.snapshot for event in stream if event.type == "input_json"]
    assert shown[-1] == CITY
    sizes = [len(each.get("city", "")) for each in shown]
    assert sizes == sorted(sizes)


@EACH
@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "clock"}])
def test_it_makes_the_model_use_a_tool(
    anthropic_sdk: Anthropic, vendor: FakeVendor, dialect: str, choice: Any
) -> None:
    model = unique()
    if dialect == "ollama":  # it cannot
        fields: Any = {"max_tokens": 100, "messages": HELLO, "tools": BOTH, "tool_choice": choice}
        with pytest.raises(anthropic.BadRequestError, match="tool_choice"):
            anthropic_sdk.messages.create(model=f"{dialect}/{model}", **fields)
        assert vendor.asked(model) == []
        create = anthropic_sdk.messages.with_raw_response.create
        asked = create(model=f"{DROPPING}{dialect}/{model}", **fields)
        assert asked.headers["x-gateway-dropped-params"] == "tool_choice"
        return
    message = message_of(anthropic_sdk, f"{dialect}/{model}", tools=BOTH, tool_choice=choice)
    wanted = choice.get("name", "weather")
    assert [block.name for block in message.content] == [wanted]
    assert message.stop_reason == "tool_use"


@pytest.mark.parametrize(
    ("dialect", "model"),
    [
        ("anthropic", "synthetic~tool=1~reasoning=3"),
        # Made-up answers in Gemini's format are not signed; recorded ones are.
        ("gemini", "gemini-generate-d-fb-thinking-tool"),
        ("gemini", "gemini-generate-d14-partools-tool"),
        ("gemini", "gemini-generate-d-vercel-stream-tool-gemini3"),
    ],
)
def test_it_signs_the_thinking_that_goes_back(
    anthropic_sdk: Anthropic, vendor: FakeVendor, dialect: str, model: str
) -> None:
    streamed = "stream" in model
    message = message_of(
        anthropic_sdk, f"{dialect}/{unique(model)}", tools=BOTH, thinking=THINKING, streamed=streamed
    )
    signed = [block.signature for block in message.content if block.type == "thinking"]
    assert signed
    assert all(signed)
    second = unique("gemini-3-pro" if dialect == "gemini" else "synthetic")
    results: Any = [
        {"type": "tool_result", "tool_use_id": block.id, "content": "sunny"}
        for block in message.content
        if block.type == "tool_use"
    ]
    turns = [
        *HELLO,
        {"role": "assistant", "content": message.content},
        {"role": "user", "content": results},
    ]
    message_of(anthropic_sdk, f"{dialect}/{second}", messages=turns, tools=BOTH, thinking=THINKING)
    (asked,) = vendor.asked(second)
    # Between the two, Gemini's have its name before them, and that of their call.
    assert signatures_in(dialect, asked["body"]) == [each.rpartition(":")[2] for each in signed]


@pytest.mark.parametrize("dialect", ["mistral", "ollama"])
@STREAMED
def test_it_hands_thinking_back_that_needs_no_signature(
    anthropic_sdk: Anthropic, vendor: FakeVendor, dialect: str, *, streamed: bool
) -> None:
    first = unique("mistral-small-latest~reasoning=3")
    message = message_of(anthropic_sdk, f"{dialect}/{first}", thinking=THINKING, streamed=streamed)
    (asked,) = vendor.asked(first)
    if dialect == "mistral":
        assert asked["body"]["reasoning_effort"] == "high"
    else:  # Ollama's models think unless they are told not to; those that cannot refuse to be told to
        assert "think" not in asked["body"]
    thought = message.content[0].thinking
    assert thought == "thinking step 0 thinking step 1 thinking step 2"
    second = unique()
    turns = [*HELLO, {"role": "assistant", "content": message.content}, *HELLO]
    message_of(anthropic_sdk, f"{dialect}/{second}", messages=turns)
    (asked,) = vendor.asked(second)
    assert thoughts_in(dialect, asked["body"]) == thought
