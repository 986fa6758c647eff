"""What `/v1/responses` takes: in canonical form, as it came, and what it refuses by name."""

from contextlib import suppress

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.carried import carry
from providers.wires import RESPONSES
from proxy.endpoints import parse_responses
from proxy.errors import BadRequest

SIGNED = {"type": "thinking", "thinking": "Hm.", "signature": "sig"}
REDACTED = {"type": "redacted_thinking", "data": "xyz"}
CALL = {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "call_1", "output": "Sunny."}


def parse(**fields):
    return parse_responses(orjson.dumps({"model": "gpt-5", "input": "hi", **fields}))


def messages(*items, **fields):
    call = parse(input=list(items), **fields)
    assert call.only_native is None
    return call.body["messages"]


def chat_call(extra=None, identity="call_1"):
    call = {"id": identity, "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    return call if extra is None else {**call, "extra_content": extra}


def test_it_reads_a_string():
    raw = b'{"model":"gpt-5","input":"hi","instructions":"Be brief.","stream":true}'
    call = parse_responses(raw)
    assert (call.wire, call.model, call.stream, call.raw) == (RESPONSES, "gpt-5", True, raw)
    assert call.sent == orjson.loads(raw)
    assert call.verbatim
    assert call.only_native is None
    assert call.body == {
        "model": "gpt-5",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}],
        "stream": True,
    }


def test_it_reads_messages_with_parts():
    parts = [
        {"type": "input_text", "text": "What is this?"},
        {"type": "input_image", "image_url": "https://a.example/b.png", "detail": "low"},
        {"type": "input_image", "image_url": "data:image/png;base64,AA=="},
        {"type": "input_file", "file_data": "data:application/pdf;base64,AA==", "filename": "a.pdf"},
        {"type": "input_file", "file_id": "file-1"},
        {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
        {"type": "input_text", "text": "Well?", "prompt_cache_breakpoint": {"mode": "explicit"}},
    ]
    said = {
        "type": "message",
        "id": "msg_1",
        "role": "assistant",
        "status": "completed",
        "content": [
            {"type": "output_text", "text": "A cat.", "annotations": [], "logprobs": []},
            {"type": "refusal", "refusal": "No more."},
        ],
    }
    assert messages({"role": "developer", "content": "Look."}, {"role": "user", "content": parts}, said) == [
        {"role": "developer", "content": "Look."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": "https://a.example/b.png", "detail": "low"}},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
                {
                    "type": "file",
                    "file": {"file_data": "data:application/pdf;base64,AA==", "filename": "a.pdf"},
                },
                {"type": "file", "file": {"file_id": "file-1"}},
                {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
                {"type": "text", "text": "Well?", "cache_control": {"type": "ephemeral"}},
            ],
        },
        {
            "role": "assistant",
            "content": [{"type": "text", "text": "A cat."}, {"type": "text", "text": "No more."}],
        },
    ]


def test_it_makes_a_string_of_a_single_text():
    assert messages({"role": "user", "content": [{"type": "input_text", "text": "hi"}]}) == [
        {"role": "user", "content": "hi"}
    ]


def test_it_joins_what_the_model_made_in_one_go():
    other = {**CALL, "call_id": "call_2"}
    outputs = [OUTPUT, {**OUTPUT, "call_id": "call_2", "output": [{"type": "input_text", "text": "Rainy."}]}]
    found = messages(
        {"role": "user", "content": "Weather?"},
        {"type": "message", "role": "assistant", "content": "I look."},
        CALL,
        other,
        *outputs,
        {"role": "assistant", "content": "Both."},
        {"role": "assistant", "content": "And more."},
    )
    assert found == [
        {"role": "user", "content": "Weather?"},
        {
            "role": "assistant",
            "content": "I look.",
            "tool_calls": [chat_call(), chat_call(identity="call_2")],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "Sunny."},
        {"role": "tool", "tool_call_id": "call_2", "content": "Rainy."},
        {"role": "assistant", "content": "Both."},
        {"role": "assistant", "content": "And more."},
    ]


def test_it_keeps_words_after_a_call_in_its_turn():
    found = messages(
        CALL, {"role": "assistant", "content": "One moment."}, CALL, {"role": "assistant", "content": "So."}
    )
    assert found == [
        {
            "role": "assistant",
            "content": [{"type": "text", "text": "One moment."}, {"type": "text", "text": "So."}],
            "tool_calls": [chat_call(), chat_call()],
        }
    ]


def test_it_gives_thoughts_back_to_the_model_that_had_them():
    thought = {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [{"type": "summary_text", "text": "Hm."}],
        "encrypted_content": carry([SIGNED, REDACTED, {"type": "other"}, "words"]),
    }
    signature = {"google": {"thought_signature": "abc"}}
    found = messages({"role": "user", "content": "hi"}, thought, {**CALL, "extra_content": signature}, OUTPUT)
    assert found[1] == {
        "role": "assistant",
        "content": None,
        "reasoning_content": "Hm.",
        "thinking_blocks": [SIGNED, REDACTED],
        "tool_calls": [chat_call(signature)],
    }


def test_it_keeps_thoughts_between_words_and_a_call():
    thought = {"type": "reasoning", "summary": [], "encrypted_content": carry([SIGNED])}
    found = messages(thought, {"role": "assistant", "content": "I look."}, thought, CALL, thought, OUTPUT)
    assert found[:2] == [
        {"role": "assistant", "content": "I look.", "thinking_blocks": [SIGNED]},
        {
            "role": "assistant",
            "content": None,
            "thinking_blocks": [SIGNED, SIGNED],
            "tool_calls": [chat_call()],
        },
    ]


def test_it_leaves_out_thoughts_that_nobody_can_read_and_that_led_to_nothing():
    foreign = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAA"}
    mine = {"type": "reasoning", "id": "rs_2", "summary": [], "encrypted_content": carry([SIGNED])}
    assert messages(
        foreign, {"role": "assistant", "content": "Yes."}, mine, {"role": "user", "content": "hi"}
    ) == [
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": "hi"},
    ]


def test_it_translates_settings():
    schema = {"type": "object", "properties": {}}
    call = parse(
        max_output_tokens=50,
        temperature=0.5,
        top_p=0.9,
        top_logprobs=2,
        user="me",
        service_tier="flex",
        safety_identifier="me",
        prompt_cache_key="key",
        text={
            "verbosity": "low",
            "format": {"type": "json_schema", "name": "answer", "schema": schema, "strict": True},
        },
        reasoning={"effort": "low", "summary": "auto"},
        tools=[
            {
                "type": "function",
                "name": "weather",
                "parameters": schema,
                "strict": False,
                "description": None,
            }
        ],
        tool_choice={"type": "function", "name": "weather"},
        parallel_tool_calls=False,
        seed=7,
    )
    assert call.only_native is None
    assert {name: value for name, value in call.body.items() if name not in ("model", "messages")} == {
        "max_completion_tokens": 50,
        "temperature": 0.5,
        "top_p": 0.9,
        "logprobs": True,
        "top_logprobs": 2,
        "user": "me",
        "service_tier": "flex",
        "safety_identifier": "me",
        "prompt_cache_key": "key",
        "verbosity": "low",
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": schema, "strict": True},
        },
        "reasoning_effort": "low",
        "tools": [
            {"type": "function", "function": {"name": "weather", "parameters": schema, "strict": False}}
        ],
        "tool_choice": {"type": "function", "function": {"name": "weather"}},
        "parallel_tool_calls": False,
        "seed": 7,
    }


@pytest.mark.parametrize(
    "fields",
    [
        {"client_metadata": {"x-codex-installation-id": "a"}},
        {"store": False, "metadata": {"a": "b"}, "truncation": "disabled", "background": False},
        {"include": ["reasoning.encrypted_content"], "max_tool_calls": 3, "top_logprobs": 0},
        {"text": {"format": {"type": "text"}}, "reasoning": {}, "tools": [], "tool_choice": "auto"},
        {"previous_response_id": None, "conversation": None, "prompt": None, "background": None},
        {
            "tool_choice": "none",
            "parallel_tool_calls": True,
            "stream_options": {"include_obfuscation": False},
        },
        {
            "temperature": None,
            "max_output_tokens": None,
            "instructions": None,
            "text": None,
            "reasoning": None,
        },
    ],
)
def test_it_needs_nobody_for_what_shapes_no_answer(fields):
    call = parse(**fields)
    assert call.only_native is None
    assert call.body == {"model": "gpt-5", "messages": [{"role": "user", "content": "hi"}]}


def test_it_asks_for_logprobs_by_include():
    assert parse(include=["message.output_text.logprobs"]).body["logprobs"] is True


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"store": True}, "store"),
        ({"conversation": {"id": "conv_1"}}, "conversation"),
        ({"prompt": {"id": "pmpt_1"}, "input": None}, "prompt"),
        ({"background": True}, "background"),
        ({"truncation": "auto"}, "truncation"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "custom", "name": "patch"}]}, "tools[0].type"),
        ({"tool_choice": {"type": "file_search"}}, "tool_choice"),
        ({"text": {"format": {"type": "grammar"}}}, "text.format"),
        ({"messages": []}, "messages"),
        ({"n": 2}, "n"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0]"),
        ({"input": [{"id": "msg_1"}]}, "input[0]"),
        ({"input": [CALL, {"type": "computer_call"}]}, "input[1].type"),
        ({"input": [{"role": "developer", "tools": [], "type": "additional_tools"}]}, "input[0].type"),
        ({"input": [{"role": "critic", "content": "no"}]}, "input[0].role"),
        ({"input": [{"role": "user", "content": [{"type": "input_video"}]}]}, "input[0].content[0].type"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "file-1"}]}]},
            "input[0].content[0].file_id",
        ),
    ],
)
def test_it_leaves_to_openai_what_openai_alone_can_do(fields, param):
    call = parse(**fields)
    assert call.only_native is not None
    assert call.only_native.param == param
    assert repr(param) in call.only_native.message
    assert call.only_native.message.endswith(
        "Only a provider with OpenAI's own Responses API can answer that."
    )
    assert call.sent == {"model": "gpt-5", "input": "hi", **fields}


def item(**fields):
    return {"input": [{"role": "user", "content": "hi"}, fields]}


def part(**fields):
    return item(role="user", content=[fields])


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": None}, "model"),
        ({"stream": "yes"}, "stream"),
        ({"background": "yes"}, "background"),
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": 5}, "input"),
        ({"input": ["hi"]}, "input[0]"),
        ({"instructions": ["Be brief."]}, "instructions"),
        (item(type=5), "input[1].type"),
        (item(role=5), "input[1].role"),
        (item(role="user"), "input[1].content"),
        (item(role="user", content=5), "input[1].content"),
        (item(role="user", content=["hi"]), "input[1].content[0]"),
        (part(text="hi"), "input[1].content[0].type"),
        (part(type="input_text"), "input[1].content[0].text"),
        (part(type="refusal", refusal=5), "input[1].content[0].refusal"),
        (part(type="input_image"), "input[1].content[0].image_url"),
        (part(type="input_image", image_url={"url": "x"}), "input[1].content[0].image_url"),
        (part(type="input_file", filename="a.pdf"), "input[1].content[0]"),
        (part(type="input_file", file_data=5), "input[1].content[0].file_data"),
        (part(type="input_audio"), "input[1].content[0].input_audio"),
        (item(type="function_call", name="f", arguments="{}"), "input[1].call_id"),
        (item(type="function_call", call_id="c", name="f", arguments={}), "input[1].arguments"),
        (item(type="function_call_output", output="x"), "input[1].call_id"),
        (item(type="function_call_output", call_id="c"), "input[1].output"),
        (item(type="reasoning", encrypted_content="gw1.no"), "input[1].encrypted_content"),
        ({"max_output_tokens": "many"}, "max_output_tokens"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"text": "json"}, "text"),
        ({"text": {"format": "json"}}, "text.format"),
        ({"text": {"format": {"type": "json_schema", "schema": {}}}}, "text.format.name"),
        ({"text": {"format": {"type": "json_schema", "name": "a"}}}, "text.format.schema"),
        ({"reasoning": "low"}, "reasoning"),
        ({"reasoning": {"effort": 5}}, "reasoning.effort"),
        ({"include": "all"}, "include"),
        ({"tools": {}}, "tools"),
        ({"tools": ["f"]}, "tools[0]"),
        ({"tools": [{"name": "f"}]}, "tools[0].type"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools[0].name"),
        ({"tools": [{"type": "function", "name": "f", "parameters": []}]}, "tools[0].parameters"),
        ({"tool_choice": "any"}, "tool_choice"),
        ({"tool_choice": {"type": "function"}}, "tool_choice.name"),
    ],
)
def test_it_refuses_what_cannot_be_read_and_names_it(fields, param):
    with pytest.raises(BadRequest) as caught:
        parse(**fields)
    assert (caught.value.param, caught.value.status) == (param, 400)
    assert repr(param) in caught.value.message


def test_it_refuses_what_is_nested_too_deeply_to_be_written():
    schema = {}
    for _ in range(250):
        schema = {"a": schema}
    with pytest.raises(BadRequest, match="nested too deeply"):
        parse(tools=[{"type": "function", "name": "f", "parameters": schema}])


def test_it_writes_a_body_anew_that_can_be_read_in_two_ways():
    assert not parse_responses(b'{"model":"a","model":"b","input":"hi"}').verbatim


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 300) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["type", "role", "content", "text", "summary", "output", "name", "call_id", "format"]
            )
            | st.text(max_size=3),
            inner
            | st.sampled_from(
                ["message", "reasoning", "function_call", "function", "user", "input_text", "auto"]
            ),
            max_size=5,
        )
    ),
    max_leaves=10,
)
FIELDS = st.sampled_from(
    ["input", "instructions", "tools", "tool_choice", "text", "reasoning", "include", "truncation", "prompt"]
)


@given(st.dictionaries(FIELDS, JSON, max_size=4))
def test_it_reads_any_json_or_names_what_is_wrong(fields):
    with suppress(BadRequest):
        call = parse(**fields)
        assert isinstance(call.body["messages"], list)
        assert orjson.dumps(call.body)


def test_it_puts_an_output_behind_its_call_whatever_was_said_between():
    def call(name):
        return {"type": "function_call", "call_id": name, "name": "f", "arguments": "{}"}

    def output(name):
        return {"type": "function_call_output", "call_id": name, "output": name}

    said = parse(
        input=[
            call("a"),
            call("b"),
            output("a"),
            {"role": "user", "content": "wait"},
            output("b"),
            output("z"),
        ]
    ).body["messages"]
    assert [message.get("tool_call_id") or message["role"] for message in said] == [
        "assistant",
        "a",
        "b",
        "user",
        "z",
    ]


def test_it_notes_apart_what_the_request_makes_sense_without():
    search = {"type": "web_search", "external_web_access": False}
    call = parse(input="hi", tools=[search], tool_choice="auto", truncation="auto", parallel_tool_calls=False)
    assert call.only_native is not None
    assert set(call.only_native.extras) == {"tools[0].type", "truncation"}
    assert call.body == {"model": "gpt-5", "messages": [{"role": "user", "content": "hi"}]}
    stored = parse(input="hi", tools=[search], previous_response_id="resp_1").only_native
    assert stored is not None
    assert (stored.param, stored.extras) == ("previous_response_id", ())
