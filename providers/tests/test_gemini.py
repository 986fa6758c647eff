"""The Gemini dialect: paths, keys, lists, embeddings, and all of it on recorded traffic."""

import re
from contextlib import suppress
from copy import deepcopy

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.dialects.gemini.dialect import Gemini
from providers.errors import UnsupportedParameter, UpstreamError
from providers.events import Kind
from providers.tests.samples import cassettes, make_call, make_upstream
from providers.usage import Usage
from providers.wires import EMBEDDINGS

GEMINI = Gemini()
HOST = "https://generativelanguage.googleapis.com"


def upstream(model="gemini-2.5-flash", base_url=HOST, **fields):
    return make_upstream("gemini", model, dialect="gemini", base_url=base_url, **fields)


def embed(**fields):
    call = make_call(wire=EMBEDDINGS, **fields)
    return call._replace(body={name: value for name, value in call.body.items() if name != "messages"})


def seen(events):
    """Return everything that a relay and a renderer could see of the events."""
    return [
        (event.kind, list(event.choices), event.usage, list(event.finish_reasons))
        + ((event.error.owner, event.error.code, event.error.message) if event.error else ())
        for event in events
    ]


def decode(pieces):
    decoder = GEMINI.stream(make_call(stream=True))
    events = [event for piece in pieces for event in decoder.feed(piece)]
    return [*events, *decoder.close()]


# ---------------------------------------------------------------- where and how it is asked


@pytest.mark.parametrize(
    ("base_url", "start"),
    [
        (HOST, "/v1beta/models/"),
        (HOST + "/v1beta", "/models/"),
        (HOST + "/v1", "/models/"),
        (HOST + "/v1beta/", "/models/"),
        ("http://127.0.0.1:9/gemini", "/v1beta/models/"),
        (
            "https://aiplatform.googleapis.com/v1/projects/p/locations/global/publishers/google",
            "/models/",
        ),
    ],
)
def test_it_finds_the_path_under_every_base_url(base_url, start):
    for stream, method in ((False, "generateContent"), (True, "streamGenerateContent?alt=sse")):
        request = GEMINI.encode(make_call(stream=stream), upstream(base_url=base_url))
        assert request.path == f"{start}gemini-2.5-flash:{method}"
        assert request.headers == {"content-type": "application/json"}


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("models/gemini-2.5-pro", "/v1beta/models/gemini-2.5-pro"),
        ("tunedModels/mine-1", "/v1beta/tunedModels/mine-1"),
        ("odd/name:x?y", "/v1beta/models/odd%2Fname%3Ax%3Fy"),
    ],
)
def test_it_puts_the_models_name_into_the_path(model, path):
    assert GEMINI.encode(make_call(), upstream(model)).path == f"{path}:generateContent"


@pytest.mark.parametrize("model", ["..", "../files", "models/../x", "tunedModels/.."])
def test_it_takes_no_step_in_a_path_for_a_model(model):
    with pytest.raises(UnsupportedParameter) as raised:
        GEMINI.encode(make_call(), upstream(model))
    assert raised.value.param == "model"


@pytest.mark.parametrize(
    ("credential", "header", "headers"),
    [
        ("", "", {}),
        ("k", "", {"x-goog-api-key": "k"}),
        ("k", "Authorization", {"authorization": "Bearer k"}),
        ("k", "X-Key", {"x-key": "k"}),
    ],
)
def test_it_shows_the_credential(credential, header, headers):
    assert GEMINI.auth_headers(credential, header) == headers


def test_it_reads_the_model_list():
    listed = [{"name": "models/gemini-2.5-flash"}, {"name": "tunedModels/x"}, {"name": 3}, "y", {}]
    assert GEMINI.models_path() == "/v1beta/models?pageSize=1000"
    assert GEMINI.model_list(orjson.dumps({"models": listed})) == [
        {"id": "gemini-2.5-flash", "created": 0, "owned_by": "google"},
        {"id": "tunedModels/x", "created": 0, "owned_by": "google"},
    ]


# ---------------------------------------------------------------- embeddings


@pytest.mark.parametrize(("texts", "asked"), [("a", ["a"]), (["a", "b"], ["a", "b"])])
def test_it_asks_for_a_batch_of_embeddings(texts, asked):
    call = embed(input=texts, dimensions=8, encoding_format="base64", user="u")
    request = GEMINI.encode(call, upstream("gemini-embedding-001"))
    assert request.path == "/v1beta/models/gemini-embedding-001:batchEmbedContents"
    assert orjson.loads(request.body) == {
        "requests": [
            {
                "model": "models/gemini-embedding-001",
                "content": {"parts": [{"text": text}]},
                "outputDimensionality": 8,
            }
            for text in asked
        ]
    }
    assert request.dropped_params == ("user",)


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"input": [1, 2]}, "input", "unsupported_parameter"),
        ({"input": [[1, 2]]}, "input", "unsupported_parameter"),
        ({"input": ["a", None]}, "input[1]", "invalid_value"),
        ({"input": []}, "input", "invalid_value"),
        ({"input": 3}, "input", "invalid_value"),
        ({"input": "a", "dimensions": "8"}, "dimensions", "invalid_value"),
        ({"input": "a", "encoding_format": ["float"]}, "encoding_format", "invalid_value"),
        ({"input": "a", "truncate": True}, "truncate", "unsupported_parameter"),
    ],
)
def test_it_refuses_embeddings_by_name(fields, param, code):
    with pytest.raises(UnsupportedParameter) as raised:
        GEMINI.encode(embed(**fields), upstream())
    assert (raised.value.param, raised.value.code) == (param, code)


def test_it_reads_embeddings_in_order_and_in_the_encoding_asked_for():
    body = orjson.dumps({"embeddings": [{"values": [1, 0.5]}, {"values": [0, 0]}]})
    answer = GEMINI.decode(body, embed(input=["a", "b"]))
    assert answer.usage is None
    assert [row["embedding"] for row in answer.message["data"]] == [[1, 0.5], [0, 0]]
    coded = GEMINI.decode(body, embed(input=["a", "b"], encoding_format="base64"))
    assert coded.message["data"][0]["embedding"] == "AACAPwAAAD8="


def test_it_reads_the_usage_of_embeddings_where_there_is_one():
    body = {"embeddings": [{"values": [1]}], "usageMetadata": {"promptTokenCount": 4}}
    assert GEMINI.decode(orjson.dumps(body), embed(input="a")).usage == Usage(prompt=4)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"embeddings": []},
        {"embeddings": {}},
        {"embeddings": [{"values": [1]}, {"values": [1]}]},
        {"embeddings": [{"values": ["x"]}]},
        {"embeddings": [3]},
        {"error": {"code": 500, "message": "no"}},
        [],
    ],
)
def test_it_refuses_what_are_no_embeddings(body):
    with pytest.raises(UpstreamError):
        GEMINI.decode(orjson.dumps(body), embed(input="a"))


# ---------------------------------------------------------------- recorded traffic

RECORDED = cassettes("gemini")


def is_stream(cassette):
    return "streamGenerateContent" in cassette["request"]["path"] and cassette["response"]["status"] == 200


def framed(cassette):
    """Return a recorded stream as server-sent events: two were recorded as a JSON array."""
    body = cassette["response"]["body"]
    if not body.startswith("["):
        return body.encode()
    return b"".join(b"data: " + orjson.dumps(piece) + b"\r\n\r\n" for piece in orjson.loads(body))


def pick(wanted):
    return [param for param in RECORDED if param.marks or wanted(param.values[0])]


STREAMS = pick(is_stream)
ANSWERS = pick(lambda cassette: not is_stream(cassette))


@pytest.mark.parametrize("cassette", STREAMS)
def test_it_decodes_a_recorded_stream_alike_for_every_split(cassette):
    text = framed(cassette)
    whole = seen(decode([text]))
    assert whole[-1][0] is Kind.DONE
    for place in range(0, len(text), max(len(text) // 200, 1)):
        assert seen(decode([text[:place], text[place:]])) == whole, place
    assert seen(decode([text[i : i + 1] for i in range(len(text))])) == whole
    assert seen(decode([text.replace(b"\r\n", b"\n")])) == whole


@pytest.mark.parametrize("cassette", STREAMS)
def test_it_never_ends_a_cut_stream_whole_before_its_finish_reason(cassette):
    text = framed(cassette)
    last = text.rindex(b'"finishReason"')
    for cut in range(0, last, max(last // 50, 1)):
        events = decode([text[:cut]])
        assert [event.kind for event in events if event.kind in (Kind.DONE, Kind.ERROR)] == [Kind.ERROR]


@pytest.mark.parametrize("cassette", ANSWERS)
def test_it_decodes_a_recorded_answer_or_error(cassette):
    response = cassette["response"]
    body = response["body"].encode()
    if response["status"] >= 300:
        error = GEMINI.error(response["status"], response["headers"], body)
        assert error.message == orjson.loads(body)["error"]["message"]
        return
    texts = [""] * len((cassette["request"]["body"] or {}).get("requests", ()))
    call = embed(input=texts) if cassette["kind"] == "embeddings" else make_call()
    answer = GEMINI.decode(body, call)
    assert answer.finish_reasons
    assert orjson.dumps(answer.message)
    for place in range(0, len(body.strip()), max(len(body) // 100, 1)):
        with pytest.raises(UpstreamError):
            GEMINI.decode(body[:place], call)


def counted(param):
    cassette = param.values[0]
    return bool(param.marks) or (
        cassette["kind"] != "embeddings" and "totalTokenCount" in cassette["response"]["body"]
    )


@pytest.mark.parametrize("cassette", list(filter(counted, RECORDED)))
def test_it_counts_what_google_counted(cassette):
    body = cassette["response"]["body"]
    totals = re.findall(r'"totalTokenCount": ?(\d+)', body)
    if is_stream(cassette):
        (usage,) = [event.usage for event in decode([framed(cassette)]) if event.usage is not None]
    else:
        usage = GEMINI.decode(body.encode(), make_call()).usage
    assert usage is not None
    assert usage.total == int(totals[-1])
    assert usage.reasoning <= usage.completion


# ---------------------------------------------------------------- any bytes, any body


def words(text):
    return st.sampled_from(re.findall(r"\S+", text))


NAMES = words(
    """
    candidates content parts text thought thoughtSignature functionCall name args inlineData
    mimeType data finishReason index usageMetadata promptTokenCount groundingMetadata
    groundingChunks web uri logprobsResult chosenCandidates error promptFeedback embeddings
    values responseId code details retryDelay message
    """
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 2**63) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)
PARTS = st.fixed_dictionaries({"candidates": st.lists(st.fixed_dictionaries({"content": JSON}) | JSON)})


@given(st.dictionaries(NAMES, JSON) | PARTS)
def test_it_survives_every_answer(body):
    raw = orjson.dumps(body)
    for call in (make_call(), embed(input="a")):
        with suppress(UpstreamError):
            orjson.dumps(GEMINI.decode(raw, call).message)
    events = decode([b"data: " + raw + b"\n\n"])
    assert [event.kind for event in events if event.kind in (Kind.DONE, Kind.ERROR)] == [events[-1].kind]
    assert isinstance(GEMINI.error(400, {}, raw), UpstreamError)


FIELDS = words(
    """
    role content type text tool_calls function name arguments id tool_call_id image_url url
    file file_data input_audio parameters $ref allOf properties extra_content google
    thought_signature thinking_blocks signature json_schema schema
    """
)
WORDS = words(
    """
    user assistant tool system text image_url file function {} #/a json_schema enabled low
    data:image/png;base64,AAAA https://x/y.png gemini:a:b
    """
)
CLIENT = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 2**40) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner, max_size=4),
    max_leaves=10,
)
PARAMS = words(
    """
    messages tools tool_choice stop response_format thinking reasoning_effort n max_tokens
    temperature logprobs top_logprobs modalities seed top_k
    """
)
ROLES = words("user assistant tool system nobody")
MESSAGES = st.lists(
    st.builds(lambda role, fields: {**fields, "role": role}, ROLES, st.dictionaries(FIELDS, CLIENT)),
    max_size=4,
)


@given(st.dictionaries(PARAMS, CLIENT), MESSAGES, st.sampled_from(["gemini-2.5-pro", "gemini-3-pro"]))
def test_it_refuses_what_it_cannot_express_and_nothing_else_happens(fields, messages, model):
    call = make_call(messages=messages)
    call = call._replace(body={**call.body, **fields})
    before = deepcopy(call.body)
    with suppress(UnsupportedParameter):
        once = GEMINI.encode(call, upstream(model))
        assert GEMINI.encode(call, upstream(model)) == once
    assert call.body == before
