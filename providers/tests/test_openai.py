"""What the OpenAI dialect does with its own form."""

import orjson
import pytest

from providers.dialects import DIALECTS
from providers.dialects.openai import stream as openai
from providers.errors import Owner, UpstreamError
from providers.events import Kind
from providers.tests.samples import (
    DONE,
    TEXT_STREAM,
    answer,
    chunk,
    decode,
    ends_whole,
    make_call,
    make_upstream,
    sse,
    usage_chunk,
)
from providers.wires import EMBEDDINGS

OPENAI = DIALECTS["openai"]


# ---------------------------------------------------------------- OpenAI: encode


def test_it_sends_a_body_that_need_not_change_as_it_came():
    call = make_call(model="gpt-4o")
    request = OPENAI.encode(call, make_upstream(model="gpt-4o"))
    assert request.body is call.raw
    assert request.path == "/chat/completions"
    assert request.headers == {"content-type": "application/json"}


def test_it_puts_the_vendors_model_name_in():
    request = OPENAI.encode(make_call(model="fast", seed=7), make_upstream(model="gpt-4o-mini"))
    assert orjson.loads(request.body) == {
        "model": "gpt-4o-mini",
        "messages": [{"role": "user", "content": "hello"}],
        "seed": 7,
    }


def test_it_asks_for_usage_where_the_client_did_not():
    call = make_call(stream=True, stream_options={"include_obfuscation": False})
    body = orjson.loads(OPENAI.encode(call, make_upstream()).body)
    assert body["stream_options"] == {"include_obfuscation": False, "include_usage": True}


def test_it_leaves_a_stream_alone_that_asks_for_usage_itself():
    call = make_call(stream=True, stream_options={"include_usage": True})
    assert OPENAI.encode(call, make_upstream()).body is call.raw


def test_it_writes_a_body_anew_that_could_be_read_in_two_ways():
    call = make_call()
    call = type(call)(wire=call.wire, model=call.model, body=call.body, raw=b'{"model": 1,}', verbatim=False)
    assert orjson.loads(OPENAI.encode(call, make_upstream()).body) == call.body


def test_it_sends_embeddings_to_their_own_path():
    call = make_call(wire=EMBEDDINGS)
    assert OPENAI.encode(call, make_upstream()).path == "/embeddings"


@pytest.mark.parametrize(
    ("credential", "header", "headers"),
    [
        ("", "", {}),
        ("", "api-key", {}),
        ("k", "", {"authorization": "Bearer k"}),
        ("k", "Authorization", {"authorization": "Bearer k"}),
        ("k", "Api-Key", {"api-key": "k"}),
    ],
)
def test_it_shows_the_credential(credential, header, headers):
    assert OPENAI.auth_headers(credential, header) == headers


def test_it_reads_the_model_list():
    listed = [{"id": "gpt-4o", "created": 7, "owned_by": "openai"}, {"id": "x"}, {"id": 3}, "y", {}]
    assert OPENAI.models_path() == "/models"
    assert OPENAI.model_list(orjson.dumps({"data": listed})) == [
        {"id": "gpt-4o", "created": 7, "owned_by": "openai"},
        {"id": "x", "created": 0, "owned_by": ""},
    ]


# ---------------------------------------------------------------- OpenAI: decode


def test_it_keeps_an_answers_bytes():
    raw = orjson.dumps(answer())
    decoded = OPENAI.decode(b"\n\n  " + raw + b"\n", make_call())
    assert decoded.body == raw
    assert decoded.finish_reasons == ["stop"]
    assert decoded.usage is not None
    assert decoded.usage.total == 7


@pytest.mark.parametrize(
    "body",
    [
        b"null",
        b"[]",
        b"{}",
        b'{"choices": []}',
        b'{"choices": {}}',
        b'{"choices": ["text"]}',
        b'{"choices": [{}, null]}',
        b'{"choices"',
        b"",
    ],
)
def test_it_refuses_what_is_no_answer(body):
    with pytest.raises(UpstreamError) as raised:
        OPENAI.decode(body, make_call())
    assert raised.value.owner is Owner.HEALTH
    assert raised.value.code == "upstream_invalid_response"


def test_it_raises_the_error_of_an_answer_with_status_200():
    with pytest.raises(UpstreamError) as raised:
        OPENAI.decode(b'{"error": {"message": "slow down", "code": 429}}', make_call())
    assert raised.value.owner is Owner.CAPACITY


def test_it_decodes_embeddings():
    body = {"data": [{"embedding": [0.1]}], "usage": {"prompt_tokens": 3, "total_tokens": 3}}
    decoded = OPENAI.decode(orjson.dumps(body), make_call(wire=EMBEDDINGS))
    assert decoded.finish_reasons == ("stop",)
    assert decoded.usage is not None
    assert decoded.usage.prompt == 3
    with pytest.raises(UpstreamError):
        OPENAI.decode(b'{"data": 1}', make_call(wire=EMBEDDINGS))


# ---------------------------------------------------------------- OpenAI: streams


PLAIN = sse(chunk({"content": "hello"}))
RUNNING_COUNT = sse({**chunk({"content": "x"}), "usage": {"prompt_tokens": 1, "completion_tokens": 2}})


@pytest.mark.parametrize(
    ("block", "kinds_and_chunks"),
    [
        (PLAIN * 5, [(Kind.CONTENT, 5)]),
        (PLAIN * 2 + RUNNING_COUNT + PLAIN * 3, [(Kind.CONTENT, 2), (Kind.CONTENT, 1), (Kind.CONTENT, 3)]),
        (PLAIN + b": ping\n\n" + PLAIN, [(Kind.CONTENT, 1), (Kind.META, 1), (Kind.CONTENT, 1)]),
        (PLAIN + b"\n" + PLAIN, [(Kind.CONTENT, 1), (Kind.CONTENT, 1)]),
        (PLAIN.replace(b"data: ", b"data:") * 2, [(Kind.CONTENT, 1)] * 2),
        (PLAIN.replace(b"data: {", b"data: {\ndata: ") * 2, [(Kind.CONTENT, 1)] * 2),
        (PLAIN * 2 + PLAIN[:-1], [(Kind.CONTENT, 2)]),
        (PLAIN.replace(b"\n", b"\r\n") * 2, [(Kind.CONTENT, 1)] * 2),
        (PLAIN * 2 + b'data: {"error": {"message": "no"}}\n\n' + PLAIN, [(Kind.CONTENT, 2), (Kind.ERROR, 0)]),
    ],
)
def test_it_passes_plain_content_of_one_read_on_as_one_event(block, kinds_and_chunks):
    decoder = OPENAI.stream(make_call(stream=True))
    decoder.feed(PLAIN)
    events = decoder.feed(block)
    assert [(event.kind, event.chunks) for event in events] == kinds_and_chunks
    assert sum(len(event.choices) for event in events) == sum(
        chunks for kind, chunks in kinds_and_chunks if kind is Kind.CONTENT
    )


def test_it_looks_for_plain_content_once_in_a_block_of_other_framing(monkeypatch):
    """Looking again behind each event would cost the square of the block's length."""
    decoder, looked, plain_from = OPENAI.stream(make_call(stream=True)), [], openai._plain_from
    decoder.feed(PLAIN)

    def counting(block, start):
        looked.append(len(block))
        return plain_from(block, start)

    monkeypatch.setattr(openai, "_plain_from", counting)
    block = (PLAIN + b": ping\n\n") * 500
    assert len(decoder.feed(block)) == 1000
    assert sum(looked) == 2 * len(block)  # the whole once, and each event by itself


FRAMED_OTHERWISE = PLAIN + b": ping\n\n"


@pytest.mark.parametrize(
    "odd", [b"data: {bad}\n\n", PLAIN.replace(b'"index":0', b'"index":1'), PLAIN.replace(b"}\n", b"} \n")]
)
def test_it_sees_what_is_odd_alike_for_every_split(odd):
    text = FRAMED_OTHERWISE + odd + sse(chunk(finish="stop")) + DONE
    outcomes = []
    for cut in range(len(text)):
        decoder = OPENAI.stream(make_call(stream=True))
        events = [
            *decoder.feed(PLAIN),
            *decoder.feed(text[:cut]),
            *decoder.feed(text[cut:]),
            *decoder.close(),
        ]
        outcomes.append((events[-1].kind, b"".join(event.raw for event in events)))
    assert len(set(outcomes)) == 1


def test_it_passes_a_streams_bytes_on_untouched():
    events = decode([TEXT_STREAM])
    assert b"".join(event.raw for event in events) == TEXT_STREAM
    assert [event.kind for event in events] == [
        Kind.META,
        Kind.CONTENT,
        Kind.CONTENT,  # the second and third chunk, which passed unparsed together
        Kind.FINISH,
        Kind.USAGE,
        Kind.DONE,
    ]
    assert [event.chunks for event in events] == [1, 1, 2, 1, 1, 1]
    assert events[4].usage is not None
    assert events[4].usage.total == 7


def test_it_parses_nothing_after_the_first_content_until_somebody_asks():
    broken = b"data: {not json}\n\n"
    events = decode([sse(chunk({"content": "a"})), broken, sse(chunk(finish="stop")), DONE])
    assert [event.kind for event in events] == [Kind.CONTENT, Kind.CONTENT, Kind.FINISH, Kind.DONE]
    with pytest.raises(UpstreamError):
        _ = events[1].choices


def test_it_adds_the_end_marker_that_a_vendor_forgot():
    events = decode([TEXT_STREAM.removesuffix(DONE)])
    assert events[-1].kind is Kind.DONE
    assert events[-1].raw == DONE


def test_it_takes_a_last_event_without_its_blank_line():
    events = decode([TEXT_STREAM.rstrip()])
    assert events[-1].kind is Kind.DONE
    assert events[-1].raw == DONE
    parts = TEXT_STREAM.removesuffix(DONE).removesuffix(sse(usage_chunk())).rstrip()
    assert [event.kind for event in decode([parts])][-2:] == [Kind.FINISH, Kind.DONE]


@pytest.mark.parametrize(
    "text",
    [
        b"",
        DONE,
        sse(chunk({"content": "a"})),
        sse(chunk({"content": "a"})) + DONE,
        sse(usage_chunk()) + DONE,
        b": ping\n\n" * 3,
    ],
)
def test_it_ends_without_a_finish_reason_in_an_error(text):
    last = decode([text])[-1]
    assert last.kind is Kind.ERROR
    assert last.error is not None
    assert last.error.code == "upstream_invalid_response"
    assert not last.raw


def test_it_wants_every_choice_finished():
    call = make_call(stream=True, n=2)
    first = sse(chunk({"content": "a"})) + sse(chunk({"content": "b"}, index=1)) + sse(chunk(finish="stop"))
    assert decode([first + DONE], call)[-1].kind is Kind.ERROR
    assert ends_whole(decode([first + sse(chunk(finish="stop", index=1)) + DONE], call))


def test_it_reads_nothing_after_the_end():
    decoder = OPENAI.stream(make_call(stream=True))
    assert ends_whole(decoder.feed(TEXT_STREAM + sse(chunk({"content": "more"}))))
    assert list(decoder.feed(sse(chunk({"content": "more"})))) == []
    assert list(decoder.close()) == []


@pytest.mark.parametrize(
    "bad",
    [
        b'data: {"error": {"message": "overloaded", "code": 503}}\n\n',
        b'event: error\ndata: {"error": {"message": "overloaded", "code": 503}}\n\n',
        b'data: {"error" : {"message": "overloaded", "code": 503}}\n\n',
    ],
)
@pytest.mark.parametrize("before", [b"", sse(chunk({"content": "a"}))])
def test_it_finds_an_error_inside_a_stream(bad, before):
    events = decode([before + bad + TEXT_STREAM])
    assert events[-1].kind is Kind.ERROR
    assert events[-1].error is not None
    assert events[-1].error.status == 503
    assert len(events) == (2 if before else 1)


def test_it_reads_an_answer_that_talks_about_errors_and_usage():
    """Words in a text never look like keys: their quotes are escaped."""
    text = 'say "error": and "usage": {"prompt_tokens": 1} and "finish_reason": "stop"'
    events = decode([sse(chunk({"content": "a"})), sse(chunk({"content": text})), sse(chunk(finish="stop"))])
    assert [event.kind for event in events] == [Kind.CONTENT, Kind.CONTENT, Kind.FINISH, Kind.DONE]
    assert events[1].usage is None


def test_it_takes_comments_and_empty_data_as_nothing():
    events = decode([b": OPENROUTER PROCESSING\n\n", b"data: \n\n", b"event: ping\n\n", TEXT_STREAM])
    assert [event.kind for event in events[:3]] == [Kind.META] * 3


@pytest.mark.parametrize(
    "delta",
    [
        {"content": "a"},
        {"reasoning_content": "a"},
        {"refusal": "no"},
        {"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "f", "arguments": ""}}]},
        {"function_call": {"name": "f"}},
        {"audio": {"id": "x"}},
    ],
)
def test_it_knows_content_when_it_sees_it(delta):
    first, *_ = decode([sse(chunk({"role": "assistant", **delta}))])
    assert first.kind is Kind.CONTENT


@pytest.mark.parametrize("delta", [{}, {"role": "assistant"}, {"content": ""}, {"content": None}])
def test_it_knows_nothing_when_it_sees_it(delta):
    first, *_ = decode([sse(chunk(delta))])
    assert first.kind is Kind.META


@pytest.mark.parametrize("delta", ["text", 3, {"tool_calls": "none"}, {"tool_calls": [3]}])
def test_it_refuses_a_delta_of_another_shape(delta):
    first, *_ = decode([sse(chunk(delta))])
    assert first.kind is Kind.ERROR


def test_it_takes_running_usage_counts():
    """Groq and others repeat usage: each event has what was counted by then."""
    events = decode(
        [
            sse(chunk({"content": "a"}, usage={"prompt_tokens": 3, "completion_tokens": 1})),
            sse(chunk(finish="stop", usage={"prompt_tokens": 3, "completion_tokens": 2})),
            DONE,
        ]
    )
    assert [event.usage.total for event in events if event.usage] == [4, 5]


def test_it_shows_an_event_for_people():
    assert "META" in repr(decode([b": x\n\n"])[0])
