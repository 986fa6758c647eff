"""Completions written from the canonical form, passed on as they came, and kept in both forms."""

import orjson
import pytest

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
from providers.tests.samples import DONE, TEXT_STREAM, answer, cassettes, chunk, make_call, sse
from providers.usage import Usage
from providers.wires import CHAT, COMPLETIONS
from proxy import renderers
from proxy.cache import EVENTS, JSON, BrokenEntry, Entry
from proxy.endpoints import parse_completions
from proxy.errors import RateLimited
from proxy.native_completions import CompletionsForm
from proxy.renderers import KEEP_ALIVE, CompletionsRenderer
from proxy.replay import Recording, answer_of, events_of, streamed
from proxy.tests.fakes import make_completion

OPENAI = DIALECTS["openai"]
USAGE = Usage(5, 2)


def call_of(**fields):
    return parse_completions(orjson.dumps({"model": "m", "prompt": "Say hi", **fields}))


def renderer(**fields):
    return CompletionsRenderer(make_completion(model="gpt-4o"), call_of(**fields))


def payloads(text):
    found = [each.removeprefix(b"data: ") for each in text.split(b"\n\n") if each]
    return [each if each == b"[DONE]" else orjson.loads(each) for each in found]


def said(text):
    """Return the text and the finish reasons of a stream, by choice."""
    texts, reasons = {}, {}
    for payload in payloads(text):
        for choice in payload["choices"] if payload != b"[DONE]" else ():
            texts[choice["index"]] = texts.get(choice["index"], "") + choice["text"]
            if choice["finish_reason"]:
                reasons[choice["index"]] = choice["finish_reason"]
    return texts, reasons


def chat_answer(**fields):
    return Answer(body=orjson.dumps(answer(**fields)), wire=CHAT, usage=USAGE, finish_reasons=["stop"])


def text_chunk(text, finish=None, index=0, **fields):
    choice = {"text": text, "index": index, "logprobs": None, "finish_reason": finish}
    envelope = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "davinci"}
    return {**envelope, "choices": [choice], **fields}


COUNTS = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
NATIVE = b"".join(
    [
        sse(text_chunk("Hello")),
        sse(text_chunk(" there")),
        sse(text_chunk("", "length")),
        sse(text_chunk("", choices=[], usage=COUNTS)),
        DONE,
    ]
)


def decoded(text, call):
    decoder = OPENAI.stream(call)
    return [*decoder.feed(text), *decoder.close()]


# ---------------------------------------------------------------- whole answers


def test_it_writes_a_chats_answer_as_a_completion():
    body = orjson.loads(renderer().answer(chat_answer(text="Hi.", system_fingerprint="fp")))
    assert body == {
        "id": "cmpl-boot-0-1",
        "object": "text_completion",
        "created": 1_800_000_000,
        "model": "gpt-4o",
        "system_fingerprint": "fp",
        "choices": [{"text": "Hi.", "index": 0, "logprobs": None, "finish_reason": "stop"}],
        "usage": COUNTS,
    }


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"content": None}, ""),
        ({}, ""),
        ({"content": "a", "reasoning_content": "hm"}, "a"),
        ({"content": None, "refusal": "No."}, "No."),
        ({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, "ab"),
    ],
)
def test_it_finds_the_text_of_a_message(message, text):
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    given = Answer(message={"choices": choices}, usage=None, finish_reasons=["stop"])
    body = orjson.loads(renderer().answer(given))
    assert body["choices"][0]["text"] == text
    assert "usage" not in body


def test_it_puts_the_prompt_before_each_answer_where_asked():
    choices = [{"index": i, "message": {"content": f" {i}"}, "finish_reason": "stop"} for i in (0, 1)]
    given = Answer(message={"choices": choices}, usage=USAGE, finish_reasons=["stop"])
    body = orjson.loads(renderer(echo=True, n=2).answer(given))
    assert [choice["text"] for choice in body["choices"]] == ["Say hi 0", "Say hi 1"]
    assert body["usage"] == COUNTS


def test_it_passes_a_vendors_completion_on():
    raw = b'{"choices": [{"text": "x", "odd": 1}]}'
    given = Answer(body=raw, wire=COMPLETIONS, usage=None, finish_reasons=["stop"])
    assert renderer(echo=True).answer(given) == raw


# ---------------------------------------------------------------- streams


def test_it_writes_chunks_of_text():
    events = [
        delta_event({"role": "assistant"}, kind=Kind.META),
        TextEvent("Hi"),
        TextEvent(' "you"'),
        finish_event("stop"),
        usage_event(USAGE),
        done_event(),
    ]
    one, two, finish, done = payloads(renderer().events(events))
    assert one == {
        "id": "cmpl-boot-0-1",
        "object": "text_completion",
        "created": 1_800_000_000,
        "model": "gpt-4o",
        "choices": [{"text": "Hi", "index": 0, "logprobs": None, "finish_reason": None}],
    }
    assert two["choices"][0]["text"] == ' "you"'
    assert finish["choices"] == [{"text": "", "index": 0, "logprobs": None, "finish_reason": "stop"}]
    assert done == b"[DONE]"


def test_it_tells_usage_only_where_asked():
    events = [TextEvent("Hi"), finish_event("stop"), usage_event(USAGE), done_event()]
    assert b"usage" not in renderer(stream=True).events(events)
    asked = renderer(stream=True, stream_options={"include_usage": True})
    *_, usage, done = payloads(asked.events(events))
    assert (usage["choices"], usage["usage"], done) == ([], COUNTS, b"[DONE]")


def test_it_tells_usage_and_finish_reason_once_however_often_the_vendor_does():
    running = {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6}
    stream = b"".join(
        [
            sse(chunk({"role": "assistant", "content": None})),
            sse(chunk({"content": "Hi"}, usage=running)),
            sse(chunk({"content": None, "reasoning": "hm"})),
            sse(chunk({"content": ""}, "stop", usage=running)),
            sse(chunk({"content": ""}, "stop", usage=COUNTS)),
            DONE,
        ]
    )
    options = {"include_usage": True}
    made = renderer(stream=True, stream_options=options).events(decoded(stream, make_call(stream=True)))
    one, finish, usage, done = payloads(made.replace(KEEP_ALIVE, b""))
    assert (one["choices"][0]["text"], finish["choices"][0]["finish_reason"]) == ("Hi", "stop")
    assert "usage" not in one
    assert "usage" not in finish
    assert (usage["choices"], usage["usage"], done) == ([], COUNTS, b"[DONE]")


@pytest.mark.parametrize("pieces", [["Hi", " you"], [" "], []])
def test_it_streams_the_prompt_first_where_asked(pieces):
    events = [*map(TextEvent, pieces), finish_event("stop"), done_event()]
    text = renderer(echo=True).events(events)
    assert said(text) == ({0: "Say hi" + "".join(pieces)}, {0: "stop"})
    one_by_one = renderer(echo=True)
    assert b"".join(one_by_one.events([event]) for event in events) == text


def test_it_streams_the_prompt_first_in_each_choice():
    events = [
        delta_event({"content": "a"}, index=1),
        TextEvent("b"),
        delta_event({"content": "c"}, index=1),
        TextEvent("d"),
        finish_event("stop", index=0),
        finish_event("length", index=1),
    ]
    assert said(renderer(echo=True, n=2).events(events)) == (
        {0: "Say hibd", 1: "Say hiac"},
        {0: "stop", 1: "length"},
    )


def test_it_keeps_the_connection_alive_while_the_model_thinks():
    assert renderer().events([delta_event({"reasoning_content": "hm"})]) == KEEP_ALIVE
    assert renderer().events([delta_event({"role": "assistant"}, kind=Kind.META)]) == b""


def test_it_writes_a_vendors_chat_as_completions():
    text = renderer().events(decoded(TEXT_STREAM, make_call(stream=True)))
    assert said(text) == ({0: "Hello there."}, {0: "stop"})
    assert text.endswith(DONE)
    assert b"chat.completion" not in text
    assert b"usage" not in text


def test_it_passes_a_vendors_chunks_on():
    call = call_of(stream=True, stream_options={"include_usage": True}, echo=True)
    assert CompletionsRenderer(make_completion(), call).events(decoded(NATIVE, call)) == NATIVE
    without = NATIVE.replace(sse(text_chunk("", choices=[], usage=COUNTS)), b"")
    assert renderer().events(decoded(NATIVE, call)) == without


def test_it_ends_a_failed_stream_in_an_error_event():
    (payload,) = payloads(renderer().error(RateLimited("Slow down.")))
    assert payload["error"]["message"] == "Slow down."


def test_it_is_made_of_the_call():
    assert isinstance(renderers.completions(make_completion(), call_of()), CompletionsRenderer)


# ---------------------------------------------------------------- native streams


def is_completion(param):
    return param.marks or param.values[0]["kind"] in ("completions", "compat_completions")


RECORDED = [param for param in cassettes("openai", "compat") if is_completion(param)]


@pytest.mark.parametrize("cassette", RECORDED)
def test_it_reads_recorded_completions_alike_for_every_split(cassette):
    call = parse_completions(orjson.dumps(cassette["request"]["body"]))
    text = cassette["response"]["body"].encode()
    if not call.stream:
        whole = OPENAI.decode(text, call)
        assert (whole.wire, whole.body) == (COMPLETIONS, text.strip())
        assert len(whole.finish_reasons) == call.choices
        return
    events = decoded(text, call)
    assert events[-1].kind is Kind.DONE
    # One event for each chunk, whatever the network brought together.
    raw = b"".join(event.raw for event in events)
    for place in range(0, len(text), max(len(text) // 100, 1)):
        decoder = OPENAI.stream(call)
        parts = [*decoder.feed(text[:place]), *decoder.feed(text[place:]), *decoder.close()]
        assert b"".join(event.raw for event in parts) == raw


def test_it_wants_each_choice_of_each_prompt_finished():
    call = call_of(prompt=["a", "b"], stream=True)
    first = sse(text_chunk("x")) + sse(text_chunk("y", index=1)) + sse(text_chunk("", "stop"))
    assert decoded(first + DONE, call)[-1].kind is Kind.ERROR
    assert decoded(first + sse(text_chunk("", "stop", index=1)) + DONE, call)[-1].kind is Kind.DONE


# ---------------------------------------------------------------- kept answers


def entry(form, body, wire=COMPLETIONS):
    return Entry(form, body, "openai", "gpt-4o", 1000.5, USAGE, wire)


def test_it_makes_one_answer_of_a_kept_stream_and_a_stream_of_that():
    call = call_of(echo=True)
    whole, assembled = answer_of(entry(EVENTS, NATIVE), call, make_completion())
    assert assembled is not None
    assert whole.wire == assembled.wire == COMPLETIONS
    body = orjson.loads(renderer(echo=True).answer(whole))
    assert body["choices"] == text_chunk("Hello there", "length")["choices"]
    assert (body["id"], body["usage"]) == ("cmpl-1", COUNTS)
    events = events_of(assembled, call._replace(stream=True))
    text = renderer(echo=True, stream=True).events(events)  # no second prompt: the vendor echoes itself
    assert said(text) == ({0: "Hello there"}, {0: "length"})
    assert text.endswith(DONE)


def test_it_joins_log_probabilities_and_keeps_the_servers_own_fields():
    one, two = text_chunk("a", stop_reason=None), text_chunk("b", "stop", index=0)
    one["choices"][0]["logprobs"] = {"tokens": ["a"], "token_logprobs": [-1.0], "text_offset": [0]}
    two["choices"][0]["logprobs"] = {"tokens": ["b"], "token_logprobs": [-2.0], "text_offset": [1]}
    two["choices"][0]["stop_reason"] = 7
    body = orjson.loads(CompletionsForm().assemble(sse(one) + b": note\n\n" + sse(two) + DONE))
    (choice,) = body["choices"]
    assert choice["logprobs"] == {
        "tokens": ["a", "b"],
        "token_logprobs": [-1.0, -2.0],
        "text_offset": [0, 1],
    }
    assert (choice["text"], choice["stop_reason"]) == ("ab", 7)


@pytest.mark.parametrize(
    "stream",
    [b"", DONE, NATIVE[:40], sse(text_chunk("a")) + DONE, b'data: {"choices": [{"text": 7}]}\n\n'],
)
def test_it_says_when_a_kept_stream_cannot_be_read(stream):
    with pytest.raises(BrokenEntry):
        CompletionsForm().assemble(stream)


@pytest.mark.parametrize("body", [b"", b"[]", b'{"choices": 7}', b'{"choices": [{"text": 7}]}'])
def test_it_says_when_a_kept_answer_cannot_be_read(body):
    with pytest.raises(BrokenEntry):
        CompletionsForm().disassemble(body)


def test_it_records_a_vendors_completions_as_they_came():
    call = call_of(stream=True)
    recording = Recording(10_000, make_completion())
    recording.add(decoded(NATIVE, call))
    assert (recording.body(), recording.wire) == (NATIVE, COMPLETIONS)


def test_it_replays_a_kept_chat_to_who_asked_for_a_completion():
    call = call_of(echo=True)
    whole, _ = answer_of(entry(EVENTS, TEXT_STREAM, CHAT), call, make_completion())
    body = orjson.loads(renderer(echo=True).answer(whole))
    assert body["choices"][0]["text"] == "Say hiHello there."
    events = events_of(entry(JSON, orjson.dumps(answer("Hi.")), CHAT), call)
    assert said(renderer(echo=True).events(events))[0] == {0: "Say hiHi."}


def test_it_streams_a_whole_answer_that_came_instead_of_a_stream():
    call = call_of(stream=True, echo=True)
    raw = orjson.dumps({**text_chunk("Say hi you", "stop"), "usage": COUNTS})
    events = streamed(OPENAI.decode(raw, call), call)
    assert events[-1].kind is Kind.DONE
    assert [event.usage for event in events if event.usage] == [USAGE]
    assert said(renderer(echo=True).events(events)) == ({0: "Say hi you"}, {0: "stop"})


def test_it_passes_nothing_of_another_vendors_bytes():
    delta = {"index": 0, "delta": {"content": "a"}, "finish_reason": None}
    event = Event(Kind.CONTENT, raw=b"event: other\n\n", wire="other", choices=[delta])
    assert said(renderer().events([event])) == ({0: "a"}, {})
