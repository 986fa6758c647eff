"""Ollama's answers, streams and errors, recorded and made."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.dialects import DIALECTS
from providers.errors import Owner, UpstreamError
from providers.events import Kind, TextEvent
from providers.tests.decoding import decoded, seen, splits
from providers.tests.samples import cassettes, make_call
from providers.usage import Usage
from providers.wires import COMPLETIONS, EMBEDDINGS

OLLAMA = DIALECTS["ollama"]
STREAMING = make_call(stream=True)
NATIVE = ("chat_native", "generate_native", "embed_native", "embeddings")


def line(message=None, **fields):
    said = {} if message is None else {"message": {"role": "assistant", "content": "", **message}}
    return orjson.dumps({"model": "m", "created_at": "now", **said, "done": False, **fields}) + b"\n"


def last_line(reason="stop", message=None, **fields):
    return line(message or {}, done=True, done_reason=reason, **fields)


def events_of(*lines):
    return decoded(OLLAMA, lines, STREAMING)


def deltas(events):
    return [choice["delta"] for event in events for choice in event.choices if choice["delta"]]


def called(name, arguments, **more):
    return {"tool_calls": [{"function": {"name": name, "arguments": arguments}, **more}]}


def is_stream(cassette):
    return "ndjson" in cassette["response"]["headers"].get("content-type", "")


RECORDED = [param for param in cassettes("ollama") if param.marks or param.values[0]["kind"] in NATIVE]
STREAMS = [param for param in RECORDED if param.marks or is_stream(param.values[0])]
ANSWERS = [param for param in RECORDED if param.marks or not is_stream(param.values[0])]


# ---------------------------------------------------------------- streams


@pytest.mark.parametrize("cassette", STREAMS)
def test_it_decodes_a_recorded_stream_alike_for_every_split(cassette):
    text = cassette["response"]["body"].encode()
    events = decoded(OLLAMA, [text], STREAMING)
    assert [event.kind for event in events[-3:]] == [Kind.FINISH, Kind.USAGE, Kind.DONE]
    assert events[-2].usage.prompt > 0
    assert events[-2].usage.completion > 0
    for pieces in splits(text):
        assert seen(decoded(OLLAMA, pieces, STREAMING)) == seen(events)
    commented = text.replace(b"\n", b"\r\n: keep-alive\r\n\r\n")
    assert seen(decoded(OLLAMA, [commented], STREAMING)) == seen(events)


@pytest.mark.parametrize("cassette", STREAMS)
def test_it_never_ends_the_beginning_of_a_recorded_stream_whole(cassette):
    text = cassette["response"]["body"].strip().encode()
    for place in range(0, len(text), max(len(text) // 100, 1)):
        events = decoded(OLLAMA, [text[:place]], STREAMING)
        assert events[-1].kind is Kind.ERROR
        assert all(event.kind not in (Kind.DONE, Kind.ERROR) for event in events[:-1])


def test_it_makes_plain_text_cheap():
    events = events_of(line({"content": "a"}), line({"content": ""}), last_line(eval_count=1))
    assert [type(event) is TextEvent for event in events] == [True, False, False, False]
    assert [event.kind for event in events] == [Kind.CONTENT, Kind.FINISH, Kind.USAGE, Kind.DONE]


def test_it_numbers_calls_on_over_lines_and_ends_with_tool_calls():
    events = events_of(
        line({"thinking": "hm"}),
        line(called("f", {"a": 1})),
        line(called("f", {"a": 1})),
        line(called("g", {}, id="call_own")),
        last_line(),
    )
    thought, *calls = deltas(events)
    calls = [delta["tool_calls"][0] for delta in calls]
    assert thought == {"reasoning_content": "hm"}
    assert [call["index"] for call in calls] == [0, 1, 2]
    assert [call["function"]["arguments"] for call in calls] == ['{"a":1}', '{"a":1}', "{}"]
    assert len({call["id"] for call in calls}) == 3
    assert calls[0]["id"].startswith("call_")
    assert calls[2]["id"] == "call_own"
    assert events[-2].finish_reasons == ["tool_calls"]


@pytest.mark.parametrize(
    ("told", "said"), [("stop", "stop"), ("length", "length"), ("load", "stop"), (None, "stop")]
)
def test_it_maps_why_it_is_done(told, said):
    finish = events_of(last_line(told))[0]
    assert finish.finish_reasons == [said]


@pytest.mark.parametrize(
    ("counts", "usage"),
    [
        ({"prompt_eval_count": 3, "eval_count": 2}, Usage(prompt=3, completion=2)),
        ({"eval_count": 2}, Usage(completion=2)),
        ({"prompt_eval_count": 0}, Usage()),
        ({}, None),
    ],
)
def test_it_counts_what_is_left_out_as_zero(counts, usage):
    assert [event.usage for event in events_of(last_line(**counts)) if event.usage is not None] == (
        [] if usage is None else [usage]
    )


def test_it_reads_nothing_after_the_last_line():
    decoder = OLLAMA.stream(STREAMING)
    assert decoder.feed(last_line() + line({"content": "more"}))[-1].kind is Kind.DONE
    assert list(decoder.feed(line({"content": "more"}))) == []
    assert list(decoder.close()) == []


def test_it_takes_a_last_line_without_its_end():
    assert events_of(line({"content": "a"}), last_line().rstrip())[-1].kind is Kind.DONE


def test_it_ends_in_the_error_that_a_line_tells():
    events = events_of(line({"content": "a"}), b'{"error":"an error was encountered"}\n', last_line())
    assert [event.kind for event in events] == [Kind.CONTENT, Kind.ERROR]
    assert (events[-1].error.owner, events[-1].error.message) == (Owner.HEALTH, "an error was encountered")


def test_it_passes_log_probabilities_on():
    token = {"token": "a", "logprob": -1.5, "bytes": [97], "top_logprobs": [{"token": "b", "logprob": -2.0}]}
    told = {
        "content": [{**token, "top_logprobs": [{"token": "b", "logprob": -2.0, "bytes": None}]}],
        "refusal": None,
    }
    events = events_of(line({"content": "a"}, logprobs=[token]), last_line())
    assert events[0].choices[0]["logprobs"] == told
    assert events[0].choices[0]["delta"] == {"content": "a"}
    answer = OLLAMA.decode(last_line(message={"content": "a"}, logprobs=[token]), make_call())
    assert answer.message["choices"][0]["logprobs"] == told


def test_it_reads_the_lines_of_a_completion():
    call = make_call(stream=True, wire=COMPLETIONS)
    lines = [
        line(response="a", thinking="hm"),
        line(response="b"),
        line(response="", done=True, eval_count=2),
    ]
    events = decoded(OLLAMA, lines, call)
    assert deltas(events) == [{"reasoning_content": "hm"}, {"content": "a"}, {"content": "b"}]
    assert events[-1].kind is Kind.DONE


@pytest.mark.parametrize(
    "bad",
    [
        b"[]\n",
        b"nonsense\n",
        b"{}\n",
        line({"content": 3}),
        line({"thinking": ["x"]}),
        line({"tool_calls": [{}]}),
        line({"tool_calls": "f"}),
        line(called(3, {})),
        line({"content": "a"}, logprobs=[{}]),
        line({"content": "a"}, logprobs=3),
        line(response=3),
    ],
)
def test_it_ends_in_an_error_where_a_line_has_another_shape(bad):
    assert [event.kind for event in events_of(bad, last_line())] == [Kind.ERROR]


@given(st.binary() | st.sampled_from([line({"content": "a"}), last_line(), b'{"message": {}, "done": true}']))
def test_it_ends_any_bytes_once(text):
    events = events_of(text)
    ends = [event.kind for event in events if event.kind in (Kind.DONE, Kind.ERROR)]
    assert ends == [events[-1].kind]


# ---------------------------------------------------------------- whole answers


@pytest.mark.parametrize("cassette", ANSWERS)
def test_it_decodes_a_recorded_answer(cassette):
    response = cassette["response"]
    body = response["body"].strip().encode()
    if response["status"] >= 300:
        error = OLLAMA.error(response["status"], {}, body)
        assert (error.status, error.message) == (response["status"], orjson.loads(body)["error"])
        return
    call = make_call(wire=EMBEDDINGS, input="x") if "embed" in cassette["kind"] else make_call()
    answer, told = OLLAMA.decode(body, call), orjson.loads(body)
    assert answer.usage == Usage(prompt=told["prompt_eval_count"], completion=told.get("eval_count", 0))
    for choice in answer.message.get("choices", ()):
        said = told.get("message") or {"content": told["response"]}
        assert (choice["message"]["content"] or "") == said["content"]
        assert choice["message"].get("reasoning_content") == said.get("thinking")
        assert len(choice["message"].get("tool_calls", ())) == len(said.get("tool_calls", ()))
    for place in range(0, len(body), max(len(body) // 50, 1)):
        with pytest.raises(UpstreamError):
            OLLAMA.decode(body[:place], call)


@pytest.mark.parametrize(
    "body",
    [b"{}", b'{"error": "no"}', line({"content": "a"}), b'{"done": true, "message": []}', b'{"done": true}'],
)
def test_it_refuses_an_answer_that_is_none(body):
    with pytest.raises(UpstreamError):
        OLLAMA.decode(body, make_call())


@pytest.mark.parametrize(
    "body", [b'{"embeddings": 3}', b'{"embeddings": [["a"]]}', b'{"error": "no"}', b"{}"]
)
def test_it_refuses_embeddings_that_are_none(body):
    with pytest.raises(UpstreamError):
        OLLAMA.decode(body, make_call(wire=EMBEDDINGS, input="x"))


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("status", "told", "owner", "code"),
    [
        (404, "model 'x' not found", Owner.CALLER, "model_not_found"),
        (400, "registry.ollama.ai/library/x does not support tools", Owner.CALLER, None),
        (400, "the input length exceeds the context length", Owner.CALLER, "context_length_exceeded"),
        (
            400,
            "the prompt is longer than the context length currently available to the model",
            Owner.CALLER,
            "context_length_exceeded",
        ),
        (500, "model requires more system memory (8 GiB) than is available", Owner.HEALTH, None),
        (503, "server busy, please try again", Owner.HEALTH, None),
        (401, "unauthorized", Owner.CREDENTIAL, "upstream_auth_failed"),
        (429, "too many requests", Owner.CAPACITY, None),
    ],
)
def test_it_classifies_an_error(status, told, owner, code):
    error = OLLAMA.error(status, {}, orjson.dumps({"error": told}))
    assert (error.status, error.message, error.owner, error.code) == (status, told, owner, code)


def test_it_tells_of_a_base_url_with_a_path():
    error = OLLAMA.error(404, {}, b"404 page not found")
    assert error.owner is Owner.HEALTH
    assert "base URL" in error.message


@given(st.binary())
def test_it_reads_an_error_from_any_bytes(body):
    assert OLLAMA.error(500, {}, body).message


def test_it_passes_one_call_on_where_the_client_takes_no_more():
    call = make_call(parallel_tool_calls=False)
    lines = [line(called("a", {})), line(called("b", {})), last_line()]
    named = [each["tool_calls"][0]["function"]["name"] for each in deltas(decoded(OLLAMA, lines, call))]
    assert named == ["a"]
    both = {"tool_calls": [*called("a", {})["tool_calls"], *called("b", {})["tool_calls"]]}
    whole = OLLAMA.decode(last_line(message=both), call).message["choices"][0]
    assert [each["function"]["name"] for each in whole["message"]["tool_calls"]] == ["a"]
