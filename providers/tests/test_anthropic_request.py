import json
from contextlib import suppress
from copy import deepcopy
from functools import cache
from itertools import pairwise
from typing import Any

import pytest
from anthropic.types import MessageCreateParams
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from providers.dialects.anthropic.request import request_of
from providers.dialects.anthropic.tools import JSON_TOOL
from providers.errors import UnsupportedParameter
from providers.tests.samples import KIT, make_upstream

OLD, MANUAL, NEW, FABLE = "claude-sonnet-4-0", "claude-haiku-4-5", "claude-opus-4-8", "claude-fable-5-1"
HELLO = [{"role": "user", "content": "hello"}]
SCHEMA = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
CLOSED = {**SCHEMA, "additionalProperties": False}
FORM = {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "strict": True}}


def function(name="f", **fields):
    return {"type": "function", "function": {"name": name, **fields}}


def request(model=MANUAL, *, drop=False, stream=False, **body):
    """Return the request, and what was left out of it."""
    whole = {"model": "asked", "messages": HELLO, **body}
    before = deepcopy(whole)
    upstream = make_upstream("anthropic", model, dialect="anthropic", drop_unsupported_params=drop)
    said, dropped = request_of(whole, upstream, stream=stream)
    assert whole == before
    return said, dropped


def refused(model=MANUAL, **body):
    with pytest.raises(UnsupportedParameter) as error:
        request(model, **body)
    return error.value


# ---------------------------------------------------------------- the frame


def test_it_says_no_more_than_it_must():
    assert request() == (
        {
            "model": MANUAL,
            "max_tokens": 64_000,
            "messages": [{"role": "user", "content": [{"type": "text", "text": "hello"}]}],
        },
        (),
    )
    assert request(stream=True)[0]["stream"] is True


@pytest.mark.parametrize(
    ("body", "max_tokens"),
    [
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 7, "max_tokens": 5}, 7),
        ({"max_tokens": None}, 64_000),
    ],
)
def test_it_always_says_how_much_may_be_written(body, max_tokens):
    assert request(**body)[0]["max_tokens"] == max_tokens


def test_it_writes_the_system_prompt_as_text_unless_a_breakpoint_stands_in_it():
    system: list[Any] = [{"role": "system", "content": "a"}, {"role": "developer", "content": "b"}]
    assert request(messages=[*system, *HELLO])[0]["system"] == "a\n\nb"
    system[1]["cache_control"] = {"type": "ephemeral"}
    assert request(messages=[*system, *HELLO])[0]["system"] == [
        {"type": "text", "text": "a"},
        {"type": "text", "text": "b", "cache_control": {"type": "ephemeral"}},
    ]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"stop": "END"}, {"stop_sequences": ["END"]}),
        ({"stop": ["a", "b"]}, {"stop_sequences": ["a", "b"]}),
        ({"stop": []}, {}),
        ({"temperature": 0}, {"temperature": 0}),
        ({"temperature": 0.5, "top_k": 3}, {"temperature": 0.5, "top_k": 3}),
        ({"temperature": 1, "top_p": 1.0, "n": 1, "presence_penalty": 0}, {}),
        ({"top_p": 0.5}, {"top_p": 0.5}),
        ({"user": "u"}, {"metadata": {"user_id": "u"}}),
        ({"safety_identifier": "s"}, {"metadata": {"user_id": "s"}}),
        ({"metadata": {"user_id": "m"}}, {"metadata": {"user_id": "m"}}),
        ({"service_tier": "auto"}, {"service_tier": "auto"}),
        ({"service_tier": "default"}, {"service_tier": "standard_only"}),
        ({"cache_control": {"type": "ephemeral"}}, {"cache_control": {"type": "ephemeral"}}),
    ],
)
def test_it_translates_parameters(body, said):
    frame = request()[0]
    assert request(**body) == ({**frame, **said}, ())


@pytest.mark.parametrize(
    "body",
    [
        {"user": "u" * 257},
        {"metadata": {"topic": "x"}},
        {"service_tier": "flex"},
        {"service_tier": ["auto"]},
        {"store": True},
        {"prompt_cache_key": "k"},
    ],
)
def test_it_tells_of_hints_that_are_lost(body):
    assert request(**body) == (request()[0], tuple(body))


@pytest.mark.parametrize(
    ("model", "body", "param"),
    [
        (MANUAL, {"n": 2}, "n"),
        (MANUAL, {"seed": 7}, "seed"),
        (MANUAL, {"logprobs": True}, "logprobs"),
        (MANUAL, {"logit_bias": {"1": 1}}, "logit_bias"),
        (MANUAL, {"frequency_penalty": 0.1}, "frequency_penalty"),
        (MANUAL, {"functions": []}, "functions"),
        (MANUAL, {"temperature": 1.5}, "temperature"),
        (MANUAL, {"stop": "\n"}, "stop"),
        (MANUAL, {"reasoning_effort": "low", "temperature": 0}, "temperature"),
        (MANUAL, {"reasoning_effort": "low", "top_p": 0.5}, "top_p"),
        (MANUAL, {"reasoning_effort": "low", "top_k": 5}, "top_k"),
        (NEW, {"temperature": 0.5}, "temperature"),
        (NEW, {"top_p": 0.99}, "top_p"),
        (NEW, {"top_k": 1}, "top_k"),
        (FABLE, {"reasoning_effort": "none"}, "reasoning_effort"),
        ("claude-3-haiku-20240307", {"reasoning_effort": "low"}, "reasoning_effort"),
        (
            MANUAL,
            {"reasoning_effort": "low", "tools": [function()], "tool_choice": "required"},
            "tool_choice",
        ),
    ],
)
def test_it_refuses_by_name_or_drops_what_cannot_be_said(model, body, param):
    error = refused(model, **body)
    assert error.param == param
    assert error.code == "unsupported_parameter"
    said, dropped = request(model, drop=True, **body)
    assert dropped == (param,)
    assert param not in said or param == "tool_choice"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": "5"}, "max_tokens"),
        ({"max_completion_tokens": True}, "max_completion_tokens"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_k": True}, "top_k"),
        ({"stop": 3}, "stop"),
        ({"stop": [3]}, "stop"),
        ({"tools": {}}, "tools"),
        ({"tools": [3]}, "tools[0]"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [function(), {"type": "function", "function": {"name": 3}}]}, "tools[1].function"),
        ({"tools": [function(parameters=[])]}, "tools[0].function.parameters"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [function()], "tool_choice": "any"}, "tool_choice"),
        ({"tools": [function()], "tool_choice": ["auto"]}, "tool_choice"),
        ({"tools": [function()], "tool_choice": {"type": "function", "function": "f"}}, "tool_choice"),
        ({"response_format": "json"}, "response_format"),
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": []}}},
            "response_format.json_schema",
        ),
        ({"reasoning_effort": 3}, "reasoning_effort"),
        ({"reasoning_effort": "hard"}, "reasoning_effort"),
        ({"thinking": "yes"}, "thinking"),
        ({"thinking": {"type": ["enabled"]}}, "thinking"),
        ({"thinking": {"type": "enabled", "budget_tokens": "many"}}, "thinking.budget_tokens"),
        ({"cache_control": True}, "body.cache_control"),
    ],
)
def test_it_refuses_values_of_the_wrong_type(body, param):
    error = refused(**body)
    assert (error.param, error.code) == (param, "invalid_value")


# ---------------------------------------------------------------- tools


def test_it_translates_tools():
    tools = [
        {**function(description="d", parameters=SCHEMA), "cache_control": {"type": "ephemeral"}},
        function("g", parameters={"properties": {}}),
        {"type": "web_search_20250305", "name": "web_search", "max_uses": 2},
    ]
    assert request(tools=tools)[0]["tools"] == [
        {"name": "f", "description": "d", "input_schema": SCHEMA, "cache_control": {"type": "ephemeral"}},
        {"name": "g", "input_schema": {"type": "object", "properties": {}}},
        tools[2],
    ]


def test_it_keeps_a_tool_strict_where_model_and_schema_allow_it():
    strict = function(parameters=SCHEMA, strict=True)
    assert request(tools=[strict])[0]["tools"] == [{"name": "f", "input_schema": CLOSED, "strict": True}]
    for model, tool in ((OLD, strict), (MANUAL, function(parameters={"type": "object"}, strict=True))):
        said, dropped = request(model, tools=[tool])
        assert "strict" not in said["tools"][0]
        assert dropped == ("tools.function.strict",)


def test_it_refuses_tools_that_are_no_functions():
    assert refused(tools=[{"type": "custom", "custom": {"name": "c"}}]).param == "tools[0]"


@pytest.mark.parametrize(
    ("body", "choice"),
    [
        ({}, None),
        ({"tool_choice": "auto"}, {"type": "auto"}),
        ({"tool_choice": "none", "parallel_tool_calls": False}, {"type": "none"}),
        ({"tool_choice": "required"}, {"type": "any"}),
        ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, {"type": "tool", "name": "f"}),
        ({"parallel_tool_calls": True}, None),
        ({"parallel_tool_calls": False}, {"type": "auto", "disable_parallel_tool_use": True}),
        (
            {"parallel_tool_calls": False, "tool_choice": "required"},
            {"type": "any", "disable_parallel_tool_use": True},
        ),
    ],
)
def test_it_translates_the_choice_of_tools(body, choice):
    assert request(tools=[function()], **body)[0].get("tool_choice") == choice


def test_it_says_nothing_of_tools_where_there_are_none():
    assert request(tool_choice="auto", parallel_tool_calls=False) == request()


def test_it_refuses_a_choice_among_some_tools():
    choice = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}}
    assert refused(tools=[function()], tool_choice=choice).param == "tool_choice"


# ---------------------------------------------------------------- answers in JSON


def test_it_asks_for_a_schema_natively_where_the_model_has_it():
    said = request(response_format=FORM)[0]
    assert said["output_config"] == {"format": {"type": "json_schema", "schema": CLOSED}}
    assert "tools" not in said


@pytest.mark.parametrize("model", [OLD, "some-other-model"])
def test_it_forces_a_tool_whose_input_is_the_answer_where_it_has_not(model):
    said = request(model, response_format=FORM)[0]
    assert [(tool["name"], tool["input_schema"]) for tool in said["tools"]] == [(JSON_TOOL, SCHEMA)]
    assert said["tool_choice"] == {"type": "tool", "name": JSON_TOOL}
    assert "output_config" not in said


def test_it_forces_the_tool_for_a_schema_that_cannot_be_closed():
    schema = {"type": "object", "additionalProperties": {"type": "string"}}
    said = request(response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": schema}})[0]
    assert said["tools"][0]["input_schema"] == schema


@pytest.mark.parametrize(
    ("body", "tools", "choice"),
    [
        ({}, ["f", JSON_TOOL], {"type": "any"}),
        ({"tool_choice": "none"}, ["f", JSON_TOOL], {"type": "tool", "name": JSON_TOOL}),
        ({"tool_choice": "required"}, ["f"], {"type": "any"}),
        (
            {"tool_choice": {"type": "function", "function": {"name": "f"}}},
            ["f"],
            {"type": "tool", "name": "f"},
        ),
        ({"reasoning_effort": "low"}, ["f", JSON_TOOL], {"type": "auto"}),
    ],
)
def test_it_offers_the_answer_beside_the_clients_tools(body, tools, choice):
    said = request(OLD, tools=[function()], response_format=FORM, **body)[0]
    assert [tool["name"] for tool in said["tools"]] == tools
    assert said["tool_choice"] == choice


def test_it_refuses_a_tool_with_the_answers_name():
    assert refused(OLD, tools=[function(JSON_TOOL)], response_format=FORM).param == "tools"


@pytest.mark.parametrize(
    "form", [{"type": "json_object"}, {"type": "json_schema", "json_schema": {"name": "n"}}]
)
def test_it_asks_in_words_for_json_without_a_schema(form):
    said = request(messages=[{"role": "system", "content": "Be kind."}, *HELLO], response_format=form)[0]
    assert said["system"].startswith("Be kind.\n\n")
    assert "JSON" in said["system"]
    assert request(response_format={"type": "text"}) == request()


# ---------------------------------------------------------------- thinking


@pytest.mark.parametrize(
    ("model", "body", "thinking", "effort"),
    [
        (MANUAL, {"reasoning_effort": "low"}, {"type": "enabled", "budget_tokens": 1024}, None),
        (MANUAL, {"reasoning_effort": "max"}, {"type": "enabled", "budget_tokens": 32_768}, None),
        (MANUAL, {"reasoning_effort": "none"}, None, None),
        (MANUAL, {"thinking": {"type": "disabled"}, "reasoning_effort": "high"}, None, None),
        (
            MANUAL,
            {"thinking": {"type": "enabled", "budget_tokens": 5000, "display": "omitted"}},
            {"type": "enabled", "budget_tokens": 5000, "display": "omitted"},
            None,
        ),
        (MANUAL, {"thinking": {"type": "adaptive"}}, {"type": "enabled", "budget_tokens": 8192}, None),
        (MANUAL, {"thinking": {"type": "enabled"}}, {"type": "enabled", "budget_tokens": 8192}, None),
        ("claude-sonnet-4-6", {"reasoning_effort": "xhigh"}, {"type": "adaptive"}, "max"),
        (
            "claude-sonnet-4-6",
            {"thinking": {"type": "enabled", "budget_tokens": 5000}},
            {"type": "enabled", "budget_tokens": 5000},
            None,
        ),
        (NEW, {"reasoning_effort": "minimal"}, {"type": "adaptive", "display": "summarized"}, "low"),
        (NEW, {"reasoning_effort": "xhigh"}, {"type": "adaptive", "display": "summarized"}, "xhigh"),
        (NEW, {"reasoning_effort": "none"}, None, None),
        (
            NEW,
            {"thinking": {"type": "enabled", "budget_tokens": 5000}},
            {"type": "adaptive", "display": "summarized"},
            "medium",
        ),
        (
            NEW,
            {"thinking": {"type": "adaptive", "display": "omitted"}, "reasoning_effort": "high"},
            {"type": "adaptive", "display": "omitted"},
            "high",
        ),
        ("claude-opus-5", {"reasoning_effort": "none"}, {"type": "disabled"}, None),
        (FABLE, {"reasoning_effort": "high"}, {"type": "adaptive", "display": "summarized"}, "high"),
    ],
)
def test_it_translates_thinking(model, body, thinking, effort):
    said = request(model, **body)[0]
    assert said.get("thinking") == thinking
    assert said.get("output_config", {}).get("effort") == effort


@pytest.mark.parametrize(
    ("body", "budget", "max_tokens"),
    [
        ({"reasoning_effort": "high", "max_tokens": 64_000}, 24_576, 64_000),
        ({"reasoning_effort": "high", "max_tokens": 4096}, 3072, 4096),
        ({"reasoning_effort": "high", "max_tokens": 1500}, 1024, 1500),
        ({"reasoning_effort": "low", "max_tokens": 500}, 1024, 1524),
        ({"thinking": {"type": "enabled", "budget_tokens": 4000}, "max_tokens": 4096}, 4000, 4096),
        ({"thinking": {"type": "enabled", "budget_tokens": 5000}, "max_tokens": 1000}, 5000, 6000),
    ],
)
def test_it_keeps_the_budget_below_what_may_be_written(body, budget, max_tokens):
    said = request(**body)[0]
    assert (said["thinking"]["budget_tokens"], said["max_tokens"]) == (budget, max_tokens)


def test_it_does_without_thinking_where_a_tool_loop_began_without():
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [
        *HELLO,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "a", "content": "1"},
    ]
    body = {"messages": messages, "tools": [function()], "reasoning_effort": "high", "temperature": 0}
    said, dropped = request(**body)
    assert "thinking" not in said
    assert said["temperature"] == 0
    assert dropped == ("reasoning_effort",)
    del body["temperature"]
    assert request(NEW, **body)[0]["thinking"]["type"] == "adaptive"


def test_it_lets_a_model_be_forced_that_thinks_as_it_sees_fit():
    said = request(NEW, reasoning_effort="low", tools=[function()], tool_choice="required")[0]
    assert (said["thinking"]["type"], said["tool_choice"]) == ("adaptive", {"type": "any"})


# ---------------------------------------------------------------- all of it


_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 3)
    | st.floats(0, 2)
    | st.sampled_from(["text", "auto", "f", ""]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "role", "content", "function", "name", "text", "image_url", "schema"]),
            inner,
            max_size=4,
        )
    ),
)
_PARAMS = [
    "messages",
    "tools",
    "tool_choice",
    "response_format",
    "thinking",
    "reasoning_effort",
    "stop",
    "user",
]


@given(
    st.dictionaries(st.sampled_from([*_PARAMS, "metadata", "max_tokens", "temperature"]), _VALUES),
    st.sampled_from([OLD, MANUAL, NEW, FABLE, "other"]),
    st.booleans(),
)
def test_it_refuses_any_nonsense_by_name(body, model, drop):
    upstream = make_upstream("anthropic", model, dialect="anthropic", drop_unsupported_params=drop)
    with suppress(UnsupportedParameter):
        said, _ = request_of({"messages": HELLO, **body}, upstream, stream=False)
        assert said["max_tokens"] > said.get("thinking", {}).get("budget_tokens", 0)


@cache
def sdk_form():
    return TypeAdapter(MessageCreateParams)


def recorded_requests():
    paths = sorted((KIT / "expected").glob("*/*.json"))
    found = [(path.stem, json.loads(path.read_text()).get("client_request") or {}) for path in paths]
    kept = [pytest.param(body, id=name) for name, body in found if body.get("messages")]
    skipped = pytest.mark.skip(reason=f"the recorded requests are not at {KIT}")
    return kept or [pytest.param(None, marks=skipped, id="absent")]


@pytest.mark.parametrize("body", recorded_requests())
def test_it_writes_what_the_sdk_takes(body):
    for model in (OLD, MANUAL, NEW):
        with suppress(UnsupportedParameter):
            said = request(model, drop=True, **body)[0]
            sdk_form().dump_json(sdk_form().validate_python(said))
            roles = [turn["role"] for turn in said["messages"]]
            assert all(one != other for one, other in pairwise(roles))
