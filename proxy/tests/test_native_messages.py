"""Anthropic's streams and whole messages, both ways; recorded ones where they lie beside the checkout."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.tests.samples import cassettes
from providers.wires import MESSAGES
from proxy.cache import BrokenEntry
from proxy.native_messages import NativeMessages
from proxy.replay import NATIVE_FORMS

FORM = NativeMessages()
CITATION = {"type": "char_location", "cited_text": "x", "document_index": 0}
MESSAGE: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude",
    "content": [
        {"type": "thinking", "thinking": "hm", "signature": "sig"},
        {"type": "redacted_thinking", "data": "xyz"},
        {"type": "text", "text": "Searching.", "citations": None},
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "é"}},
        {"type": "web_search_tool_result", "tool_use_id": "s", "content": [{"url": "https://x.test"}]},
        {"type": "text", "text": "Found.", "citations": [CITATION, CITATION]},
        {"type": "tool_use", "id": "t", "name": "f", "input": {}},
    ],
    "stop_reason": "tool_use",
    "stop_sequence": None,
    "usage": {"input_tokens": 5, "output_tokens": 7, "server_tool_use": {"web_search_requests": 1}},
}


def events(text):
    return [orjson.loads(each.partition(b"data: ")[2]) for each in text.split(b"\n\n") if each]


def stream(*payloads):
    return b"".join(
        [b"event: %s\ndata: %s\n\n" % (each["type"].encode(), orjson.dumps(each)) for each in payloads]
    )


def test_it_is_the_form_of_cached_messages():
    assert isinstance(NATIVE_FORMS[MESSAGES], NativeMessages)


def test_it_brings_a_message_back_from_a_stream_of_it():
    written = FORM.disassemble(orjson.dumps(MESSAGE))
    assert orjson.loads(FORM.assemble(written)) == MESSAGE


def test_it_streams_a_message_as_anthropic_does():
    told = events(FORM.disassemble(orjson.dumps(MESSAGE)))
    assert [each["type"] for each in told[:2]] == ["message_start", "ping"]
    assert (told[0]["message"]["content"], told[0]["message"]["stop_reason"]) == ([], None)
    assert told[0]["message"]["usage"]["output_tokens"] == 0
    assert [each["type"] for each in told[-2:]] == ["message_delta", "message_stop"]
    assert told[-2]["delta"] == {"stop_reason": "tool_use", "stop_sequence": None}
    assert told[-2]["usage"] == MESSAGE["usage"]
    starts = [each for each in told if each["type"] == "content_block_start"]
    assert [each["index"] for each in starts] == list(range(7))
    assert starts[0]["content_block"] == {"type": "thinking", "thinking": "", "signature": ""}
    assert starts[3]["content_block"]["input"] == {}
    assert starts[4]["content_block"] == MESSAGE["content"][4]
    deltas = [each["delta"] for each in told if each["type"] == "content_block_delta"]
    assert deltas[:2] == [
        {"type": "thinking_delta", "thinking": "hm"},
        {"type": "signature_delta", "signature": "sig"},
    ]
    assert {"type": "input_json_delta", "partial_json": '{"query":"\u00e9"}'} in deltas
    assert {"type": "citations_delta", "citation": CITATION} in deltas


START = {"type": "message_start", "message": {**MESSAGE, "content": [], "stop_reason": None}}
BLOCK = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
WORD = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}}
END = {
    "type": "message_delta",
    "delta": {"stop_reason": "end_turn", "stop_sequence": None, "container": {"id": "c"}},
    "usage": {"output_tokens": 9, "input_tokens": None},
    "context_management": {"applied_edits": []},
}
STOP = {"type": "message_stop"}


def test_it_takes_the_last_word_on_usage_and_what_is_told_at_the_end():
    message = orjson.loads(FORM.assemble(stream(START, {"type": "ping"}, BLOCK, WORD, WORD, END, STOP)))
    assert message["content"] == [{"type": "text", "text": "HiHi"}]
    assert message["usage"] == {**MESSAGE["usage"], "output_tokens": 9}
    assert (message["stop_reason"], message["container"]) == ("end_turn", {"id": "c"})
    assert message["context_management"] == {"applied_edits": []}


@pytest.mark.parametrize(
    "kept",
    [
        b"",
        b"garbage",
        b"data: {broken}\n\n",
        b"data: []\n\n",
        stream(START, BLOCK, WORD),
        stream(START, BLOCK, WORD, END),
        stream(WORD, END, STOP),
        stream(BLOCK, STOP),
        stream(START, WORD, END, STOP),
        stream(START, BLOCK, WORD, {"type": "error", "error": {}}, STOP),
        stream(START, BLOCK, {**WORD, "delta": {"type": "unheard_of_delta"}}, END, STOP),
        stream(START, BLOCK, {**WORD, "delta": {"type": "input_json_delta", "partial_json": "{"}}, END, STOP),
        stream({"type": "message_start", "message": 7}, STOP),
    ],
)
def test_it_says_when_a_kept_stream_cannot_be_read(kept):
    with pytest.raises(BrokenEntry):
        FORM.assemble(kept)


@pytest.mark.parametrize(
    "kept", [b"", b"garbage", b"[]", b"{}", b'{"usage": {}, "content": [7]}', b'{"usage": {}, "content": 7}']
)
def test_it_says_when_a_kept_message_cannot_be_read(kept):
    with pytest.raises(BrokenEntry):
        FORM.disassemble(kept)


@given(
    st.binary() | st.lists(st.sampled_from([START, BLOCK, WORD, END, STOP])).map(lambda each: stream(*each))
)
def test_it_reads_whatever_was_kept_or_says_so(kept):
    for read in (FORM.assemble, FORM.disassemble):
        try:
            made = read(kept)
        except BrokenEntry:
            continue
        assert made


RECORDED = [
    each
    for each in cassettes("anthropic")
    if each.values[0] is None
    or (each.values[0]["kind"] == "messages" and '"usage"' in each.values[0]["response"]["body"])
]


@pytest.mark.parametrize("recorded", RECORDED)
def test_it_loses_nothing_of_recorded_answers(recorded):
    kept = recorded["response"]["body"].encode()
    message = FORM.assemble(kept) if kept.startswith(b"event:") else kept
    assert orjson.loads(FORM.assemble(FORM.disassemble(message))) == orjson.loads(message)


def test_it_reads_a_stream_that_begins_twice():
    twice = stream(START, BLOCK, START, WORD, END, STOP)
    assert orjson.loads(FORM.assemble(twice))["content"] == [{"type": "text", "text": "Hi"}]
