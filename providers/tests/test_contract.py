"""The contract of every dialect, on recorded traffic, on its broken forms, and on any bytes at all."""

from contextlib import suppress
from copy import deepcopy

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.dialects import DIALECTS
from providers.errors import Owner, UnsupportedParameter, UpstreamError
from providers.events import Kind
from providers.tests.recorded import recordings
from providers.tests.samples import decode, ends_whole, make_call, make_upstream, seen
from providers.wires import CHAT, COMPLETIONS, COUNT_TOKENS, EMBEDDINGS, MESSAGES, RESPONSES
from tests.sizes import sized

ALL = [pytest.param(dialect, id=name) for name, dialect in DIALECTS.items()]
WIRES = (CHAT, COMPLETIONS, EMBEDDINGS, MESSAGES, COUNT_TOKENS, RESPONSES)
STREAMS, ANSWERS = recordings(streams=True), recordings(streams=False)
EXAMPLES = sized("changes to each recorded answer", 20, full=100)  # there are hundreds of recorded answers
WEATHER = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {}}}},
}
RICH = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "Paris?"}]},
    {
        "role": "assistant",
        "content": None,
        "reasoning_content": "They want the weather.",
        "tool_calls": [
            {
                "id": f"call_{number}",
                "type": "function",
                "function": {"name": "weather", "arguments": '{"city": "Paris"}'},
            }
            for number in (1, 2)
        ],
    },
    {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
    {"role": "tool", "tool_call_id": "call_2", "content": [{"type": "text", "text": "rain"}]},
    {"role": "user", "content": "And now?"},
]


# ---------------------------------------------------------------- encode


@pytest.mark.parametrize("dialect", ALL)
@pytest.mark.parametrize("stream", [False, True])
def test_it_encodes_twice_alike_and_leaves_the_call_alone(dialect, stream):
    call = make_call(stream=stream, messages=RICH, tools=[WEATHER], temperature=0.5, max_tokens=100)
    before = deepcopy((call.body, call.raw))
    upstream = make_upstream(model="vendor-model", dialect=dialect.name, drop_unsupported_params=True)
    once, again = dialect.encode(call, upstream), dialect.encode(call, upstream)
    assert once == again
    assert (call.body, call.raw) == before
    assert once.path.startswith("/")
    assert isinstance(orjson.loads(once.body), dict)
    assert "vendor-secret" not in repr((once, upstream))


_leaf = st.none() | st.booleans() | st.integers(-(2**31), 2**31) | st.floats(allow_nan=False) | st.text()
_json = st.recursive(
    _leaf,
    lambda each: st.lists(each, max_size=3) | st.dictionaries(st.text(), each, max_size=3),
    max_leaves=5,
)
_part = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "image_url", "file", "input_audio", "other"])},
    optional=dict.fromkeys(("text", "image_url", "file", "input_audio", "cache_control"), _json),
)
_call = st.fixed_dictionaries({}, optional={"id": _json, "function": _json, "type": _json}) | _json
_message = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "developer", "user", "assistant", "tool", "other"])},
    optional={
        "content": _json | st.lists(_part | _json, max_size=3),
        "tool_calls": st.lists(_call, max_size=2) | _json,
        "tool_call_id": _json,
        "reasoning_content": _json,
        "thinking_blocks": _json,
        "name": _json,
    },
)
_PARAMS = (
    *("tools", "tool_choice", "parallel_tool_calls", "response_format", "stop", "max_tokens", "temperature"),
    *("max_completion_tokens", "top_p", "top_k", "seed", "presence_penalty", "frequency_penalty", "logprobs"),
    *("top_logprobs", "reasoning_effort", "thinking", "service_tier", "user", "metadata", "logit_bias"),
)


@pytest.mark.parametrize("dialect", ALL)
@given(
    messages=st.lists(_message, min_size=1, max_size=4),
    params=st.dictionaries(st.sampled_from(_PARAMS), _json, max_size=4),
    drop=st.booleans(),
)
def test_it_encodes_any_request_or_names_what_it_cannot(dialect, messages, params, drop):
    call = make_call(messages=messages, **params)
    before = deepcopy(call.body)
    upstream = make_upstream(dialect=dialect.name, drop_unsupported_params=drop)
    named, encoded = None, None
    try:
        encoded = orjson.loads(dialect.encode(call, upstream).body)
    except UnsupportedParameter as problem:
        named = (problem.param, problem.message, problem.code)
    assert all(named) if named else isinstance(encoded, dict)
    assert call.body == before


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize("dialect", ALL)
def test_it_classifies_every_status(dialect):
    bodies = (
        b"",
        b"{}",
        b'{"error": {"message": "no"}}',
        b"<html>",
        b"\xff",
        b'{"error": "no"}',
        b"[[]]",
        b"3",
    )
    for status in range(300, 600):
        for body in bodies:
            error = dialect.error(status, {}, body)
            assert isinstance(error, UpstreamError)
            assert isinstance(error.owner, Owner)
            assert isinstance(error.retryable, bool)
            assert error.message
            assert error.status == status


@pytest.mark.parametrize("dialect", ALL)
def test_it_reports_a_broken_model_list(dialect):
    for body in (b"", b"[]", b"{}", b'{"data": 3}', b'{"models": 3}', b"<html>"):
        with pytest.raises(UpstreamError):
            dialect.model_list(body)


# ---------------------------------------------------------------- any bytes


@pytest.mark.parametrize("dialect", ALL)
@given(st.binary() | st.text().map(lambda text: text.encode("utf-8", "replace")))
def test_it_raises_nothing_but_upstream_errors_of_any_bytes(dialect, body):
    for wire in WIRES:
        with suppress(UpstreamError):
            dialect.decode(body, make_call(wire=wire))
        assert not ends_whole(decode([body], make_call(wire=wire, stream=True), dialect))
    assert isinstance(dialect.error(500, {}, body), UpstreamError)


@pytest.mark.parametrize("recording", STREAMS)
@settings(max_examples=EXAMPLES)
@given(data=st.data())
def test_it_survives_a_stream_with_bytes_changed(recording, data):
    text = bytearray(recording.body)
    places = st.integers(0, len(text) - 1)
    for place, value in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), max_size=5)):
        text[place] = value
    events = decode([bytes(text)], recording.call, recording.dialect)
    ends = [event.kind for event in events if event.kind in (Kind.DONE, Kind.ERROR)]
    assert ends == [events[-1].kind]
    assert all(list(event.choices) is not None for event in events if not event.raw)


@pytest.mark.parametrize("recording", [*STREAMS, *ANSWERS])
@settings(max_examples=EXAMPLES)
@given(data=st.data())
def test_it_survives_any_value_in_the_place_of_another(recording, data):
    """A field of another type than documented is the vendor's failure, never ours."""
    pieces = [piece for piece in recording.body.replace(b"\r\n", b"\n").split(b"\n") if b"{" in piece]
    if not pieces:
        return
    at = data.draw(st.integers(0, len(pieces) - 1))
    prefix, brace, payload = pieces[at].partition(b"{")
    try:
        value = orjson.loads(brace + payload)
    except orjson.JSONDecodeError:
        return
    holder = value
    while True:
        keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        if not keys:
            break
        key = data.draw(st.sampled_from(keys))
        if isinstance(holder[key], (dict, list)) and holder[key] and data.draw(st.booleans()):
            holder = holder[key]
            continue
        holder[key] = data.draw(_json)
        break
    pieces[at] = prefix + orjson.dumps(value)
    call, dialect = recording.call, recording.dialect
    if call.stream:
        events = decode([b"\n\n".join(pieces) + b"\n\n"], call, dialect)
        ends = [event.kind for event in events if event.kind in (Kind.DONE, Kind.ERROR)]
        assert ends == [events[-1].kind]
    else:
        with suppress(UpstreamError):
            dialect.decode(pieces[at], call)


# ---------------------------------------------------------------- recorded streams


@pytest.mark.parametrize("recording", STREAMS)
def test_it_decodes_a_recorded_stream_alike_for_every_split(recording):
    dialect, call, text = recording.dialect, recording.call, recording.body
    whole = seen(decode([text], call, dialect))
    assert whole[-1][0] in (Kind.DONE, Kind.ERROR)
    # Every place for one cut, in steps that keep long recordings quick, and every byte alone.
    for place in range(0, len(text), max(len(text) // 100, 1)):
        assert seen(decode([text[:place], text[place:]], call, dialect)) == whole, place
    assert seen(decode([text[i : i + 1] for i in range(len(text))], call, dialect)) == whole


@pytest.mark.parametrize("recording", STREAMS)
def test_it_gives_final_usage_that_is_never_negative(recording):
    events = decode([recording.body], recording.call, recording.dialect)
    counted = [event.usage for event in events if event.usage is not None]
    for usage in counted:
        assert min(usage.prompt, usage.completion, usage.cached, usage.cache_write, usage.reasoning) >= 0
        assert usage.cached + usage.cache_write <= usage.prompt
        # Where vendors send running counts, the last is the final one.
        assert usage.total <= counted[-1].total
    if ends_whole(events) and recording.dialect.name != "openai":
        assert counted


@pytest.mark.parametrize("recording", STREAMS)
def test_it_never_ends_a_truncated_stream_whole_before_its_finish_reason(recording):
    text = recording.body
    for place in range(0, len(text), max(len(text) // 200, 1)):
        events = decode([text[:place]], recording.call, recording.dialect)
        assert [event.kind for event in events].count(Kind.ERROR) == (not ends_whole(events))
        if ends_whole(events):
            assert any(event.finish_reasons for event in events), place


# ---------------------------------------------------------------- recorded answers


@pytest.mark.parametrize("recording", ANSWERS)
def test_it_decodes_a_recorded_answer(recording):
    dialect, status = recording.dialect, recording.status
    if status >= 300:
        error = dialect.error(status, recording.headers, recording.body)
        assert error.message
        assert error.status == status
        return
    decoded = dialect.decode(recording.body, recording.call)
    assert decoded.finish_reasons
    assert isinstance(decoded.message, dict)
    if decoded.usage is not None:
        assert min(decoded.usage[:5]) >= 0


@pytest.mark.parametrize("recording", ANSWERS)
def test_it_refuses_every_beginning_of_a_recorded_answer(recording):
    dialect, body = recording.dialect, recording.body.strip()
    for place in range(0, len(body), max(len(body) // 100, 1)):
        if recording.status < 300:
            with pytest.raises(UpstreamError):
                dialect.decode(body[:place], recording.call)
        else:
            assert isinstance(dialect.error(recording.status, {}, body[:place]), UpstreamError)
