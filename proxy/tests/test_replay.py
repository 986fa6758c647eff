import orjson
import pytest

from providers.dialects import DIALECTS
from providers.events import Event, Kind, delta_event, done_event, finish_event, usage_event
from providers.tests.samples import DONE, TEXT_STREAM, answer, chunk, make_call, sse
from providers.usage import Usage
from proxy.cache import EVENTS, JSON, BrokenEntry, Entry
from proxy.replay import Recording, answer_of, events_of
from proxy.tests.fakes import make_completion

CALL = make_call(stream=True)
USAGE = Usage(5, 2)


def entry(form, body):
    return Entry(form, body, "openai", "gpt-4o", 1000.5, USAGE)


def decoded(text):
    decoder = DIALECTS["openai"].stream(CALL)
    return [*decoder.feed(text), *decoder.close()]


def texts(events):
    return "".join(choice["delta"].get("content") or "" for event in events for choice in event.choices)


def test_it_replays_a_kept_stream():
    events = events_of(entry(EVENTS, TEXT_STREAM), CALL)
    assert b"".join(event.raw for event in events) == TEXT_STREAM


def test_it_replays_a_kept_answer_as_a_stream():
    events = events_of(entry(JSON, orjson.dumps(answer("Hi."))), CALL)
    assert texts(events) == "Hi."
    assert [event.kind for event in events[-2:]] == [Kind.USAGE, Kind.DONE]
    assert events[-2].usage == USAGE


def test_it_answers_with_a_kept_answers_bytes():
    body = orjson.dumps(answer())
    kept, assembled = answer_of(entry(JSON, body), make_call(), make_completion())
    assert (kept.body, kept.usage, assembled) == (body, USAGE, None)


def test_it_assembles_a_kept_stream_once():
    kept, assembled = answer_of(entry(EVENTS, TEXT_STREAM), make_call(), make_completion())
    assert assembled is not None
    assert assembled.form == JSON
    assert assembled.stored_at == 1000.5
    assert kept.message["choices"][0]["message"]["content"] == "Hello there."
    assert (kept.message["id"], kept.message["created"], kept.message["model"]) == (
        "chatcmpl-boot-0-1",
        1000,
        "gpt-4o",
    )
    again, nothing_new = answer_of(assembled, make_call(), make_completion(id="other"))
    assert nothing_new is None
    assert again.body == kept.body


BROKEN = [
    b"",
    b"garbage",
    TEXT_STREAM[: len(TEXT_STREAM) // 2],
    sse(chunk({"content": "a"})) + b"data: {broken}\n\n" + sse(chunk(finish="stop")) + DONE,
    sse(chunk({"content": "a"}))
    + b'data: {"choices": [{"delta": "x"}]}\n\n'
    + sse(chunk(finish="stop"))
    + DONE,
]


@pytest.mark.parametrize("body", BROKEN)
def test_it_says_when_a_kept_stream_cannot_be_read(body):
    with pytest.raises(BrokenEntry):
        answer_of(entry(EVENTS, body), make_call(), make_completion())


@pytest.mark.parametrize("body", [b"", b"garbage", b"[]", b'{"choices": 7}', b'{"choices": ["x"]}'])
def test_it_says_when_a_kept_answer_cannot_be_read(body):
    with pytest.raises(BrokenEntry):
        events_of(entry(JSON, body), CALL)


@pytest.mark.parametrize("body", [b"", b"garbage", b'{"choices": ['])
def test_it_answers_with_nothing_that_is_plainly_damaged(body):
    with pytest.raises(BrokenEntry):
        answer_of(entry(JSON, body), make_call(), make_completion())


def test_it_records_a_stream_that_fits():
    recording = Recording(10_000, make_completion())
    for event in decoded(TEXT_STREAM):
        recording.add([event])
    assert recording.fits
    assert recording.body() == TEXT_STREAM


def test_it_records_what_it_must_write_itself():
    recording = Recording(10_000, make_completion(model="m"))
    delta = {"index": 0, "delta": {"content": "Hi."}, "finish_reason": None}
    recording.add([Event(Kind.CONTENT, choices=[delta])])
    recording.add([Event(Kind.FINISH, choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])])
    recording.add([Event(Kind.USAGE, choices=(), usage=USAGE), Event(Kind.DONE, choices=())])
    events = events_of(entry(EVENTS, recording.body()), CALL)
    assert texts(events) == "Hi."
    assert [event.usage for event in events if event.usage] == [USAGE]


def test_it_keeps_what_only_some_vendors_say_from_stream_to_answer_and_back():
    block = {"type": "thinking", "thinking": "hm", "signature": "sig"}
    call = {
        "id": "c1",
        "type": "function",
        "function": {"name": "f", "arguments": "{}"},
        "extra_content": {"google": {"thought_signature": "gsig"}},
    }
    citation = {"type": "url_citation", "url_citation": {"url": "https://a.example", "title": "A"}}
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    recording = Recording(10_000, make_completion(model="m"))
    deltas = [
        {"reasoning_content": "hm"},
        {"thinking_blocks": [block]},
        {"content": "Hi.", "annotations": [citation]},
        {"images": [image]},
        {"tool_calls": [{"index": 0, **call}]},
    ]
    recording.add([delta_event(delta) for delta in deltas])
    recording.add([finish_event("tool_calls"), usage_event(USAGE), done_event()])
    whole, assembled = answer_of(entry(EVENTS, recording.body()), make_call(), make_completion())
    expected = {
        "role": "assistant",
        "content": "Hi.",
        "refusal": None,
        "reasoning_content": "hm",
        "thinking_blocks": [block],
        "annotations": [citation],
        "images": [image],
        "tool_calls": [call],
    }
    assert orjson.loads(whole.body)["choices"][0]["message"] == expected
    assert assembled is not None
    streamed_again = Recording(10_000, make_completion(model="m"))
    streamed_again.add(events_of(assembled, CALL))
    again, _ = answer_of(entry(EVENTS, streamed_again.body()), make_call(), make_completion())
    assert again.message["choices"][0]["message"] == expected


def test_it_forgets_a_stream_that_grows_too_large():
    recording = Recording(100, make_completion())
    for event in decoded(TEXT_STREAM):
        recording.add([event])
    assert not recording.fits
    assert recording.body() == b""
