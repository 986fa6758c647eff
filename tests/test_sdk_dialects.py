"""The real OpenAI SDK through a served gateway, with each vendor's format behind it: answers."""

from typing import Any

import openai
import pytest
from openai import OpenAI
from pydantic import BaseModel

from tests.dialects import DROPPING, EACH, PATHS, TRANSLATED
from tests.servers import eventually
from tests.upstream import UPSTREAM_KEY, FakeVendor, unique
from tests.vendor_forms import IMAGE, images_in, system_of

# As a user writes it: a plain dict, not one of the SDK's types.
HELLO: Any = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hello there"},
]
WITH_USAGE: Any = {"include_usage": True}
FIGURES = "synthetic~text=Good%20day~prompt=9~cached=2~reasoning=3"
# Who tells how much of a prompt was cached, and how much of an answer was thinking.
TELLS_CACHED = {"openai", "anthropic", "gemini", "mistral"}
TELLS_REASONING = {"openai", "gemini"}
KEY_HEADERS = {"anthropic": "x-api-key", "gemini": "x-goog-api-key"}


class City(BaseModel):
    """What the model has to answer with."""

    name: str
    people: int


def say(openai_sdk: OpenAI, model: str, **more: Any) -> Any:
    return openai_sdk.chat.completions.create(model=model, messages=more.pop("messages", HELLO), **more)


def check_usage(dialect: str, usage: Any) -> None:
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (9, 5, 14)
    cached = usage.prompt_tokens_details and usage.prompt_tokens_details.cached_tokens
    assert (cached or 0) == (2 if dialect in TELLS_CACHED else 0)
    reasoning = usage.completion_tokens_details and usage.completion_tokens_details.reasoning_tokens
    assert (reasoning or 0) == (3 if dialect in TELLS_REASONING else 0)


@EACH
def test_it_answers_a_chat(openai_sdk: OpenAI, vendor: FakeVendor, dialect: str) -> None:
    model = unique(FIGURES)
    answer = say(openai_sdk, f"{dialect}/{model}", max_tokens=50, temperature=0.5)
    (choice,) = answer.choices
    assert (choice.message.role, choice.message.content) == ("assistant", "Good day")
    assert (choice.finish_reason, choice.message.tool_calls) == ("stop", None)
    assert answer.object == "chat.completion"
    check_usage(dialect, answer.usage)
    # OpenAI's chat keeps its thoughts to itself.
    thought = getattr(choice.message, "reasoning_content", None)
    assert thought is None if dialect == "openai" else thought.startswith("thinking")
    (asked,) = vendor.asked(model)
    assert UPSTREAM_KEY in asked["headers"][KEY_HEADERS.get(dialect, "authorization")]
    assert openai_sdk.api_key not in str(asked)
    assert system_of(dialect, asked["body"]) == "Be brief."


@EACH
def test_it_streams_a_chat(openai_sdk: OpenAI, dialect: str) -> None:
    chunks = list(say(openai_sdk, f"{dialect}/{unique(FIGURES)}", stream=True, stream_options=WITH_USAGE))
    *pieces, last = chunks
    assert len({chunk.id for chunk in chunks}) == 1
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert pieces[0].choices[0].delta.role == "assistant"
    texts = [chunk.choices[0].delta.content or "" for chunk in pieces]
    assert [text for text in texts if text] == ["Good", " day"]
    reasons = [chunk.choices[0].finish_reason for chunk in pieces]
    assert [reason for reason in reasons if reason] == [reasons[-1]] == ["stop"]
    assert last.choices == []
    check_usage(dialect, last.usage)


@EACH
def test_it_ends_a_stream_with_done(openai_sdk: OpenAI, dialect: str) -> None:
    with openai_sdk.chat.completions.with_streaming_response.create(
        model=f"{dialect}/{unique()}", messages=HELLO, stream=True
    ) as raw:
        lines = [line for line in raw.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"
    # Nobody asked for usage.
    assert not any('"usage":{' in line for line in lines)


@EACH
def test_it_says_that_an_answer_was_cut(openai_sdk: OpenAI, dialect: str) -> None:
    model = f"{dialect}/{unique('synthetic~tokens=40')}"
    answer = say(openai_sdk, model, max_completion_tokens=5)
    assert (answer.choices[0].finish_reason, answer.usage.completion_tokens) == ("length", 5)
    chunks = list(say(openai_sdk, model, max_tokens=5, stream=True))
    assert chunks[-1].choices[0].finish_reason == "length"


@pytest.mark.parametrize("dialect", ["openai", "anthropic", "gemini"])
def test_it_says_that_the_vendor_would_not_answer(openai_sdk: OpenAI, dialect: str) -> None:
    model = f"{dialect}/{unique('synthetic~finish=content_filter')}"
    assert say(openai_sdk, model).choices[0].finish_reason == "content_filter"
    *_, last = say(openai_sdk, model, stream=True)
    assert last.choices[0].finish_reason == "content_filter"


# Claude answers by a schema from one generation on, before by a tool that it has to call.
@pytest.mark.parametrize(
    ("dialect", "model"),
    [*((name, "synthetic") for name in PATHS), ("anthropic", "claude-sonnet-4-5")],
)
def test_it_parses_into_a_model(openai_sdk: OpenAI, dialect: str, model: str) -> None:
    fields: Any = {"messages": HELLO, "response_format": City}
    parsed = openai_sdk.chat.completions.parse(model=f"{dialect}/{unique(model)}", **fields)
    assert isinstance(parsed.choices[0].message.parsed, City)
    assert (parsed.choices[0].finish_reason, parsed.choices[0].message.tool_calls) == ("stop", None)
    with openai_sdk.chat.completions.stream(model=f"{dialect}/{unique(model)}", **fields) as stream:
        events = list(stream)
        final = stream.get_final_completion()
    assert isinstance(final.choices[0].message.parsed, City)
    assert "content.done" in [event.type for event in events]


@EACH
def test_it_answers_with_json(openai_sdk: OpenAI, vendor: FakeVendor, dialect: str) -> None:
    model = unique()
    answer = say(openai_sdk, f"{dialect}/{model}", response_format={"type": "json_object"})
    if dialect == "anthropic":  # it has no such mode, and the fake one does not do what it is told
        (asked,) = vendor.asked(model)
        assert "JSON object" in system_of(dialect, asked["body"])
    else:
        assert answer.choices[0].message.content.startswith("{")


@EACH
def test_it_shows_an_image(openai_sdk: OpenAI, vendor: FakeVendor, dialect: str) -> None:
    model = unique()
    shown: Any = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{IMAGE}"}},
    ]
    say(openai_sdk, f"{dialect}/{model}", messages=[{"role": "user", "content": shown}])
    (asked,) = vendor.asked(model)
    assert images_in(dialect, asked["body"]) == [IMAGE]


@TRANSLATED
def test_it_names_a_parameter_that_cannot_be_expressed(openai_sdk: OpenAI, dialect: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        say(openai_sdk, f"{dialect}/{unique()}", logit_bias={"1": 5})
    assert (caught.value.param, caught.value.code) == ("logit_bias", "unsupported_parameter")
    assert "logit_bias" in caught.value.message


@TRANSLATED
@pytest.mark.parametrize("stream", [False, True])
def test_it_lists_what_was_dropped(
    openai_sdk: OpenAI, vendor: FakeVendor, dialect: str, stream: bool
) -> None:
    model = unique()
    raw = openai_sdk.chat.completions.with_raw_response.create(
        model=f"{DROPPING}{dialect}/{model}",
        messages=HELLO,
        logit_bias={"1": 5},
        store=True,
        stream=stream,
    )
    assert raw.headers["x-gateway-dropped-params"] == "logit_bias, store"
    (asked,) = vendor.asked(model)
    assert asked["status"] == 200
    assert "logit_bias" not in asked["body"]


@EACH
def test_it_embeds(openai_sdk: OpenAI, dialect: str) -> None:
    model = f"{dialect}/{unique('synthetic-embedding')}"
    if dialect == "anthropic":
        with pytest.raises(openai.BadRequestError, match="has no embeddings") as caught:
            openai_sdk.embeddings.create(model=model, input="one")
        assert caught.value.param == "model"
        return
    plain = openai_sdk.embeddings.create(
        model=model, input=["one", "two"], encoding_format="float", dimensions=8
    )
    assert [(each.index, len(each.embedding)) for each in plain.data] == [(0, 8), (1, 8)]
    # The SDK asks for base64 unless told otherwise.
    packed = openai_sdk.embeddings.create(model=model, input="two", dimensions=8)
    assert packed.data[0].embedding == pytest.approx(plain.data[1].embedding, abs=1e-6)
    assert plain.usage.prompt_tokens == plain.usage.total_tokens > 0


@EACH
def test_it_completes_a_prompt(openai_sdk: OpenAI, dialect: str) -> None:
    model = f"{dialect}/{unique('synthetic~text=Good%20day~prompt=9')}"
    answer = openai_sdk.completions.create(model=model, prompt="Say", max_tokens=50)
    assert (answer.choices[0].text, answer.choices[0].finish_reason) == ("Good day", "stop")
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (9, 2)
    *pieces, last = openai_sdk.completions.create(
        model=model, prompt="Say", max_tokens=50, stream=True, stream_options=WITH_USAGE
    )
    assert "".join(chunk.choices[0].text for chunk in pieces) == "Good day"
    assert pieces[-1].choices[0].finish_reason == "stop"
    assert last.usage is not None
    assert last.usage.completion_tokens == 2


@EACH
def test_it_lists_the_models(openai_sdk: OpenAI, dialect: str) -> None:
    """It has asked the vendor, in its own way."""

    def listed() -> bool:
        names = {model.id.removesuffix(":latest") for model in openai_sdk.models.list()}
        return f"{dialect}/synthetic-mini" in names

    eventually(listed, what="the list of its models")
