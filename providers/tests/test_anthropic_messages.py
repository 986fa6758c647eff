import base64
from copy import deepcopy

import pytest

from providers.dialects.anthropic.messages import conversation_of
from providers.errors import UnsupportedParameter

CACHED = {"type": "ephemeral"}


def text(content, **fields):
    return {"type": "text", "text": content, **fields}


def user(*blocks):
    return {"role": "user", "content": list(blocks)}


def assistant(*blocks):
    return {"role": "assistant", "content": list(blocks)}


def call(identity, name="f", arguments="{}"):
    return {"id": identity, "type": "function", "function": {"name": name, "arguments": arguments}}


def turns_of(*messages):
    before = deepcopy(messages)
    turns = conversation_of(list(messages)).turns
    assert messages == before
    return turns


def test_it_takes_instructions_into_the_system_prompt_wherever_they_stand():
    conversation = conversation_of(
        [
            {"role": "system", "content": "One."},
            {"role": "user", "content": "hi"},
            {"role": "developer", "content": [text("Two.", cache_control=CACHED)]},
            {"role": "user", "content": "there"},
        ]
    )
    assert conversation.system == [text("One."), text("Two.", cache_control=CACHED)]
    assert conversation.turns == [user(text("hi"), text("there"))]


def test_it_lets_instructions_alone_be_answered():
    conversation = conversation_of([{"role": "system", "content": "Say something."}])
    assert conversation == ([], [user(text("Say something."))])


def test_it_gathers_tool_results_in_order_before_what_the_user_adds():
    turns = turns_of(
        {"role": "user", "content": "go"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [call("a", "f", '{"x": 1}'), call("b.1:2", "g", "")],
        },
        {"role": "user", "content": "and?"},
        {"role": "tool", "tool_call_id": "a", "content": "one"},
        {"role": "tool", "tool_call_id": "b.1:2", "content": [text("two")], "is_error": True},
        {"role": "user", "content": "next", "cache_control": CACHED},
    )
    assert turns == [
        user(text("go")),
        assistant(
            {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}},
            {"type": "tool_use", "id": "b_1_2", "name": "g", "input": {}},
        ),
        user(
            {"type": "tool_result", "tool_use_id": "a", "content": "one"},
            {"type": "tool_result", "tool_use_id": "b_1_2", "content": [text("two")], "is_error": True},
            text("and?"),
            text("next", cache_control=CACHED),
        ),
    ]


def test_it_puts_thinking_back_first_but_only_anthropics_own():
    thought = {"type": "thinking", "thinking": "hm", "signature": "c2ln"}
    hidden = {"type": "redacted_thinking", "data": "eHh4"}
    turns = turns_of(
        {
            "role": "assistant",
            "content": "yes",
            "tool_calls": [call("a")],
            "reasoning_content": "hm",
            "thinking_blocks": [
                {**thought, "more": 1},
                hidden,
                {**thought, "signature": ""},
                {**thought, "signature": "gemini:c2ln"},
                {"type": "thinking", "thinking": "unsigned"},
                {"type": "redacted_thinking", "data": "openai:eHh4"},
                "text",
            ],
        },
        {"role": "tool", "tool_call_id": "a", "content": ""},
    )
    assert turns[0]["content"][:3] == [thought, hidden, text("yes")]
    assert turns[1] == user({"type": "tool_result", "tool_use_id": "a"})


def test_it_trims_the_beginning_of_an_answer():
    thought = {"type": "thinking", "thinking": "hm", "signature": "c2ln"}
    turns = turns_of(
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": "The answer is: \n", "thinking_blocks": [thought]},
    )
    assert turns[1] == assistant(text("The answer is:"))


def test_it_leaves_out_what_says_nothing():
    turns = turns_of(
        {"role": "user", "content": [text(""), text(" \n"), text("hi")]},
        {"role": "assistant", "content": ""},
        {"role": "user", "content": "there"},
    )
    assert turns == [user(text("hi"), text("there"))]


def test_it_says_a_refusal_as_text():
    turns = turns_of(
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
        {"role": "user", "content": "please"},
        {"role": "assistant", "content": None, "refusal": "Never."},
        {"role": "user", "content": "ok"},
    )
    assert [turn["content"][0]["text"] for turn in turns] == ["go", "No.", "please", "Never.", "ok"]


def _data_url(mime, content=b"bytes"):
    return f"data:{mime};base64,{base64.b64encode(content).decode()}"


def _file(url, **fields):
    return {"type": "file", "file": {"file_data": url, **fields}}


DATA = base64.b64encode(b"bytes").decode()


@pytest.mark.parametrize(
    ("part", "block"),
    [
        (
            {"type": "image_url", "image_url": {"url": _data_url("image/jpg")}},
            {"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": DATA}},
        ),
        (
            {"type": "image_url", "image_url": {"url": "https://x.test/a.png"}, "cache_control": CACHED},
            {
                "type": "image",
                "source": {"type": "url", "url": "https://x.test/a.png"},
                "cache_control": CACHED,
            },
        ),
        (
            _file(_data_url("application/pdf"), filename="a.pdf"),
            {
                "type": "document",
                "source": {"type": "base64", "media_type": "application/pdf", "data": DATA},
                "title": "a.pdf",
            },
        ),
        (
            {**_file("https://x.test/a.pdf"), "citations": {"enabled": True}},
            {
                "type": "document",
                "source": {"type": "url", "url": "https://x.test/a.pdf"},
                "citations": {"enabled": True},
            },
        ),
        (
            _file(_data_url("text/markdown", "# Grüße".encode())),
            {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "# Grüße"}},
        ),
        (
            _file(_data_url("image/webp")),
            {"type": "image", "source": {"type": "base64", "media_type": "image/webp", "data": DATA}},
        ),
    ],
)
def test_it_translates_images_and_files(part, block):
    assert turns_of({"role": "user", "content": [part]}) == [user(block)]


def test_it_takes_images_in_a_tools_result():
    image = {"type": "image_url", "image_url": {"url": "https://x.test/a.png"}}
    turns = turns_of({"role": "tool", "tool_call_id": "a", "content": [image], "cache_control": CACHED})
    assert turns[0]["content"][0]["content"][0]["type"] == "image"
    assert turns[0]["content"][0]["cache_control"] == CACHED


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        (None, "messages"),
        ([], "messages"),
        ([{"role": "user", "content": " "}], "messages"),
        (["hi"], "messages[0]"),
        ([{"content": "hi"}], "messages[0].role"),
        ([{"role": ["user"], "content": "hi"}], "messages[0].role"),
        ([{"role": "function", "name": "f", "content": "hi"}], "messages[0].role"),
        ([{"role": "user", "content": 7}], "messages[0].content"),
        ([{"role": "user", "content": "x"}, {"role": "user", "content": [7]}], "messages[1].content[0]"),
        ([{"role": "user", "content": [{"type": "text"}]}], "messages[0].content[0].text"),
        ([{"role": "user", "content": [{"type": ["text"]}]}], "messages[0].content[0]"),
        (
            [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}],
            "messages[0].content[0]",
        ),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}], "messages[0].content[0]"),
        (
            [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "gs://a/b.png"}}]}],
            "messages[0].content[0]",
        ),
        (
            [
                {
                    "role": "user",
                    "content": [{"type": "image_url", "image_url": {"url": _data_url("image/tiff")}}],
                }
            ],
            "messages[0].content[0]",
        ),
        ([{"role": "user", "content": [_file(_data_url("audio/wav"))]}], "messages[0].content[0]"),
        ([{"role": "user", "content": [_file(_data_url("text/plain", b"\xff"))]}], "messages[0].content[0]"),
        (
            [{"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}],
            "messages[0].content[0]",
        ),
        ([{"role": "user", "content": "x", "cache_control": "yes"}], "messages[0].cache_control"),
        (
            [{"role": "system", "content": [{"type": "image_url", "image_url": "https://x.test/a.png"}]}],
            "messages[0].content",
        ),
        ([{"role": "assistant", "tool_calls": {}}], "messages[0].tool_calls"),
        ([{"role": "assistant", "tool_calls": [7]}], "messages[0].tool_calls[0]"),
        ([{"role": "assistant", "tool_calls": [{"id": "a", "function": []}]}], "messages[0].tool_calls[0]"),
        ([{"role": "assistant", "tool_calls": [call(None)]}], "messages[0].tool_calls[0].id"),
        (
            [{"role": "assistant", "tool_calls": [call("a", "f", "[1]")]}],
            "messages[0].tool_calls[0].function.arguments",
        ),
        ([{"role": "assistant", "function_call": {"name": "f"}}], "messages[0].function_call"),
        ([{"role": "assistant", "audio": {"id": "a"}}], "messages[0].audio"),
        ([{"role": "tool", "content": "x"}], "messages[0].tool_call_id"),
    ],
)
def test_it_names_what_it_cannot_say(messages, param):
    with pytest.raises(UnsupportedParameter) as refused:
        conversation_of(messages)
    assert refused.value.param == param


def test_it_notices_a_tool_loop_without_its_thinking():
    thought = {"type": "thinking", "thinking": "hm", "signature": "c2ln"}
    asked = {"role": "assistant", "tool_calls": [call("a")]}
    result = {"role": "tool", "tool_call_id": "a", "content": "x"}
    answered = [{"role": "assistant", "content": "so"}, {"role": "user", "content": "go on"}]
    assert conversation_of([asked, result]).lacks_thinking()
    assert not conversation_of([{**asked, "thinking_blocks": [thought]}, result]).lacks_thinking()
    assert not conversation_of([asked, result, *answered]).lacks_thinking()
    assert not conversation_of([{"role": "user", "content": "x"}]).lacks_thinking()
