"""What a client of `/v1/responses` gets: the vendor's own bytes, or what OpenAI would send."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from providers.carried import carried
from providers.dialects import DIALECTS
from providers.events import (
    Answer,
    Kind,
    TextEvent,
    delta_event,
    done_event,
    finish_event,
    usage_event,
)
from providers.tests.samples import TEXT_STREAM, chunk, make_call, sse
from providers.tests.test_openai_responses import STREAM, named
from providers.usage import Usage
from providers.wires import CHAT, RESPONSES
from proxy.assemble import assemble
from proxy.endpoints import parse_responses
from proxy.errors import RateLimited
from proxy.renderers import ResponsesRenderer
from proxy.tests.fakes import make_completion

EVENT = TypeAdapter(ResponseStreamEvent)
SIGNED = {"type": "thinking", "thinking": "Hm. Well.", "signature": "sig"}
USAGE = Usage(prompt=7, completion=5, cached=3, cache_write=1, reasoning=2)
COUNTED = {
    "input_tokens": 7,
    "input_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 1},
    "output_tokens": 5,
    "output_tokens_details": {"reasoning_tokens": 2},
    "total_tokens": 12,
}


def renderer(**sent):
    call = make_call(wire=RESPONSES)._replace(sent={"model": "m", "input": "hi", **sent})
    return ResponsesRenderer(make_completion(model="claude"), call)


def written(text):
    """Return the events of a stream, each checked against the SDK's types and its place in the order."""
    found = []
    for event in text.split(b"\n\n")[:-1]:
        name, payload = event.split(b"\n")
        body = orjson.loads(payload.removeprefix(b"data: "))
        assert name == b"event: " + body["type"].encode()
        EVENT.validate_python(body)
        found.append(body)
    assert [body["sequence_number"] for body in found] == list(range(len(found)))
    return found


def rendered(*events, **sent):
    """Return the events that one renderer writes, whether it gets them at once or one by one."""
    at_once = renderer(**sent).events(events)
    writer = renderer(**sent)
    assert b"".join(writer.events([event]) for event in events) == at_once
    return written(at_once)


def kinds(events):
    return [event["type"].removeprefix("response.") for event in events]


def call_piece(index, arguments, identity=None, name=None):
    first = {} if identity is None else {"id": identity, "type": "function"}
    function = {"arguments": arguments} if name is None else {"name": name, "arguments": arguments}
    return delta_event({"tool_calls": [{"index": index, **first, "function": function}]})


def end(reason="stop", usage=USAGE):
    return [finish_event(reason), usage_event(usage), done_event()]


# Where a delta goes: the list in the item, the event's index in it, and the field there.
DELTAS = {
    "response.output_text.delta": ("content", "content_index", "text"),
    "response.refusal.delta": ("content", "content_index", "refusal"),
    "response.reasoning_summary_text.delta": ("summary", "summary_index", "text"),
}
PARTS = {
    "response.content_part.added": ("content", "content_index"),
    "response.reasoning_summary_part.added": ("summary", "summary_index"),
}


def accumulated(events):
    """Return the output that the deltas of a stream add up to."""
    items = {}
    for event in events:
        kind, place = event["type"], event.get("output_index")
        if kind == "response.output_item.added":
            assert place == len(items)
            items[place] = event["item"]
        elif kind == "response.output_item.done":
            for name in ("content", "summary", "arguments"):
                assert items[place].get(name) == event["item"].get(name)
            items[place] = event["item"]
        elif kind in PARTS:
            name, index = PARTS[kind]
            assert event[index] == len(items[place][name])
            items[place][name].append(event["part"])
        elif kind == "response.output_text.annotation.added":
            items[place]["content"][event["content_index"]]["annotations"].append(event["annotation"])
        elif kind == "response.function_call_arguments.delta":
            items[place]["arguments"] += event["delta"]
        elif kind in DELTAS:
            name, index, field = DELTAS[kind]
            part = items[place][name][event[index]]
            part[field] += event["delta"]
            if event.get("logprobs"):
                part["logprobs"] += event["logprobs"]
    return [items[place] for place in sorted(items)]


# ---------------------------------------------------------------- the vendor's own


def test_it_passes_the_vendors_own_bytes_on():
    decoder = DIALECTS["openai"].stream(make_call(wire=RESPONSES, stream=True))
    assert renderer().events(decoder.feed(STREAM)) == STREAM
    body = b'{"object": "response"}'
    assert renderer().answer(Answer(body=body, wire=RESPONSES, usage=None, finish_reasons=["stop"])) == body


def test_it_numbers_an_error_after_what_has_passed():
    decoder = DIALECTS["openai"].stream(make_call(wire=RESPONSES, stream=True))
    passing = renderer()
    text = named("response.output_text.delta", delta='"sequence_number":99', sequence_number=41)
    passing.events(decoder.feed(text))
    error = orjson.loads(passing.error(RateLimited("Slow down.")).split(b"data: ")[1])
    assert error["sequence_number"] == 42


# ---------------------------------------------------------------- streams


def test_it_writes_text_in_openais_order():
    events = rendered(
        delta_event({"role": "assistant"}, kind=Kind.META), TextEvent("Hello"), TextEvent(" %s."), *end()
    )
    assert kinds(events) == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    created, last = events[0]["response"], events[-1]["response"]
    assert (created["id"], created["status"], created["output"], created["usage"]) == (
        "resp_boot-0-1",
        "in_progress",
        [],
        None,
    )
    assert (last["id"], last["status"], last["usage"]) == ("resp_boot-0-1", "completed", COUNTED)
    assert last["output"] == accumulated(events)
    assert last["output"][0] == {
        "id": "msg_boot-0-1_0",
        "type": "message",
        "status": "completed",
        "role": "assistant",
        "content": [{"type": "output_text", "annotations": [], "logprobs": [], "text": "Hello %s."}],
    }


def test_it_writes_thoughts_words_and_calls():
    events = rendered(
        delta_event({"reasoning_content": "Hm."}),
        delta_event({"reasoning_content": " Well."}),
        delta_event({"thinking_blocks": [SIGNED]}),
        delta_event({"thinking_blocks": [{"type": "redacted_thinking", "data": "xyz"}]}),
        TextEvent("I look."),
        call_piece(0, "", "call_a", "weather"),
        call_piece(0, '{"city":'),
        call_piece(0, '"Oslo"}'),
        *end("tool_calls"),
    )
    assert kinds(events)[2:-1] == [
        "output_item.added",
        "reasoning_summary_part.added",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
        "output_item.done",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
    ]
    reasoning, message, call = events[-1]["response"]["output"]
    assert [reasoning, message, call] == accumulated(events)
    assert reasoning["summary"] == [{"type": "summary_text", "text": "Hm. Well."}]
    assert carried(reasoning["encrypted_content"]) == [SIGNED, {"type": "redacted_thinking", "data": "xyz"}]
    assert (call["call_id"], call["name"], call["arguments"]) == ("call_a", "weather", '{"city":"Oslo"}')
    assert events[-1]["type"] == "response.completed"


def test_it_keeps_calls_apart_that_come_interleaved():
    events = rendered(
        call_piece(0, '{"a"', "call_a", "f"),
        call_piece(1, '{"b"', "call_b", "g"),
        call_piece(0, ":1}"),
        TextEvent("Words between."),
        call_piece(1, ":2}"),
        *end("tool_calls"),
    )
    first, second, words = events[-1]["response"]["output"]
    assert [first, second, words] == accumulated(events)
    assert [(each["call_id"], each["name"], each["arguments"]) for each in (first, second)] == [
        ("call_a", "f", '{"a":1}'),
        ("call_b", "g", '{"b":2}'),
    ]
    assert words["content"][0]["text"] == "Words between."


def test_it_keeps_calls_apart_that_have_no_index():
    pieces = [
        {"id": "call_a", "function": {"name": "f", "arguments": "{"}},
        {"function": {"arguments": "}"}},
        {"id": "call_b", "function": {"name": "g", "arguments": "{}"}},
    ]
    events = rendered(*(delta_event({"tool_calls": [piece]}) for piece in pieces), *end("tool_calls"))
    calls = events[-1]["response"]["output"]
    assert [(call["call_id"], call["arguments"]) for call in calls] == [("call_a", "{}"), ("call_b", "{}")]


def test_it_keeps_calls_apart_that_share_an_index():
    events = rendered(
        call_piece(0, "{}", "call_a", "f"),
        call_piece(0, "{", "call_b", "g"),
        call_piece(0, "}"),
        *end("tool_calls"),
    )
    calls = events[-1]["response"]["output"]
    assert calls == accumulated(events)
    assert [(call["call_id"], call["arguments"]) for call in calls] == [("call_a", "{}"), ("call_b", "{}")]


ODD = st.none() | st.booleans() | st.integers(0, 2) | st.text(max_size=2) | st.lists(st.none(), max_size=1)
PIECE = st.fixed_dictionaries(
    {},
    optional={
        "index": st.none() | st.integers(0, 2),
        "id": ODD,
        "function": st.fixed_dictionaries({}, optional={"name": ODD, "arguments": st.none() | st.text()}),
    },
)
DELTA = st.fixed_dictionaries(
    {},
    optional={
        "role": ODD,
        "content": ODD | st.lists(st.fixed_dictionaries({"text": ODD})),
        "reasoning": ODD,
        "reasoning_content": ODD,
        "thinking_blocks": ODD | st.lists(st.just(SIGNED) | ODD, max_size=2),
        "refusal": ODD,
        "annotations": ODD | st.lists(st.fixed_dictionaries({"type": ODD, "url_citation": ODD}), max_size=2),
        "tool_calls": ODD | st.lists(PIECE, max_size=3),
    },
)


@given(st.lists(DELTA, max_size=5), st.sampled_from(["stop", "length", "odd"]))
def test_it_writes_numbered_events_that_add_up_of_any_deltas(deltas, reason):
    text = renderer().events([*map(delta_event, deltas), finish_event(reason), done_event()])
    events = [orjson.loads(event.partition(b"data: ")[2]) for event in text.split(b"\n\n")[:-1]]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert accumulated(events) == events[-1]["response"]["output"]


def test_it_keeps_what_a_vendor_wants_back_with_a_call():
    extra = {"google": {"thought_signature": "abc"}}
    call = {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    events = rendered(delta_event({"tool_calls": [{**call, "extra_content": extra}]}), *end("tool_calls"))
    assert events[-1]["response"]["output"][0]["extra_content"] == extra


def test_it_writes_each_thought_of_several():
    events = rendered(
        delta_event({"reasoning_content": "One."}),
        delta_event({"thinking_blocks": [SIGNED]}),
        delta_event({"reasoning_content": "Two."}),
        delta_event({"thinking_blocks": [SIGNED]}),
        TextEvent("So."),
        delta_event({"reasoning_content": "Three."}),
        TextEvent("Done."),
        *end(),
    )
    output = events[-1]["response"]["output"]
    assert output == accumulated(events)
    assert [item["type"] for item in output] == ["reasoning", "message", "reasoning", "message"]
    assert [part["text"] for part in output[0]["summary"]] == ["One.", "Two."]


def test_it_writes_refusals_citations_and_logprobs():
    token = {"token": "No", "logprob": -0.1, "bytes": [78, 111], "top_logprobs": []}
    text = {"index": 0, "delta": {"content": "No"}, "finish_reason": None, "logprobs": {"content": [token]}}
    cited = {"type": "url_citation", "url_citation": {"url": "https://a.example", "title": "A"}}
    said = delta_event({})
    said._choices = [text]
    events = rendered(
        said, delta_event({"annotations": [cited]}), delta_event({"refusal": "I won't."}), *end()
    )
    (message,) = events[-1]["response"]["output"]
    assert [message] == accumulated(events)
    assert message["content"] == [
        {
            "type": "output_text",
            "annotations": [
                {
                    "type": "url_citation",
                    "start_index": 0,
                    "end_index": 0,
                    "url": "https://a.example",
                    "title": "A",
                }
            ],
            "logprobs": [token],
            "text": "No",
        },
        {"type": "refusal", "refusal": "I won't."},
    ]


@pytest.mark.parametrize(
    ("reason", "status", "why"),
    [
        ("stop", "completed", None),
        ("tool_calls", "completed", None),
        ("length", "incomplete", {"reason": "max_output_tokens"}),
        ("content_filter", "incomplete", {"reason": "content_filter"}),
    ],
)
def test_it_says_how_the_answer_ended(reason, status, why):
    events = rendered(TextEvent("Hel"), finish_event(reason), done_event())
    last = events[-1]
    assert last["type"] == f"response.{status}"
    response = last["response"]
    assert (response["status"], response["incomplete_details"], response["usage"]) == (status, why, None)
    assert response["output"][0]["status"] == status


def test_it_ends_a_silent_answer_in_an_empty_message():
    events = rendered(*end())
    (message,) = events[-1]["response"]["output"]
    assert [message] == accumulated(events)
    assert message["content"][0]["text"] == ""
    assert rendered(*end("length"))[-1]["response"]["output"] == []


def test_it_takes_usage_from_whichever_event_has_it():
    assert (
        rendered(TextEvent("a"), finish_event("stop", usage=USAGE), done_event())[-1]["response"]["usage"]
        == COUNTED
    )


def test_it_reads_chunks_of_chat_that_pass_together():
    text = TEXT_STREAM.replace(sse(chunk({"content": "Hello"})), sse(chunk({"content": "Hello"})) * 2)
    decoder = DIALECTS["openai"].stream(make_call(stream=True))
    events = written(renderer().events([*decoder.feed(text), *decoder.close()]))
    assert events[-1]["response"]["output"][0]["content"][0]["text"] == "HelloHello there."
    assert events[-1]["response"]["usage"]["total_tokens"] == 7


def test_it_ends_a_failed_stream_in_an_error_event():
    writer = renderer()
    text = writer.events([TextEvent("Hel")]) + writer.error(RateLimited("Slow down.", param="x"))
    error = written(text)[-1]
    fields = {"message": "Slow down.", "param": "x", "code": "rate_limit_exceeded"}
    assert error == {
        "type": "error",
        "sequence_number": 5,
        **fields,
        "error": {**fields, "type": "rate_limit_error"},
    }


# ---------------------------------------------------------------- whole answers

MESSAGE: dict[str, Any] = {
    "role": "assistant",
    "content": "I look.",
    "refusal": None,
    "reasoning_content": "Hm. Well.",
    "thinking_blocks": [SIGNED],
    "annotations": [],
    "tool_calls": [
        {"id": "call_a", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}},
        {"id": "call_b", "type": "function", "function": {"name": "g", "arguments": "{}"}},
    ],
}


def answered(message, reason="stop", usage=USAGE, **sent):
    body = {"choices": [{"index": 0, "message": message, "finish_reason": reason}]}
    whole = Answer(body=orjson.dumps(body), wire=CHAT, usage=usage, finish_reasons=[reason])
    response = orjson.loads(renderer(**sent).answer(whole))
    Response.model_validate(response)
    return response


def test_it_writes_a_whole_answer():
    response = answered(MESSAGE, "tool_calls")
    reasoning, message, first, second = response["output"]
    assert reasoning["id"].startswith("rs_")
    assert reasoning["summary"] == [{"type": "summary_text", "text": "Hm. Well."}]
    assert carried(reasoning["encrypted_content"]) == [SIGNED]
    assert message["content"][0]["text"] == "I look."
    assert [(call["call_id"], call["name"], call["arguments"]) for call in (first, second)] == [
        ("call_a", "f", '{"a":1}'),
        ("call_b", "g", "{}"),
    ]
    assert (response["status"], response["usage"], response["error"]) == ("completed", COUNTED, None)
    assert (response["id"], response["object"], response["model"]) == ("resp_boot-0-1", "response", "claude")
    assert response["created_at"] == 1_800_000_000


def test_it_says_the_same_whole_and_in_a_stream():
    events = [
        delta_event({"reasoning_content": "Hm. Well."}),
        delta_event({"thinking_blocks": [SIGNED]}),
        TextEvent("I look."),
        call_piece(0, '{"a":1}', "call_a", "f"),
        *end("tool_calls"),
    ]
    message = assemble(events, id="", created=0, model="")["choices"][0]["message"]
    assert answered(message, "tool_calls") == rendered(*events)[-1]["response"]


def test_it_says_how_a_whole_answer_ended():
    cut = answered({"role": "assistant", "content": "Hel"}, "length", usage=None)
    assert (cut["status"], cut["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert (cut["output"][0]["status"], cut["usage"]) == ("incomplete", None)
    refused = answered({"role": "assistant", "content": None, "refusal": "No."})
    assert refused["output"][0]["content"] == [{"type": "refusal", "refusal": "No."}]
    silent = answered({"role": "assistant", "content": None})
    assert silent["output"][0]["content"][0]["text"] == ""


def test_it_repeats_the_request_and_says_that_nothing_is_stored():
    tool = {"type": "function", "name": "f", "parameters": {}, "strict": True}
    asked = {
        "instructions": "Be brief.",
        "max_output_tokens": 50,
        "metadata": {"a": "b"},
        "parallel_tool_calls": False,
        "temperature": 0.5,
        "tool_choice": "required",
        "tools": [tool],
        "top_p": 0.9,
        "user": "me",
    }
    response = answered(MESSAGE, store=True, reasoning={"effort": "low"}, text={"verbosity": "low"}, **asked)
    assert asked.items() <= response.items()
    assert response["store"] is False
    assert response["previous_response_id"] is None
    assert response["reasoning"] == {"effort": "low", "summary": None}
    assert response["text"] == {"format": {"type": "text"}, "verbosity": "low"}
    usual = answered(MESSAGE, temperature=None)
    assert (usual["temperature"], usual["tools"], usual["metadata"]) == (1.0, [], {})


def test_it_gets_back_through_the_sdk_what_a_vendor_wants_back():
    extra = {"google": {"thought_signature": "abc"}}
    first, second = MESSAGE["tool_calls"]
    message = {**MESSAGE, "tool_calls": [{**first, "extra_content": extra}, second]}
    output = Response.model_validate(answered(message, "tool_calls")).output
    items = [item.model_dump(mode="json", exclude_unset=True) for item in output]
    turn = parse_responses(orjson.dumps({"model": "m", "input": items})).body["messages"]
    kept = ("role", "content", "reasoning_content", "thinking_blocks", "tool_calls")
    assert turn == [{name: message[name] for name in kept}]


def test_it_gives_a_call_without_arguments_an_object():
    bare = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": ""}}
    events = rendered(delta_event({"tool_calls": [bare]}), *end("tool_calls"))
    assert events[-1]["response"]["output"][0]["arguments"] == "{}"
    assert "".join(each["delta"] for each in events if each["type"].endswith("arguments.delta")) == "{}"
    cut = rendered(delta_event({"tool_calls": [bare]}), *end("length"))
    assert cut[-1]["response"]["output"][0]["arguments"] == ""
