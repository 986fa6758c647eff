"""The real OpenAI SDK before a gateway that keeps answers, with each vendor's format behind it."""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from openai import OpenAI

from tests.dialects import EACH, all_dialects
from tests.gateway import running_gateway
from tests.upstream import QUIET, FakeVendor, unique

HELLO: Any = [{"role": "user", "content": "Hello there"}]
PARAMETERS: Any = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER: Any = {"type": "function", "function": {"name": "weather", "parameters": PARAMETERS}}
CITY = {"city": 'naïve "text"'}  # as the fake vendor fills it in


@pytest.fixture(scope="module")
def keeping(vendor: FakeVendor) -> Iterator[OpenAI]:
    """A client of a gateway that keeps answers."""
    with (
        running_gateway({**QUIET, "CACHE_MODE": "memory"}, files=all_dialects(vendor.url)) as served,
        OpenAI(base_url=f"{served.url}/v1", api_key=served.key, max_retries=0, timeout=30) as made,
    ):
        yield made


@EACH
@pytest.mark.parametrize("first", [False, True], ids=["JSON first", "stream first"])
def test_it_answers_again_from_the_cache_in_either_form(
    keeping: OpenAI, vendor: FakeVendor, dialect: str, *, first: bool
) -> None:
    model = unique("synthetic~tool=2~prompt=9~cached=2~reasoning=3")
    answers = []
    for streamed, cache in ((first, "miss"), (not first, "hit"), (first, "hit")):
        fields: Any = {"model": f"{dialect}/{model}", "messages": HELLO, "tools": [WEATHER]}
        raw = keeping.chat.completions.with_raw_response.create(**fields, stream=streamed)
        assert raw.headers["x-gateway-cache"] == cache
        made: Any = raw.parse()
        answers.append(said_in_stream(made) if streamed else said_in(made))
    assert answers[0] == answers[1] == answers[2]
    assert [json.loads(arguments) for _, arguments in answers[0].calls] == [CITY, CITY]
    # OpenAI's chat keeps its thoughts to itself.
    assert bool(answers[0].thought) is (dialect != "openai")
    assert len(vendor.asked(model)) == 1


class Said(NamedTuple):
    """What an answer says: each call's id and arguments, and the thinking before them."""

    calls: list[tuple[str, str]]
    thought: str


def said_in(answer: Any) -> Said:
    (choice,) = answer.choices
    assert choice.finish_reason == "tool_calls"
    assert answer.usage.prompt_tokens == 9
    calls = [(call.id, call.function.arguments) for call in choice.message.tool_calls]
    return Said(calls, getattr(choice.message, "reasoning_content", None) or "")


def said_in_stream(chunks: Any) -> Said:
    choices = [chunk.choices[0] for chunk in chunks]
    assert [each.finish_reason for each in choices if each.finish_reason] == ["tool_calls"]
    thought = "".join(getattr(each.delta, "reasoning_content", None) or "" for each in choices)
    calls: dict[int, tuple[str, str]] = {}
    for piece in [piece for each in choices for piece in each.delta.tool_calls or ()]:
        identity, arguments = calls.get(piece.index, ("", ""))
        calls[piece.index] = (identity or piece.id, arguments + (piece.function.arguments or ""))
    return Said([calls[index] for index in sorted(calls)], thought)
