"""Parameters, tools and schemas of generateContent."""

import orjson
import pytest

from providers.call import Untranslatable
from providers.dialects.gemini.dialect import Gemini
from providers.dialects.gemini.schema import cleaned
from providers.errors import UnsupportedParameter
from providers.tests.samples import make_call, make_upstream
from providers.wires import COMPLETIONS, MESSAGES, RESPONSES

GEMINI = Gemini()
OBJECT = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}


def encode(model="gemini-2.5-flash", *, drop=False, base_url="https://g.test", wire="openai.chat", **fields):
    upstream = make_upstream(
        "gemini", model, dialect="gemini", base_url=base_url, drop_unsupported_params=drop
    )
    return GEMINI.encode(make_call(wire=wire, **fields), upstream)


def body(model="gemini-2.5-flash", **fields):
    return orjson.loads(encode(model, **fields).body)


def config(model="gemini-2.5-flash", **fields):
    return body(model, **fields).get("generationConfig", {})


def test_it_sends_nothing_that_was_not_said():
    assert body() == {"contents": [{"role": "user", "parts": [{"text": "hello"}]}]}


@pytest.mark.parametrize("wire", [COMPLETIONS, RESPONSES, MESSAGES])
def test_it_asks_for_every_format_that_is_canonical(wire):
    request = encode(wire=wire)
    assert request.path == "/v1beta/models/gemini-2.5-flash:generateContent"
    assert request.wire == ""


def test_it_refuses_what_only_another_vendor_can_answer():
    call = make_call()._replace(only_native=Untranslatable("previous_response_id", "no"))
    with pytest.raises(UnsupportedParameter) as raised:
        GEMINI.encode(call, make_upstream("gemini", dialect="gemini"))
    assert raised.value.param == "previous_response_id"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"temperature": 0, "top_p": 0.5, "top_k": 40}, {"temperature": 0, "topP": 0.5, "topK": 40}),
        ({"max_tokens": 5}, {"maxOutputTokens": 5}),
        ({"max_tokens": 5, "max_completion_tokens": 6}, {"maxOutputTokens": 6}),
        ({"max_tokens": 5, "max_completion_tokens": None}, {"maxOutputTokens": 5}),
        ({"seed": 7, "presence_penalty": 1}, {"seed": 7, "presencePenalty": 1}),
        ({"frequency_penalty": -1}, {"frequencyPenalty": -1}),
        ({"n": 1}, {}),
        ({"n": 3}, {"candidateCount": 3}),
        ({"stop": "x"}, {"stopSequences": ["x"]}),
        ({"stop": ["x", "y"]}, {"stopSequences": ["x", "y"]}),
        ({"stop": []}, {}),
        ({"logprobs": True, "top_logprobs": 3}, {"responseLogprobs": True, "logprobs": 3}),
        ({"logprobs": False, "top_logprobs": 0}, {}),
        ({"modalities": ["text"]}, {}),
        ({"modalities": ["image", "text"]}, {"responseModalities": ["IMAGE", "TEXT"]}),
        ({"response_format": {"type": "text"}}, {}),
        ({"response_format": {"type": "json_object"}}, {"responseMimeType": "application/json"}),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": OBJECT}}},
            {"responseMimeType": "application/json", "responseJsonSchema": OBJECT},
        ),
    ],
)
def test_it_says_parameters_in_googles_words(fields, expected):
    assert config(**fields) == expected


@pytest.mark.parametrize(
    ("model", "fields", "expected"),
    [
        ("gemini-2.5-flash", {"reasoning_effort": "none"}, {"thinkingBudget": 0}),
        ("gemini-2.5-pro", {"reasoning_effort": "none"}, {"thinkingBudget": 128}),
        ("gemini-2.5-flash", {"thinking": {"type": "disabled"}}, {"thinkingBudget": 0}),
        ("gemini-2.5-flash", {"reasoning_effort": "low"}, {"includeThoughts": True, "thinkingBudget": 1024}),
        (
            "gemini-2.5-pro",
            {"reasoning_effort": "xhigh"},
            {"includeThoughts": True, "thinkingBudget": 32_768},
        ),
        (
            *("gemini-2.5-flash", {"thinking": {"type": "enabled", "budget_tokens": 31_999}}),
            {"includeThoughts": True, "thinkingBudget": 24_576},
        ),
        (
            "gemini-2.5-flash",
            {"thinking": {"type": "adaptive"}},
            {"includeThoughts": True, "thinkingBudget": -1},
        ),
        ("gemini-3-flash-preview", {"reasoning_effort": "none"}, {"thinkingLevel": "MINIMAL"}),
        ("gemini-3.1-pro-preview", {"reasoning_effort": "none"}, {"thinkingLevel": "LOW"}),
        (
            "gemini-3-pro-preview",
            {"reasoning_effort": "high"},
            {"includeThoughts": True, "thinkingLevel": "HIGH"},
        ),
        (
            "gemini-flash-latest",
            {"reasoning_effort": "medium"},
            {"includeThoughts": True, "thinkingLevel": "MEDIUM"},
        ),
        (
            *("gemini-3-flash", {"thinking": {"type": "enabled", "budget_tokens": 2048}}),
            {"includeThoughts": True, "thinkingLevel": "LOW"},
        ),
        ("gemini-10-flash", {"thinking": {"type": "adaptive"}}, {"includeThoughts": True}),
    ],
)
def test_it_thinks_as_much_as_was_asked_for(model, fields, expected):
    assert config(model, **fields) == {"thinkingConfig": expected}


def test_it_declares_tools():
    tools = [
        {
            "type": "function",
            "function": {"name": "f", "description": "d", "parameters": OBJECT, "strict": True},
        },
        {"type": "function", "function": {"name": "g", "parameters": {"type": "object", "properties": {}}}},
        {"type": "function", "function": {"name": "h"}},
        {"google_search": {}},
    ]
    assert body(tools=tools)["tools"] == [
        {
            "functionDeclarations": [
                {"name": "f", "description": "d", "parametersJsonSchema": OBJECT},
                {"name": "g"},
                {"name": "h"},
            ]
        },
        {"google_search": {}},
    ]
    assert "tools" not in body(tools=[])


def test_it_declares_an_object_of_any_fields():
    parameters = {"type": "object", "properties": {}, "additionalProperties": True}
    (tool,) = body(tools=[{"type": "function", "function": {"name": "f", "parameters": parameters}}])["tools"]
    assert tool["functionDeclarations"][0]["parametersJsonSchema"] == parameters


NAMED = {"type": "function", "function": {"name": "f"}}


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("auto", {"mode": "AUTO"}),
        ("none", {"mode": "NONE"}),
        ("required", {"mode": "ANY"}),
        (NAMED, {"mode": "ANY", "allowedFunctionNames": ["f"]}),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [NAMED]}},
            {"mode": "ANY", "allowedFunctionNames": ["f"]},
        ),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [NAMED]}},
            {"mode": "VALIDATED", "allowedFunctionNames": ["f"]},
        ),
    ],
)
def test_it_chooses_tools(choice, expected):
    assert body(tool_choice=choice)["toolConfig"] == {"functionCallingConfig": expected}


@pytest.mark.parametrize(
    "names", [("safety_settings", "cached_content"), ("safetySettings", "cachedContent")]
)
def test_it_passes_googles_own_fields_on(names):
    sent = body(**dict(zip(names, ([{"category": "X"}], "cachedContents/1"), strict=True)))
    assert (sent["safetySettings"], sent["cachedContent"]) == ([{"category": "X"}], "cachedContents/1")


def test_it_sends_ids_of_calls_to_the_gemini_api_alone():
    messages = [
        {"role": "user", "content": "go"},
        {"role": "assistant", "tool_calls": [{"id": "c1", **NAMED}]},
        {"role": "tool", "tool_call_id": "c1", "content": "done"},
    ]
    assert b'"c1"' in encode(messages=messages).body
    vertex = "https://aiplatform.googleapis.com/v1/projects/p/locations/global/publishers/google"
    assert b'"c1"' not in encode(messages=messages, base_url=vertex).body


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"logit_bias": {"1": 5}}, "logit_bias", "unsupported_parameter"),
        ({"functions": [{"name": "f"}]}, "functions", "unsupported_parameter"),
        ({"modalities": ["audio"]}, "modalities", "unsupported_parameter"),
        ({"modalities": [["text"]]}, "modalities", "unsupported_parameter"),
        ({"temperature": "hot"}, "temperature", "invalid_value"),
        ({"max_tokens": True}, "max_tokens", "invalid_value"),
        ({"stop": 3}, "stop", "invalid_value"),
        ({"stop": [3]}, "stop", "invalid_value"),
        ({"logprobs": True, "top_logprobs": "3"}, "top_logprobs", "invalid_value"),
        ({"messages": {"role": "user"}}, "messages", "invalid_value"),
        ({"response_format": "json"}, "response_format", "invalid_value"),
        ({"response_format": {"type": ["x"]}}, "response_format", "invalid_value"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": "x"}}},
            *("response_format.json_schema.schema", "invalid_value"),
        ),
        ({"reasoning_effort": "extreme"}, "reasoning_effort", "invalid_value"),
        ({"reasoning_effort": ["low"]}, "reasoning_effort", "invalid_value"),
        ({"thinking": "yes"}, "thinking", "invalid_value"),
        ({"thinking": {"type": ["x"]}}, "thinking", "invalid_value"),
        ({"tools": {}}, "tools", "invalid_value"),
        ({"tools": ["f"]}, "tools[0]", "invalid_value"),
        ({"tools": [{"type": "custom", "custom": {}}]}, "tools[0]", "unsupported_parameter"),
        ({"tools": [{"type": "function"}]}, "tools[0].function.name", "invalid_value"),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": "x"}}]},
            *("tools[0].function.parameters", "invalid_value"),
        ),
        ({"tool_choice": "any"}, "tool_choice", "invalid_value"),
        ({"tool_choice": {"type": "function"}}, "tool_choice.function.name", "invalid_value"),
        ({"tool_choice": {"type": "allowed_tools"}}, "tool_choice", "invalid_value"),
    ],
)
def test_it_refuses_by_name(fields, param, code):
    with pytest.raises(UnsupportedParameter) as raised:
        encode(**fields)
    assert (raised.value.param, raised.value.code) == (param, code)


def test_it_drops_where_the_row_says_so():
    assert encode(drop=True, logit_bias={"1": 5}, user="u").dropped_params == ("logit_bias", "user")


def test_it_refuses_arguments_that_go_deeper_than_can_be_written():
    deep = '{"a": ' * 300 + "1" + "}" * 300
    call = {"id": "c", "function": {"name": "f", "arguments": deep}}
    with pytest.raises(UnsupportedParameter) as raised:
        encode(messages=[{"role": "assistant", "tool_calls": [call]}])
    assert raised.value.param == "messages"


# ---------------------------------------------------------------- schemas


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        (OBJECT, OBJECT),
        ({"$schema": "x", "type": ["string", "null"]}, {"type": ["string", "null"]}),
        ({"const": "a"}, {"enum": ["a"]}),
        ({"properties": {"const": {"const": 1}}}, {"properties": {"const": {"enum": [1]}}}),
        ({"anyOf": [{"const": 1}, {"type": "null"}]}, {"anyOf": [{"enum": [1]}, {"type": "null"}]}),
        ({"items": {"const": 1}, "default": {"const": 1}}, {"items": {"enum": [1]}, "default": {"const": 1}}),
        (
            {"$ref": "#/$defs/A", "$defs": {"A": {"const": 1}}},
            {"$ref": "#/$defs/A", "$defs": {"A": {"enum": [1]}}},
        ),
        (
            {
                "properties": {"a": {"$ref": "#/$defs/A", "description": "d"}},
                "$defs": {"A": {"type": "string"}},
            },
            {
                "properties": {"a": {"type": "string", "description": "d"}},
                "$defs": {"A": {"type": "string"}},
            },
        ),
        (
            {
                "properties": {"a": {"allOf": [{"$ref": "#/$defs/A"}], "default": 1}},
                "$defs": {"A": {"type": "integer"}},
            },
            {"properties": {"a": {"type": "integer", "default": 1}}, "$defs": {"A": {"type": "integer"}}},
        ),
        (
            {
                "allOf": [
                    {"type": "object", "properties": {"a": {}}, "required": ["a"]},
                    {"properties": {"b": {}}, "required": ["b"]},
                ]
            },
            {"type": "object", "properties": {"a": {}, "b": {}}, "required": ["a", "b"]},
        ),
        ({"$ref": "#/$defs/gone", "title": "x"}, {"$ref": "#/$defs/gone"}),
        ({"$ref": "https://x.test/schema", "title": "x"}, {"$ref": "https://x.test/schema"}),
        ({"allOf": "x", "properties": "y", "anyOf": 3}, {"allOf": "x", "properties": "y", "anyOf": 3}),
    ],
)
def test_it_says_a_schema_in_words_that_gemini_knows(schema, expected):
    assert cleaned(schema) == expected


def test_it_leaves_a_reference_to_itself_in_place():
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/N", "description": "d"}}}
    schema = {"$ref": "#/$defs/N", "title": "t", "$defs": {"N": node}}
    assert orjson.dumps(cleaned(schema)).count(b'"$ref":"#/$defs/N"') == 2


@pytest.mark.parametrize("keyword", ["allOf", "anyOf"])
def test_it_is_not_blown_up_by_a_schema_of_references(keyword):
    """Each definition names the next one twice: in full it would be of 2^40 parts."""
    names = {f"D{i}": {"title": "x", keyword: [{"$ref": f"#/$defs/D{i + 1}", "a": 1}] * 2} for i in range(40)}
    schema = {"$ref": "#/$defs/D0", "title": "t", "$defs": names}
    assert len(orjson.dumps(cleaned(schema))) < 2_000_000
