"""What a vendor of plain OpenAI chat gets of a request that came in another format."""

from copy import deepcopy

import pytest

from providers.dialects.openai.plain import plain, without_effort

CACHED = {"type": "ephemeral"}
IMAGE = {"type": "image_url", "image_url": {"url": "https://x.test/a.png"}}


def text(words, **fields):
    return {"type": "text", "text": words, **fields}


def content_of(content, role="user"):
    body = {"model": "m", "messages": [{"role": role, "content": content}]}
    before = deepcopy(body)
    sent = plain(body)["messages"][0]["content"]
    assert body == before
    return sent


@pytest.mark.parametrize("role", ["system", "user", "assistant", "tool"])
def test_it_sends_texts_as_one(role):
    assert content_of([text("a", cache_control=CACHED), text("b")], role) == "a\nb"
    assert content_of("a", role) == "a"


@pytest.mark.parametrize(
    ("content", "sent"),
    [
        ([text("a", cache_control=CACHED), IMAGE], [text("a"), IMAGE]),
        ([], []),
        (None, None),
        (["a"], ["a"]),
        ([text(7)], [text(7)]),
        ([text("a", more=1)], [text("a", more=1)]),
    ],
)
def test_it_sends_the_rest_as_parts(content, sent):
    assert content_of(content) == sent


def test_it_shortens_the_ids_of_a_call_and_its_result_alike():
    known, long = "toolu_01A09q90qw90lq917835lq9", "functions.search_the_archive:0" + "x" * 20
    calls = [{"id": each, "type": "function", "function": {"name": "f"}} for each in (known, long)]
    results = [{"role": "tool", "tool_call_id": each, "content": "r"} for each in (known, long)]
    body = {"messages": [{"role": "assistant", "tool_calls": calls}, *results]}
    before = deepcopy(body)
    asked, *answered = plain(body)["messages"]
    assert body == before
    ids = [call["id"] for call in asked["tool_calls"]]
    assert ids == [message["tool_call_id"] for message in answered]
    assert ids[0] == known
    assert len(ids[1]) <= 40


def test_it_shows_what_a_tool_shows_after_all_results():
    def result(content):
        return {"role": "tool", "tool_call_id": "c", "content": content}

    follow = {"role": "user", "content": "and?"}
    results = [result(content) for content in ([text("a"), IMAGE], [IMAGE], [text("b")], [])]
    asked = {"messages": [*results, follow]}
    assert plain(asked)["messages"] == [
        result("a"),
        result("(The result is shown in the next message.)"),
        result("b"),
        result(""),
        {"role": "user", "content": [IMAGE, IMAGE]},
        follow,
    ]
    assert plain({"messages": [result([IMAGE])]})["messages"][1] == {"role": "user", "content": [IMAGE]}


@pytest.mark.parametrize(
    ("model", "said"), [("gpt-4o", False), ("openai/gpt-4.1-mini", False), ("gpt-5", True), ("qwen3", True)]
)
def test_it_names_no_effort_to_models_that_never_reason(model, said):
    body = {"model": "m", "reasoning_effort": "high"}
    kept, left_out = without_effort(body, model)
    assert (kept == body, left_out) == ((True, ()) if said else (False, ("reasoning_effort",)))
    assert without_effort({"model": "m"}, model) == ({"model": "m"}, ())
