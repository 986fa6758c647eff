"""What `/v1/completions` takes, refuses, and hands to vendors without such an endpoint."""

import orjson
import pytest

from providers.dialects import DIALECTS
from providers.errors import UnsupportedParameter
from providers.tests.samples import make_upstream
from providers.upstream import Quirks
from providers.wires import CHAT, COMPLETIONS
from proxy.endpoints import COMPLETION, parse_completions
from proxy.errors import BadRequest

NO_COMPLETIONS = Quirks(completions=False)


def parsed(prompt="Say hi", **fields):
    return parse_completions(orjson.dumps({"model": "m", "prompt": prompt, **fields}))


def encoded(call, **fields):
    return DIALECTS["openai"].encode(call, make_upstream(model="m", **fields))


@pytest.mark.parametrize("prompt", ["Say hi", ["Say hi"]])
def test_it_reads_a_prompt_as_one_users_message(prompt):
    call = parsed(prompt, stream=True, stream_options={"include_usage": True}, temperature=0.5, user="u")
    assert (call.wire, call.model, call.stream, call.wants_usage, call.choices) == (
        COMPLETIONS,
        "m",
        True,
        True,
        1,
    )
    assert call.sent == orjson.loads(call.raw)
    assert call.body == {
        "model": "m",
        "messages": [{"role": "user", "content": "Say hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.5,
        "user": "u",
    }
    assert call.only_native is None
    assert COMPLETION.name == "completions"


@pytest.mark.parametrize(
    ("prompt", "fields", "choices"),
    [
        ("a", {}, 1),
        ("a", {"n": 3}, 3),
        (["a", "b"], {}, 2),
        (["a", "b"], {"n": 2}, 4),
        ([1, 2, 3], {}, 1),
        ([[1, 2], [3]], {"n": 2}, 4),
        (["a", [1]], {}, 2),
        (None, {"n": 2}, 2),
    ],
)
def test_it_counts_the_answers_that_will_come(prompt, fields, choices):
    assert parsed(prompt, **fields).choices == choices


@pytest.mark.parametrize(
    ("prompt", "param"),
    [
        ([], "prompt"),
        (7, "prompt"),
        ({"text": "a"}, "prompt"),
        (True, "prompt"),
        ([None], "prompt[0]"),
        (["a", 7], "prompt[1]"),
        ([[1], []], "prompt[1]"),
        ([[1], [True]], "prompt[1]"),
        ([[1], ["a"]], "prompt[1]"),
        ([1, 2.5], "prompt[1]"),
    ],
)
def test_it_names_what_is_wrong_with_a_prompt(prompt, param):
    with pytest.raises(BadRequest, match=r"prompt") as raised:
        parsed(prompt)
    assert (raised.value.status, raised.value.param) == (400, param)


@pytest.mark.parametrize(
    "fields",
    [{"echo": "yes"}, {"stream": 1}, {"n": 0}, {"stream_options": {"include_usage": True}}, {"model": ""}],
)
def test_it_names_what_is_wrong_with_the_rest(fields):
    with pytest.raises(BadRequest) as raised:
        parsed(**fields)
    assert raised.value.param == next(iter(fields))


NATIVE_ONLY = [
    ({"prompt": ["a", "b"]}, "prompt"),
    ({"prompt": [1, 2]}, "prompt"),
    ({"prompt": [[1, 2]]}, "prompt"),
    ({"prompt": ""}, "prompt"),
    ({"prompt": [""]}, "prompt"),
    ({"prompt": None}, "prompt"),
    ({"suffix": "the end"}, "suffix"),
    ({"best_of": 3}, "best_of"),
    ({"best_of": 3, "n": 2}, "best_of"),
    ({"logprobs": 0}, "logprobs"),
    ({"logprobs": 5}, "logprobs"),
    ({"tools": [{"type": "function"}]}, "tools"),
    ({"prompt": None, "messages": [{"role": "user", "content": "x"}]}, "prompt"),
]


@pytest.mark.parametrize(("fields", "param"), NATIVE_ONLY)
def test_it_refuses_by_name_what_no_chat_can_say(fields, param):
    call = parsed(**fields)
    with pytest.raises(UnsupportedParameter) as raised:
        encoded(call, quirks=NO_COMPLETIONS)
    assert raised.value.param == param
    assert param in raised.value.message


@pytest.mark.parametrize(("fields", "param"), NATIVE_ONLY)
def test_it_sends_the_same_as_it_came_to_a_vendor_of_completions(fields, param):
    call = parsed(**fields)
    request = encoded(call)
    assert (request.path, request.wire) == ("/completions", COMPLETIONS)
    assert request.body is call.raw


@pytest.mark.parametrize(
    "fields",
    [
        {"suffix": None},
        {"suffix": ""},
        {"best_of": None},
        {"best_of": 1},
        {"best_of": 2, "n": 2},
        {"logprobs": None},
        {"logprobs": False},
        {"echo": False},
        {"echo": True},
        {"tools": []},
    ],
)
def test_it_takes_what_asks_for_nothing_special(fields):
    request = encoded(parsed(**fields), quirks=NO_COMPLETIONS)
    assert (request.path, request.wire) == ("/chat/completions", CHAT)
    sent = orjson.loads(request.body)
    assert sent["messages"] == [{"role": "user", "content": "Say hi"}]
    assert not {"prompt", "suffix", "best_of", "logprobs", "echo"} & set(sent)


def test_it_asks_for_usage_in_a_vendors_stream_whatever_its_format():
    for quirks in (Quirks(), NO_COMPLETIONS):
        sent = orjson.loads(encoded(parsed(stream=True), quirks=quirks).body)
        assert sent["stream_options"] == {"include_usage": True}


def test_it_puts_no_limit_in_that_the_client_did_not_ask_for():
    assert "max_tokens" not in parsed().body
    assert parsed(max_tokens=7).body["max_tokens"] == 7


def test_it_writes_a_body_with_a_repeated_key_anew():
    call = parse_completions(b'{"model": "a", "model": "m", "prompt": "x"}')
    assert not call.verbatim
    assert orjson.loads(encoded(call).body) == {"model": "m", "prompt": "x"}
