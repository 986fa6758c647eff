"""Events without raw bytes say what the vendor's chunks said."""

import orjson
import pytest

from providers.call import Call
from providers.dialects.openai.stream import CompletionsStream, OpenAIStream
from providers.errors import UpstreamError
from providers.events import Kind, PassedEvent, TextEvent, done_event, usage_event
from providers.sse import EventSplitter, data_of
from providers.tests.samples import TEXT_STREAM
from providers.usage import Usage
from providers.wires import CHAT
from proxy.assemble import assemble
from proxy.plain import plain
from proxy.renderers import chat
from proxy.tests.fakes import make_completion


def chunk(*choices, **fields):
    return b"data: " + orjson.dumps({"id": "x", "choices": choices, **fields}) + b"\n\n"


def choice(delta, reason=None, index=0):
    return {"index": index, "delta": delta, "finish_reason": reason}


STREAM = [
    chunk(choice({"role": "assistant", "content": ""})),
    *[chunk(choice({"content": text})) for text in ("Hel", "lo", ", ", "you")],
    chunk(choice({"reasoning_content": "hm"})),
    chunk(choice({"refusal": "no"})),
    chunk(choice({"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": "{"}}]})),
    chunk(choice({"tool_calls": [{"index": 0, "function": {"arguments": "}"}}]})),
    chunk(choice({"annotations": [{"type": "url_citation", "url_citation": {"url": "u"}}]})),
    chunk(choice({}, "stop")),
    chunk(usage={"prompt_tokens": 1, "completion_tokens": 2}),
    b"data: [DONE]\n\n",
]


def decoded(stream, *, pieces, choices=1):
    decoder = OpenAIStream(choices=choices)
    events = [event for piece in pieces(stream) for event in decoder.feed(piece)]
    return [*events, *decoder.close()]


def at_once(stream):
    return [b"".join(stream)]


@pytest.mark.parametrize("pieces", [at_once, list], ids=["at once", "one by one"])
def test_it_makes_one_event_of_each_chunk_and_loses_nothing_of_the_answer(pieces):
    raw = decoded(STREAM, pieces=pieces)
    events = plain(raw)
    assert not any(event.raw for event in events)
    assert len(events) == len(STREAM)
    said = {"id": "i", "created": 1, "model": "m"}
    assert assemble(events, **said) == assemble(raw, **said)
    assert [event.kind for event in events[-3:]] == [Kind.FINISH, Kind.USAGE, Kind.DONE]
    assert (events[-3].finish_reasons, events[-2].usage) == (["stop"], Usage(1, 2))


def test_it_splits_what_passed_together():
    (passed,) = [event for event in decoded(STREAM, pieces=at_once) if event.chunks > 1]
    assert passed.__class__ is PassedEvent
    texts = [each.choices[0]["delta"].get("content") for each in plain([passed])]
    assert texts[:3] == ["lo", ", ", "you"]


def test_it_keeps_parallel_choices_and_their_reasons():
    stream = [
        chunk(choice({"content": "a"}), choice({"content": "b"}, index=1)),
        chunk(choice({}, "stop"), choice({}, "length", index=1)),
        b"data: [DONE]\n\n",
    ]
    events = plain(decoded(stream, pieces=at_once, choices=2))
    assert [len(event.choices) for event in events] == [2, 2, 0]
    assert events[1].finish_reasons == ["stop", "length"]


def test_it_lets_events_without_bytes_pass():
    events = [TextEvent("x"), usage_event(Usage(1, 1)), done_event()]
    assert plain(events) == events


def test_it_reads_text_completions():
    decoder = CompletionsStream(choices=1)
    (event,) = plain(decoder.feed(chunk({"index": 0, "text": "x", "finish_reason": None})))
    assert event.choices[0]["delta"] == {"content": "x"}


def test_it_says_that_a_chunk_is_broken_only_now():
    stream = [*STREAM[:3], b'data: {"choices": [{"delta": "no object"}]}\n\n']
    with pytest.raises(UpstreamError):
        plain(decoded(stream, pieces=at_once))


def test_what_it_makes_is_rendered_as_a_stream_that_says_the_same():
    raw = decoded([TEXT_STREAM], pieces=at_once)
    renderer = chat(make_completion(model="m"), Call(CHAT, "m", {}, b""))
    written = renderer.events(plain(raw))
    events = [orjson.loads(data_of(each)) for each in EventSplitter().feed(written)[:-1]]
    text = "".join(each["choices"][0]["delta"].get("content") or "" for each in events if each["choices"])
    assert text == assemble(raw, id="i", created=1, model="m")["choices"][0]["message"]["content"]
    assert written.endswith(b"data: [DONE]\n\n")
