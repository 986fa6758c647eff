from typing import Any

import orjson
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletionChunk

from providers.dialects import DIALECTS
from providers.events import Answer, Event, Kind, delta_event, finish_event
from providers.tests.samples import DONE, TEXT_STREAM, answer, chunk, make_call, sse, usage_chunk
from providers.usage import Usage
from providers.wires import CHAT
from proxy import renderers
from proxy.assemble import assemble
from proxy.errors import RateLimited
from proxy.renderers import ChatRenderer, SimpleRenderer
from proxy.tests.fakes import make_completion


def decoded(text):
    decoder = DIALECTS["openai"].stream(make_call(stream=True))
    return [*decoder.feed(text), *decoder.close()]


def chat(wants_usage=False, **fields):
    return ChatRenderer(make_completion(model="gpt-4o", **fields), wants_usage=wants_usage)


def simple(**fields):
    return SimpleRenderer(make_completion(**{"model": "gpt-4o", "provider": "openai", **fields}))


def payloads(text):
    found = [each.removeprefix(b"data: ") for each in text.split(b"\n\n") if each]
    return [each if each == b"[DONE]" else orjson.loads(each) for each in found]


def whole_answer(body, usage=Usage(5, 2)):  # noqa: B008 - frozen
    return Answer(body=orjson.dumps(body), wire=CHAT, usage=usage, finish_reasons=["stop"])


# ---------------------------------------------------------------- OpenAI


def test_it_passes_bytes_of_the_clients_own_format_on():
    assert chat(wants_usage=True).events(decoded(TEXT_STREAM)) == TEXT_STREAM
    assert chat().answer(whole_answer(answer())) == orjson.dumps(answer())


def test_it_hides_the_usage_chunk_that_the_client_did_not_ask_for():
    events = decoded(TEXT_STREAM)
    assert chat().events(events) == TEXT_STREAM.replace(sse(usage_chunk()), b"")
    (usage,) = [event for event in events if event.kind is Kind.USAGE]
    assert chat().events([usage]) == b""


def test_it_writes_chunks_for_events_of_another_vendor():
    delta = {"index": 0, "delta": {"content": "a"}, "finish_reason": None}
    events = [
        Event(Kind.CONTENT, raw=b"event: other\n\n", wire="other", choices=[delta]),
        Event(Kind.FINISH, choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}], usage=Usage(3, 4)),
        Event(Kind.USAGE, choices=(), usage=Usage(3, 4)),
        Event(Kind.DONE, choices=()),
    ]
    first, finish, usage, done = payloads(chat(wants_usage=True).events(events))
    assert first == {
        "id": "chatcmpl-boot-0-1",
        "object": "chat.completion.chunk",
        "created": 1_800_000_000,
        "model": "gpt-4o",
        "choices": [{**delta, "delta": {"role": "assistant", "content": "a"}}],
    }
    assert finish["choices"][0]["delta"] == {}
    assert (
        finish["usage"] == usage["usage"] == {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    )
    assert usage["choices"] == []
    assert done == b"[DONE]"
    without = payloads(chat().events(events))
    assert len(without) == 3
    assert "usage" not in without[1]


def test_it_ends_a_failed_stream_in_an_error_event():
    text = chat().error(RateLimited("Slow down.", param="x"))
    assert payloads(text) == [
        {
            "error": {
                "message": "Slow down.",
                "type": "rate_limit_error",
                "param": "x",
                "code": "rate_limit_exceeded",
            }
        }
    ]


# ---------------------------------------------------------------- the simple chat


def test_it_streams_the_text_and_then_the_facts():
    pieces = payloads(simple(usage=Usage(5, 2), cache="miss").events(decoded(TEXT_STREAM)))
    assert pieces[:3] == [{"delta": "Hello"}, {"delta": " there"}, {"delta": "."}]
    assert pieces[3] == {
        "done": True,
        "model": "gpt-4o",
        "provider": "openai",
        "cached": False,
        "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7},
        "request_id": "req-1",
    }
    assert pieces[4] == b"[DONE]"
    assert simple().events(decoded(TEXT_STREAM)).endswith(DONE)


def test_it_sends_nothing_for_events_without_text():
    role = chunk({"role": "assistant", "content": ""})
    assert simple().events(decoded(sse(role) + sse(chunk({"content": "a"})))[:1]) == b""


def test_it_answers_with_the_text_and_the_facts():
    renderer = simple(cache="hit", usage=Usage(5, 2))
    body = orjson.loads(renderer.answer(whole_answer(answer("Hi."))))
    assert body == {
        "message": "Hi.",
        "model": "gpt-4o",
        "provider": "openai",
        "cached": True,
        "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7},
        "request_id": "req-1",
    }


def test_it_answers_with_no_text_where_the_vendor_said_none():
    for body in ({}, {"choices": []}, {"choices": [{}]}, {"choices": [{"message": {"content": None}}]}):
        rendered = orjson.loads(simple().answer(whole_answer(body, usage=None)))
        assert (rendered["message"], rendered["usage"]) == ("", None)


def test_it_writes_an_error_event_and_no_end():
    text = simple().error(RateLimited("Slow down."))
    assert payloads(text)[0]["error"]["message"] == "Slow down."
    assert DONE not in text


def test_it_makes_one_renderer_per_answer():
    completion = make_completion()
    assert isinstance(renderers.chat(completion, make_call()), ChatRenderer)
    assert isinstance(renderers.simple(completion, make_call()), SimpleRenderer)


def test_it_numbers_what_the_sdk_adds_up():
    pieces: list[dict[str, Any]] = [
        {"thinking_blocks": [{"type": "thinking", "thinking": "a", "signature": "s"}]},
        {"annotations": [{"type": "url_citation", "url_citation": {"url": "https://a.test"}}]},
        {"thinking_blocks": [{"type": "redacted_thinking", "data": "d"}]},
        {"content": "b"},
    ]
    renderer = chat(wants_usage=False)
    state = ChatCompletionStreamState()
    said = renderer.events([*(delta_event(piece) for piece in pieces), finish_event("stop")])
    for payload in said.split(b"\n\n")[:-1]:
        state.handle_chunk(ChatCompletionChunk.model_validate_json(payload.removeprefix(b"data: ")))
    message = state.get_final_completion().choices[0].message.model_dump()
    assert [block["type"] for block in message["thinking_blocks"]] == ["thinking", "redacted_thinking"]
    again = assemble(decoded(said + DONE), id="x", created=1, model="m")["choices"][0]["message"]
    blocks = [block for piece in pieces for block in piece.get("thinking_blocks", ())]
    assert again["thinking_blocks"] == blocks
    assert again["annotations"] == pieces[1]["annotations"]
