"""Messages: turns, tool calls and their results, media, signatures."""

from copy import deepcopy

import pytest

from providers.dialects.gemini.contents import Conversation
from providers.errors import UnsupportedParameter

PNG = "data:image/png;base64,iVBORw0KGgo="
INLINE = {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}}


def talk(*messages, gemini_3=False, ids=False):
    before = deepcopy(messages)
    conversation = Conversation(gemini_3=gemini_3, ids=ids)
    for place, message in enumerate(messages):
        conversation.take(message, f"messages[{place}]")
    contents = conversation.contents()
    assert messages == before
    return conversation.system_instruction(), contents


def turns(*messages, **options):
    return talk(*messages, **options)[1]


def user(*content):
    return {"role": "user", "content": content[0] if len(content) == 1 else list(content)}


def calls(*called, **fields):
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": call_id, "type": "function", "function": {"name": name, "arguments": "{}"}, **more}
            for call_id, name, more in called
        ],
        **fields,
    }


def result(call_id, content="done", **fields):
    return {"role": "tool", "tool_call_id": call_id, "content": content, **fields}


def signed(signature):
    return {"extra_content": {"google": {"thought_signature": signature}}}


def block(signature):
    return {"type": "thinking", "thinking": "hm", "signature": signature}


# ---------------------------------------------------------------- turns


def test_it_puts_instructions_apart_wherever_they_stand():
    system, contents = talk(
        {"role": "system", "content": "a"},
        user("hello"),
        {"role": "developer", "content": [{"type": "text", "text": "b"}]},
    )
    assert system == {"parts": [{"text": "a"}, {"text": "b"}]}
    assert contents == [{"role": "user", "parts": [{"text": "hello"}]}]


def test_it_lets_the_user_say_what_would_be_nothing_but_instructions():
    assert talk({"role": "system", "content": "a"}) == (None, [{"role": "user", "parts": [{"text": "a"}]}])


def test_it_joins_successive_messages_of_one_role():
    contents = turns(
        user("a"), user("b"), {"role": "assistant", "content": "c"}, {"role": "assistant", "content": "d"}
    )
    assert contents == [
        {"role": "user", "parts": [{"text": "a"}, {"text": "b"}]},
        {"role": "model", "parts": [{"text": "c"}, {"text": "d"}]},
    ]


def test_it_leaves_out_what_is_empty_beside_something_else():
    assert turns(user(""), {"role": "assistant", "content": None}, user("b")) == [
        {"role": "user", "parts": [{"text": "b"}]}
    ]


def test_it_returns_a_refusal_as_the_text_it_was():
    message = {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}], "refusal": "never"}
    assert turns(message) == [{"role": "model", "parts": [{"text": "no"}, {"text": "never"}]}]


# ---------------------------------------------------------------- tools


def test_it_groups_the_results_of_parallel_calls_in_the_calls_order():
    contents = turns(
        user("go"),
        calls(("c1", "f", {}), ("c2", "g", {})),
        result("c2", '{"x": 1}'),
        result("c1", "text"),
        user("and?"),
    )
    assert contents[1:] == [
        {
            "role": "model",
            "parts": [
                {"functionCall": {"name": "f", "args": {}}},
                {"functionCall": {"name": "g", "args": {}}},
            ],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"name": "f", "response": {"output": "text"}}},
                {"functionResponse": {"name": "g", "response": {"x": 1}}},
            ],
        },
        {"role": "user", "parts": [{"text": "and?"}]},
    ]


def test_it_sends_ids_where_they_are_known():
    contents = turns(calls(("c1", "f", {})), result("c1"), ids=True)
    assert contents[0]["parts"][0]["functionCall"]["id"] == "c1"
    assert contents[1]["parts"][0]["functionResponse"]["id"] == "c1"


@pytest.mark.parametrize(
    ("content", "fields", "response"),
    [
        ("15", {}, {"output": "15"}),
        ("[1]", {}, {"output": "[1]"}),
        ("{broken", {}, {"output": "{broken"}),
        ("", {}, {"output": ""}),
        (None, {}, {"output": ""}),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], {}, {"output": "ab"}),
        ('{"x": 1}', {"is_error": True}, {"error": '{"x": 1}'}),
    ],
)
def test_it_makes_an_object_of_every_result(content, fields, response):
    contents = turns(calls(("c1", "f", {})), result("c1", content, **fields))
    assert contents[1]["parts"] == [{"functionResponse": {"name": "f", "response": response}}]


def test_it_takes_the_name_that_a_result_brings_itself():
    contents = turns(result("lost", name="f"))
    assert contents[0]["parts"][0]["functionResponse"]["name"] == "f"


def test_it_keeps_the_latest_of_calls_that_share_an_id():
    contents = turns(calls(("c", "f", {})), result("c"), calls(("c", "g", {})), result("c"))
    assert [turn["parts"][0]["functionResponse"]["name"] for turn in contents[1::2]] == ["f", "g"]


def test_it_shows_an_image_that_a_tool_returned():
    messages = (
        calls(("c1", "f", {}), ("c2", "g", {})),
        result("c1", [{"type": "text", "text": "see"}, {"type": "image_url", "image_url": {"url": PNG}}]),
        result("c2"),
    )
    first, second = turns(*messages, gemini_3=True)[1]["parts"]
    assert first["functionResponse"] == {"name": "f", "response": {"output": "see"}, "parts": [INLINE]}
    assert second["functionResponse"]["name"] == "g"
    # Older models refuse it there and see it beside the results.
    assert [*turns(*messages)[1]["parts"][-1]] == ["inlineData"]


# ---------------------------------------------------------------- media


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ({"type": "image_url", "image_url": {"url": PNG, "detail": "low"}}, INLINE),
        (
            {"type": "image_url", "image_url": {"url": "https://x.test/a.webp?b=c.png"}},
            {"fileData": {"mimeType": "image/webp", "fileUri": "https://x.test/a.webp?b=c.png"}},
        ),
        (
            {"type": "image_url", "image_url": "gs://bucket/thing"},
            {"fileData": {"mimeType": "image/jpeg", "fileUri": "gs://bucket/thing"}},
        ),
        (
            {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "mp3"}},
            {"inlineData": {"mimeType": "audio/mp3", "data": "AAAA"}},
        ),
        (
            {"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA", "filename": "a.pdf"}},
            {"inlineData": {"mimeType": "application/pdf", "data": "AAAA"}},
        ),
        (
            {"type": "file", "file": {"file_url": "https://x.test/y", "filename": "a.csv"}},
            {"fileData": {"mimeType": "text/csv", "fileUri": "https://x.test/y"}},
        ),
        (
            {"type": "file", "file": {"file_id": "https://x.test/v1beta/files/abc"}},
            {"fileData": {"mimeType": "application/pdf", "fileUri": "https://x.test/v1beta/files/abc"}},
        ),
        (
            {"type": "video_url", "video_url": {"url": "https://x.test/watch?v=1"}},
            {"fileData": {"mimeType": "video/mp4", "fileUri": "https://x.test/watch?v=1"}},
        ),
    ],
)
def test_it_sends_media(part, expected):
    assert turns(user({"type": "text", "text": "see"}, part))[0]["parts"] == [{"text": "see"}, expected]


def test_it_returns_images_that_the_model_made():
    message = {
        "role": "assistant",
        "content": "here",
        "images": [{"type": "image_url", "image_url": {"url": PNG}}],
    }
    assert turns(message)[0]["parts"] == [{"text": "here"}, INLINE]


# ---------------------------------------------------------------- signatures


@pytest.mark.parametrize(
    "message",
    [
        calls(("c1", "f", signed("S1")), ("c2", "g", {})),
        calls(("c1", "f", {}), ("c2", "g", {}), thinking_blocks=[block("gemini:c1:S1")]),
        calls(("c1", "f", {}), ("c2", "g", {}), thinking_blocks=[block("gemini:S1")]),
        # A client that returns both: applied once, and what the call says itself wins.
        calls(("c1", "f", signed("S1")), ("c2", "g", {}), thinking_blocks=[block("gemini:c1:other")]),
    ],
)
@pytest.mark.parametrize("gemini_3", [False, True])
def test_it_returns_a_calls_signature_however_it_came(message, gemini_3):
    parts = turns(user("go"), message, gemini_3=gemini_3)[1]["parts"]
    assert [part.get("thoughtSignature") for part in parts] == ["S1", None]
    assert [part["functionCall"]["name"] for part in parts] == ["f", "g"]


def test_it_returns_each_signature_to_its_own_part():
    message = calls(
        ("c1", "f", {}),
        ("c2", "g", {}),
        content="text",
        thinking_blocks=[block("gemini:T"), block("gemini:c2:S2"), block("gemini:c1:S1")],
    )
    parts = turns(message)[0]["parts"]
    assert [part.get("thoughtSignature") for part in parts] == ["T", "S1", "S2"]


def test_it_returns_a_signature_without_text_on_an_empty_part():
    assert turns({"role": "assistant", "content": None, "thinking_blocks": [block("gemini:T")]}) == [
        {"role": "model", "parts": [{"text": "", "thoughtSignature": "T"}]}
    ]


@pytest.mark.parametrize("blocks", [[block("EqQBCgIYAhIM")], [block(None)], ["x"], "x", {"a": 1}])
def test_it_sends_no_other_vendors_signatures_nor_thoughts(blocks):
    message = {"role": "assistant", "content": "a", "thinking_blocks": blocks, "reasoning_content": "hm"}
    assert turns(message)[0]["parts"] == [{"text": "a"}]


def test_it_fills_in_what_gemini_3_demands_of_the_last_turn_only():
    """On the first call of each step, as Google documents; more makes the model worse."""
    messages = [
        user("before"),
        calls(("a", "f", {})),
        result("a"),
        {"role": "assistant", "content": "done"},
        user("now"),
        calls(("b", "f", {}), ("c", "g", {})),
        result("b"),
        result("c"),
        calls(("d", "f", signed("S"))),
        result("d"),
        calls(("e", "f", {})),
        result("e"),
    ]

    def signatures(**options):
        return [
            part.get("thoughtSignature", "")
            for turn in turns(*messages, **options)
            for part in turn["parts"]
            if "functionCall" in part
        ]

    placeholder = "skip_thought_signature_validator"
    assert signatures(gemini_3=True) == ["", placeholder, "", "S", placeholder]
    assert signatures() == ["", "", "", "S", ""]


def test_it_does_not_take_words_right_after_a_result_for_a_new_turn():
    contents = turns(user("go"), calls(("a", "f", {})), result("a"), user("hurry"), gemini_3=True)
    assert contents[1]["parts"][0]["thoughtSignature"] == "skip_thought_signature_validator"


# ---------------------------------------------------------------- refused by name


@pytest.mark.parametrize(
    ("message", "param", "code"),
    [
        ("x", "messages[0]", "invalid_value"),
        ({"role": "function", "name": "f", "content": "x"}, "messages[0].role", "unsupported_parameter"),
        ({"role": ["user"]}, "messages[0].role", "unsupported_parameter"),
        (user(3), "messages[0].content", "invalid_value"),
        (user([3]), "messages[0].content[0]", "invalid_value"),
        (user([{"type": "text", "text": 3}]), "messages[0].content[0]", "invalid_value"),
        (user([{"type": "magic"}]), "messages[0].content[0]", "unsupported_parameter"),
        (user([{"type": "image_url"}]), "messages[0].content[0]", "invalid_value"),
        (
            user([{"type": "file", "file": {"file_id": "file-1"}}]),
            *("messages[0].content[0]", "unsupported_parameter"),
        ),
        (
            {"role": "system", "content": [{"type": "image_url", "image_url": {"url": PNG}}]},
            *("messages[0].content[0]", "unsupported_parameter"),
        ),
        (
            {"role": "assistant", "function_call": {"name": "f"}},
            *("messages[0].function_call", "unsupported_parameter"),
        ),
        ({"role": "assistant", "audio": {"id": "a"}}, "messages[0].audio", "unsupported_parameter"),
        ({"role": "assistant", "tool_calls": "x"}, "messages[0].tool_calls", "invalid_value"),
        (
            {"role": "assistant", "tool_calls": [{"id": "a", "type": "custom"}]},
            *("messages[0].tool_calls[0].function.name", "invalid_value"),
        ),
        (
            {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "[]"}}]},
            *("messages[0].tool_calls[0].function.arguments", "invalid_value"),
        ),
        (result("unknown"), "messages[0].tool_call_id", "invalid_value"),
        (result(["c"]), "messages[0].tool_call_id", "invalid_value"),
    ],
)
def test_it_refuses_by_name(message, param, code):
    with pytest.raises(UnsupportedParameter) as raised:
        talk(message)
    assert (raised.value.param, raised.value.code) == (param, code)


def test_it_leaves_out_empty_parts_but_not_the_only_one():
    empty = [{"type": "text", "text": ""}]
    said = turns(
        user([*empty, {"type": "text", "text": "a"}]), {"role": "assistant", "content": empty}, user("")
    )
    assert said == [{"role": "user", "parts": [{"text": "a"}]}]
    assert turns(user("")) == [{"role": "user", "parts": [{"text": ""}]}]
