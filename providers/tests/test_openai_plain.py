"""What a vendor of plain OpenAI chat gets of a request that came in another format."""

from copy import deepcopy

import pytest

from providers.dialects.openai_plain import plain

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
