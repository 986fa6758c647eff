"""How compatible servers differ from OpenAI: read from a row, and applied to a request."""

import orjson
import pytest

from providers.dialects import DIALECTS
from providers.dialects.openai.quirks import path_without_model
from providers.errors import UnsupportedParameter
from providers.quirks import read_quirks
from providers.tests.samples import make_call, make_upstream
from providers.upstream import NO_QUIRKS, Quirks
from providers.wires import CHAT, COMPLETIONS, EMBEDDINGS, MESSAGES, RESPONSES

OPENAI = DIALECTS["openai"]
AZURE = "/openai/deployments/{model}{path}?api-version=2024-10-21"


def encoded(call=None, *, drop=False, template="{path}", model="gpt-4o", **quirks):
    upstream = make_upstream(
        model=model, quirks=Quirks(**quirks), drop_unsupported_params=drop, path_template=template
    )
    return OPENAI.encode(call or make_call(), upstream)


def sent(request):
    return orjson.loads(request.body)


# ---------------------------------------------------------------- the row


def test_it_reads_the_quirks_of_a_row():
    assert read_quirks({}) is NO_QUIRKS
    whole = {
        "rename_params": {"max_completion_tokens": "max_tokens"},
        "unsupported_params": ["n", "logit_bias"],
        "developer_role": "system",
        "stream_usage": False,
        "completions": False,
        "responses": False,
        "reasoning_content": True,
    }
    assert read_quirks(whole) == Quirks(
        rename_params={"max_completion_tokens": "max_tokens"},
        unsupported_params=frozenset({"n", "logit_bias"}),
        developer_role="system",
        stream_usage=False,
        completions=False,
        responses=False,
        reasoning_content=True,
    )
    assert read_quirks({"responses": False}) == Quirks(responses=False)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "an object"),
        ([], "an object"),
        ("text", "an object"),
        ({"max_tokens": "x"}, "no field 'max_tokens'; it has rename_params"),
        ({1: "x", "a": 2}, "no field '1'"),
        ({"rename_params": []}, "rename_params must be an object"),
        ({"rename_params": {"a": 1}}, "rename_params must be an object"),
        ({"rename_params": {"a": ""}}, "rename_params must be an object"),
        ({"rename_params": {1: "a"}}, "rename_params must be an object"),
        ({"rename_params": {"model": "deployment"}}, "rename_params must not name 'model'"),
        ({"rename_params": {"user": "stream"}}, "rename_params must not name 'stream'"),
        ({"unsupported_params": "n"}, "unsupported_params must be a list"),
        ({"unsupported_params": [1]}, "unsupported_params must be a list"),
        ({"unsupported_params": ["messages"]}, "unsupported_params must not name 'messages'"),
        ({"developer_role": "user"}, "developer_role must be"),
        ({"developer_role": None}, "developer_role must be"),
        ({"developer_role": []}, "developer_role must be"),
        ({"stream_usage": "no"}, "stream_usage must be true or false"),
        ({"completions": None}, "completions must be true or false"),
        ({"responses": 0}, "responses must be true or false"),
        ({"reasoning_content": 1}, "reasoning_content must be true or false"),
    ],
)
def test_it_says_what_is_wrong_with_quirks(value, words):
    with pytest.raises(ValueError, match=words):
        read_quirks(value)


# ---------------------------------------------------------------- parameters


def test_it_sends_the_body_as_it_came_where_no_quirk_touches_it():
    call = make_call(temperature=0.5)
    quirks = {"rename_params": {"a": "b"}, "unsupported_params": frozenset({"n"}), "developer_role": "system"}
    request = encoded(call, **quirks)
    assert request.body is call.raw
    assert request.dropped_params == ()


def test_it_gives_parameters_the_servers_names():
    call = make_call(max_completion_tokens=7)
    request = encoded(call, rename_params={"max_completion_tokens": "max_tokens"})
    assert sent(request)["max_tokens"] == 7
    assert "max_completion_tokens" not in sent(request)
    assert "max_tokens" not in call.body
    assert request.dropped_params == ()


@pytest.mark.parametrize(
    "fields",
    [
        {"max_tokens": 7, "max_completion_tokens": 7},
        {"max_tokens": 7, "max_completion_tokens": None},
        {"max_completion_tokens": None, "max_tokens": 7},
        {"max_tokens": None, "max_completion_tokens": 7},
    ],
)
def test_it_takes_one_value_under_two_names(fields):
    request = encoded(make_call(**fields), rename_params={"max_completion_tokens": "max_tokens"})
    assert sent(request)["max_tokens"] == 7


def test_it_refuses_two_values_for_one_name():
    call = make_call(max_tokens=7, max_completion_tokens=9)
    with pytest.raises(UnsupportedParameter) as raised:
        encoded(call, rename_params={"max_completion_tokens": "max_tokens"})
    assert raised.value.param == "max_completion_tokens"


def test_it_refuses_by_name_what_the_server_lacks():
    with pytest.raises(UnsupportedParameter) as raised:
        encoded(make_call(logit_bias={"1": 5}), unsupported_params=frozenset({"logit_bias"}))
    assert raised.value.param == "logit_bias"
    assert "'logit_bias'" in raised.value.message


def test_it_drops_what_the_server_lacks_where_the_row_says_so_and_tells():
    lacking = frozenset({"logit_bias", "seed"})
    request = encoded(make_call(logit_bias={"1": 5}, seed=7), drop=True, unsupported_params=lacking)
    assert request.dropped_params == ("logit_bias", "seed")
    assert not lacking & set(sent(request))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n", 1),
        ("logit_bias", None),
        ("logit_bias", {}),
        ("top_p", 1),
        ("presence_penalty", 0),
        ("tool_choice", "auto"),
        ("parallel_tool_calls", True),
        ("response_format", {"type": "text"}),
    ],
)
def test_it_leaves_out_what_asks_for_nothing_special(name, value):
    request = encoded(make_call(**{name: value}), unsupported_params=frozenset({name}))
    assert name not in sent(request)
    assert request.dropped_params == ()


def test_it_drops_hints_without_being_told_to_and_tells():
    request = encoded(make_call(user="me", store=True), unsupported_params=frozenset({"user", "store"}))
    assert request.dropped_params == ("user", "store")
    assert not {"user", "store"} & set(sent(request))


# ---------------------------------------------------------------- roles, usage, thoughts


def test_it_calls_the_developer_what_the_server_calls_it():
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": "developer"},
        "odd",
    ]
    call = make_call(messages=messages)
    request = encoded(call, developer_role="system")
    assert [each["role"] if isinstance(each, dict) else each for each in sent(request)["messages"]] == [
        "system",
        "user",
        "odd",
    ]
    assert call.body["messages"][0]["role"] == "developer"


@pytest.mark.parametrize("wire", [CHAT, COMPLETIONS])
def test_it_asks_a_server_without_stream_options_for_none(wire):
    plain = encoded(make_call(stream=True, wire=wire), stream_usage=False)
    assert "stream_options" not in sent(plain)
    assert plain.dropped_params == ()
    asked = make_call(stream=True, stream_options={"include_usage": True}, wire=wire)
    request = encoded(asked, stream_usage=False)
    assert "stream_options" not in sent(request)
    assert request.dropped_params == ("stream_options",)


@pytest.mark.parametrize("wanted", [False, True])
def test_it_gives_thoughts_back_to_servers_that_want_them(wanted):
    assistant = {"role": "assistant", "content": "Hi", "reasoning_content": "hm", "thinking_blocks": []}
    call = make_call(messages=[assistant], wire=MESSAGES, thinking={"type": "enabled"})
    (message,) = sent(encoded(call, reasoning_content=wanted))["messages"]
    assert message == {
        "role": "assistant",
        "content": "Hi",
        **({"reasoning_content": "hm"} if wanted else {}),
    }


@pytest.mark.parametrize(
    ("wire", "quirks", "asked_in"),
    [
        (COMPLETIONS, {}, COMPLETIONS),
        (COMPLETIONS, {"completions": False}, CHAT),
        (RESPONSES, {}, RESPONSES),
        (RESPONSES, {"responses": False}, CHAT),
        (EMBEDDINGS, {"responses": False, "completions": False}, EMBEDDINGS),
        (MESSAGES, {}, CHAT),
    ],
)
def test_it_asks_in_a_format_that_the_server_speaks(wire, quirks, asked_in):
    assert encoded(make_call(wire=wire), **quirks).wire == asked_in


# ---------------------------------------------------------------- paths


@pytest.mark.parametrize(
    ("template", "model", "path"),
    [
        ("{path}", "m", "/chat/completions"),
        ("/v2{path}", "m", "/v2/chat/completions"),
        ("{path}?version=3", "m", "/chat/completions?version=3"),
        (AZURE, "my-gpt", "/openai/deployments/my-gpt/chat/completions?api-version=2024-10-21"),
        (
            AZURE,
            "x/a b?x=1&y#z",
            "/openai/deployments/x%2Fa%20b%3Fx%3D1%26y%23z/chat/completions?api-version=2024-10-21",
        ),
        ("/{model}{path}", "{path}", "/%7Bpath%7D/chat/completions"),
    ],
)
def test_it_makes_an_endpoints_path(template, model, path):
    assert encoded(template=template, model=model).path == path


@pytest.mark.parametrize("model", [".", "..", "../files", "a/../../files", "a\\..\\b"])
def test_it_takes_no_step_in_a_path_for_a_model(model):
    with pytest.raises(UnsupportedParameter) as raised:
        encoded(template=AZURE, model=model)
    assert raised.value.param == "model"
    assert encoded(model=model).path == "/chat/completions"


@pytest.mark.parametrize(
    ("template", "path"),
    [
        ("{path}", "/models"),
        ("/v2{path}", "/v2/models"),
        ("{path}?version=3", "/models?version=3"),
        (AZURE, "/openai/models?api-version=2024-10-21"),
        ("/{model}{path}", "/models"),
        ("/x/{model}/v1{path}", "/x/v1/models"),
        ("/x-{model}-y{path}", "/models"),
        ("{path}?model={model}", "/models"),
        ("{path}?a=1&model={model}", "/models?a=1"),
        ("{path}?model={model}&a=1", "/models?a=1"),
    ],
)
def test_it_leaves_the_model_out_of_the_model_lists_path(template, path):
    assert path_without_model("/models", template) == path
