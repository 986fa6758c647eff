import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.dialects.anthropic.stream import AnthropicStream
from providers.dialects.anthropic.tools import JSON_TOOL
from providers.errors import Owner
from providers.events import Kind, TextEvent
from providers.tests.samples import cassettes, make_call, seen
from providers.usage import Usage

FORM = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}


def said(kind, **fields):
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), orjson.dumps({"type": kind, **fields}))


def start(**usage):
    return said(
        "message_start", message={"id": "msg_1", "usage": {"input_tokens": 5, "output_tokens": 1, **usage}}
    )


def block(index, *deltas, stop=True, **content):
    """Return the events of one block."""
    return b"".join(
        [
            said("content_block_start", index=index, content_block=content),
            *(said("content_block_delta", index=index, delta=delta) for delta in deltas),
            said("content_block_stop", index=index) if stop else b"",
        ]
    )


def text(index, *pieces):
    return block(index, *({"type": "text_delta", "text": piece} for piece in pieces), type="text", text="")


def tool(index, *pieces, name="f", kind="tool_use", **content):
    deltas = ({"type": "input_json_delta", "partial_json": piece} for piece in pieces)
    return block(index, *deltas, type=kind, id=f"toolu_{index}", name=name, **{"input": {}, **content})


def end(stop="end_turn", usage=None, **delta):
    counts = {"output_tokens": 9} if usage is None else usage
    ending = said("message_delta", delta={"stop_reason": stop, "stop_sequence": None, **delta}, usage=counts)
    return ending + said("message_stop")


def decode(*pieces, call=None):
    stream = AnthropicStream(call or make_call(stream=True))
    events = [event for piece in pieces for event in stream.feed(piece)]
    return [*events, *stream.close()]


def answer_of(*pieces, call=None):
    """Return the text of a whole stream, and its finish reason."""
    events = decode(*pieces, call=call)
    assert [event.kind for event in events[-3:]] == [Kind.FINISH, Kind.USAGE, Kind.DONE]
    return "".join(delta.get("content", "") for delta in deltas(events)), events[-3].finish_reasons[0]


def deltas(events):
    return [choice["delta"] for event in events for choice in event.choices if choice["delta"]]


def test_it_gives_plain_text_as_it_comes():
    events = decode(start(), text(0, "Hello", "", " there"), said("ping"), end())
    assert [type(event) for event in events[:2]] == [TextEvent, TextEvent]
    assert [event.text for event in events[:2]] == ["Hello", " there"]
    assert [event.kind for event in events[2:]] == [Kind.FINISH, Kind.USAGE, Kind.DONE]
    assert events[2].finish_reasons == ["stop"]
    assert events[3].usage == Usage(5, 9)


def test_it_gives_parallel_tool_calls_their_own_indexes():
    events = decode(
        start(),
        tool(0, name="web_search", kind="server_tool_use"),
        block(1, type="web_search_tool_result", tool_use_id="x", content=[]),
        tool(2, "", '{"x"', ": 1}"),
        tool(3, name="g"),
        tool(4, name="h", input={"y": 2}),
        end("tool_use"),
    )
    pieces = [call for delta in deltas(events) for call in delta["tool_calls"]]
    assert pieces == [
        {"index": 0, "id": "toolu_2", "type": "function", "function": {"name": "f", "arguments": ""}},
        {"index": 0, "function": {"arguments": '{"x"'}},
        {"index": 0, "function": {"arguments": ": 1}"}},
        {"index": 1, "id": "toolu_3", "type": "function", "function": {"name": "g", "arguments": ""}},
        {"index": 1, "function": {"arguments": "{}"}},
        {"index": 2, "id": "toolu_4", "type": "function", "function": {"name": "h", "arguments": ""}},
        {"index": 2, "function": {"arguments": '{"y":2}'}},
    ]
    assert events[-3].finish_reasons == ["tool_calls"]


def test_it_gives_thinking_as_it_comes_and_whole_at_its_end():
    thought = [
        {"type": "thinking_delta", "thinking": "one "},
        {"type": "thinking_delta", "thinking": "two"},
        {"type": "signature_delta", "signature": "c2ln"},
    ]
    events = decode(
        start(),
        block(0, *thought, type="thinking", thinking="", signature=""),
        block(1, type="redacted_thinking", data="eHh4"),
        block(2, thought[2], type="thinking", thinking=""),
        block(3, type="thinking", thinking=""),
        text(4, "so"),
        end(),
    )
    assert deltas(events) == [
        {"reasoning_content": "one "},
        {"reasoning_content": "two"},
        {"thinking_blocks": [{"type": "thinking", "thinking": "one two", "signature": "c2ln"}]},
        {"thinking_blocks": [{"type": "redacted_thinking", "data": "eHh4"}]},
        {"thinking_blocks": [{"type": "thinking", "thinking": "", "signature": "c2ln"}]},
        {"content": "so"},
    ]


def test_it_gives_cited_urls_where_the_cited_text_ends():
    citation = {"type": "web_search_result_location", "url": "https://x.test/", "title": "X"}
    cited = [{"type": "citations_delta", "citation": citation}, {"type": "text_delta", "text": "it is"}]
    events = decode(start(), text(0, "So "), block(1, *cited, type="text", text=""), end())
    place = {"url": "https://x.test/", "title": "X", "start_index": 3, "end_index": 8}
    assert deltas(events) == [
        {"content": "So "},
        {"content": "it is"},
        {"annotations": [{"type": "url_citation", "url_citation": place}]},
    ]


def test_it_takes_the_answers_tool_for_the_answer():
    call = make_call(stream=True, response_format=FORM)
    alone = answer_of(start(), tool(0, '{"x":', "1}", name=JSON_TOOL), end("tool_use"), call=call)
    assert alone == ('{"x":1}', "stop")
    beside = answer_of(start(), tool(0), tool(1, name=JSON_TOOL), end("tool_use"), call=call)
    assert beside == ("{}", "tool_calls")


@pytest.mark.parametrize(
    ("first", "last", "usage"),
    [
        ({}, {"output_tokens": 9}, Usage(5, 9)),
        ({}, {"input_tokens": 7, "output_tokens": 0}, Usage(7, 0)),
        ({}, {}, Usage(5, 1)),
        (
            {"cache_read_input_tokens": 20, "cache_creation_input_tokens": 300},
            {
                "output_tokens": 9,
                "cache_read_input_tokens": None,
                "output_tokens_details": {"thinking_tokens": 4},
            },
            Usage(prompt=325, completion=9, cached=20, cache_write=300, reasoning=4),
        ),
    ],
)
def test_it_lets_later_counts_take_the_place_of_earlier_ones(first, last, usage):
    assert decode(start(**first), start(**first), text(0, "x"), end(usage=last))[-2].usage == usage


def test_it_tells_no_usage_where_there_is_none():
    stream = said("message_start", message={}) + text(0, "x")
    assert [event.kind for event in decode(stream, end(usage={}))] == [Kind.CONTENT, Kind.FINISH, Kind.DONE]


def test_it_tells_why_anthropic_refused():
    details = {"type": "refusal", "explanation": "No."}
    finish = decode(start(), end("refusal", stop_details=details))[0]
    assert finish.finish_reasons == ["content_filter"]
    assert finish.choices[0]["stop_details"] == details


def test_it_ends_a_stream_that_forgets_its_last_events():
    whole = start() + block(0, {"type": "thinking_delta", "thinking": "x"}, stop=False, type="thinking")
    ending = said("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 2})
    events = decode(whole, ending)
    assert deltas(events)[1] == {"thinking_blocks": [{"type": "thinking", "thinking": "x", "signature": ""}]}
    assert events[-1].kind is Kind.DONE
    again = decode(whole, ending, ending, said("message_stop"), text(1, "nothing"))
    assert [event.kind for event in again].count(Kind.FINISH) == 1
    assert again[-1].kind is Kind.DONE


def test_it_ends_in_the_vendors_error():
    error = {"type": "overloaded_error", "message": "Overloaded"}
    for pieces in ([], [start(), text(0, "x")], [start(), text(0, "x"), end()[: -len(said("message_stop"))]]):
        events = decode(*pieces, said("error", error=error), end())
        assert events[-1].error.message == "Overloaded"
        assert (events[-1].error.owner, events[-1].error.status) == (Owner.HEALTH, 529)
        assert [event.kind for event in events].count(Kind.ERROR) == 1


@pytest.mark.parametrize(
    "event",
    [
        said("message_stop"),
        said("message_start"),
        said("message_delta", delta=None),
        said("content_block_start", index=0),
        said("content_block_start", index=[], content_block={"type": "text"}),
        said("content_block_start", index=0, content_block={"type": "tool_use", "name": 3, "id": "x"}),
        said("content_block_delta", index=0, delta={"type": "text_delta", "text": 3}),
        said("content_block_delta", index=0, delta={"type": "input_json_delta", "partial_json": "{}"}),
        said("content_block_delta", index=0, delta=[]),
        b"event: content_block_delta\ndata: {\n\n",
        b"data: 3\n\n",
        b"data: [DONE]\n\n",
    ],
)
def test_it_takes_a_misshapen_event_for_the_vendors_failure(event):
    events = decode(start(), text(7, "x"), event, text(8, "y"), end())
    assert [one.kind for one in events] == [Kind.CONTENT, Kind.ERROR]
    assert events[-1].error.owner is Owner.HEALTH


@given(st.binary(max_size=60), st.integers(0, 2000))
def test_it_ends_once_whatever_comes(noise, place):
    whole = start() + text(0, "one", "two") + tool(1, '{"x"', ":1}") + end("tool_use")
    events = decode(whole[:place] + noise + whole[place:])
    ends = [event.kind for event in events if event.kind in (Kind.DONE, Kind.ERROR)]
    assert ends == [events[-1].kind]


# ---------------------------------------------------------------- recorded traffic


RECORDED = [
    param
    for param in cassettes("anthropic")
    if param.marks or param.values[0]["response"]["body"].startswith("event:")
]


@pytest.mark.parametrize("cassette", RECORDED)
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_it_decodes_a_recorded_stream_alike_for_every_split(cassette, line_end):
    stream = cassette["response"]["body"].encode().replace(b"\n", line_end)
    whole = seen(decode(stream))
    assert whole[-1][0] in (Kind.DONE, Kind.ERROR)
    for place in range(0, len(stream), max(len(stream) // 100, 1)):
        assert seen(decode(stream[:place], stream[place:])) == whole, place
    assert seen(decode(*(stream[i : i + 1] for i in range(len(stream))))) == whole


@pytest.mark.parametrize("cassette", RECORDED)
def test_it_never_ends_a_truncated_stream_whole(cassette):
    stream = cassette["response"]["body"].encode()
    finish = stream.find(b'"stop_reason":"')
    for place in range(0, finish, max(finish // 100, 1)):
        events = decode(stream[:place])
        assert [event.kind for event in events if event.kind is Kind.ERROR] == [Kind.ERROR]
        assert events[-1].kind is Kind.ERROR
