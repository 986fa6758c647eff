import orjson
import pytest

from providers.dialects.anthropic.dialect import Anthropic
from providers.dialects.anthropic.history import without_foreign_thoughts
from providers.tests.test_anthropic import native, upstream

CLAUDE = "claude-sonnet-4-5"
OWN = {"type": "thinking", "thinking": "hm", "signature": "c2lnbmF0dXJl"}
HIDDEN = {"type": "redacted_thinking", "data": "c2VjcmV0"}
GEMINIS = {"type": "thinking", "thinking": "", "signature": "gemini:call_1:c2ln"}
UNSIGNED = {"type": "thinking", "thinking": "so", "signature": ""}
CALLS = {"type": "tool_use", "id": "call_1", "name": "f", "input": {}}
RESULT = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "call_1", "content": "x"}]}
HELLO = {"role": "user", "content": "hi"}


def kept(*turns, model=CLAUDE, **fields):
    sent = {"model": "m", "messages": list(turns), **fields}
    return (*without_foreign_thoughts(sent, orjson.dumps(sent), model), sent)


def said(*blocks):
    return {"role": "assistant", "content": list(blocks)}


@pytest.mark.parametrize(
    "turns",
    [
        [HELLO],
        [HELLO, said(OWN, CALLS), RESULT],
        [HELLO, said(HIDDEN, CALLS), RESULT],
        [HELLO, {"role": "assistant", "content": "thinking"}, 3, None, {"role": "assistant"}],
        [HELLO, said("thinking", {"type": ["thinking"]}, {"type": None}, None)],
        [{"role": "user", "content": [GEMINIS]}],  # Anthropic says what is wrong with that
    ],
)
def test_it_leaves_a_request_alone_that_has_no_foreign_thoughts(turns):
    request, lost, sent = kept(*turns, thinking={"type": "enabled", "budget_tokens": 1024})
    assert request is sent
    assert lost == ()
    assert without_foreign_thoughts({"messages": 3}, b"thinking", CLAUDE) == ({"messages": 3}, ())


@pytest.mark.parametrize("foreign", [GEMINIS, UNSIGNED, {"type": "redacted_thinking", "data": "x:y"}])
def test_it_leaves_out_what_anthropic_has_not_signed(foreign):
    request, lost, sent = kept(HELLO, said(foreign, OWN, CALLS), RESULT)
    assert request["messages"] == [HELLO, said(OWN, CALLS), RESULT]
    assert lost == ()
    assert sent["messages"][1] == said(foreign, OWN, CALLS)


def test_it_leaves_out_a_turn_of_nothing_else():
    request, _, _ = kept(HELLO, said(GEMINIS), HELLO)
    assert request["messages"] == [HELLO, HELLO]


def test_it_keeps_the_unsigned_thoughts_of_other_servers_of_the_format():
    request, _, sent = kept(HELLO, said(UNSIGNED, CALLS), RESULT, model="another-model")
    assert request is sent
    request, _, _ = kept(HELLO, said(GEMINIS, CALLS), RESULT, model="another-model")
    assert request["messages"][1] == said(CALLS)


@pytest.mark.parametrize(
    ("thinking", "last", "lost"),
    [
        ({"type": "enabled", "budget_tokens": 1024}, RESULT, ("thinking",)),
        ({"type": "enabled", "budget_tokens": 1024}, HELLO, ()),
        ({"type": "enabled"}, {"role": "user", "content": [{"type": ["x"]}, None]}, ()),
        ({"type": "adaptive"}, RESULT, ()),
    ],
)
def test_it_does_without_thinking_where_the_thoughts_before_a_result_are_gone(thinking, last, lost):
    request, told, _ = kept(HELLO, said(GEMINIS, CALLS), last, thinking=thinking)
    assert told == lost
    assert ("thinking" in request) is (not lost)


def test_it_tells_of_it():
    sent = {
        "model": CLAUDE,
        "max_tokens": 5,
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "messages": [HELLO, said(GEMINIS, CALLS), RESULT],
    }
    request = Anthropic().encode(native(sent=sent, raw=orjson.dumps(sent)), upstream())
    assert orjson.loads(request.body) == {
        "model": CLAUDE,
        "max_tokens": 5,
        "messages": [HELLO, said(CALLS), RESULT],
    }
    assert request.dropped_params == ("thinking",)
