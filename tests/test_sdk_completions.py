"""The real OpenAI SDK's text completions: from a vendor that has them, and from one that only chats."""

from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import OpenAI

from tests.gateway import Gateway
from tests.upstream import FakeVendor, unique


@pytest.fixture(scope="module")
def client(wired_gateway: Gateway) -> Iterator[OpenAI]:
    made = OpenAI(base_url=f"{wired_gateway.url}/v1", api_key=wired_gateway.key, max_retries=0, timeout=30)
    with made:
        yield made


def test_it_completes_through_a_chat(client: OpenAI) -> None:
    answer = client.completions.create(model="demo/echo", prompt="Hello there", echo=True, user="me")
    (choice,) = answer.choices
    assert (choice.text, choice.finish_reason, choice.logprobs) == ("Hello thereHello there", "stop", None)
    assert (answer.object, answer.model) == ("text_completion", "echo")
    assert answer.id.startswith("cmpl-")
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 2


def test_it_streams_through_a_chat(client: OpenAI) -> None:
    options: Any = {"include_usage": True}
    chunks = list(
        client.completions.create(
            model="demo/lorem", prompt="4 words 0ms", max_tokens=3, stream=True, stream_options=options
        )
    )
    *pieces, usage = chunks
    assert "".join(chunk.choices[0].text for chunk in pieces) == "lorem ipsum dolor "
    assert [chunk.choices[0].finish_reason for chunk in pieces] == [None, None, None, "length"]
    assert (usage.choices, usage.usage and usage.usage.completion_tokens) == ([], 3)
    assert len({chunk.id for chunk in chunks}) == 1
    assert {chunk.object for chunk in chunks} == {"text_completion"}


@pytest.mark.parametrize(
    ("param", "fields"),
    [
        ("prompt", {"prompt": ["one", "two"]}),
        ("prompt", {"prompt": [1, 2]}),
        ("suffix", {"suffix": "end"}),
        ("logprobs", {"logprobs": 0}),
    ],
)
def test_it_names_what_a_chat_cannot_do(client: OpenAI, param: str, fields: Any) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(**{"model": "demo/echo", "prompt": "Hello", **fields})
    assert caught.value.param == param
    assert param in caught.value.message


@pytest.mark.parametrize("stream", [False, True])
def test_it_passes_a_vendors_own_completions(client: OpenAI, vendor: FakeVendor, stream: bool) -> None:
    model = unique("synthetic~text=Good%20day")
    made = client.completions.create(
        model=f"replay/{model}", prompt="Hello", max_tokens=5, logprobs=None, stream=stream
    )
    chunks = list(made) if isinstance(made, openai.Stream) else [made]
    assert "".join(chunk.choices[0].text for chunk in chunks) == "Good day"
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert all(chunk.usage is None for chunk in chunks) is stream
    (asked,) = vendor.asked(model)
    assert asked["path"].endswith("/completions")
    assert "/chat/" not in asked["path"]
    assert (asked["body"]["prompt"], asked["body"]["max_tokens"]) == ("Hello", 5)


def test_it_gives_the_sdk_an_error_in_the_middle_of_a_stream(client: OpenAI) -> None:
    model = unique("synthetic~tokens=40~reset=body:3000")
    with pytest.raises(openai.APIError) as caught:
        list(client.completions.create(model=f"replay/{model}", prompt="Hello", stream=True))
    assert caught.value.type == "api_error"
