"""Canonical answers and events as Anthropic's messages."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.dialects import DIALECTS
from providers.events import (
    Answer,
    Event,
    Kind,
    TextEvent,
    delta_event,
    done_event,
    finish_event,
    usage_event,
)
from providers.tests.samples import DONE, TEXT_STREAM, answer, chunk, make_call, sse
from providers.usage import Usage
from providers.wires import CHAT, COUNT_TOKENS, MESSAGES
from proxy import renderers
from proxy.assemble import assemble, disassemble
from proxy.errors import RateLimited
from proxy.renderers.messages import MessagesRenderer
from proxy.renderers.messages_whole import usage_of
from proxy.tests.fakes import make_completion

CALL = make_call(wire=MESSAGES, stream=True)
USAGE = Usage(prompt=100, completion=20, cached=30, cache_write=10, reasoning=5)
TOLD = {
    "input_tokens": 60,
    "cache_creation_input_tokens": 10,
    "cache_read_input_tokens": 30,
    "output_tokens": 20,
    "output_tokens_details": {"thinking_tokens": 5},
}


def renderer(**fields):
    return MessagesRenderer(make_completion(**{"model": "gpt-4o", **fields}), CALL)


def decoded(text):
    decoder = DIALECTS["openai"].stream(make_call(stream=True))
    return [*decoder.feed(text), *decoder.close()]


def payloads(text):
    """Return the data of each event; its name says its type."""
    found = []
    for event in text.decode().split("\n\n")[:-1]:
        name, data = event.split("\n")
        found.append(orjson.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    return found


def streamed(*events, **fields):
    made = renderer(**fields)
    return payloads(b"".join([made.events([event]) for event in events]))


def message_in(told):
    """Return the message that events add up to, as an SDK reads it; the order is checked."""
    start, ping, *blocks, delta, stop = told
    assert [each["type"] for each in (start, ping, delta, stop)] == [
        "message_start",
        "ping",
        "message_delta",
        "message_stop",
    ]
    message = start["message"]
    is_open = False
    for event in blocks:
        if event["type"] == "content_block_start":
            assert (event["index"], is_open) == (len(message["content"]), False)
            message["content"].append({**event["content_block"], "pieces": ""})
            is_open = True
            continue
        block = message["content"][-1]
        assert (event["index"], is_open) == (len(message["content"]) - 1, True)
        if event["type"] == "content_block_stop":
            is_open = False
            pieces = block.pop("pieces")
            if block["type"] == "tool_use" and pieces:
                block["input"] = orjson.loads(pieces)
        elif event["delta"]["type"] == "input_json_delta":
            block["pieces"] += event["delta"]["partial_json"]
        else:
            name = event["delta"]["type"].removesuffix("_delta")
            block[name] += event["delta"][name]
    assert not is_open
    return {**message, **delta["delta"], "usage": delta["usage"]}


def said(*events, reason="stop"):
    return message_in(streamed(*events, finish_event(reason), done_event()))["content"]


def call_piece(index=0, id=None, name=None, arguments=None, **fields):  # noqa: A002 - OpenAI's field
    piece = {"index": index, "function": {"name": name, "arguments": arguments}, **fields}
    if id:
        piece |= {"id": id, "type": "function"}
    return delta_event({"tool_calls": [piece]})


def tool(id, name, input):  # noqa: A002 - Anthropic's fields
    return {"type": "tool_use", "id": id, "name": name, "input": input}


# ---------------------------------------------------------------- a stream


def test_it_writes_the_events_of_a_text_in_order():
    told = payloads(renderer().events(decoded(TEXT_STREAM)))
    assert [each["type"] for each in told] == [
        "message_start",
        "ping",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    start, end = told[0]["message"], told[-2]
    assert {**start, "usage": None} == {
        "id": "msg_boot-0-1",
        "type": "message",
        "role": "assistant",
        "model": "gpt-4o",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": None,
    }
    assert (start["usage"]["output_tokens"], start["usage"]["input_tokens"] > 0) == (0, True)
    assert told[2] == {
        "type": "content_block_start",
        "index": 0,
        "content_block": {"type": "text", "text": ""},
    }
    assert told[3]["delta"] == {"type": "text_delta", "text": "Hello"}
    assert end["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}
    assert (end["usage"]["input_tokens"], end["usage"]["output_tokens"]) == (5, 2)


@pytest.mark.parametrize("size", [1, 7, 100])
def test_it_writes_the_same_for_every_split(size):
    decoder, made = DIALECTS["openai"].stream(make_call(stream=True)), renderer()
    parts = [TEXT_STREAM[start : start + size] for start in range(0, len(TEXT_STREAM), size)]
    assert b"".join([made.events(decoder.feed(part)) for part in parts]) == renderer().events(
        decoded(TEXT_STREAM)
    )


def test_it_reads_several_chunks_that_came_as_one():
    words = b"".join(sse(chunk({"content": word})) for word in ("a", "b", "c"))
    decoder = DIALECTS["openai"].stream(make_call(stream=True))
    events = [*decoder.feed(sse(chunk({"content": "-"}))), *decoder.feed(words)]
    assert len(events) == 2
    told = payloads(renderer().events(events))
    assert [each["delta"]["text"] for each in told if "delta" in each] == ["-", "a", "b", "c"]


def test_it_writes_text_quickly_and_the_same():
    told = streamed(TextEvent('a "quoted"\n'), TextEvent("é"), TextEvent(""), TextEvent("\u2028"))
    texts = [each["delta"]["text"] for each in told if each["type"] == "content_block_delta"]
    assert texts == ['a "quoted"\n', "é", "\u2028"]


def test_it_says_the_end_only_when_the_stream_is_whole():
    told = streamed(TextEvent("a"), finish_event("stop"), usage_event(USAGE))
    assert told[-1]["type"] == "content_block_delta"


@pytest.mark.parametrize(
    "ending",
    [
        [finish_event("stop"), usage_event(USAGE)],
        [finish_event("stop", usage=Usage(1, 1)), usage_event(USAGE)],
        [finish_event("stop", usage=USAGE)],
    ],
)
def test_it_tells_the_final_usage(ending):
    assert streamed(TextEvent("a"), *ending, done_event())[-2]["usage"] == TOLD


def test_it_tells_what_was_estimated_where_the_vendor_counted_nothing():
    told = streamed(TextEvent("a"), finish_event("stop"), done_event(), usage=Usage(7, 3, estimated=True))
    assert (told[-2]["usage"]["input_tokens"], told[-2]["usage"]["output_tokens"]) == (7, 3)


def test_it_never_counts_below_zero():
    told = streamed(finish_event("stop", usage=Usage(prompt=5, cached=9)), done_event())
    assert told[-2]["usage"]["input_tokens"] == 0


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("stop", "end_turn"),
        ("length", "max_tokens"),
        ("tool_calls", "tool_use"),
        ("function_call", "tool_use"),
        ("content_filter", "refusal"),
        ("unheard_of", "end_turn"),
    ],
)
def test_it_says_why_it_stopped(reason, told):
    assert streamed(TextEvent("a"), finish_event(reason), done_event())[-2]["delta"]["stop_reason"] == told
    body = {"choices": [{"message": {"content": "a"}, "finish_reason": reason}]}
    assert whole(body)["stop_reason"] == told


def test_it_writes_an_answer_without_content():
    message = message_in(streamed(finish_event("content_filter"), done_event()))
    assert (message["content"], message["stop_reason"]) == ([], "refusal")


def test_it_gives_the_refusal_as_text():
    assert said(delta_event({"refusal": "I can"}), delta_event({"refusal": "not."})) == [
        {"type": "text", "text": "I cannot."}
    ]


def test_it_answers_with_the_first_choice():
    assert said(TextEvent("a"), delta_event({"content": "b"}, index=1)) == [{"type": "text", "text": "a"}]


def test_it_writes_an_error_and_nothing_after():
    made = renderer()
    made.events([TextEvent("a")])
    assert payloads(made.error(RateLimited("Slow down."))) == [
        {
            "type": "error",
            "error": {"type": "rate_limit_error", "message": "Slow down."},
            "request_id": "req-1",
        }
    ]


# ---------------------------------------------------------------- tool calls


def test_it_writes_a_tool_call():
    events = [
        call_piece(0, "call_1", "weather", ""),
        call_piece(0, arguments='{"city":'),
        call_piece(0, arguments='"Rome"}'),
    ]
    told = streamed(TextEvent("Let me look."), *events, finish_event("tool_calls"), done_event())
    pieces = [
        each["delta"]["partial_json"]
        for each in told
        if each.get("delta", {}).get("type") == "input_json_delta"
    ]
    assert pieces == ['{"city":', '"Rome"}']
    message = message_in(told)
    assert message["content"] == [
        {"type": "text", "text": "Let me look."},
        tool("call_1", "weather", {"city": "Rome"}),
    ]
    assert message["stop_reason"] == "tool_use"


def test_it_writes_parallel_calls_one_after_the_other():
    events = [
        call_piece(0, "a", "f", '{"x":'),
        call_piece(0, arguments="1}"),
        call_piece(1, "b", "g", ""),
        call_piece(1, arguments="{}"),
    ]
    made = renderer()
    told = [payloads(made.events([event])) for event in events]
    assert [each["type"] for each in told[2]] == ["content_block_stop", "content_block_start"]
    assert said(*events) == [tool("a", "f", {"x": 1}), tool("b", "g", {})]


def test_it_holds_the_pieces_of_calls_that_a_vendor_mixes():
    mixed = [
        call_piece(0, "a", "f", '{"x":'),
        call_piece(1, "b", "g", '{"y":'),
        TextEvent("between"),
        call_piece(0, arguments="1"),
        call_piece(1, arguments="2}"),
        call_piece(0, arguments="}"),
    ]
    assert said(*mixed) == [
        tool("a", "f", {"x": 1}),
        tool("b", "g", {"y": 2}),
        {"type": "text", "text": "between"},
    ]


CALLS = [tool("a", "f", {"x": [1, {"y": "}"}]}), tool("b", "g", {}), tool("c", "h", {"z": "é"})]


@given(st.randoms(use_true_random=False), st.lists(st.integers(1, 5), min_size=3, max_size=3))
def test_it_loses_no_piece_however_calls_are_mixed(rng, sizes):
    pieces = []
    for index, call in enumerate(CALLS):
        text = orjson.dumps(call["input"]).decode()
        step = sizes[index]
        own = [call_piece(index, call["id"], call["name"], "")]
        own += [call_piece(index, arguments=text[at : at + step]) for at in range(0, len(text), step)]
        pieces.append(own)
    mixed = []
    while any(pieces):
        mixed.append(rng.choice([own for own in pieces if own]).pop(0))
    assert sorted(said(*mixed), key=lambda block: block["id"]) == CALLS


@pytest.mark.parametrize(
    "events",
    [
        # The same index with each call, as some servers send it; no index; no id either.
        [call_piece(0, "a", "f", "{}"), call_piece(0, "b", "g", "{}")],
        [call_piece(None, "a", "f", "{}"), call_piece(None, "b", "g", "{"), call_piece(None, arguments="}")],
        [
            call_piece(0, "a", "f", "{"),
            call_piece(0, "a", arguments="}"),
            call_piece(1, "b", "g", "{}"),
        ],
        # The name comes after the id.
        [call_piece(0, "a"), call_piece(0, name="f", arguments="{}"), call_piece(1, "b", "g", "{}")],
    ],
)
def test_it_tells_calls_apart(events):
    assert said(*events) == [tool("a", "f", {}), tool("b", "g", {})]


def test_it_makes_ids_where_the_vendor_gives_none():
    named = [call_piece(None, name="f", arguments="{}"), call_piece(None, name="g", arguments="{}")]
    first, second = said(*named)
    assert first["id"].startswith("toolu_")
    assert first["id"] != second["id"]
    body = {"choices": [{"message": {"tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}}]}
    assert whole(body)["content"][0]["id"] == first["id"]


def test_it_says_tool_use_for_servers_that_end_calls_like_any_answer():
    told = streamed(call_piece(0, "a", "f", "{}"), finish_event("stop"), done_event())
    assert told[-2]["delta"]["stop_reason"] == "tool_use"
    told = streamed(call_piece(0, "a", "f", '{"x'), finish_event("length"), done_event())
    assert told[-2]["delta"]["stop_reason"] == "max_tokens"


def test_it_reads_what_openai_had_before_tools():
    call = {"name": "f", "arguments": '{"x":1}'}
    (block,) = said(delta_event({"function_call": call}), reason="function_call")
    assert (block["name"], block["input"]) == ("f", {"x": 1})
    (block,) = whole({"choices": [{"message": {"function_call": call}}]})["content"]
    assert (block["name"], block["input"]) == ("f", {"x": 1})


# ---------------------------------------------------------------- thoughts


def thought(thinking, signature=""):
    return {"type": "thinking", "thinking": thinking, "signature": signature}


REDACTED = {"type": "redacted_thinking", "data": "xyz"}


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_it_writes_thoughts_before_the_text(name):
    events = [delta_event({name: "hm"}), delta_event({name: "..."}), TextEvent("Yes.")]
    assert said(*events) == [thought("hm..."), {"type": "text", "text": "Yes."}]


@pytest.mark.parametrize(
    ("events", "blocks"),
    [
        (
            [
                delta_event({"reasoning_content": "hm"}),
                delta_event({"thinking_blocks": [thought("hm", "s")]}),
            ],
            [thought("hm", "s")],
        ),
        (
            [
                delta_event({"reasoning_content": "h"}),
                delta_event({"reasoning_content": "m", "thinking_blocks": [thought("hm", "s")]}),
            ],
            [thought("hm", "s")],
        ),
        (
            [
                delta_event(
                    {"reasoning_content": "ab", "thinking_blocks": [thought("a", "1"), thought("b", "2")]}
                )
            ],
            [thought("a", "1"), thought("b", "2")],
        ),
        (
            [
                delta_event({"reasoning_content": "a"}),
                delta_event({"thinking_blocks": [thought("a", "1")]}),
                delta_event({"thinking_blocks": [REDACTED]}),
                delta_event({"reasoning_content": "b"}),
                delta_event({"thinking_blocks": [thought("b", "2")]}),
            ],
            [thought("a", "1"), REDACTED, thought("b", "2")],
        ),
        ([delta_event({"thinking_blocks": [thought("", "gemini:s")]})], [thought("", "gemini:s")]),
        (
            [
                delta_event({"reasoning_content": "a"}),
                delta_event({"reasoning_content": "b"}),
                delta_event({"thinking_blocks": [thought("b", "s")]}),
            ],
            [thought("ab", "s")],
        ),
        (
            [delta_event({"reasoning_content": "a", "thinking_blocks": [thought("", "s")]})],
            [thought("a", "s")],
        ),
    ],
)
def test_it_signs_thoughts(events, blocks):
    assert said(*events, TextEvent("Yes.")) == [*blocks, {"type": "text", "text": "Yes."}]


def test_it_says_no_thought_twice_that_is_signed_late():
    late = [
        delta_event({"reasoning_content": "hm"}),
        TextEvent("Yes."),
        delta_event({"thinking_blocks": [thought("hm", "gemini:s")]}),
    ]
    assert said(*late) == [thought("hm"), {"type": "text", "text": "Yes."}, thought("", "gemini:s")]


def test_it_signs_each_of_several_calls():
    events = []
    for index, name in enumerate("ab"):
        events.append(delta_event({"thinking_blocks": [thought("", f"gemini:{name}:s")]}))
        events.append(call_piece(index, name, "f", "{}", extra_content={"google": {}}))
    assert [block["type"] for block in said(*events)] == ["thinking", "tool_use", "thinking", "tool_use"]


# ---------------------------------------------------------------- a whole answer


def whole(body, usage=USAGE, **fields):
    return orjson.loads(
        renderer(**fields).answer(
            Answer(body=orjson.dumps(body), wire=CHAT, usage=usage, finish_reasons=["stop"])
        )
    )


def test_it_writes_a_whole_message():
    assert whole(answer("Hi.")) == {
        "id": "msg_boot-0-1",
        "type": "message",
        "role": "assistant",
        "model": "gpt-4o",
        "content": [{"type": "text", "text": "Hi."}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": TOLD,
    }


MESSAGE = {
    "role": "assistant",
    "content": "Yes.",
    "refusal": "But no.",
    "reasoning_content": "hm",
    "thinking_blocks": [thought("hm", "s"), REDACTED],
    "tool_calls": [
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}},
        {"id": "b", "type": "function", "function": {"name": "g", "arguments": ""}},
    ],
}
BLOCKS = [
    thought("hm", "s"),
    REDACTED,
    {"type": "text", "text": "Yes."},
    {"type": "text", "text": "But no."},
    tool("a", "f", {"x": 1}),
    tool("b", "g", {}),
]


def test_it_writes_all_that_a_message_says():
    body = {"choices": [{"index": 0, "message": MESSAGE, "finish_reason": "tool_calls"}]}
    message = whole(body)
    assert message["content"] == BLOCKS
    assert message["stop_reason"] == "tool_use"


def test_it_writes_the_same_message_as_a_stream():
    body = {"choices": [{"index": 0, "message": MESSAGE, "finish_reason": "tool_calls"}]}
    message = message_in(payloads(renderer().events(disassemble(body, USAGE))))
    *others, first, second = message["content"]
    # Text and refusal come in one delta there, and are one text.
    assert [*others[:2], first, second] == [*BLOCKS[:2], *BLOCKS[4:]]
    assert others[2] == {"type": "text", "text": "Yes.But no."}
    assert message["usage"] == TOLD


def test_it_writes_what_a_stream_was_assembled_to():
    events = [
        delta_event({"reasoning_content": "hm"}),
        delta_event({"thinking_blocks": [thought("hm", "s")]}),
        TextEvent("Yes."),
        finish_event("stop"),
    ]
    body = assemble(events, id="i", created=1, model="m")
    assert whole(body)["content"] == [thought("hm", "s"), {"type": "text", "text": "Yes."}]


@pytest.mark.parametrize("arguments", ['{"x": ', "[1]", '"text"', "none", '{"x":' * 300 + "1" + "}" * 300])
def test_it_wraps_arguments_that_are_no_object_it_could_write(arguments):
    call = {"id": "a", "function": {"name": "f", "arguments": arguments}}
    (block,) = whole({"choices": [{"message": {"tool_calls": [call]}}]})["content"]
    assert block["input"] == {"INVALID_JSON": arguments}


def test_it_writes_thoughts_that_nobody_signed():
    body = {"choices": [{"message": {"reasoning": "hm", "content": None}}]}
    assert whole(body)["content"] == [thought("hm")]


@pytest.mark.parametrize("body", [{}, {"choices": []}, {"choices": [{}]}])
def test_it_writes_an_empty_message(body):
    message = whole(body, usage=None)
    assert (message["content"], message["usage"]["input_tokens"]) == ([], 0)


# ---------------------------------------------------------------- Anthropic's own bytes


@pytest.mark.parametrize("wire", [MESSAGES, COUNT_TOKENS])
def test_it_passes_an_answer_of_the_clients_own_format_on(wire):
    kept = Answer(body=b'{"as": "it came"}', wire=wire, usage=None, finish_reasons=())
    assert renderer().answer(kept) == b'{"as": "it came"}'


def test_it_passes_events_of_the_clients_own_format_on():
    raw = [b'event: message_start\ndata: {"type":"message_start"}\n\n', b"event: x\ndata: {}\n\n"]
    events = [Event(Kind.CONTENT, raw=piece, wire=MESSAGES, usage=USAGE) for piece in raw]
    made = renderer()
    assert made.events(events) == b"".join(raw)
    assert made.events([done_event()]) == b""


def test_it_makes_one_renderer_per_answer():
    assert isinstance(renderers.messages(make_completion(), CALL), MessagesRenderer)


def test_it_survives_a_stream_that_is_only_an_end():
    assert message_in(payloads(renderer().events(decoded(sse(chunk(finish="stop")) + DONE))))["content"] == []


PIECES = st.one_of(
    st.text(min_size=1, max_size=3).map(TextEvent),
    st.text(min_size=1, max_size=3).map(lambda text: delta_event({"reasoning_content": text})),
    st.sampled_from([delta_event({"thinking_blocks": [each]}) for each in (REDACTED, thought("", "s"))]),
    st.just("call"),
)


@given(st.lists(PIECES, max_size=12))
def test_it_writes_whatever_comes_in_order_and_loses_nothing(pieces):
    events = [
        call_piece(place, f"c{place}", "f", "{}") if piece == "call" else piece
        for place, piece in enumerate(pieces)
    ]
    blocks = said(*events)
    deltas = [choice["delta"] for event in events for choice in event.choices]
    texts = "".join(block["text"] for block in blocks if block["type"] == "text")
    assert texts == "".join(delta.get("content", "") for delta in deltas)
    thoughts = "".join(block["thinking"] for block in blocks if block["type"] == "thinking")
    assert thoughts == "".join(delta.get("reasoning_content", "") for delta in deltas)
    calls = [piece["id"] for delta in deltas for piece in delta.get("tool_calls", ())]
    assert [block["id"] for block in blocks if block["type"] == "tool_use"] == calls


def test_it_tells_how_long_the_cache_keeps_what_was_written():
    told = usage_of(Usage(prompt=100, cache_write=30, cache_write_1h=20))
    assert (told["input_tokens"], told["cache_creation_input_tokens"]) == (70, 30)
    assert told["cache_creation"] == {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20}
    assert "cache_creation" not in usage_of(USAGE)
