import base64
import struct

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers import demo
from providers.dialects import DIALECTS
from providers.events import Kind
from providers.tests.samples import make_call


def ask(path="/chat/completions", **fields):
    body = {"model": "echo", "messages": [{"role": "user", "content": "Say it back"}], **fields}
    reply = demo.respond(path, orjson.dumps(body))
    pieces = list(reply.pieces)
    return reply, [pause for pause, _ in pieces], b"".join(text for _, text in pieces)


def said(body):
    return orjson.loads(body)["choices"][0]["message"]["content"]


def test_it_echoes_the_last_message():
    reply, pauses, body = ask()
    assert (reply.status, reply.content_type, pauses) == (200, "application/json", [0.0])
    answer = orjson.loads(body)
    assert said(body) == "Say it back"
    assert answer["object"] == "chat.completion"
    assert answer["usage"] == {"prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6}
    assert answer["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize(
    ("messages", "echo"),
    [
        (
            [
                {
                    "role": "user",
                    "content": [{"type": "text", "text": "two"}, {"type": "text", "text": "parts"}],
                }
            ],
            "two parts",
        ),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {}}, "odd"]}], "(nothing)"),
        ([{"role": "user", "content": None}], "(nothing)"),
        ([{"role": "user", "content": ""}], "(nothing)"),
        ([{"role": "user"}], "(nothing)"),
        (["odd"], "(nothing)"),
        ("odd", "(nothing)"),
        ([], "(nothing)"),
        (None, "(nothing)"),
    ],
)
def test_it_finds_the_last_text_in_any_message(messages, echo):
    assert said(ask(messages=messages)[2]) == echo


@pytest.mark.parametrize(
    ("prompt", "words", "gap"),
    [
        ("write", 20, 0.02),
        ("40 words", 40, 0.02),
        ("40 words 100ms", 40, 0.1),
        ("7 ms 3 words", 3, 0.007),
        ("0 words", 1, 0.02),
        ("99999999 words", demo.MAX_WORDS, 0.02),
        ("999999999999 words", 20, 0.02),
        ("5 words 99999ms", 5, 10.0),
        ("5 words 999999999999ms", 5, 0.02),
    ],
)
def test_it_writes_lorem_as_asked(prompt, words, gap):
    _, pauses, body = ask(model="lorem", messages=[{"role": "user", "content": prompt}])
    assert len(said(body).split()) == words
    assert pauses == [pytest.approx(gap * words)]


@pytest.mark.parametrize("limit", ["max_tokens", "max_completion_tokens"])
def test_it_stops_at_the_token_limit(limit):
    _, _, body = ask(**{limit: 2})
    assert said(body) == "Say it "
    assert orjson.loads(body)["choices"][0]["finish_reason"] == "length"
    assert orjson.loads(body)["usage"]["completion_tokens"] == 2
    assert said(ask(**{limit: 0})[2]) == "Say it back"


@pytest.mark.parametrize("with_usage", [False, True])
def test_it_streams_what_it_would_have_said(with_usage):
    options = {"stream_options": {"include_usage": True}} if with_usage else {}
    reply, pauses, body = ask(stream=True, **options)
    assert reply.content_type == "text/event-stream"
    assert not any(pauses)
    decoder = DIALECTS["openai"].stream(make_call(stream=True))
    events = [*decoder.feed(body), *decoder.close()]
    text = "".join(choice["delta"].get("content", "") for event in events for choice in event.choices)
    assert text == "Say it back"
    assert events[-1].kind is Kind.DONE
    assert [event.usage.total for event in events if event.usage] == ([6] if with_usage else [])


def test_it_pauses_between_the_words_of_a_stream():
    _, pauses, _ = ask(model="lorem", stream=True, messages=[{"role": "user", "content": "3 words 50ms"}])
    assert pauses == [0.0, 0.05, 0.05, 0.05, 0.0, 0.0]


def test_it_embeds_a_list_of_tokens_as_one_text_and_in_base64():
    _, _, body = ask("/embeddings", model="embed", input=[1, 2])
    (floats,) = [row["embedding"] for row in orjson.loads(body)["data"]]
    _, _, body = ask("/embeddings", model="embed", input=[[1, 2], [3]], encoding_format="base64")
    first, _ = [row["embedding"] for row in orjson.loads(body)["data"]]
    assert struct.unpack("<16f", base64.b64decode(first)) == pytest.approx(floats)


def test_it_embeds_alike_what_is_alike():
    _, _, body = ask("/embeddings", model="embed", input=["a", "b", "a"])
    answer = orjson.loads(body)
    first, second, third = (row["embedding"] for row in answer["data"])
    assert first == third != second
    assert sum(value * value for value in first) == pytest.approx(1)
    assert [row["index"] for row in answer["data"]] == [0, 1, 2]
    assert answer["usage"] == {"prompt_tokens": 3, "total_tokens": 3}


@pytest.mark.parametrize(
    ("dimensions", "size"), [(None, 16), (3, 3), (4096, 4096), (0, 16), (5000, 16), ("3", 16)]
)
def test_it_embeds_in_the_dimensions_asked_for(dimensions, size):
    _, _, body = ask("/embeddings", model="embed", input="text", dimensions=dimensions)
    assert len(orjson.loads(body)["data"][0]["embedding"]) == size


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/chat/completions", b"{", 400),
        ("/chat/completions", b'{"model": "gpt-4o"}', 404),
        ("/chat/completions", b"{}", 404),
        ("/images", b'{"model": "echo"}', 404),
    ],
)
def test_it_refuses_as_a_vendor_would(path, body, status):
    reply = demo.respond(path, body)
    ((pause, text),) = reply.pieces
    assert (reply.status, pause) == (status, 0.0)
    error = DIALECTS["openai"].error(reply.status, {}, text)
    assert (error.kind, error.status) == ("invalid_request_error", status)


@given(st.text())
def test_it_echoes_any_text_but_its_margins(text):
    words = "".join(said(ask(messages=[{"role": "user", "content": text}])[2]))
    assert words == (text.lstrip() or "(nothing)")
