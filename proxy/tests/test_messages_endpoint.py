"""Anthropic's request in the canonical form, and the table of bad input."""

import contextlib

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.wires import COUNT_TOKENS, MESSAGES
from proxy.endpoints import parse_count_tokens, parse_messages
from proxy.errors import BadRequest

GOOD = {"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}]}
CACHED = {"type": "ephemeral"}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
CLOSED = {**SCHEMA, "additionalProperties": False}


def parsed(**fields):
    return parse_messages(orjson.dumps({**GOOD, **fields}))


def body(**fields):
    call = parsed(**fields)
    assert call.only_native is None
    return call.body


def turns(*messages, **fields):
    return body(messages=list(messages), **fields)["messages"]


def user(*blocks):
    return {"role": "user", "content": list(blocks)}


def assistant(*blocks):
    return {"role": "assistant", "content": list(blocks)}


def text(words, **fields):
    return {"type": "text", "text": words, **fields}


# ---------------------------------------------------------------- the call


def test_it_keeps_what_the_client_sent():
    sent = {**GOOD, "stream": True, "cache_control": CACHED}
    call = parse_messages(orjson.dumps(sent))
    assert (call.wire, call.model, call.stream, call.wants_usage, call.verbatim) == (
        MESSAGES,
        "m",
        True,
        True,
        True,
    )
    assert call.sent == sent
    assert call.raw == orjson.dumps(sent)
    assert call.body == {
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}],
        "max_completion_tokens": 100,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_it_reads_what_is_to_be_counted():
    call = parse_count_tokens(orjson.dumps({"model": "m", "messages": GOOD["messages"], "system": "s"}))
    assert (call.wire, call.stream) == (COUNT_TOKENS, False)
    assert [message["role"] for message in call.body["messages"]] == ["system", "user"]
    assert "max_completion_tokens" not in call.body


def test_it_takes_over_what_both_formats_have():
    assert body(temperature=0.5, top_p=0.9, top_k=7, stop_sequences=["END"], service_tier="auto") == {
        **body(),
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 7,
        "stop": ["END"],
        "service_tier": "auto",
    }
    assert body(service_tier="standard_only")["service_tier"] == "default"


@pytest.mark.parametrize(
    ("user_id", "length"), [("u-1", 3), ("x" * 64, 64), ("x" * 65, 64), ("user_" + "é" * 200, 64)]
)
def test_it_names_the_client_in_as_many_characters_as_openai_takes(user_id, length):
    assert len(body(metadata={"user_id": user_id})["user"]) == length


def test_it_tells_long_clients_apart():
    assert body(metadata={"user_id": "x" * 99})["user"] != body(metadata={"user_id": "x" * 98})["user"]
    assert "user" not in body(metadata={"user_id": None})


# ---------------------------------------------------------------- turns


@pytest.mark.parametrize(
    ("system", "content"),
    [
        ("Be brief.", "Be brief."),
        ([text("Be brief.")], "Be brief."),
        ([text("a"), text("b", cache_control=CACHED)], [text("a"), text("b", cache_control=CACHED)]),
    ],
)
def test_it_puts_the_system_prompt_first(system, content):
    assert turns(user(text("hi")), system=system) == [
        {"role": "system", "content": content},
        {"role": "user", "content": "hi"},
    ]


@pytest.mark.parametrize("system", [None, "", []])
def test_it_needs_no_system_prompt(system):
    assert [message["role"] for message in turns(user(text("hi")), system=system)] == ["user"]


def test_it_takes_a_system_message_in_its_place():
    roles = [
        message["role"] for message in turns(user(text("hi")), {"role": "system", "content": "Be brief."})
    ]
    assert roles == ["user", "system"]


def test_it_reads_images_and_documents_in_order():
    blocks = [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
        text("what?", cache_control=CACHED),
        {"type": "image", "source": {"type": "url", "url": "https://x.test/a.png"}},
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "BBBB"}},
        {"type": "document", "title": "t.pdf", "source": {"type": "url", "url": "https://x.test/t.pdf"}},
        {
            "type": "document",
            "title": "Notes",
            "context": "of Monday",
            "source": {"type": "text", "media_type": "text/plain", "data": "words"},
        },
        {"type": "document", "source": {"type": "content", "content": [text("one"), text("two")]}},
        {"type": "document", "source": {"type": "content", "content": "three"}},
        {"type": "search_result", "title": "T", "source": "https://x.test", "content": [text("found")]},
    ]
    (message,) = turns(user(*blocks))
    assert message["content"] == [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        text("what?", cache_control=CACHED),
        {"type": "image_url", "image_url": {"url": "https://x.test/a.png"}},
        {
            "type": "file",
            "file": {"filename": "document.pdf", "file_data": "data:application/pdf;base64,BBBB"},
        },
        text("t.pdf"),
        {"type": "file", "file": {"filename": "t.pdf", "file_url": "https://x.test/t.pdf"}},
        text("Notes\nof Monday\n\nwords"),
        text("one"),
        text("two"),
        text("three"),
        text("T\nhttps://x.test\n\nfound"),
    ]


def test_it_reads_calls_and_their_results():
    calls = assistant(
        text("Let me "),
        text("look."),
        {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Rome"}},
        {"type": "tool_use", "id": "toolu_2", "name": "time"},
    )
    results = user(
        {"type": "tool_result", "tool_use_id": "toolu_1", "content": [text("sunny"), text("hot")]},
        {"type": "tool_result", "tool_use_id": "toolu_2", "content": "no clock", "is_error": True},
        text("and now?"),
    )
    assert turns(user(text("hi")), calls, results)[1:] == [
        {
            "role": "assistant",
            "content": "Let me look.",
            "tool_calls": [
                {
                    "id": "toolu_1",
                    "type": "function",
                    "function": {"name": "weather", "arguments": '{"city":"Rome"}'},
                },
                {"id": "toolu_2", "type": "function", "function": {"name": "time", "arguments": "{}"}},
            ],
        },
        {"role": "tool", "tool_call_id": "toolu_1", "content": "sunny\nhot"},
        {"role": "tool", "tool_call_id": "toolu_2", "content": "no clock", "is_error": True},
        {"role": "user", "content": "and now?"},
    ]


def test_it_shows_the_images_of_a_tool_in_the_message_below():
    image = {"type": "image", "source": {"type": "url", "url": "https://x.test/a.png"}}
    shown = {"type": "image_url", "image_url": {"url": "https://x.test/a.png"}}
    result = {
        "type": "tool_result",
        "tool_use_id": "t",
        "content": [image, text("a cat")],
        "cache_control": CACHED,
    }
    silent = {"type": "tool_result", "tool_use_id": "u", "content": [image]}
    empty = {"type": "tool_result", "tool_use_id": "v"}
    first, second, third, below = turns(user(result, silent, empty))
    assert first == {"role": "tool", "tool_call_id": "t", "content": "a cat", "cache_control": CACHED}
    assert "next message" in second["content"]
    assert third["content"] == ""
    assert below == {"role": "user", "content": [shown, shown]}


def test_it_keeps_thoughts_with_their_signatures():
    thoughts = [
        {"type": "thinking", "thinking": "hm ", "signature": "gemini:abc"},
        {"type": "redacted_thinking", "data": "xyz"},
        {"type": "thinking", "thinking": "so", "signature": ""},
    ]
    call = {"type": "tool_use", "id": "t", "name": "f", "input": {}}
    (message,) = turns(assistant(*thoughts, call))
    assert message["content"] is None
    assert message["reasoning_content"] == "hm so"
    assert message["thinking_blocks"] == thoughts[:2]


def test_it_keeps_where_a_cache_may_end():
    marked = text("done", cache_control=CACHED)
    (message,) = turns(assistant(text("all "), marked))
    assert message["content"] == [text("all "), marked]


# ---------------------------------------------------------------- tools, thinking, output


def test_it_reads_tools():
    tools = [
        {"name": "a", "description": "does a", "input_schema": SCHEMA, "cache_control": CACHED},
        {"type": "custom", "name": "b", "input_schema": SCHEMA, "strict": True},
    ]
    request = body(tools=tools, tool_choice={"type": "any", "disable_parallel_tool_use": True})
    assert request["tools"] == [
        {
            "type": "function",
            "function": {"name": "a", "description": "does a", "parameters": SCHEMA},
            "cache_control": CACHED,
        },
        {"type": "function", "function": {"name": "b", "parameters": SCHEMA, "strict": True}},
    ]
    assert (request["tool_choice"], request["parallel_tool_calls"]) == ("required", False)


@pytest.mark.parametrize(
    ("choice", "read"),
    [
        ({"type": "auto"}, "auto"),
        ({"type": "any"}, "required"),
        ({"type": "none"}, "none"),
        ({"type": "tool", "name": "a"}, {"type": "function", "function": {"name": "a"}}),
    ],
)
def test_it_reads_which_tool_is_to_be_used(choice, read):
    request = body(tools=[{"name": "a", "input_schema": SCHEMA}], tool_choice=choice)
    assert request["tool_choice"] == read
    assert "parallel_tool_calls" not in request


@pytest.mark.parametrize(
    ("fields", "read"),
    [
        (
            {"thinking": {"type": "enabled", "budget_tokens": 10_000}},
            {"thinking": {"type": "enabled", "budget_tokens": 10_000}, "reasoning_effort": "medium"},
        ),
        ({"thinking": {"type": "disabled"}}, {"thinking": {"type": "disabled"}}),
        (
            {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}},
            {"thinking": {"type": "adaptive"}, "reasoning_effort": "low"},
        ),
        ({"output_config": {"effort": "max"}}, {"reasoning_effort": "xhigh"}),
        ({"output_config": {}}, {}),
    ],
)
def test_it_reads_how_much_to_think(fields, read):
    assert body(**fields) == {**body(), **read}


@pytest.mark.parametrize(
    ("fields", "schema", "strict"),
    [
        ({"output_format": {"type": "json_schema", "schema": CLOSED}}, CLOSED, True),
        ({"output_config": {"format": {"type": "json_schema", "schema": CLOSED}}}, CLOSED, True),
        ({"output_format": {"type": "json_schema", "schema": SCHEMA}}, SCHEMA, False),
        (
            {"output_format": {"type": "json_schema", "schema": {**CLOSED, "required": []}}},
            {**CLOSED, "required": []},
            False,
        ),
        (
            {"output_format": {"type": "json_schema", "schema": {"anyOf": [CLOSED, SCHEMA]}}},
            {"anyOf": [CLOSED, SCHEMA]},
            False,
        ),
    ],
)
def test_it_reads_the_format_of_the_answer(fields, schema, strict):
    described = {"name": "answer", "schema": schema, "strict": strict}
    assert body(**fields)["response_format"] == {"type": "json_schema", "json_schema": described}


# ---------------------------------------------------------------- what only Anthropic can


SEARCH = {"type": "web_search_20250305", "name": "web_search"}
NATIVE = [
    ({"tools": [SEARCH]}, "tools[0]"),
    ({"mcp_servers": [{"type": "url", "url": "https://x.test", "name": "x"}]}, "mcp_servers"),
    ({"container": "c-1"}, "container"),
    ({"context_management": {"edits": [{"type": "compact_20260112"}]}}, "context_management"),
    ({"speed": "fast"}, "speed"),
    ({"never_heard_of": 1}, "never_heard_of"),
    ({"thinking": {"type": "between_tools"}}, "thinking.type"),
    ({"output_config": {"task_budget": 1}}, "output_config.task_budget"),
    (
        {"messages": [user({"type": "image", "source": {"type": "file", "file_id": "f"}})]},
        "messages[0].content[0].source",
    ),
    (
        {"messages": [user({"type": "document", "source": {"type": "file", "file_id": "f"}})]},
        "messages[0].content[0].source",
    ),
    ({"messages": [user({"type": "container_upload", "file_id": "f"})]}, "messages[0].content[0]"),
    (
        {
            "messages": [
                assistant(
                    text("a"), {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}
                )
            ]
        },
        "messages[0].content[1]",
    ),
    (
        {
            "messages": [
                user(
                    {
                        "type": "document",
                        "source": {"type": "text", "data": "x"},
                        "citations": {"enabled": True},
                    }
                )
            ]
        },
        "messages[0].content[0].citations",
    ),
]


@pytest.mark.parametrize(("fields", "param"), NATIVE, ids=[param for _, param in NATIVE])
def test_it_notes_what_only_anthropic_can_say(fields, param):
    call = parsed(**fields)
    assert call.only_native is not None
    assert call.only_native.param == param
    assert param in call.only_native.message or "type" in param


@pytest.mark.parametrize(
    "fields",
    [
        {"mcp_servers": []},
        {"container": None},
        {"speed": "standard"},
        # What coding agents send with each request.
        {"context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}},
        {"diagnostics": {"previous_message_id": "m"}},
    ],
)
def test_it_passes_over_what_asks_for_nothing(fields):
    assert body(**fields) == body()


# ---------------------------------------------------------------- bad input


BAD = [
    ({"model": None}, "model"),
    ({"max_tokens": None}, "max_tokens"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": "100"}, "max_tokens"),
    ({"max_tokens": True}, "max_tokens"),
    ({"messages": None}, "messages"),
    ({"messages": []}, "messages"),
    ({"messages": "hi"}, "messages"),
    ({"messages": ["hi"]}, "messages[0]"),
    ({"messages": [{"content": "hi"}]}, "messages[0].role"),
    ({"messages": [{"role": "tool", "content": "hi"}]}, "messages[0].role"),
    ({"messages": [{"role": "user"}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content"),
    ({"messages": [user("hi")]}, "messages[0].content[0]"),
    ({"messages": [user({})]}, "messages[0].content[0].type"),
    ({"messages": [user({"type": "text"})]}, "messages[0].content[0].text"),
    ({"messages": [user({"type": "image"})]}, "messages[0].content[0].source"),
    ({"messages": [user({"type": "image", "source": {}})]}, "messages[0].content[0].source.type"),
    (
        {"messages": [user({"type": "image", "source": {"type": "url"}})]},
        "messages[0].content[0].source.url",
    ),
    (
        {"messages": [user({"type": "image", "source": {"type": "base64", "data": "A"}})]},
        "messages[0].content[0].source.media_type",
    ),
    (
        {"messages": [user({"type": "tool_result", "content": "x"})]},
        "messages[0].content[0].tool_use_id",
    ),
    (
        {"messages": [user({"type": "tool_result", "tool_use_id": "t", "content": 7})]},
        "messages[0].content[0].content",
    ),
    (
        {"messages": [assistant({"type": "tool_use", "id": "t", "name": "f", "input": "{}"})]},
        "messages[0].content[0].input",
    ),
    ({"messages": [assistant({"type": "tool_use", "name": "f"})]}, "messages[0].content[0].id"),
    ({"messages": [assistant({"type": "thinking"})]}, "messages[0].content[0].thinking"),
    ({"system": 7}, "system"),
    ({"system": [{"type": "text"}]}, "system[0].text"),
    ({"stream": "yes"}, "stream"),
    ({"tools": {}}, "tools"),
    ({"tools": ["f"]}, "tools[0]"),
    ({"tools": [{"name": "f"}]}, "tools[0].input_schema"),
    ({"tools": [{"input_schema": {}}]}, "tools[0].name"),
    ({"tool_choice": "auto"}, "tool_choice"),
    ({"tool_choice": {}}, "tool_choice.type"),
    ({"tool_choice": {"type": "some"}}, "tool_choice.type"),
    ({"tool_choice": {"type": "tool"}}, "tool_choice.name"),
    ({"thinking": True}, "thinking"),
    ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
    ({"output_config": []}, "output_config"),
    ({"output_config": {"effort": 7}}, "output_config.effort"),
    ({"output_config": {"format": {"type": "text"}}}, "output_config.format"),
    ({"output_format": {"type": "json_schema"}}, "output_format.schema"),
    ({"metadata": "me"}, "metadata"),
]


@pytest.mark.parametrize(("fields", "param"), BAD, ids=[f"{param}-{n}" for n, (_, param) in enumerate(BAD)])
def test_it_names_the_field_that_is_wrong(fields, param):
    with pytest.raises(BadRequest) as raised:
        parsed(**fields)
    assert (raised.value.param, raised.value.status) == (param, 400)
    assert f"'{param}'" in raised.value.message


@pytest.mark.parametrize("raw", [b"", b"[]", b"{", b'{"model": 1'])
def test_it_refuses_what_is_no_object(raw):
    for parse in (parse_messages, parse_count_tokens):
        with pytest.raises(BadRequest):
            parse(raw)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(["text", "image", "user", "any", "x"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["type", "role", "content", "source", "text", "input", "name", "edits", "format", "schema"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
NAMES = ["messages", "system", "tools", "tool_choice", "thinking", "output_config", "output_format"]


@given(st.dictionaries(st.sampled_from([*NAMES, "metadata", "context_management"]), ANYTHING, max_size=4))
def test_it_reads_or_refuses_whatever_comes(fields):
    raw = orjson.dumps({**GOOD, **fields})
    for parse in (parse_messages, parse_count_tokens):
        with contextlib.suppress(BadRequest):
            assert orjson.dumps(parse(raw).body)


@pytest.mark.parametrize(
    ("system", "expected"),
    [
        ([text("x-anthropic-billing-header: cc_version=2.1; cch=1a;"), text("a")], ["a"]),
        ([text("x-anthropic-billing-header: cch=2;\nb")], ["b"]),
        ("x-anthropic-billing-header: cch=3;", []),
        ("", []),
    ],
)
def test_it_leaves_out_what_a_coding_agent_says_to_anthropics_servers_alone(system, expected):
    said = turns(user(text("hi")), system=system)
    assert [message["content"] for message in said if message["role"] == "system"] == expected


def test_it_says_that_a_tool_failed_which_said_nothing():
    (result,) = turns(user({"type": "tool_result", "tool_use_id": "t", "is_error": True}))
    assert result["content"] == "(The tool failed without a word.)"
    (quiet,) = turns(user({"type": "tool_result", "tool_use_id": "t"}))
    assert quiet["content"] == ""
