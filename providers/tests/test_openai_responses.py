"""What the OpenAI dialect does with the Responses format, which its vendors may speak themselves."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.call import Untranslatable
from providers.dialects import DIALECTS
from providers.errors import Owner, UnsupportedParameter, UpstreamError
from providers.events import Kind, PassedEvent
from providers.tests.samples import cassettes, make_call, make_upstream
from providers.upstream import Quirks
from providers.usage import Usage
from providers.wires import CHAT, RESPONSES

OPENAI = DIALECTS["openai"]
USAGE = {
    "input_tokens": 7,
    "input_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 1},
    "output_tokens": 5,
    "output_tokens_details": {"reasoning_tokens": 2},
    "total_tokens": 12,
}
COUNTED = Usage(prompt=7, completion=5, cached=3, cache_write=1, reasoning=2)
TEXT = {"type": "output_text", "text": "Hello there.", "annotations": []}
MESSAGE = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [TEXT]}
TOOL = {
    "type": "function_call",
    "id": "fc_1",
    "call_id": "call_1",
    "name": "weather",
    "arguments": '{"city":"Oslo"}',
    "status": "completed",
}


def response(*output, **fields):
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "status": "completed",
        "error": None,
        "model": "gpt-5",
        "output": list(output),
        "usage": USAGE,
        **fields,
    }


def named(kind, **fields):
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), orjson.dumps({"type": kind, **fields}))


def delta(text, number=0):
    return named(
        "response.output_text.delta", item_id="msg_1", output_index=0, delta=text, sequence_number=number
    )


CREATED = named("response.created", response=response(status="in_progress", usage=None))
ADDED = named("response.output_item.added", output_index=0, item={**MESSAGE, "content": []})
COMPLETED = named("response.completed", response=response(MESSAGE))
STREAM = b"".join(
    [
        CREATED,
        named("response.in_progress", response=response(status="in_progress", usage=None)),
        ADDED,
        named("response.content_part.added", output_index=0, part={**TEXT, "text": ""}),
        delta("Hello"),
        delta(" there"),
        delta("."),
        named("response.output_text.done", output_index=0, text="Hello there."),
        named("response.output_item.done", output_index=0, item=MESSAGE),
        COMPLETED,
    ]
)
UNFINISHED = "The provider's answer is broken: the stream ended without a completed response."
HOLLOW = "The provider's answer is broken: its last event has no response."
FINISHED_AT = STREAM.index(b"event: response.completed")


def decode(*pieces):
    decoder = OPENAI.stream(make_call(stream=True, wire=RESPONSES))
    events = [event for piece in pieces for event in decoder.feed(piece)]
    return [*events, *decoder.close()]


def seen(events):
    """Return all that a reader could see of the events; deltas that pass together are taken apart."""
    found = []
    for event in events:
        error = (event.error.owner, event.error.message) if event.error else None
        raws = [event.raw]
        if isinstance(event, PassedEvent) and b"\r" not in event.raw:
            raws = [raw + b"\n\n" for raw in event.raw.split(b"\n\n")[:-1]]
            assert len(raws) == event.chunks
        found += [
            (event.kind, raw, event.wire, event.usage, list(event.finish_reasons), error) for raw in raws
        ]
    return found


def choices(events):
    return [choice for event in events for choice in event.choices]


# ---------------------------------------------------------------- requests


def test_it_sends_a_request_as_it_came():
    call = make_call(wire=RESPONSES, model="gpt-5")._replace(
        raw=b'{"model":"gpt-5","input":"hi"}', sent={"model": "gpt-5"}
    )
    request = OPENAI.encode(call, make_upstream(model="gpt-5"))
    assert (request.path, request.body, request.wire) == ("/responses", call.raw, RESPONSES)


def test_it_changes_the_model_and_nothing_else_and_asks_for_no_usage():
    sent = {"model": "mine", "input": "hi", "stream": True, "previous_response_id": "resp_0"}
    call = make_call(wire=RESPONSES, stream=True)._replace(sent=sent, raw=orjson.dumps(sent))
    request = OPENAI.encode(call, make_upstream(model="gpt-5"))
    assert orjson.loads(request.body) == {**sent, "model": "gpt-5"}


def test_it_asks_a_server_without_the_endpoint_in_chat():
    call = make_call(wire=RESPONSES, stream=True)._replace(sent={"model": "gpt-4o", "input": "hello"})
    request = OPENAI.encode(call, make_upstream(quirks=Quirks(responses=False)))
    assert (request.path, request.wire) == ("/chat/completions", CHAT)
    body = orjson.loads(request.body)
    assert body["messages"] == call.body["messages"]
    assert body["stream_options"] == {"include_usage": True}
    assert "input" not in body


def test_it_refuses_what_only_the_endpoint_itself_can_answer():
    call = make_call(wire=RESPONSES)._replace(only_native=Untranslatable("background", "It is not kept."))
    assert OPENAI.encode(call, make_upstream()).wire == RESPONSES
    with pytest.raises(UnsupportedParameter) as caught:
        OPENAI.encode(call, make_upstream(quirks=Quirks(responses=False)))
    assert (caught.value.param, caught.value.message) == ("background", "It is not kept.")


# ---------------------------------------------------------------- whole answers


def whole(message):
    return OPENAI.decode(orjson.dumps(message), make_call(wire=RESPONSES))


@pytest.mark.parametrize(
    ("fields", "reasons"),
    [
        ({}, ["stop"]),
        ({"status": None}, ["stop"]),
        ({"output": [MESSAGE, TOOL]}, ["tool_calls"]),
        ({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}, ["length"]),
        ({"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}, ["content_filter"]),
        ({"status": "incomplete", "incomplete_details": None}, ["length"]),
        # Not over: the cache keeps answers with clean finish reasons only.
        ({"status": "queued"}, ["queued"]),
        ({"status": "in_progress"}, ["in_progress"]),
        ({"status": "cancelled"}, ["cancelled"]),
    ],
)
def test_it_says_how_a_response_ended(fields, reasons):
    body = response(MESSAGE, **fields)
    answer = whole(body)
    assert list(answer.finish_reasons) == reasons
    assert (answer.body, answer.wire, answer.usage) == (orjson.dumps(body), RESPONSES, COUNTED)


@pytest.mark.parametrize(
    ("usage", "counted"),
    [
        (None, None),
        ({}, None),
        ([], None),
        ({"input_tokens": 0, "output_tokens": 0}, Usage()),
        ({"input_tokens": -1, "output_tokens": "many", "output_tokens_details": []}, Usage()),
        (
            {
                "input_tokens": 90,
                "input_tokens_details": {
                    "cached_tokens": 0,
                    "cache_write_tokens": 9,
                    "cache_write_tokens_details": {"ttl_30m_tokens": 2, "ttl_12h_tokens": 7},
                    "image_tokens": 40,
                },
                "output_tokens": 8,
                "output_tokens_details": {"reasoning_tokens": 1, "audio_tokens": 5},
            },
            Usage(90, 8, 0, 9, 1, cache_write_1h=7, image_prompt=40, audio_completion=5),
        ),
    ],
)
def test_it_counts_what_the_vendor_says_and_nothing_else(usage, counted):
    assert whole(response(MESSAGE, usage=usage)).usage == counted


def test_it_reads_a_response_as_a_chat_completion():
    reasoning = {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Hm."}]}
    place = {"url": "https://a.example", "title": "A", "start_index": 0, "end_index": 5}
    text = {**TEXT, "annotations": [{"type": "url_citation", **place}]}
    cited = {**MESSAGE, "content": [text, {"type": "refusal", "refusal": "No."}]}
    message = whole(response(reasoning, cited, TOOL)).message
    (choice,) = message["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"] == {
        "role": "assistant",
        "content": "Hello there.",
        "refusal": "No.",
        "reasoning_content": "Hm.",
        "annotations": [{"type": "url_citation", "url_citation": place}],
        "tool_calls": [
            {
                "id": "call_1",
                "type": "function",
                "function": {"name": "weather", "arguments": '{"city":"Oslo"}'},
            }
        ],
    }
    assert message["usage"] == COUNTED.to_openai()


@pytest.mark.parametrize(
    ("fields", "owner", "status"),
    [
        ({"status": "failed", "error": {"code": "server_error", "message": "no"}}, Owner.HEALTH, 502),
        (
            {"status": "failed", "error": {"code": "rate_limit_exceeded", "message": "no"}},
            Owner.CAPACITY,
            429,
        ),
        ({"status": "failed", "error": {"code": "invalid_image", "message": "no"}}, Owner.CALLER, 400),
        ({"status": "failed"}, Owner.HEALTH, None),
        ({"output": None}, Owner.HEALTH, None),
        ({"output": {}}, Owner.HEALTH, None),
    ],
)
def test_it_raises_what_a_failed_response_says(fields, owner, status):
    with pytest.raises(UpstreamError) as caught:
        whole(response(**fields))
    assert (caught.value.owner, caught.value.status) == (owner, status)


# ---------------------------------------------------------------- streams


def test_it_passes_a_stream_on_untouched():
    events = decode(STREAM)
    assert b"".join(event.raw for event in events) == STREAM
    kinds = [event.kind for event in events]
    meta, content = Kind.META, Kind.CONTENT
    assert kinds == [meta, meta, content, meta, content, meta, meta, Kind.FINISH, Kind.DONE]
    finish = events[-2]
    assert (finish.usage, list(finish.finish_reasons)) == (COUNTED, ["stop"])
    assert {event.wire for event in events} == {RESPONSES}
    (passed,) = [event for event in events if isinstance(event, PassedEvent)]
    assert passed.chunks == 3


def test_it_is_over_with_its_last_event_not_with_the_connection():
    decoder = OPENAI.stream(make_call(stream=True, wire=RESPONSES))
    assert decoder.feed(STREAM)[-1].kind is Kind.DONE
    assert decoder.feed(b"data: [DONE]\n\n") == []
    assert decoder.feed(COMPLETED) == []
    assert decoder.close() == []


def test_it_reads_what_passes_as_chat():
    events = decode(
        CREATED,
        named("response.reasoning_summary_text.delta", delta="Hm."),
        STREAM[:FINISHED_AT],
        named("response.refusal.delta", delta="No."),
        named("response.output_item.added", output_index=1, item={**TOOL, "arguments": ""}),
        named("response.function_call_arguments.delta", output_index=1, delta='{"city":"Oslo"}'),
        named("response.incomplete", response={"incomplete_details": {"reason": "max_output_tokens"}}),
    )
    said = [choice["delta"] for choice in choices(events)]
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ""}}
    assert said == [
        {"reasoning_content": "Hm."},
        {"content": "Hello"},
        {"content": " there"},
        {"content": "."},
        {"refusal": "No."},
        {"tool_calls": [{"index": 1, **call}]},
        {"tool_calls": [{"index": 1, "function": {"arguments": '{"city":"Oslo"}'}}]},
        {},
    ]
    assert choices(events)[-1]["finish_reason"] == "length"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50, 333])
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("comment", [b"", b": a comment\n"])
def test_it_gives_the_same_events_for_every_split(size, line_end, comment):
    text = STREAM.replace(b"event:", comment + b"event:").replace(b"\n", line_end)
    pieces = [text[place : place + size] for place in range(0, len(text), size)]
    events = decode(*pieces)
    assert seen(events) == seen(decode(text))
    assert events[-1].kind is Kind.DONE
    assert b"".join(event.raw for event in events).strip() == text.strip()


def test_it_reads_events_without_names():
    text = b"".join(line + b"\n\n" for line in STREAM.splitlines() if line.startswith(b"data: "))
    events = decode(text)
    assert b"".join(event.raw for event in events) == text
    assert [event.kind for event in events if event.kind is Kind.CONTENT] == [Kind.CONTENT] * 4
    assert events[-1].kind is Kind.DONE


def test_it_passes_events_that_it_does_not_know():
    alive = b'event: keepalive\ndata: {"type":"keepalive","sequence_number":3}\n\n'
    events = decode(CREATED, alive, b": comment\n\n", STREAM[FINISHED_AT:])
    assert [event.kind for event in events] == [Kind.META, Kind.META, Kind.META, Kind.FINISH, Kind.DONE]


def failed(code):
    return named("response.failed", response={"error": {"code": code, "message": "Oh."}})


@pytest.mark.parametrize(
    ("end", "owner", "message"),
    [
        (
            b"",
            Owner.HEALTH,
            UNFINISHED,
        ),
        (
            b"data: [DONE]\n\n",
            Owner.HEALTH,
            UNFINISHED,
        ),
        (
            failed("server_error"),
            Owner.HEALTH,
            "Oh.",
        ),
        (
            failed("rate_limit_exceeded"),
            Owner.CAPACITY,
            "Oh.",
        ),
        (
            named("response.failed", response=None),
            Owner.HEALTH,
            HOLLOW,
        ),
        (
            named("response.completed"),
            Owner.HEALTH,
            HOLLOW,
        ),
        (named("error", code="server_error", message="Oh.", param=None), Owner.HEALTH, "Oh."),
        (named("error", error={"code": "context_length_exceeded", "message": "Oh."}), Owner.CALLER, "Oh."),
        (
            b"event: response.completed\ndata: {\n\n",
            Owner.HEALTH,
            "The provider's answer is broken: it is not JSON.",
        ),
    ],
)
def test_it_ends_a_stream_that_failed_in_one_error(end, owner, message):
    events = decode(STREAM[:FINISHED_AT], end, COMPLETED if end else b"")
    assert [event.kind for event in events if event.kind in (Kind.ERROR, Kind.DONE)] == [Kind.ERROR]
    error = events[-1].error
    assert error is not None
    assert (error.owner, error.message) == (owner, message)


@given(st.integers(0, FINISHED_AT))
def test_it_never_ends_a_truncated_stream_whole(cut):
    events = decode(STREAM[:cut])
    assert [event.kind for event in events if event.kind in (Kind.ERROR, Kind.DONE)] == [Kind.ERROR]
    assert events[-1].kind is Kind.ERROR


def test_it_passes_no_half_event_on():
    half = STREAM[: STREAM.index(b"Hello") + 2]
    assert b"".join(event.raw for event in decode(half)) == half[: half.rindex(b"event: ")]


@given(data=st.data())
def test_it_survives_a_stream_with_bytes_changed(data):
    text = bytearray(STREAM)
    for place, value in data.draw(
        st.lists(st.tuples(st.integers(0, len(text) - 1), st.integers(0, 255)), max_size=5)
    ):
        text[place] = value
    whole_read, cut = decode(bytes(text)), data.draw(st.integers(0, len(text)))
    assert seen(whole_read) == seen(decode(bytes(text[:cut]), bytes(text[cut:])))
    ends = [event.kind for event in whole_read if event.kind in (Kind.DONE, Kind.ERROR)]
    assert ends == [whole_read[-1].kind]


NAMES = [
    "type",
    "output",
    "content",
    "text",
    "status",
    "usage",
    "summary",
    "item",
    "delta",
    "response",
    "input_tokens",
]
ANYTHING = st.recursive(
    st.none() | st.integers(-1, 9) | st.sampled_from(["message", "reasoning", "function_call", ""]),
    lambda each: st.lists(each, max_size=2) | st.dictionaries(st.sampled_from(NAMES), each, max_size=4),
    max_leaves=12,
)


@given(ANYTHING)
def test_it_reads_any_shape_or_raises_upstream_errors(value):
    try:
        answer = whole(response(output=[value], usage=value, incomplete_details=value, status=value))
        assert answer.message["object"] == "chat.completion"
    except UpstreamError:
        pass
    event = named("response.output_item.added", item=value, output_index=value, delta=value)
    assert len(choices(decode(event))) <= 1


@pytest.mark.parametrize("cassette", cassettes("openai"))
def test_it_reads_what_was_recorded(cassette):
    if cassette["kind"] != "responses":
        return
    body = cassette["response"]["body"].encode()
    if cassette["response"]["status"] != 200:
        assert isinstance(OPENAI.error(cassette["response"]["status"], {}, body), UpstreamError)
        return
    answer = OPENAI.decode(body, make_call(wire=RESPONSES))
    usage = orjson.loads(body)["usage"]
    assert answer.usage is not None
    assert (answer.usage.prompt, answer.usage.completion) == (usage["input_tokens"], usage["output_tokens"])
    assert answer.message["choices"][0]["message"]["content"]
