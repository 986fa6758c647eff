"""Requests with something wrong in any place, before vendors of every dialect: never a fault of ours."""

import orjson
import pytest

from providers.dialects import DIALECTS
from proxy import views
from proxy.asgi import lane
from proxy.tests.fakes import SECRET, Client, Log, make_snapshot, provider_row, refuses, silent

PNG = "data:image/png;base64,iVBORw0KGgo="
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
FUNCTION = {"name": "f", "description": "d", "parameters": SCHEMA, "strict": True}
ASKS = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a": "b"}'}}
CHAT = {
    "messages": [
        {"role": "developer", "content": "d"},
        {
            "role": "user",
            "name": "n",
            "content": [
                {"type": "text", "text": "t", "cache_control": {"type": "ephemeral"}},
                {"type": "image_url", "image_url": {"url": PNG, "detail": "low"}},
            ],
        },
        {"role": "assistant", "content": None, "reasoning_content": "r", "tool_calls": [ASKS]},
        {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "t"}]},
    ],
    "tools": [{"type": "function", "function": FUNCTION}],
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "response_format": {
        "type": "json_schema",
        "json_schema": {"name": "n", "schema": SCHEMA, "strict": True},
    },
    "stop": ["x"],
    "max_completion_tokens": 9,
    "temperature": 0.5,
    "reasoning_effort": "low",
    "thinking": {"type": "enabled", "budget_tokens": 2000},
    "top_k": 3,
    "seed": 1,
    "user": "u",
    "metadata": {"a": "b"},
}
MESSAGES = {
    "max_tokens": 3000,
    "system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}],
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "t"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBO"}},
                {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "d"}},
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "t", "signature": "s"},
                {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": "b"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "toolu_1",
                    "content": [{"type": "text", "text": "t"}],
                    "is_error": True,
                }
            ],
        },
    ],
    "tools": [{"name": "f", "description": "d", "input_schema": SCHEMA}],
    "tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": True},
    "thinking": {"type": "enabled", "budget_tokens": 2000},
    "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": SCHEMA}},
    "stop_sequences": ["x"],
    "metadata": {"user_id": "u"},
    "context_management": {"edits": [{"type": "clear_x"}]},
    "service_tier": "auto",
}
RESPONSES = {
    "instructions": "i",
    "input": [
        {
            "type": "message",
            "role": "user",
            "content": [
                {"type": "input_text", "text": "t"},
                {"type": "input_image", "image_url": PNG, "detail": "auto"},
            ],
        },
        {"type": "reasoning", "id": "rs", "summary": [{"type": "summary_text", "text": "t"}]},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": '{"a": 1}'},
        {"type": "function_call_output", "call_id": "c", "output": "o"},
        {"role": "assistant", "content": [{"type": "output_text", "text": "t", "annotations": []}]},
    ],
    "tools": [{"type": "function", **FUNCTION}],
    "tool_choice": {"type": "function", "name": "f"},
    "text": {
        "format": {"type": "json_schema", "name": "n", "schema": SCHEMA, "strict": True},
        "verbosity": "low",
    },
    "reasoning": {"effort": "low", "summary": "auto"},
    "include": ["reasoning.encrypted_content"],
    "max_output_tokens": 30,
    "parallel_tool_calls": True,
    "metadata": {"a": "b"},
    "store": False,
}
BODIES = {
    "/v1/chat/completions": CHAT,
    "/v1/messages": MESSAGES,
    "/v1/messages/count_tokens": {name: value for name, value in MESSAGES.items() if name != "max_tokens"},
    "/v1/responses": RESPONSES,
    "/v1/completions": {
        "prompt": ["p"],
        "echo": True,
        "suffix": "s",
        "max_tokens": 5,
        "stop": "x",
        "logprobs": 1,
    },
    "/v1/embeddings": {"input": ["a", "b"], "encoding_format": "base64", "dimensions": 3},
    "/v1/moderations": {"input": ["a"]},
}
WRONG = (None, -1, "x", [], ["x", None], {"type": [], "": 0})
# As deep as a body may be that is written again (orjson); whatever is put around it makes it too deep.
DEEPEST = 254


def nodes(value, path=()):
    """Yield the path of everything in a body."""
    yield path
    children = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for name, child in children:
        yield from nodes(child, (*path, name))


def changed(body, path, *wrong):
    """Return the body with something else in a place, or nothing."""
    body = orjson.loads(orjson.dumps(body))
    place = body
    for name in path[:-1]:
        place = place[name]
    if wrong:
        (place[path[-1]],) = wrong
    else:
        del place[path[-1]]
    return body


def wrong_bodies(body):
    for path in nodes(body):
        if not path:
            continue
        yield changed(body, path)
        for wrong in WRONG:
            yield changed(body, path, wrong)
        depth = DEEPEST - len(path)
        yield changed(body, path, orjson.loads(b'{"a":' * depth + b"1" + b"}" * depth))


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("path", BODIES)
async def test_it_answers_whatever_is_wrong(serving, monkeypatch, path, dialect):
    log = Log()
    monkeypatch.setattr(views, "log", log)
    vendor = provider_row("acme", dialect=dialect, drop_unsupported_params=True)
    gateway = serving(refuses(400), snapshot=lambda known: make_snapshot(vendor, callers=known))
    gateway._log_request = silent
    recorded = []
    monkeypatch.setattr(gateway.spool, "append_done", lambda identity, _: recorded.append(identity))
    asked = 0
    for body in wrong_bodies(BODIES[path]):
        raw = orjson.dumps({"model": "acme/m", **body})
        answer = await Client("POST", path, raw, authorization=f"Bearer {SECRET}").run(lane)
        asked += 1
        assert log.problems == [], raw
        assert answer.status in {200, 400}, (answer.body, raw)  # tokens are counted without the vendor
    assert gateway.meter.in_flight == 0
    assert len(set(recorded)) == len(recorded) == asked
