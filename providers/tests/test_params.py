"""What a vendor gets nothing of is refused or told of, wherever in the request it stands."""

from contextlib import suppress
from typing import Any

import orjson
import pytest

from providers.dialects import DIALECTS
from providers.errors import UnsupportedParameter
from providers.tests.samples import make_call, make_upstream
from providers.upstream import UpstreamRequest
from providers.wires import CHAT, MESSAGES

NAMED = {"messages": [{"role": "user", "name": "ada", "content": "Hi"}]}
SHARP = {
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"}}
            ],
        }
    ]
}
FAILED = {
    "messages": [
        {"role": "user", "content": "Hi"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
            ],
        },
        {"role": "tool", "tool_call_id": "call_1", "name": "f", "content": "no", "is_error": True},
    ]
}
STRICT = {
    "tools": [
        {
            "type": "function",
            "function": {
                "name": "f",
                "strict": True,
                "parameters": {"type": "object", "properties": {}, "additionalProperties": False},
            },
        }
    ]
}
MODELS = {"anthropic": "claude-sonnet-4-5", "gemini": "gemini-2.5-flash"}


def encode(dialect: str, *, wire: str = CHAT, **body: Any) -> UpstreamRequest:
    upstream = make_upstream(dialect, MODELS.get(dialect, "m"), dialect=dialect)
    return DIALECTS[dialect].encode(make_call(wire=wire, **body), upstream)


@pytest.mark.parametrize(
    ("body", "told", "says"),
    [
        (NAMED, "messages.name", {"openai"}),
        (SHARP, "messages.image_url.detail", {"openai", "mistral"}),
        (FAILED, "messages.is_error", {"openai", "anthropic", "gemini"}),
        (STRICT, "tools.function.strict", {"openai", "anthropic", "mistral"}),
    ],
)
@pytest.mark.parametrize("dialect", list(DIALECTS))
def test_it_tells_of_hints_inside_that_a_vendor_has_not(dialect, body, told, says):
    assert encode(dialect, **body).dropped_params == (() if dialect in says else (told,))


def test_it_sends_no_strictness_to_those_who_have_none():
    assert b'"strict"' in encode("mistral", **STRICT).body
    for dialect in ("gemini", "ollama"):
        assert b'"strict"' not in encode(dialect, **STRICT).body


@pytest.mark.parametrize("dialect", list(DIALECTS))
@pytest.mark.parametrize("hint", ["cache_control", "prompt_cache_options"])
def test_it_refuses_no_hint_of_where_to_cache(dialect, hint):
    request = encode(dialect, **{hint: {"type": "ephemeral"}})
    assert request.dropped_params == (() if hint in orjson.loads(request.body) else (hint,))


@pytest.mark.parametrize("dialect", list(DIALECTS))
def test_it_takes_the_usual_verbosity_everywhere(dialect):
    assert encode(dialect, verbosity="medium").dropped_params == ()
    if dialect != "openai":
        with pytest.raises(UnsupportedParameter) as refused:
            encode(dialect, verbosity="low")
        assert refused.value.param == "verbosity"


@pytest.mark.parametrize("junk", [7, "x", [7], [{"content": [7, {"image_url": 7}]}]])
def test_it_looks_into_any_shape(junk):
    for dialect in DIALECTS:
        for name in ("messages", "tools"):
            with suppress(UnsupportedParameter):
                encode(dialect, **{name: junk})


def test_it_tells_what_of_another_format_openai_does_not_hear():
    translated = encode("openai", wire=MESSAGES, thinking={"type": "disabled"}, **FAILED)
    assert translated.dropped_params == ("thinking", "messages.is_error")
    assert b"is_error" not in translated.body
    by_effort = encode("openai", wire=MESSAGES, thinking={"type": "enabled"}, reasoning_effort="low")
    assert by_effort.dropped_params == ()
    usual = encode("openai", wire=MESSAGES, thinking={"type": "adaptive"})
    assert usual.dropped_params == ()


@pytest.mark.parametrize("dialect", ["anthropic", "mistral", "ollama"])
@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "f"}}])
def test_it_chooses_no_tool_that_is_not_there(dialect, choice):
    with pytest.raises(UnsupportedParameter) as refused:
        encode(dialect, tool_choice=choice)
    assert (refused.value.param, refused.value.code) == ("tool_choice", "invalid_value")


def test_it_names_tokens_only_where_their_logprobs_are_asked_for():
    with pytest.raises(UnsupportedParameter) as refused:
        encode("gemini", top_logprobs=2)
    assert refused.value.param == "top_logprobs"
