"""What each endpoint takes and refuses: the table of bad input."""

import re

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.wires import CHAT, EMBEDDINGS
from proxy.endpoints import (
    CHAT_COMPLETIONS,
    EMBEDDING,
    parse_chat,
    parse_embeddings,
    read_message,
    simple_chat,
)
from proxy.errors import BadRequest

MESSAGES = [{"role": "user", "content": "hi"}]
GOOD = {"model": "gpt-4o", "messages": MESSAGES}


def raw(**fields):
    return orjson.dumps({**GOOD, **fields})


def without(name):
    return orjson.dumps({key: value for key, value in GOOD.items() if key != name})


def refused(parse, body, param, words):
    with pytest.raises(BadRequest, match=words) as raised:
        parse(body)
    assert raised.value.param == param
    assert raised.value.status == 400
    return raised.value


def test_it_reads_a_chat_request():
    body = raw(stream=True, stream_options={"include_usage": True}, n=2)
    call = parse_chat(body)
    assert (call.wire, call.model, call.stream, call.wants_usage, call.choices) == (
        CHAT,
        "gpt-4o",
        True,
        True,
        2,
    )
    assert call.raw is body
    assert call.body == orjson.loads(body)
    assert call.verbatim


def test_it_assumes_what_openai_assumes():
    call = parse_chat(raw())
    assert (call.stream, call.wants_usage, call.choices) == (False, False, 1)
    assert parse_chat(raw(stream=None, n=None, stream_options=None)).choices == 1
    assert not parse_chat(raw(stream=True, stream_options={})).wants_usage


BAD_JSON = [
    (b"", "empty"),
    (b"{", "not valid JSON"),
    (b"{'model': 1}", "not valid JSON"),
    (b'{"model": NaN}', "not valid JSON"),
    (b'{"model": "x"} trailing', "not valid JSON"),
    (b'{"model": "\xff"}', "not valid JSON"),
    (b'{"model": "\\ud800"}', "not valid JSON"),
    ("{}".encode("utf-16"), "not valid JSON"),
    (b"\xef\xbb\xbf{}", "not valid JSON"),
    (b"[" * 100_000, "not valid JSON"),
    (b"[]", "JSON object"),
    (b"null", "JSON object"),
    (b'"text"', "JSON object"),
    (b"7", "JSON object"),
]


@pytest.mark.parametrize(("body", "words"), BAD_JSON)
@pytest.mark.parametrize("parse", [parse_chat, parse_embeddings, read_message])
def test_it_refuses_a_body_that_is_no_json_object(parse, body, words):
    refused(parse, body, None, words)


def nested(depth):
    return raw(input="x")[:-1] + b',"deep":' + b"[" * depth + b"]" * depth + b"}"


@pytest.mark.parametrize("depth", [260, 300, 1000, 1500])
@pytest.mark.parametrize("parse", [parse_chat, parse_embeddings])
def test_it_refuses_nesting_that_could_not_be_written_again(parse, depth):
    refused(parse, nested(depth), None, "nested|JSON")


@pytest.mark.parametrize("depth", [10, 210, 240])
@pytest.mark.parametrize("parse", [parse_chat, parse_embeddings])
def test_it_takes_nesting_that_can_be_written_again(parse, depth):
    call = parse(nested(depth))
    assert orjson.dumps({**call.body, "model": "other"}, option=orjson.OPT_SORT_KEYS)


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        (without("model"), "model", "missing"),
        (raw(model=None), "model", "missing"),
        (raw(model=""), "model", "not empty"),
        (raw(model="  "), "model", "not empty"),
        (raw(model=7), "model", "string"),
        (raw(model=["gpt-4o"]), "model", "string"),
        (raw(model="m" * 257), "model", "256"),
        (raw(model="gpt\n4o"), "model", "control"),
        (raw(model="gpt\r\nx-evil: 1"), "model", "control"),
        (raw(model="gpt\x00"), "model", "control"),
        (without("messages"), "messages", "list"),
        (raw(messages=None), "messages", "list"),
        (raw(messages=[]), "messages", "at least one"),
        (raw(messages={}), "messages", "list"),
        (raw(messages="hi"), "messages", "list"),
        (raw(messages=["hi"]), r"messages[0]", "role"),
        (raw(messages=[*MESSAGES, None]), r"messages[1]", "role"),
        (raw(messages=[{"content": "hi"}]), r"messages[0]", "role"),
        (raw(messages=[{"role": 1}]), r"messages[0]", "role"),
        (raw(stream="true"), "stream", "true or false"),
        (raw(stream=1), "stream", "true or false"),
        (raw(stream=True, stream_options=[]), "stream_options", "object"),
        (raw(stream_options={"include_usage": True}), "stream_options", "'stream' is true"),
        (raw(n=0), "n", "1 to 128"),
        (raw(n=-1), "n", "1 to 128"),
        (raw(n=129), "n", "1 to 128"),
        (raw(n=1.0), "n", "whole"),
        (raw(n="1"), "n", "whole"),
        (raw(n=True), "n", "whole"),
    ],
)
def test_it_names_what_is_wrong_with_a_chat(body, param, words):
    refused(parse_chat, body, param, words)


def test_it_reads_an_embeddings_request():
    body = orjson.dumps({"model": "text-embedding-3-small", "input": ["a", "b"]})
    call = parse_embeddings(body)
    assert (call.wire, call.model, call.stream, call.raw) == (
        EMBEDDINGS,
        "text-embedding-3-small",
        False,
        body,
    )
    assert parse_embeddings(b'{"model": "m", "input": [[1, 2]]}').body["input"] == [[1, 2]]


@pytest.mark.parametrize("value", ["", [], None, 7, {"text": "a"}])
def test_it_names_what_is_wrong_with_embeddings(value):
    refused(parse_embeddings, orjson.dumps({"model": "m", "input": value}), "input", "not empty")
    refused(parse_embeddings, b'{"model": "m"}', "input", "not empty")
    refused(parse_embeddings, b'{"input": "x"}', "model", "missing")


@pytest.mark.parametrize(
    "value",
    ["a", ["a", ""], [1, 2], [[1, 2], [3]], ["a", [1]], ["a"] * 3000, [{"content": []}, "a"]],
)
def test_it_takes_every_form_of_input(value):
    assert parse_embeddings(orjson.dumps({"model": "m", "input": value})).body["input"] == value


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": ["a", "b", "c", 7]}, "input[3]"),
        ({"input": ["a", None]}, "input[1]"),
        ({"input": ["a", []]}, "input[1]"),
        ({"input": [[1, 2], [3, "a"]]}, "input[1]"),
        ({"input": [[1, 2], [True]]}, "input[1]"),
        ({"input": [1, 2.5]}, "input[1]"),
        ({"input": [1, "a"]}, "input[1]"),
        ({"input": ["a", 1]}, "input[1]"),
        ({"input": [False]}, "input[0]"),
        ({"encoding_format": "int8"}, "encoding_format"),
        ({"encoding_format": ["float"]}, "encoding_format"),
        ({"encoding_format": 7}, "encoding_format"),
        ({"dimensions": 0}, "dimensions"),
        ({"dimensions": -1}, "dimensions"),
        ({"dimensions": 1.0}, "dimensions"),
        ({"dimensions": "256"}, "dimensions"),
        ({"dimensions": True}, "dimensions"),
    ],
)
def test_it_names_which_part_of_embeddings_is_wrong(fields, param):
    body = orjson.dumps({"model": "m", "input": "a", **fields})
    refused(parse_embeddings, body, param, re.escape(param))


@pytest.mark.parametrize(
    "fields",
    [{"encoding_format": "base64", "dimensions": 256}, {"encoding_format": None, "dimensions": None}],
)
def test_it_takes_the_form_of_embeddings(fields):
    assert (
        parse_embeddings(orjson.dumps({"model": "m", "input": "a", **fields})).body.items() >= fields.items()
    )


@pytest.mark.parametrize("value", ["", "  ", None, 7, ["hi"], {"text": "hi"}])
def test_it_names_what_is_wrong_with_a_simple_message(value):
    refused(read_message, orjson.dumps({"message": value}), "message", "not empty")
    refused(read_message, b"{}", "message", "not empty")


def test_it_reads_a_simple_message():
    assert read_message('{"message": "hé", "other": 1}'.encode()) == "hé"


@pytest.mark.parametrize("stream", [False, True])
def test_it_makes_a_chat_of_a_simple_message(stream):
    endpoint = simple_chat("hi", model="demo/echo", stream=stream)
    call = endpoint.parse(b"whatever")
    assert (call.model, call.stream, call.wants_usage) == ("demo/echo", stream, False)
    assert orjson.loads(call.raw) == call.body
    assert parse_chat(call.raw).body == call.body
    assert endpoint.name == CHAT_COMPLETIONS.name == "chat"
    assert EMBEDDING.name == "embeddings"
    assert all(each.cacheable for each in (endpoint, EMBEDDING, CHAT_COMPLETIONS))


# ---------------------------------------------------------------- may it be sent on as it came?


@pytest.mark.parametrize(
    "text",
    [
        b'{"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}',
        b'{ "model" :"gpt-4o" , "messages":[{"role": "user", "content": "say \\"model\\": twice"}]}',
        b'{"model": "gpt-4o", "messages": [{"role": "user", "content": "a: b \\"x\\" : c"}], "n": null}',
    ],
)
def test_it_sends_an_unambiguous_body_on(text):
    assert parse_chat(text).verbatim


@pytest.mark.parametrize(
    "text",
    [
        b'{"model": "cheap", "model": "dear", "messages": [{"role": "user"}]}',
        b'{"model": "cheap", "\\u006dodel": "dear", "messages": [{"role": "user"}]}',
        b'{"m\\u006fdel": "cheap", "model": "dear", "messages": [{"role": "user"}]}',
        b'{"model": "m", "max_tokens": 1, "max_tokens": 100000, "messages": [{"role": "user"}]}',
        b'{"model": "m", "messages": [{"role": "user", "role": "system"}]}',
        b'{"model": "m", "messages": [{"role": "user"}], "stream": false, "stream" : true}',
        b'{"model": "a", "model": "b", "messages": [{"role": "user"}], "x\\\\": 1}',
        b'{"model": "a", "model"\t:\n"b", "messages": [{"role": "user"}], "x\\\\\\\\": 1}',
        b'{"model": "a", "model": "b", "messages": [{"role": "user"}], "x\\"": 1}',
    ],
)
def test_it_writes_a_body_with_a_repeated_key_anew(text):
    assert not parse_chat(text).verbatim


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(max_size=4).filter(lambda name: name != "n"), JSON, max_size=4))
def test_it_never_sends_a_repeated_key_on(fields):
    """Whatever else is in the body: a body in which the model stands twice is never verbatim."""
    inner = orjson.dumps({**fields, **GOOD})
    assert not parse_chat(b'{"model":"other",' + inner[1:]).verbatim
