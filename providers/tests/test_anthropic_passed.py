from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.dialects.anthropic.passed import STOP, MessagesStream
from providers.dialects.anthropic.stream import AnthropicStream
from providers.errors import Owner
from providers.events import Kind, PassedEvent
from providers.tests.samples import cassettes, make_call, seen
from providers.tests.test_anthropic_stream import block, deltas, end, said, start, text, tool
from providers.usage import Usage
from providers.wires import MESSAGES


def decode(*pieces):
    stream = MessagesStream()
    events = [event for piece in pieces for event in stream.feed(piece)]
    return [*events, *stream.close()]


def raw_of(events):
    return b"".join(event.raw for event in events)


def merged(pieces):
    """Return deltas with neighbours of the same kind joined, and without what only the whole form has."""
    joined = []
    for delta in pieces:
        if "thinking_blocks" in delta or "annotations" in delta:
            continue
        call = delta["tool_calls"][0] if "tool_calls" in delta else None
        if call is not None and "id" not in call:
            arguments = joined[-1]["tool_calls"][0]["function"]
            arguments["arguments"] += call["function"]["arguments"]
        elif call is None and joined and delta.keys() == joined[-1].keys():
            (name,) = delta
            joined[-1] = {name: joined[-1][name] + delta[name]}
        else:
            joined.append({"tool_calls": [{**call, "function": {**call["function"]}}]} if call else delta)
    return joined


def test_it_passes_a_read_of_deltas_in_one_piece():
    events = decode(start() + said("ping") + text(0, "one", "two", "three") + end())
    assert [event.kind for event in events] == [
        *[Kind.META] * 3,
        Kind.CONTENT,
        Kind.META,
        Kind.FINISH,
        Kind.DONE,
    ]
    passed = events[3]
    assert isinstance(passed, PassedEvent)
    assert (passed.chunks, passed.wire) == (3, MESSAGES)
    assert [choice["delta"]["content"] for choice in passed.choices] == ["one", "two", "three"]


def test_it_tells_counts_and_stop_reason_at_the_end_and_not_before():
    events = decode(start(cache_read_input_tokens=4), text(0, "x"), end("max_tokens"))
    assert [event.usage for event in events if event.usage is not None] == [Usage(9, 9, cached=4)]
    finish = events[-2]
    assert (finish.kind, finish.finish_reasons) == (Kind.FINISH, ["length"])
    assert list(finish.choices) == [{"index": 0, "delta": {}, "finish_reason": "length"}]
    assert events[-1].raw == said("message_stop")


def test_it_reads_what_passed_when_asked():
    thought = {"type": "thinking_delta", "thinking": "hm"}
    signature = {"type": "signature_delta", "signature": "c2ln"}
    stream = start() + block(0, thought, signature, type="thinking", thinking="")
    stream += (
        tool(1, kind="server_tool_use", name="s") + tool(2, '{"x"', ":1}") + tool(3, name="g") + text(4, "so")
    )
    events = decode(stream + end("tool_use"))
    assert deltas(events) == [
        {"reasoning_content": "hm"},
        {
            "tool_calls": [
                {"index": 0, "id": "toolu_2", "type": "function", "function": {"name": "f", "arguments": ""}}
            ]
        },
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"x"'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": ":1}"}}]},
        {
            "tool_calls": [
                {"index": 1, "id": "toolu_3", "type": "function", "function": {"name": "g", "arguments": ""}}
            ]
        },
        {"tool_calls": [{"index": 1, "function": {"arguments": "{}"}}]},
        {"content": "so"},
    ]
    assert [reason for event in events for reason in event.finish_reasons] == ["tool_calls"]


def test_it_parses_deltas_that_are_framed_in_another_way():
    delta = b'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"x"}}\n\n'
    two_lines = delta.replace(b',"index"', b'\ndata: ,"index"')
    events = decode(start(), said("ping"), delta, b": comment\n\n", two_lines, end())
    assert [event.kind for event in events[2:5]] == [Kind.CONTENT, Kind.META, Kind.CONTENT]
    assert [delta["content"] for delta in deltas(events)] == ["x", "x"]


def test_it_adds_the_end_that_a_server_forgot():
    whole = start() + text(0, "x") + end()
    events = decode(whole.removesuffix(said("message_stop")))
    assert (events[-1].kind, events[-1].raw) == (Kind.DONE, STOP)
    events = decode(whole.removesuffix(said("message_stop")), b"data: [DONE]\n\n")
    assert events[-1].kind is Kind.DONE
    assert decode(whole.strip())[-1].kind is Kind.DONE


def test_it_ends_in_the_vendors_error():
    error = {"type": "overloaded_error", "message": "Overloaded"}
    events = decode(start(), text(0, "x"), said("error", error=error), end())
    assert (events[-1].kind, events[-1].raw) == (Kind.ERROR, b"")
    assert (events[-1].error.message, events[-1].error.status) == ("Overloaded", 529)


@pytest.mark.parametrize(
    "event",
    [
        said("message_stop"),
        said("message_start"),
        said("message_delta", delta=None),
        said("content_block_start", index=0),
        said("content_block_start", index=[], content_block={"type": "tool_use", "name": "f", "id": "x"}),
        said("content_block_stop", index=[]),
        b"event: ping\ndata: {\n\n",
        b"data: 3\n\n",
        b"data: [DONE]\n\n",
    ],
)
def test_it_takes_a_misshapen_event_for_the_vendors_failure(event):
    events = decode(start(), text(7, "x") + event + text(8, "y"), end())
    assert [one.kind for one in events if one.kind is not Kind.META] == [Kind.CONTENT, Kind.ERROR]
    assert events[-1].error.owner is Owner.HEALTH


@given(st.binary(max_size=60), st.integers(0, 2000))
def test_it_ends_once_whatever_comes(noise, place):
    whole = start() + text(0, "one", "two") + tool(1, '{"x"', ":1}") + end("tool_use")
    events = decode(whole[:place] + noise + whole[place:])
    ends = [event.kind for event in events if event.kind in (Kind.DONE, Kind.ERROR)]
    assert ends == [events[-1].kind]


@given(st.lists(st.integers(0, 3000), max_size=8))
def test_it_passes_the_same_however_it_is_cut(places):
    whole = start() + text(0, "one", "two") + tool(1) + tool(2, '{"x"', ":1}") + b": hi\n\n" + end("tool_use")
    cuts = [0, *sorted(min(place, len(whole)) for place in places), len(whole)]
    pieces = [whole[a:b] for a, b in pairwise(cuts) if a < b]
    assert seen(decode(*pieces)) == seen(decode(whole))
    assert raw_of(decode(*pieces)) == whole


# ---------------------------------------------------------------- recorded traffic


RECORDED = [
    param
    for param in cassettes("anthropic")
    if param.marks or param.values[0]["response"]["body"].startswith("event:")
]


@pytest.mark.parametrize("cassette", RECORDED)
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_it_passes_a_recorded_stream_untouched_for_every_split(cassette, line_end):
    stream = cassette["response"]["body"].encode().replace(b"\n", line_end)
    whole = decode(stream)
    told = seen(whole)
    for place in range(0, len(stream), max(len(stream) // 100, 1)):
        assert seen(decode(stream[:place], stream[place:])) == told, place
    assert seen(decode(*(stream[i : i + 1] for i in range(len(stream))))) == told
    if whole[-1].kind is Kind.DONE:
        assert raw_of(whole) == stream.strip() + line_end * 2
    else:
        assert whole[-1].error is not None


@pytest.mark.parametrize("cassette", RECORDED)
def test_it_says_the_same_as_the_translation(cassette):
    stream = cassette["response"]["body"].encode()
    translated = AnthropicStream(make_call(stream=True))
    other = [*translated.feed(stream), *translated.close()]
    passed = decode(stream)
    assert merged(deltas(passed)) == merged(deltas(other))
    reasons = [[reason for event in events for reason in event.finish_reasons] for events in (passed, other)]
    assert reasons[0] == reasons[1]
    counts = [[event.usage for event in events if event.usage] for events in (passed, other)]
    assert counts[0][-1:] == counts[1][-1:]
    assert passed[-1].kind is other[-1].kind


@pytest.mark.parametrize("cassette", RECORDED)
def test_it_never_ends_a_truncated_stream_whole(cassette):
    stream = cassette["response"]["body"].encode()
    finish = stream.find(b'"stop_reason":"')
    for place in range(0, finish, max(finish // 100, 1)):
        assert decode(stream[:place])[-1].kind is Kind.ERROR
