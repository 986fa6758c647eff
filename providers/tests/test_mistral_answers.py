"""Mistral's answers, streams and errors, recorded and made."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.dialects import DIALECTS
from providers.errors import Owner, UpstreamError
from providers.events import Kind, TextEvent
from providers.tests.decoding import decoded, seen, splits
from providers.tests.samples import DONE, cassettes, chunk, make_call, sse
from providers.usage import Usage
from providers.wires import EMBEDDINGS

MISTRAL = DIALECTS["mistral"]
STREAMING = make_call(stream=True)


def thinking(*texts):
    return {"type": "thinking", "thinking": [{"type": "text", "text": text} for text in texts]}


def events_of(*chunks):
    return decoded(MISTRAL, [*(sse(each) for each in chunks), DONE], STREAMING)


def deltas(events):
    return [choice["delta"] for event in events for choice in event.choices if choice["delta"]]


def whole(content="Hi", *, finish="stop", usage=None, **message):
    told = {"role": "assistant", "content": content, **message}
    choice = {"index": 0, "message": told, "finish_reason": finish}
    return orjson.dumps({"id": "a1", "choices": [choice], "usage": usage})


def is_stream(cassette):
    return (cassette["response"]["body"] or "").startswith("data:")


RECORDED = cassettes("mistral")
STREAMS = [param for param in RECORDED if param.marks or is_stream(param.values[0])]
ANSWERS = [param for param in RECORDED if param.marks or not is_stream(param.values[0])]


# ---------------------------------------------------------------- streams


@pytest.mark.parametrize("cassette", STREAMS)
def test_it_decodes_a_recorded_stream_alike_for_every_split(cassette):
    text = cassette["response"]["body"].encode()
    events = decoded(MISTRAL, [text], STREAMING)
    assert events[-1].kind is Kind.DONE
    assert events[-2].kind is Kind.USAGE
    assert sum(event.kind is Kind.FINISH for event in events) == 1
    assert sum(event.usage is not None for event in events) == 1
    for pieces in splits(text, most=60):
        assert seen(decoded(MISTRAL, pieces, STREAMING)) == seen(events)


@pytest.mark.parametrize("cassette", STREAMS)
def test_it_never_ends_the_beginning_of_a_recorded_stream_whole(cassette):
    text = cassette["response"]["body"].encode()
    finish = text.index(b'"finish_reason":"')
    for place in range(0, finish, max(finish // 50, 1)):
        events = decoded(MISTRAL, [text[:place]], STREAMING)
        assert [event.kind for event in events if event.kind in (Kind.DONE, Kind.ERROR)] == [Kind.ERROR]
        assert events[-1].kind is Kind.ERROR


def test_it_makes_plain_text_cheap():
    events = events_of(
        chunk({"role": "assistant", "content": ""}), chunk({"content": "Hi"}), chunk({}, "stop")
    )
    assert [type(event) is TextEvent for event in events] == [True, False, False]
    assert [event.kind for event in events] == [Kind.CONTENT, Kind.FINISH, Kind.DONE]


def test_it_tells_thinking_from_text():
    events = events_of(
        chunk({"content": [thinking("Let me ")]}),
        chunk({"content": [thinking("see."), {"type": "text", "text": "4"}]}),
        chunk({"content": [{"type": "thinking", "thinking": []}]}),
        chunk({"content": "2"}, "stop"),
    )
    assert deltas(events) == [
        {"reasoning_content": "Let me "},
        {"reasoning_content": "see."},
        {"content": "4"},
        {"content": "2"},
    ]


def test_it_numbers_tool_calls_that_come_without_index():
    def call(identity, name, **more):
        return {"id": identity, "function": {"name": name, "arguments": "{}"}, **more}

    events = events_of(
        chunk({"content": "", "tool_calls": [call("aaaaaaaaa", "f"), call("bbbbbbbbb", "g")]}),
        chunk({"content": "", "tool_calls": [call("ccccccccc", "h", index=0)]}),
        chunk({"content": "", "tool_calls": [call("null", "i", index=9)]}, "tool_calls"),
    )
    calls = [delta["tool_calls"][0] for delta in deltas(events)]
    assert [(each["index"], each["function"]["name"]) for each in calls] == [
        (0, "f"),
        (1, "g"),
        (2, "h"),
        (9, "i"),
    ]
    assert [each["id"] for each in calls[:3]] == ["aaaaaaaaa", "bbbbbbbbb", "ccccccccc"]
    assert calls[3]["id"].startswith("call_")
    assert all(each["type"] == "function" for each in calls)
    assert events[-2].finish_reasons == ["tool_calls"]


def test_it_goes_on_with_a_call_that_comes_in_pieces():
    first = {"id": "aaaaaaaaa", "function": {"name": "f", "arguments": '{"a"'}}
    events = events_of(
        chunk({"tool_calls": [first]}),
        chunk({"tool_calls": [{"id": "aaaaaaaaa", "function": {"name": "", "arguments": ":"}}]}),
        chunk({"tool_calls": [{"id": "null", "function": {"name": "", "arguments": "1}"}}]}, "tool_calls"),
    )
    pieces = [delta["tool_calls"][0] for delta in deltas(events)]
    assert [piece["index"] for piece in pieces] == [0, 0, 0]
    assert "".join(piece["function"]["arguments"] for piece in pieces) == '{"a":1}'
    assert [piece.get("id") for piece in pieces] == ["aaaaaaaaa", None, None]


def test_it_wants_every_choice_finished():
    first, second = chunk({"content": "a"}), chunk({"content": "b"}, index=1)
    assert events_of(first, second, chunk({}, "stop"))[-1].kind is Kind.ERROR
    events = events_of(first, second, chunk({}, "stop"), chunk({}, "length", index=1))
    assert events[-1].kind is Kind.DONE
    assert [choice["index"] for event in events for choice in event.choices] == [0, 1, 0, 1]


@pytest.mark.parametrize(
    ("told", "status", "owner"),
    [
        ({"object": "error", "message": "no", "code": "1300", "raw_status_code": 429}, 429, Owner.CAPACITY),
        ({"object": "error", "message": "no", "code": 3000}, 502, Owner.HEALTH),
        ({"error": {"message": "no"}}, 502, Owner.HEALTH),
        (chunk({}, "error"), 502, Owner.HEALTH),
    ],
)
def test_it_ends_in_the_error_that_a_stream_tells(told, status, owner):
    events = events_of(chunk({"content": "a"}), told, chunk({"content": "b"}, "stop"))
    assert [event.kind for event in events] == [Kind.CONTENT, Kind.ERROR]
    assert (events[-1].error.status, events[-1].error.owner) == (status, owner)


def test_it_takes_a_comment_on_the_end_marks_line():
    events = decoded(MISTRAL, [sse(chunk({"content": "a"}, "stop")) + b"data: [DONE]: ping\n\n"], STREAMING)
    assert events[-1].kind is Kind.DONE


@given(
    st.binary()
    | st.sampled_from([b"data: [DONE]\n\n", b'data: {"choices": [{"finish_reason": "stop"}]}\n\n'])
)
def test_it_ends_any_bytes_once(text):
    events = decoded(MISTRAL, [text], STREAMING)
    ends = [event.kind for event in events if event.kind in (Kind.DONE, Kind.ERROR)]
    assert ends == [events[-1].kind]


@pytest.mark.parametrize(
    "delta",
    [
        {"content": 3},
        {"content": [3]},
        {"content": [{"type": "text"}]},
        {"tool_calls": [{}]},
        {"tool_calls": 3},
    ],
)
def test_it_ends_in_an_error_where_a_chunk_has_another_shape(delta):
    assert [event.kind for event in events_of(chunk(delta, "stop"))] == [Kind.ERROR]


# ---------------------------------------------------------------- whole answers


@pytest.mark.parametrize("cassette", ANSWERS)
def test_it_decodes_a_recorded_answer(cassette):
    response = cassette["response"]
    body = response["body"].encode()
    if response["status"] >= 300:
        error = MISTRAL.error(response["status"], {}, body)
        assert error.status == response["status"]
        assert error.message
        return
    call = make_call(wire=EMBEDDINGS, input="x") if cassette["kind"] == "embeddings" else make_call()
    answer = MISTRAL.decode(body, call)
    assert answer.usage is not None
    assert answer.usage.prompt == orjson.loads(body)["usage"]["prompt_tokens"]
    assert not answer.wire
    for choice in answer.message.get("choices", ()):
        assert isinstance(choice["message"]["content"], (str, type(None)))
    for place in range(0, len(body.strip()), max(len(body) // 50, 1)):
        with pytest.raises(UpstreamError):
            MISTRAL.decode(body.strip()[:place], call)


def test_it_flattens_a_content_of_parts():
    parts = [thinking("a", "b"), {"type": "text", "text": "x"}, {"type": "reference", "reference_ids": [1]}]
    (choice,) = MISTRAL.decode(whole([*parts, {"type": "text", "text": "y"}]), make_call()).message["choices"]
    assert choice["message"] == {"role": "assistant", "content": "xy", "reasoning_content": "ab"}


def test_it_reads_a_call_whose_arguments_are_an_object():
    calls = [
        {"function": {"name": "f", "arguments": {"a": 1}}},
        {"id": "bbbbbbbbb", "function": {"name": "g"}},
    ]
    answer = MISTRAL.decode(whole("", finish="tool_calls", tool_calls=calls), make_call())
    message = answer.message["choices"][0]["message"]
    assert message["content"] is None
    assert [call["function"]["arguments"] for call in message["tool_calls"]] == ['{"a":1}', "{}"]
    assert message["tool_calls"][0]["id"].startswith("call_")
    assert message["tool_calls"][1]["id"] == "bbbbbbbbb"


@pytest.mark.parametrize(
    ("told", "said"),
    [("stop", "stop"), ("model_length", "length"), ("tool_calls", "tool_calls"), ("new", "stop")],
)
def test_it_maps_finish_reasons(told, said):
    assert MISTRAL.decode(whole(finish=told), make_call()).finish_reasons == [said]


@pytest.mark.parametrize(
    ("told", "cached"),
    [
        ({"prompt_tokens_details": {"cached_tokens": 3}}, 3),
        ({"prompt_token_details": {"cached_tokens": 3}}, 3),
        ({"num_cached_tokens": 3}, 3),
        ({"num_cached_tokens": 0, "prompt_tokens_details": None, "prompt_token_details": None}, 0),
        ({}, 0),
    ],
)
def test_it_finds_cached_tokens_under_each_name(told, cached):
    counts = {"prompt_tokens": 9, "completion_tokens": 0, "total_tokens": 9, **told}
    assert MISTRAL.decode(whole(usage=counts), make_call()).usage == Usage(prompt=9, cached=cached)


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"choices": []}',
        b'{"choices": [3]}',
        b'{"choices": {"a": 1}}',
        b'{"object": "error", "message": "no"}',
        whole(finish="error"),
        whole(finish=None),
        whole(3),
        whole([{"type": "text", "text": 3}]),
    ],
)
def test_it_refuses_an_answer_that_is_none(body):
    with pytest.raises(UpstreamError):
        MISTRAL.decode(body, make_call())


def test_it_gives_embeddings_in_the_encoding_asked_for():
    body = orjson.dumps({"data": [{"embedding": [1.0, -1.0]}], "usage": {"prompt_tokens": 2}})
    call = make_call(wire=EMBEDDINGS, input="x", encoding_format="base64")
    answer = MISTRAL.decode(body, call)
    assert answer.message["data"] == [{"object": "embedding", "index": 0, "embedding": "AACAPwAAgL8="}]
    assert answer.usage == Usage(prompt=2)


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            {"detail": [{"type": "extra_forbidden", "loc": ["body", "store"], "msg": "Not permitted"}]},
            (422, "store: Not permitted", "store", Owner.CALLER),
        ),
        (
            {
                "object": "error",
                "message": {
                    "detail": [{"loc": ["body", "messages", 0, "content"], "msg": "Bad"}, {"msg": "Worse"}]
                },
                "type": "invalid_request_error",
            },
            (422, "messages[0].content: Bad; Worse", "messages[0].content", Owner.CALLER),
        ),
        ({"detail": "Unauthorized"}, (401, "Unauthorized", None, Owner.CREDENTIAL)),
        ({"object": "error", "message": "Bad", "param": "n"}, (400, "Bad", "n", Owner.CALLER)),
        ({"object": "error", "message": "Slow", "code": "1300"}, (429, "Slow", None, Owner.CAPACITY)),
        ({"message": "Oops"}, (500, "Oops", None, Owner.HEALTH)),
        ([], (500, "The provider answered with status 500.", None, Owner.HEALTH)),
        (
            {"error": {"message": "Content blocked by guardrail"}, "guardrails": {}},
            (403, "Content blocked by guardrail", None, Owner.CALLER),
        ),
    ],
)
def test_it_reads_each_shape_of_error(body, said):
    error = MISTRAL.error(said[0], {}, orjson.dumps(body))
    assert (error.status, error.message, error.param, error.owner) == said


def test_it_knows_a_prompt_that_is_too_long():
    told = "Prompt contains 40000 tokens, too large for model with 32768 maximum context length"
    error = MISTRAL.error(400, {}, orjson.dumps({"object": "error", "message": told, "code": "3051"}))
    assert (error.code, error.owner) == ("context_length_exceeded", Owner.CALLER)


def test_it_passes_on_how_long_to_wait():
    error = MISTRAL.error(429, {"retry-after": "7"}, b'{"object": "error", "message": "Slow", "code": 1300}')
    assert (error.retry_after_s, error.code) == (7.0, "1300")


@given(
    st.binary() | st.sampled_from([b'{"detail": [[]]}', b'{"message": [1]}', b'{"error": {"detail": {}}}'])
)
def test_it_reads_an_error_from_any_bytes(body):
    assert MISTRAL.error(400, {}, body).message


def test_it_tells_a_model_that_mistral_does_not_have():
    told = {"object": "error", "message": "Invalid model: x", "type": "invalid_model", "code": "1500"}
    error = MISTRAL.error(400, {}, orjson.dumps(told))
    assert (error.owner, error.code, error.status) == (Owner.CALLER, "model_not_found", 400)
