"""Requests in Ollama's own words."""

from contextlib import suppress
from copy import deepcopy
from functools import partial

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.call import Untranslatable
from providers.dialects import DIALECTS
from providers.errors import UnsupportedParameter
from providers.tests.samples import cassettes, make_call, make_completions_call, make_upstream
from providers.wires import EMBEDDINGS

OLLAMA = DIALECTS["ollama"]
UPSTREAM = make_upstream("ollama", "qwen3", dialect="ollama")
DROPPING = make_upstream("ollama", "qwen3", dialect="ollama", drop_unsupported_params=True)
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
PNG = "data:image/png;base64,AA"
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=6,
)


def request_of(upstream=UPSTREAM, **fields):
    return OLLAMA.encode(make_call(**fields), upstream)


def sent(upstream=UPSTREAM, **fields):
    return orjson.loads(request_of(upstream, **fields).body)


@pytest.mark.parametrize("stream", [False, True])
def test_it_always_says_whether_to_stream(stream):
    request = request_of(stream=stream)
    assert request.path == "/api/chat"
    assert orjson.loads(request.body) == {
        "model": "qwen3",
        "messages": [{"role": "user", "content": "hello"}],
        "stream": stream,
    }


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (
            {"temperature": 0, "top_p": 0.5, "top_k": 3},
            {"options": {"temperature": 0, "top_p": 0.5, "top_k": 3}},
        ),
        ({"max_tokens": 5, "seed": 0}, {"options": {"num_predict": 5, "seed": 0}}),
        ({"max_tokens": 9, "max_completion_tokens": 5}, {"options": {"num_predict": 5}}),
        ({"stop": "x"}, {"options": {"stop": ["x"]}}),
        ({"stop": ["x", "y"]}, {"options": {"stop": ["x", "y"]}}),
        ({"stop": []}, {}),
        (
            {"presence_penalty": 1, "frequency_penalty": 0},
            {"options": {"presence_penalty": 1, "frequency_penalty": 0}},
        ),
        (
            {"options": {"num_ctx": 8192, "seed": 1}, "seed": 2, "keep_alive": "5m"},
            {"options": {"num_ctx": 8192, "seed": 2}, "keep_alive": "5m"},
        ),
        ({"response_format": {"type": "text"}}, {}),
        ({"response_format": {"type": "json_object"}}, {"format": "json"}),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}},
            {"format": SCHEMA},
        ),
        ({"reasoning_effort": "none"}, {"think": False}),
        ({"reasoning_effort": "minimal"}, {"think": "low"}),
        ({"reasoning_effort": "high"}, {"think": "high"}),
        ({"reasoning_effort": "xhigh"}, {"think": "max"}),
        ({"thinking": {"type": "disabled"}, "reasoning_effort": "high"}, {"think": False}),
        ({"thinking": {"type": "adaptive"}, "reasoning_effort": "high"}, {}),
        ({"thinking": {"type": "enabled", "budget_tokens": 8192}, "reasoning_effort": "medium"}, {}),
        ({"think": True}, {"think": True}),
        ({"logprobs": True, "top_logprobs": 2}, {"logprobs": True, "top_logprobs": 2}),
        ({"logprobs": False, "top_logprobs": None}, {}),
        ({"tools": [WEATHER], "tool_choice": "auto"}, {"tools": [WEATHER]}),
        ({"tools": [WEATHER], "tool_choice": "none"}, {}),
        ({"n": 1, "user": "u", "parallel_tool_calls": True, "stream_options": {}}, {}),
    ],
)
def test_it_says_a_parameter_in_ollamas_words(asked, said):
    body = sent(**asked)
    assert {name: body[name] for name in body if name not in ("model", "messages", "stream")} == said


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather"}}])
def test_it_cannot_force_a_tool(choice):
    with pytest.raises(UnsupportedParameter) as refused:
        request_of(tools=[WEATHER], tool_choice=choice)
    assert refused.value.param == "tool_choice"
    request = request_of(DROPPING, tools=[WEATHER], tool_choice=choice)
    assert request.dropped_params == ("tool_choice",)
    assert orjson.loads(request.body)["tools"] == [WEATHER]


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"n": 2}, "n"),
        ({"logit_bias": {"1": 1}}, "logit_bias"),
        ({"prediction": {}}, "prediction"),
        ({"response_format": {"type": "grammar"}}, "response_format"),
        ({"response_format": "json_schema"}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema.schema"),
        ({"reasoning_effort": "lots"}, "reasoning_effort"),
        ({"stop": [1]}, "stop"),
        ({"options": 1}, "options"),
        ({"tools": [{"type": "custom"}]}, "tools[0].type"),
    ],
)
def test_it_names_what_it_cannot_say(asked, param):
    with pytest.raises(UnsupportedParameter) as refused:
        request_of(**asked)
    assert refused.value.param == param


# ---------------------------------------------------------------- messages


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ({"role": "developer", "content": "x"}, {"role": "system", "content": "x"}),
        ({"role": "user", "content": None}, {"role": "user", "content": ""}),
        (
            {"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "text", "text": "y"}]},
            {"role": "user", "content": "x\ny"},
        ),
        (
            {
                "role": "user",
                "content": [{"type": "image_url", "image_url": {"url": PNG}}, {"type": "text", "text": "x"}],
            },
            {"role": "user", "content": "x", "images": ["AA"]},
        ),
        (
            {
                "role": "user",
                "content": [{"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}}],
            },
            {"role": "user", "content": "", "images": ["AA"]},
        ),
        (
            {"role": "assistant", "content": "x", "reasoning_content": "t", "refusal": None},
            {"role": "assistant", "content": "x", "thinking": "t"},
        ),
        (
            {"role": "assistant", "content": [{"type": "text", "text": "x"}, {"type": "text", "text": "y"}]},
            {"role": "assistant", "content": "xy"},
        ),
        (
            {"role": "tool", "tool_call_id": "c1", "content": "x", "name": "f"},
            {"role": "tool", "content": "x", "tool_name": "f", "tool_call_id": "c1"},
        ),
    ],
)
def test_it_sends_a_message_in_ollamas_words(message, said):
    assert sent(messages=[message])["messages"] == [said]


def test_it_names_the_function_whose_result_it_sends():
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    messages = sent(
        messages=[
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "x"}]},
        ]
    )["messages"]
    assert messages == [
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "c1", "function": {"name": "f", "arguments": {"a": 1}}}],
        },
        {"role": "tool", "content": "x", "tool_name": "f", "tool_call_id": "c1"},
    ]


def called_with(arguments):
    return [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": arguments}}]}]


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        (
            [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x/y.png"}}]}],
            "messages[0].content[0]",
        ),
        (
            [
                {
                    "role": "user",
                    "content": [{"type": "image_url", "image_url": {"url": "data:text/plain;base64,AA"}}],
                }
            ],
            "messages[0].content[0]",
        ),
        (
            [{"role": "user", "content": [{"type": "file", "file": {"file_data": "AA"}}]}],
            "messages[0].content[0]",
        ),
        ([{"role": "user", "content": [{"type": "input_audio"}]}], "messages[0].content[0]"),
        ([{"role": "tool", "tool_call_id": 3}], "messages[0].tool_call_id"),
        (called_with("[]"), "messages[0].tool_calls[0].function.arguments"),
        (called_with("{"), "messages[0].tool_calls[0].function.arguments"),
        ([{"role": "alien"}], "messages[0].role"),
    ],
)
def test_it_names_what_it_cannot_send(messages, param):
    with pytest.raises(UnsupportedParameter) as refused:
        request_of(messages=messages)
    assert refused.value.param == param


NAMES = ["messages", "tools", "tool_choice", "thinking", "stop", "response_format", "options", "think"]


@pytest.mark.parametrize("name", NAMES)
@given(junk=JUNK)
def test_it_raises_nothing_else_of_any_value(name, junk):
    for fields in ({name: junk}, {"messages": [{"role": "assistant", name: junk, "content": junk}]}):
        with suppress(UnsupportedParameter):
            request_of(**{"tools": [WEATHER], **fields})


def test_it_leaves_the_call_alone():
    call = make_call(options={"num_ctx": 1}, seed=1, tools=[WEATHER])
    before = deepcopy(call)
    assert OLLAMA.encode(call, UPSTREAM) == OLLAMA.encode(call, UPSTREAM)
    assert call == before


# ---------------------------------------------------------------- completions, embeddings


completions_call = partial(make_completions_call, "qwen3")


@pytest.mark.parametrize("prompt", ["def f(", ["def f("]])
def test_it_completes_a_prompt(prompt):
    call = completions_call(
        prompt=prompt, suffix="return", max_tokens=7, stop="x", stream=True, user="u", echo=True
    )
    request = OLLAMA.encode(call, UPSTREAM)
    assert request.path == "/api/generate"
    assert request.dropped_params == ("user",)
    assert orjson.loads(request.body) == {
        "model": "qwen3",
        "prompt": "def f(",
        "stream": True,
        "options": {"num_predict": 7, "stop": ["x"]},
        "suffix": "return",
    }


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": ["a", "b"]},
        {"prompt": [1, 2]},
        {"prompt": "a", "best_of": 3},
        {"prompt": ""},
        {"prompt": "a", "suffix": 1},
    ],
)
def test_it_sends_what_it_cannot_complete_as_chat_or_refuses_it(fields):
    call = completions_call(**fields)
    assert OLLAMA.encode(call, UPSTREAM).path == "/api/chat"
    with pytest.raises(UnsupportedParameter) as refused:
        OLLAMA.encode(call._replace(only_native=Untranslatable("prompt", "no")), UPSTREAM)
    assert refused.value.param == "prompt"


def embed_call(**fields):
    return make_call(wire=EMBEDDINGS)._replace(body={"model": "nomic", **fields})


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"input": "x"}, {"input": "x"}),
        ({"input": ["x", "y"], "dimensions": 8}, {"input": ["x", "y"], "dimensions": 8}),
        ({"input": "x", "encoding_format": "base64", "user": "u"}, {"input": "x"}),
        ({"input": "x", "truncate": False}, {"input": "x", "truncate": False}),
    ],
)
def test_it_asks_for_embeddings(fields, said):
    request = OLLAMA.encode(embed_call(**fields), UPSTREAM)
    assert request.path == "/api/embed"
    assert orjson.loads(request.body) == {"model": "qwen3", **said}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": [1, 2]}, "input"),
        ({"input": [["x"]]}, "input"),
        ({"input": "x", "unheard_of": 1}, "unheard_of"),
    ],
)
def test_it_names_what_it_cannot_embed(fields, param):
    with pytest.raises(UnsupportedParameter) as refused:
        OLLAMA.encode(embed_call(**fields), UPSTREAM)
    assert refused.value.param == param


def test_it_shows_a_credential_where_there_is_one():
    assert OLLAMA.auth_headers("", "") == {}
    assert OLLAMA.auth_headers("k", "") == {"authorization": "Bearer k"}


def test_it_reads_what_has_been_pulled():
    listed = [
        {"name": "a", "model": "a:latest", "modified_at": "1970-01-01T01:00:07.123456789+01:00"},
        {"name": "b", "modified_at": "soon"},
        {"name": 3},
        "x",
    ]
    assert OLLAMA.models_path() == "/api/tags"
    assert OLLAMA.model_list(orjson.dumps({"models": listed})) == [
        {"id": "a:latest", "created": 7, "owned_by": "ollama"},
        {"id": "b", "created": 0, "owned_by": "ollama"},
    ]


def recorded_requests():
    return [
        param
        for param in cassettes("ollama")
        if param.marks or (param.values[0]["kind"] == "chat" and param.values[0]["request"]["body"])
    ]


@pytest.mark.parametrize("cassette", recorded_requests())
def test_it_sends_a_recorded_conversation_on_with_the_same_meaning(cassette):
    body = cassette["request"]["body"]
    said = orjson.loads(OLLAMA.encode(make_call(**body), UPSTREAM).body)
    assert [message["role"] for message in said["messages"]] == [each["role"] for each in body["messages"]]
    for message, told in zip(said["messages"], body["messages"], strict=True):
        assert isinstance(message["content"], str)
        assert message.get("thinking") == told.get("reasoning")
        for call in message.get("tool_calls", ()):
            assert isinstance(call["function"]["arguments"], dict)
        if message["role"] == "tool":
            assert message["tool_name"] == "weather"
