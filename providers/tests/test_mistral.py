"""Requests in Mistral's own words."""

from contextlib import suppress
from copy import deepcopy
from functools import partial

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.dialects import DIALECTS
from providers.dialects.call_ids import nine_letters
from providers.errors import UnsupportedParameter
from providers.tests.samples import cassettes, make_call, make_completions_call, make_upstream
from providers.wires import EMBEDDINGS

MISTRAL = DIALECTS["mistral"]
UPSTREAM = make_upstream("mistral", "mistral-small-latest", dialect="mistral")
DROPPING = make_upstream("mistral", "m", dialect="mistral", drop_unsupported_params=True)
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=6,
)


def request_of(upstream=UPSTREAM, **fields):
    return MISTRAL.encode(make_call(**fields), upstream)


def sent(upstream=UPSTREAM, **fields):
    return orjson.loads(request_of(upstream, **fields).body)


def sent_message(message, before=()):
    return sent(messages=[*before, message])["messages"][-1]


def test_it_says_no_more_than_was_asked():
    request = request_of()
    assert request.path == "/chat/completions"
    assert orjson.loads(request.body) == {
        "model": "mistral-small-latest",
        "messages": [{"role": "user", "content": "hello"}],
    }


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"max_completion_tokens": 5}, {"max_tokens": 5}),
        ({"max_tokens": 5}, {"max_tokens": 5}),
        ({"max_tokens": 9, "max_completion_tokens": 5}, {"max_tokens": 5}),
        ({"seed": 0}, {"random_seed": 0}),
        ({"temperature": 0, "top_p": 1, "n": 2}, {"temperature": 0, "top_p": 1, "n": 2}),
        ({"stream": True, "stream_options": {"include_usage": True}}, {"stream": True}),
        ({"reasoning_effort": "high"}, {"reasoning_effort": "high"}),
        ({"thinking": {"type": "disabled"}}, {"reasoning_effort": "none"}),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, {"reasoning_effort": "high"}),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 1024}, "reasoning_effort": "low"},
            {"reasoning_effort": "high"},
        ),
        ({"thinking": {"type": "adaptive"}, "reasoning_effort": "low"}, {"reasoning_effort": "low"}),
        ({"thinking": {"type": "adaptive"}}, {}),
        ({"response_format": {"type": "json_object"}}, {"response_format": {"type": "json_object"}}),
        (
            {"prediction": {"type": "content", "content": "x"}},
            {"prediction": {"type": "content", "content": "x"}},
        ),
        (
            {"metadata": {"a": "b"}, "prompt_cache_key": "k"},
            {"metadata": {"a": "b"}, "prompt_cache_key": "k"},
        ),
        ({"service_tier": "auto"}, {"service_tier": "auto"}),
        ({"service_tier": "flex", "user": "u", "store": False}, {}),
        (
            {"safe_prompt": True, "prompt_mode": "reasoning"},
            {"safe_prompt": True, "prompt_mode": "reasoning"},
        ),
        ({"tools": [WEATHER]}, {"tools": [WEATHER]}),
        ({"tools": [WEATHER], "tool_choice": "required"}, {"tools": [WEATHER], "tool_choice": "any"}),
        ({"tools": [WEATHER], "tool_choice": "none"}, {"tools": [WEATHER], "tool_choice": "none"}),
        ({"tools": [], "tool_choice": "auto"}, {}),
        ({"parallel_tool_calls": False}, {"parallel_tool_calls": False}),
    ],
)
def test_it_says_a_parameter_in_mistrals_words(asked, said):
    body = sent(**asked)
    assert {name: body[name] for name in body if name not in ("model", "messages")} == said


def test_it_names_the_function_that_must_be_called():
    choice = {"type": "function", "function": {"name": "weather", "more": 1}}
    body = sent(tools=[WEATHER], tool_choice=choice)
    assert body["tool_choice"] == {"type": "function", "function": {"name": "weather"}}


def test_it_sends_a_tool_without_what_mistral_does_not_know():
    tool = {"type": "function", "cache_control": {}, "function": {"name": "f", "strict": True, "x": 1}}
    assert sent(tools=[tool])["tools"] == [
        {
            "type": "function",
            "function": {"name": "f", "strict": True, "parameters": {"type": "object", "properties": {}}},
        }
    ]


@pytest.mark.parametrize(
    "name", ["logit_bias", "modalities", "audio", "verbosity", "functions", "unheard_of"]
)
def test_it_refuses_by_name_or_drops_what_mistral_does_not_know(name):
    with pytest.raises(UnsupportedParameter) as refused:
        request_of(**{name: {"x": 1}})
    assert refused.value.param == name
    request = request_of(DROPPING, **{name: {"x": 1}})
    assert request.dropped_params == (name,)
    assert name not in orjson.loads(request.body)


def test_it_tells_of_dropped_hints():
    assert request_of(user="u", store=True).dropped_params == ("user", "store")


# ---------------------------------------------------------------- messages


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ({"role": "developer", "content": "x", "name": "n"}, {"role": "system", "content": "x"}),
        ({"role": "system", "content": "x"}, {"role": "system", "content": "x"}),
        ({"role": "user", "content": None}, {"role": "user", "content": ""}),
        (
            {
                "role": "user",
                "content": [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}],
            },
            {"role": "user", "content": [{"type": "text", "text": "x"}]},
        ),
        (
            {"role": "assistant", "content": "x", "refusal": None, "annotations": []},
            {"role": "assistant", "content": "x", "prefix": True},
        ),
        (
            {"role": "assistant", "content": "x", "reasoning_content": "t"},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": [{"type": "text", "text": "t"}]},
                    {"type": "text", "text": "x"},
                ],
                "prefix": True,
            },
        ),
        (
            {
                "role": "assistant",
                "content": None,
                "thinking_blocks": [{"type": "thinking", "thinking": "t", "signature": "s"}],
            },
            {
                "role": "assistant",
                "content": [{"type": "thinking", "thinking": [{"type": "text", "text": "t"}]}],
                "prefix": True,
            },
        ),
        (
            {"role": "tool", "tool_call_id": "rEJDoePqM", "content": "15 C", "name": "f", "is_error": True},
            {"role": "tool", "tool_call_id": "rEJDoePqM", "content": "15 C"},
        ),
    ],
)
def test_it_sends_a_message_without_what_mistral_does_not_know(message, said):
    assert sent_message(message) == said


def test_it_gives_a_call_and_its_result_the_same_fitting_id():
    call = {"id": "call_x7rn5sl5", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
    messages = sent(
        messages=[
            {"role": "user", "content": "x"},
            {"role": "assistant", "content": None, "tool_calls": [{**call, "index": 0, "extra_content": {}}]},
            {"role": "tool", "tool_call_id": "call_x7rn5sl5", "content": "y"},
        ]
    )["messages"]
    fitted = nine_letters("call_x7rn5sl5")
    assert messages[1] == {"role": "assistant", "content": "", "tool_calls": [{**call, "id": fitted}]}
    assert messages[2]["tool_call_id"] == fitted


def test_it_puts_late_instructions_where_mistral_takes_them():
    contents = [("system", "a"), ("user", "b"), ("system", "c"), ("assistant", "d"), ("system", "e")]
    messages = sent(
        messages=[
            *({"role": role, "content": text} for role, text in contents),
            {"role": "user", "content": "f"},
        ]
    )["messages"]
    assert [message["content"] for message in messages] == ["a", "e", "b", "c", "d", "f"]


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (
            {"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "low"}},
            {"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "low"}},
        ),
        (
            {"type": "image_url", "image_url": "data:image/png;base64,AA"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}},
        ),
        (
            {"type": "file", "file": {"file_data": "data:application/pdf;base64,AA", "filename": "a.pdf"}},
            {
                "type": "document_url",
                "document_url": "data:application/pdf;base64,AA",
                "document_name": "a.pdf",
            },
        ),
        (
            {"type": "file", "file": {"file_url": "https://x/a.pdf"}},
            {"type": "document_url", "document_url": "https://x/a.pdf"},
        ),
        ({"type": "file", "file": {"file_id": "f1"}}, {"type": "file", "file_id": "f1"}),
        ({"type": "file", "file_id": "f1"}, {"type": "file", "file_id": "f1"}),
        (
            {"type": "document_url", "document_url": "https://x/a.pdf", "document_name": "a", "z": 1},
            {"type": "document_url", "document_url": "https://x/a.pdf", "document_name": "a"},
        ),
        (
            {"type": "input_audio", "input_audio": {"data": "AA", "format": "mp3"}},
            {"type": "input_audio", "input_audio": "AA"},
        ),
        ({"type": "input_audio", "input_audio": "AA"}, {"type": "input_audio", "input_audio": "AA"}),
        ({"type": "refusal", "refusal": "no"}, {"type": "text", "text": "no"}),
    ],
)
def test_it_sends_a_part_in_mistrals_words(part, said):
    assert sent_message({"role": "user", "content": [part]})["content"] == [said]


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([{"role": "function", "content": "x"}], "messages[0].role"),
        ([3], "messages[0]"),
        ("x", "messages"),
        ([{"role": "user", "content": 3}], "messages[0].content"),
        ([{"role": "user", "content": ["x"]}], "messages[0].content[0]"),
        ([{"role": "user", "content": [{"type": "video_url"}]}], "messages[0].content[0]"),
        ([{"role": "user", "content": [{"type": "text"}]}], "messages[0].content[0].text"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], "messages[0].content[0].image_url"),
        ([{"role": "tool", "content": "x"}], "messages[0].tool_call_id"),
        ([{"role": "assistant", "tool_calls": {}}], "messages[0].tool_calls"),
        ([{"role": "assistant", "tool_calls": [{}]}], "messages[0].tool_calls[0].function"),
        ([{"role": "assistant", "function_call": {}}], "messages[0].function_call"),
    ],
)
def test_it_names_what_it_cannot_send(messages, param):
    with pytest.raises(UnsupportedParameter) as refused:
        request_of(messages=messages)
    assert refused.value.param == param


@pytest.mark.parametrize("name", ["messages", "tools", "tool_choice", "thinking", "stop", "response_format"])
@given(junk=JUNK)
def test_it_raises_nothing_else_of_any_value(name, junk):
    for fields in ({name: junk}, {"messages": [{"role": "assistant", name: junk, "content": junk}]}):
        with suppress(UnsupportedParameter):
            request_of(**{"tools": [WEATHER], **fields})


def test_it_leaves_the_call_alone():
    call = make_call(messages=[{"role": "assistant", "content": [{"type": "text", "text": "x"}]}], seed=1)
    before = deepcopy(call)
    assert MISTRAL.encode(call, UPSTREAM) == MISTRAL.encode(call, UPSTREAM)
    assert call == before


# ---------------------------------------------------------------- fill-in-the-middle, embeddings


completions_call = partial(make_completions_call, "codestral-latest")


@pytest.mark.parametrize("prompt", ["def f(", ["def f("]])
def test_it_fills_in_what_stands_before_a_suffix(prompt):
    call = completions_call(
        prompt=prompt, suffix="return", max_tokens=7, seed=1, stream=True, user="u", echo=True
    )
    request = MISTRAL.encode(call, UPSTREAM)
    assert request.path == "/fim/completions"
    assert request.dropped_params == ("user",)
    assert orjson.loads(request.body) == {
        "model": "mistral-small-latest",
        "prompt": "def f(",
        "suffix": "return",
        "max_tokens": 7,
        "random_seed": 1,
        "stream": True,
    }


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": ["a", "b"], "suffix": "c"}, "prompt"),
        ({"suffix": "c"}, "prompt"),
        ({"prompt": "a", "suffix": 3}, "suffix"),
        ({"prompt": "a", "suffix": "c", "best_of": 3}, "best_of"),
    ],
)
def test_it_names_what_it_cannot_fill_in(fields, param):
    with pytest.raises(UnsupportedParameter) as refused:
        MISTRAL.encode(completions_call(**fields), UPSTREAM)
    assert refused.value.param == param


@pytest.mark.parametrize("suffix", [None, ""])
def test_it_sends_a_prompt_without_suffix_as_chat(suffix):
    assert MISTRAL.encode(completions_call(prompt="x", suffix=suffix), UPSTREAM).path == "/chat/completions"


def embed_call(**fields):
    call = make_call(wire=EMBEDDINGS)
    return call._replace(body={"model": "mistral-embed", **fields})


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"input": "x"}, {"input": "x"}),
        ({"input": ["x", "y"], "dimensions": 8}, {"input": ["x", "y"], "output_dimension": 8}),
        ({"input": "x", "encoding_format": "base64", "user": "u"}, {"input": "x"}),
        ({"input": "x", "output_dtype": "float"}, {"input": "x"}),
    ],
)
def test_it_asks_for_embeddings(fields, said):
    request = MISTRAL.encode(embed_call(**fields), UPSTREAM)
    assert request.path == "/embeddings"
    assert orjson.loads(request.body) == {"model": "mistral-small-latest", **said}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": [1, 2]}, "input"),
        ({"input": [[1], [2]]}, "input"),
        ({"input": ["x", 1]}, "input"),
        ({"input": "x", "encoding_format": "int8"}, "encoding_format"),
        ({"input": "x", "output_dtype": "binary"}, "output_dtype"),
        ({"input": "x", "unheard_of": 1}, "unheard_of"),
    ],
)
def test_it_names_what_it_cannot_embed(fields, param):
    with pytest.raises(UnsupportedParameter) as refused:
        MISTRAL.encode(embed_call(**fields), UPSTREAM)
    assert refused.value.param == param


def test_it_shows_the_credential_and_reads_the_model_list_as_at_openai():
    assert MISTRAL.auth_headers("k", "") == {"authorization": "Bearer k"}
    assert MISTRAL.models_path() == "/models"
    assert MISTRAL.model_list(b'{"data":[{"id":"m","created":1,"owned_by":"mistralai"}]}') == [
        {"id": "m", "created": 1, "owned_by": "mistralai"}
    ]


def recorded_chats():
    return [
        param
        for param in cassettes("mistral")
        if param.marks or (param.values[0]["kind"] == "chat" and param.values[0]["request"]["body"])
    ]


@pytest.mark.parametrize("cassette", recorded_chats())
def test_it_sends_a_recorded_request_on_with_the_same_meaning(cassette):
    body = cassette["request"]["body"]
    call = make_call(**body)
    said = orjson.loads(MISTRAL.encode(call, make_upstream(model=body["model"], dialect="mistral")).body)
    assert len(said["messages"]) == len(body["messages"])
    assert len(said.get("tools") or ()) == len(body.get("tools") or ())
    for name in ("temperature", "top_p", "max_tokens", "random_seed", "reasoning_effort"):
        assert said.get(name) == body.get(name)


@pytest.mark.parametrize("model", ["mistral-large-latest", "devstral-2512", "mistral-small-2506"])
@pytest.mark.parametrize(
    ("thinking", "left_out"),
    [
        ({"type": "adaptive"}, ("thinking",)),
        ({"type": "enabled", "budget_tokens": 9000}, ("thinking",)),
        ({"type": "disabled"}, ()),
    ],
)
def test_it_says_nothing_of_thinking_to_models_that_have_no_choice(model, thinking, left_out):
    upstream = make_upstream("mistral", model, dialect="mistral")
    effort = {} if thinking["type"] == "disabled" else {"reasoning_effort": "high"}
    request = request_of(upstream, thinking=thinking, **effort)
    assert "reasoning_effort" not in orjson.loads(request.body)
    assert request.dropped_params == left_out
    assert sent(upstream, reasoning_effort="high")["reasoning_effort"] == "high"
