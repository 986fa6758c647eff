import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.dialects.anthropic.answer import usage_of
from providers.dialects.anthropic.dialect import Anthropic
from providers.dialects.anthropic.tools import JSON_TOOL
from providers.errors import UpstreamError
from providers.tests.samples import make_call
from providers.usage import Usage

ANTHROPIC = Anthropic()
FORM = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}


def answered(*content, stop="end_turn", call=None, **fields):
    """Return the choice that an answer of these blocks makes."""
    whole = {
        "id": "msg_1",
        "type": "message",
        "model": "claude",
        "role": "assistant",
        "content": list(content),
    }
    usage = {"input_tokens": 3, "output_tokens": 2}
    body = orjson.dumps({**whole, "stop_reason": stop, "usage": usage, **fields})
    answer = ANTHROPIC.decode(body, call or make_call())
    assert (answer.body, answer.wire, answer.usage) == (b"", "", Usage(3, 2))
    assert (answer.message["id"], answer.message["model"]) == ("msg_1", "claude")
    (choice,) = answer.message["choices"]
    assert answer.finish_reasons == (choice["finish_reason"],)
    return choice


def text(content, **fields):
    return {"type": "text", "text": content, **fields}


def tool(identity="toolu_1", name="f", **arguments):
    return {"type": "tool_use", "id": identity, "name": name, "input": arguments}


def test_it_joins_text_and_gives_tool_calls():
    choice = answered(text("one "), text("two"), tool(x=1), tool("toolu_2", "g"), stop="tool_use")
    assert choice["message"] == {
        "role": "assistant",
        "content": "one two",
        "refusal": None,
        "tool_calls": [
            {"id": "toolu_1", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}},
            {"id": "toolu_2", "type": "function", "function": {"name": "g", "arguments": "{}"}},
        ],
    }
    assert choice["finish_reason"] == "tool_calls"


def test_it_keeps_thinking_as_text_and_as_anthropic_wants_it_back():
    thoughts = [
        {"type": "thinking", "thinking": "one. ", "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "eHh4"},
        {"type": "thinking", "thinking": "", "signature": "c2ln"},
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "thinking", "thinking": "two.", "signature": "c2ln"},
    ]
    message = answered(*thoughts, text("so"))["message"]
    assert message["reasoning_content"] == "one. two."
    assert message["thinking_blocks"] == [thoughts[0], thoughts[1], thoughts[2], thoughts[4]]


def test_it_leaves_out_what_anthropic_ran_itself():
    choice = answered(
        {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "x"}},
        {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []},
        {"type": "something_new", "x": 1},
        text("found"),
        stop="pause_turn",
    )
    assert choice["message"] == {"role": "assistant", "content": "found", "refusal": None}
    assert choice["finish_reason"] == "stop"


def test_it_gives_cited_urls_as_annotations():
    web = {"type": "web_search_result_location", "url": "https://x.test/", "title": "X", "cited_text": "c"}
    found = {"type": "search_result_location", "source": "https://y.test/", "title": None}
    document = {"type": "char_location", "document_title": "D", "cited_text": "c"}
    message = answered(
        text("So "), text("it is.", citations=[web, found, document]), text("", citations=None)
    )["message"]
    assert message["annotations"] == [
        {
            "type": "url_citation",
            "url_citation": {"url": "https://x.test/", "title": "X", "start_index": 3, "end_index": 9},
        },
        {
            "type": "url_citation",
            "url_citation": {"url": "https://y.test/", "title": "", "start_index": 3, "end_index": 9},
        },
    ]


@pytest.mark.parametrize(
    ("stop", "reason"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("pause_turn", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("refusal", "content_filter"),
        ("tool_use", "stop"),  # of Anthropic's own tools: the client has none to run
        ("something_new", "stop"),
        (None, "stop"),
    ],
)
def test_it_translates_the_stop_reason(stop, reason):
    assert answered(text("x"), stop=stop)["finish_reason"] == reason


def test_it_tells_why_anthropic_refused():
    details = {"type": "refusal", "category": "cyber", "explanation": "No."}
    choice = answered(stop="refusal", stop_details=details)
    assert choice["message"] == {"role": "assistant", "content": None, "refusal": None}
    assert choice["stop_details"] == details


def test_it_takes_the_answers_tool_for_the_answer():
    call = make_call(response_format=FORM)
    choice = answered(text("Here:"), tool(name=JSON_TOOL, x=[1]), stop="tool_use", call=call)
    assert choice["message"]["content"] == '{"x":[1]}'
    assert "tool_calls" not in choice["message"]
    assert choice["finish_reason"] == "stop"
    both = answered(tool(name="f"), tool(name=JSON_TOOL), stop="tool_use", call=call)
    assert both["message"]["content"] == "{}"
    assert both["finish_reason"] == "tool_calls"
    assert answered(text("{}"), call=call)["message"]["content"] == "{}"


def test_it_knows_a_clients_tool_of_that_name():
    client = {"type": "function", "function": {"name": JSON_TOOL}}
    for call in (make_call(), make_call(response_format=FORM, tools=[client])):
        assert answered(tool(name=JSON_TOOL), stop="tool_use", call=call)["finish_reason"] == "tool_calls"


@pytest.mark.parametrize(
    ("said", "usage"),
    [
        (None, None),
        ({}, None),
        ({"cache_read_input_tokens": 3}, None),
        ({"input_tokens": 0, "output_tokens": 0}, Usage()),
        ({"output_tokens": 4}, Usage(0, 4)),
        (
            {
                "input_tokens": 5,
                "cache_read_input_tokens": 20,
                "cache_creation_input_tokens": 300,
                "output_tokens": 7,
                "output_tokens_details": {"thinking_tokens": 4},
            },
            Usage(prompt=325, completion=7, cached=20, cache_write=300, reasoning=4),
        ),
        (
            {
                "input_tokens": 23,
                "output_tokens": 10,
                "cache_read_input_tokens": 2,
                "iterations": [
                    {
                        "type": "compaction",
                        "input_tokens": 180,
                        "output_tokens": 35,
                        "cache_read_input_tokens": 5,
                    },
                    {"type": "message", "input_tokens": 23, "output_tokens": 10},
                    7,
                ],
            },
            Usage(prompt=210, completion=45, cached=7),
        ),
        ({"input_tokens": 1, "output_tokens": 1, "iterations": 3}, Usage(1, 1)),
        (
            {
                "input_tokens": 5,
                "cache_creation_input_tokens": 300,
                "cache_creation": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 200},
                "output_tokens": 7,
                "iterations": [
                    {
                        "type": "compaction",
                        "input_tokens": 1,
                        "cache_creation_input_tokens": 30,
                        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 30},
                        "output_tokens": 2,
                    },
                ],
            },
            Usage(prompt=336, completion=9, cache_write=330, cache_write_1h=230),
        ),
        (
            {"input_tokens": 5, "cache_creation_input_tokens": 3, "cache_creation": None, "output_tokens": 7},
            Usage(prompt=8, completion=7, cache_write=3),
        ),
        ({"input_tokens": -5, "output_tokens": "7", "output_tokens_details": 3}, Usage()),
    ],
)
def test_it_counts_the_cache_into_the_prompt(said, usage):
    read = usage_of(said)
    assert read == usage
    assert read is None or read.estimated is False


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"content": null}',
        b'{"content": "text"}',
        b'{"content": [3]}',
        b'{"content": [{}]}',
        b'{"content": [{"type": "text"}]}',
        b'{"content": [{"type": "text", "text": 3}]}',
        b'{"content": [{"type": "tool_use", "id": 3, "name": "f"}]}',
        b'{"content": [{"type": "text", "text": "x", "citations": [3]}]}',
        b'{"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}',
    ],
)
def test_it_refuses_what_is_no_answer(body):
    with pytest.raises(UpstreamError):
        ANTHROPIC.decode(body, make_call())


_JSON = st.recursive(
    st.none() | st.integers(-5, 5) | st.sampled_from(["text", "tool_use", "thinking", "x"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "text", "id", "name", "input", "citations"]), inner, max_size=4
        )
    ),
)


@given(st.lists(_JSON, max_size=3), _JSON, _JSON)
def test_it_raises_nothing_but_upstream_errors(content, usage, stop):
    body = orjson.dumps({"content": content, "usage": usage, "stop_reason": stop, "id": usage})
    for call in (make_call(), make_call(response_format=FORM)):
        try:
            answer = ANTHROPIC.decode(body, call)
        except UpstreamError:
            continue
        assert isinstance(answer.message["choices"][0]["finish_reason"], str)
