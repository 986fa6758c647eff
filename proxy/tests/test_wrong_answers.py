"""Whole answers with something wrong in any place, to any client: an answer, or the vendor's failure."""

from typing import Any

import orjson
import pytest

from providers.errors import UpstreamError
from providers.events import Kind
from providers.tests.samples import make_upstream
from proxy import endpoints, renderers
from proxy.tests.fakes import FakeResponse, FakeVisit
from proxy.tests.test_attempt import Trying
from proxy.tests.test_wrong_requests import wrong_bodies

ASKS = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
CHAT = {
    "id": "c",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "x", "tool_calls": [ASKS]},
            "finish_reason": "tool_calls",
        }
    ],
    "usage": {"prompt_tokens": 1, "completion_tokens": 2},
}
COMPLETION = {
    "id": "c",
    "choices": [{"index": 0, "text": "x", "finish_reason": "stop", "logprobs": {"tokens": ["a"]}}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 2},
}
MESSAGE = {
    "id": "m",
    "type": "message",
    "content": [
        {"type": "text", "text": "x", "citations": [{"type": "char_location", "cited_text": "x"}]},
        {"type": "thinking", "thinking": "t", "signature": "s"},
        {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}},
    ],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 1, "output_tokens": 2},
}
RESPONSE = {
    "id": "r",
    "status": "completed",
    "output": [
        {
            "type": "message",
            "id": "i",
            "content": [{"type": "output_text", "text": "x", "annotations": [{}]}],
        },
        {"type": "reasoning", "id": "rs", "summary": [{"type": "summary_text", "text": "t"}]},
        {"type": "function_call", "id": "f", "call_id": "c", "name": "f", "arguments": "{}"},
    ],
    "usage": {"input_tokens": 1, "output_tokens": 2},
}
GEMINI = {
    "candidates": [{"content": {"parts": [{"text": "x"}]}, "finishReason": "STOP", "index": 0}],
    "usageMetadata": {"promptTokenCount": 1, "candidatesTokenCount": 2},
}
OLLAMA = {
    "message": {"role": "assistant", "content": "x"},
    "done": True,
    "done_reason": "stop",
    "eval_count": 2,
}
HELLO = [{"role": "user", "content": "hello"}]
ASKED: dict[str, Any] = {
    "chat": (endpoints.parse_chat, {"messages": HELLO}, renderers.chat),
    "messages": (endpoints.parse_messages, {"messages": HELLO, "max_tokens": 9}, renderers.messages),
    "responses": (endpoints.parse_responses, {"input": "hello"}, renderers.responses),
    "completions": (endpoints.parse_completions, {"prompt": "hello", "echo": True}, renderers.completions),
}
OPENAI = {"chat": CHAT, "messages": CHAT, "responses": RESPONSE, "completions": COMPLETION}
OTHERS = {"anthropic": MESSAGE, "gemini": GEMINI, "mistral": CHAT, "ollama": OLLAMA}
CASES = [
    *(("openai", endpoint, body) for endpoint, body in OPENAI.items()),
    *((dialect, endpoint, body) for dialect, body in OTHERS.items() for endpoint in ASKED),
]


@pytest.mark.parametrize(("dialect", "endpoint", "body"), CASES)
async def test_it_answers_or_fails_for_the_vendor(dialect, endpoint, body):
    parse, fields, render = ASKED[endpoint]
    upstream = make_upstream("acme", dialect=dialect)
    for stream in (False, True):
        call = parse(orjson.dumps({"model": "m", "stream": stream, **fields}))
        for wrong in (body, *wrong_bodies(body)):
            trying = Trying(FakeResponse(orjson.dumps(wrong)), call=call)
            renderer = render(trying.exchange.completion, call)
            try:
                if stream:
                    *events, last = (await trying.stream(FakeVisit(upstream))).first
                    assert last.kind in (Kind.DONE, Kind.ERROR)
                    renderer.events(events if last.error else [*events, last])
                else:
                    answer = await trying.answer(FakeVisit(upstream))
                    renderer.answer(renderers.enveloped(answer, trying.exchange.completion))
            except UpstreamError:
                assert wrong is not body
