"""The cache's two forms of what OpenAI said in its Responses format."""

import orjson
import pytest

from providers.dialects import DIALECTS
from providers.events import Kind
from providers.tests.samples import make_call
from providers.tests.test_openai_responses import (
    COUNTED,
    FINISHED_AT,
    MESSAGE,
    STREAM,
    TEXT,
    TOOL,
    named,
    response,
)
from providers.wires import CHAT, RESPONSES
from proxy.cache import EVENTS, JSON, BrokenEntry, Entry
from proxy.native_responses import ResponsesForm
from proxy.renderers import ResponsesRenderer
from proxy.replay import Recording, answer_of, events_of
from proxy.tests.fakes import make_completion
from proxy.tests.test_responses_renderer import accumulated, written

FORM = ResponsesForm()
WHOLE = response(MESSAGE)
CALL = make_call(wire=RESPONSES)._replace(sent={"model": "gpt-5", "input": "hi"})


def entry(form, body, wire=RESPONSES):
    return Entry(form, body, "openai", "gpt-5", 1.0, COUNTED, wire)


def test_it_assembles_the_response_in_the_last_event():
    assert orjson.loads(FORM.assemble(STREAM)) == WHOLE
    incomplete = named("response.incomplete", response={"status": "incomplete"})
    assert orjson.loads(FORM.assemble(STREAM[:FINISHED_AT] + incomplete)) == {"status": "incomplete"}


@pytest.mark.parametrize("stream", [b"", b"data: {\n\n", STREAM[:FINISHED_AT], b"data: [1]\n\n"])
def test_it_assembles_nothing_of_a_stream_without_its_end(stream):
    with pytest.raises(BrokenEntry):
        FORM.assemble(stream)


def test_it_takes_a_response_apart_into_a_stream_that_says_it():
    reasoning = {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Hm."}]}
    place = {"url": "https://a.example", "title": "A", "start_index": 0, "end_index": 5}
    cited = {**TEXT, "annotations": [{"type": "url_citation", **place}], "logprobs": []}
    message = {**MESSAGE, "content": [cited, {"type": "refusal", "refusal": "No."}]}
    search: dict[str, object] = {"type": "web_search_call", "id": "ws_1", "status": "completed"}
    search["action"] = {"type": "search", "query": "x"}
    fields = {"parallel_tool_calls": True, "tool_choice": "auto", "tools": []}
    whole = response(reasoning, search, message, TOOL, **fields)
    events = written(FORM.disassemble(orjson.dumps(whole)))
    assert [event["type"] for event in events[:2]] == ["response.created", "response.in_progress"]
    assert events[0]["response"]["output"] == []
    assert accumulated(events) == whole["output"]
    assert (events[-1]["type"], events[-1]["response"]) == ("response.completed", whole)


def test_it_takes_an_incomplete_response_apart():
    events = FORM.disassemble(orjson.dumps(response(status="incomplete")))
    assert events.count(b"event: response.incomplete\n") == 1
    assert b"event: response.completed" not in events


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"output": {}}', b'{"output": [1]}'])
def test_it_takes_nothing_apart_that_is_no_response(body):
    with pytest.raises(BrokenEntry):
        FORM.disassemble(body)


# ---------------------------------------------------------------- through the cache


def test_it_replays_a_kept_stream_as_it_came_and_as_a_whole_answer():
    decoder = DIALECTS["openai"].stream(CALL)
    recording = Recording(10**6, make_completion())
    recording.add(decoder.feed(STREAM))
    assert (recording.wire, recording.body()) == (RESPONSES, STREAM)
    kept = entry(EVENTS, recording.body())
    completion = make_completion(model="gpt-5")
    assert ResponsesRenderer(completion, CALL).events(events_of(kept, CALL)) == STREAM
    answer, assembled = answer_of(kept, CALL, completion)
    assert orjson.loads(ResponsesRenderer(completion, CALL).answer(answer)) == WHOLE
    assert assembled is not None
    assert (assembled.form, assembled.wire) == (JSON, RESPONSES)


def test_it_replays_a_kept_answer_as_a_stream():
    events = events_of(entry(JSON, orjson.dumps(WHOLE)), CALL)
    assert (events[-1].kind, events[-2].usage) == (Kind.DONE, COUNTED)
    text = ResponsesRenderer(make_completion(), CALL).events(events)
    assert orjson.loads(text.split(b"data: ")[-1])["response"] == WHOLE


def test_it_replays_a_translated_answer_in_both_forms():
    chat = {"choices": [{"index": 0, "message": {"content": "Hi."}, "finish_reason": "stop"}]}
    kept = entry(JSON, orjson.dumps(chat), wire=CHAT)
    completion = make_completion(model="claude")
    answer, _ = answer_of(kept, CALL, completion)
    whole = orjson.loads(ResponsesRenderer(completion, CALL).answer(answer))
    streamed = written(ResponsesRenderer(completion, CALL).events(events_of(kept, CALL)))
    assert streamed[-1]["response"] == whole
    assert whole["output"][0]["content"][0]["text"] == "Hi."
    assert whole["usage"]["input_tokens"] == COUNTED.prompt
