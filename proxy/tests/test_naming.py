import orjson
import pytest

from providers.call import Untranslatable
from proxy.endpoints import (
    parse_chat,
    parse_completions,
    parse_count_tokens,
    parse_messages,
)
from proxy.endpoints.naming import client_name
from proxy.endpoints.responses import parse_responses

CALL = {"type": "tool_use", "id": "call_1", "name": "f", "input": {}}
RESULT = {"type": "tool_result", "tool_use_id": "call_1", "content": "x"}
TEXT = {"type": "text", "text": "hi"}
TURNS = [
    {"role": "user", "content": "hi"},
    {"role": "assistant", "content": [TEXT, CALL]},
    {"role": "user", "content": [RESULT, {**RESULT, "tool_use_id": "call_2"}, TEXT]},
    {"role": "assistant", "content": "so"},
    {"role": "user", "content": [RESULT]},
]
ITEMS = [
    {"role": "user", "content": "hi"},
    {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
    {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"},
    {"type": "function_call", "call_id": "call_2", "name": "f", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "call_1", "output": "x"},
    {"type": "function_call_output", "call_id": "call_2", "output": "x"},
    {"role": "assistant", "content": "so"},
    {"role": "assistant", "content": "and so"},
    {"role": "user", "content": "and?"},
]


def call_of(parse, **fields):
    return parse(orjson.dumps({"model": "m", **fields}))


def messages(**fields):
    return call_of(parse_messages, **{"max_tokens": 5, "messages": TURNS, **fields})


def responses(**fields):
    return call_of(parse_responses, **{"input": ITEMS, **fields})


@pytest.mark.parametrize(
    ("call", "places"),
    [
        (
            messages(system="Be brief."),
            ["system", *(f"messages[{at}]" for at in (0, 1, 2, 2, 2, 3, 4))],
        ),
        (messages(system=[]), [f"messages[{at}]" for at in (0, 1, 2, 2, 2, 3, 4)]),
        (
            responses(instructions="Be brief."),
            ["instructions", *(f"input[{at}]" for at in (0, 1, 4, 5, 6, 7, 8))],
        ),
        (responses(input="hi"), ["input"]),
    ],
)
def test_it_names_the_place_where_the_client_said_a_message(call, places):
    found = [client_name(call, f"messages[{at}]") for at in range(len(call.body["messages"]))]
    assert found == places
    beyond = f"messages[{len(places)}]"
    assert client_name(call, beyond) == beyond


@pytest.mark.parametrize(
    ("call", "param", "name"),
    [
        (messages(), "messages[2].content[7]", "messages[2].content"),
        (messages(), "messages[1].tool_calls[0].id", "messages[1]"),
        (messages(system="s"), "messages[0].content", "system"),
        (messages(), "stop", "stop_sequences"),
        (messages(), "response_format.json_schema.schema", "output_config.format"),
        (messages(), "tools[1].function.parameters", "tools[1].input_schema"),
        (messages(), "temperature", "temperature"),
        (messages(), "", ""),
        (
            call_of(parse_count_tokens, messages=TURNS, system="s"),
            "messages[1].content",
            "messages[0].content",
        ),
        (responses(), "messages[0].content[0]", "input[0]"),
        (responses(), "reasoning_effort", "reasoning.effort"),
        (responses(), "max_completion_tokens", "max_output_tokens"),
        (responses(), "tools[1].function.name", "tools[1].name"),
        (call_of(parse_completions, prompt="hi"), "messages[0].content", "prompt"),
        (call_of(parse_completions, prompt="hi"), "seed", "seed"),
        (call_of(parse_chat, messages=TURNS[:1]), "messages[0].content[1]", "messages[0].content[1]"),
        (
            messages(system="s")._replace(only_native=Untranslatable("messages[1].content[0]", "")),
            "messages[1].content[0]",
            "messages[1].content[0]",
        ),
    ],
)
def test_it_names_a_parameter_as_the_client_does(call, param, name):
    assert client_name(call, param) == name
