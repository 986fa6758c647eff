"""The real Anthropic SDK through a served gateway, with each vendor's format behind it."""

from typing import Any

import anthropic
import pytest
from anthropic import Anthropic, AsyncAnthropic
from pydantic import BaseModel

from tests.dialects import EACH, PATHS
from tests.gateway import Gateway
from tests.upstream import UPSTREAM_KEY, FakeVendor, unique
from tests.vendor_forms import IMAGE, images_in, system_of

HELLO: Any = [{"role": "user", "content": "Hello there"}]
WEATHER: Any = {"name": "weather", "input_schema": {"type": "object", "properties": {}}}
STREAMED = pytest.mark.parametrize("streamed", [False, True])
FIGURES = "synthetic~text=Good%20day~prompt=9~cached=2~reasoning=3"


class City(BaseModel):
    """What the model has to answer with."""

    name: str
    people: int


def message_of(anthropic_sdk: Anthropic, model: str, *, streamed: bool = False, **more: Any) -> Any:
    """Return the message, assembled by the SDK where it is streamed."""
    fields: Any = {"model": model, "max_tokens": 2000, "messages": HELLO, **more}
    if not streamed:
        return anthropic_sdk.messages.create(**fields)
    with anthropic_sdk.messages.stream(**fields) as stream:
        return stream.get_final_message()


def refusal(anthropic_sdk: Anthropic, model: str, kind: type[anthropic.APIStatusError], **more: Any) -> Any:
    with pytest.raises(kind) as caught:
        anthropic_sdk.messages.create(**{"model": model, "max_tokens": 100, "messages": HELLO, **more})
    error: Any = caught.value
    assert (error.body["type"], set(error.body["error"])) == ("error", {"type", "message"})
    assert UPSTREAM_KEY not in error.response.text
    return error


@EACH
@STREAMED
def test_it_answers_with_a_message(
    anthropic_sdk: Anthropic, vendor: FakeVendor, dialect: str, *, streamed: bool
) -> None:
    model = unique(FIGURES)
    message = message_of(anthropic_sdk, f"{dialect}/{model}", streamed=streamed, system="Be brief.")
    assert (message.role, message.type, message.stop_reason) == ("assistant", "message", "end_turn")
    # OpenAI's chat keeps its thoughts to itself.
    kinds = ["text"] if dialect == "openai" else ["thinking", "text"]
    assert [block.type for block in message.content] == kinds
    assert message.content[-1].text == "Good day"
    cached = 0 if dialect == "ollama" else 2
    usage = message.usage
    told = (usage.input_tokens, usage.cache_read_input_tokens or 0, usage.output_tokens)
    assert told == (9 - cached, cached, 5)
    (asked,) = vendor.asked(model)
    assert UPSTREAM_KEY in str(asked["headers"])
    assert str(anthropic_sdk.api_key) not in str(asked)
    assert system_of(dialect, asked["body"]) == "Be brief."


@EACH
def test_it_streams_events_in_order(anthropic_sdk: Anthropic, dialect: str) -> None:
    events: Any = list(
        anthropic_sdk.messages.create(
            model=f"{dialect}/{unique(FIGURES)}", max_tokens=100, messages=HELLO, stream=True
        )
    )
    kinds = [event.type for event in events if event.type != "ping"]
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    starts = [event.index for event in events if event.type == "content_block_start"]
    assert starts == list(range(len(starts)))
    assert events[-2].usage.output_tokens == 5


@EACH
def test_it_accumulates_text(anthropic_sdk: Anthropic, dialect: str) -> None:
    with anthropic_sdk.messages.stream(
        model=f"{dialect}/{unique('synthetic~text=one%20two%20three')}", max_tokens=100, messages=HELLO
    ) as stream:
        assert list(stream.text_stream) == ["one", " two", " three"]
        assert stream.get_final_text() == "one two three"


@EACH
@STREAMED
def test_it_cuts_at_the_limit(anthropic_sdk: Anthropic, dialect: str, *, streamed: bool) -> None:
    message = message_of(anthropic_sdk, f"{dialect}/{unique()}", max_tokens=5, streamed=streamed)
    assert (message.stop_reason, message.usage.output_tokens) == ("max_tokens", 5)


@pytest.mark.parametrize("dialect", ["openai", "anthropic", "gemini"])
@STREAMED
def test_it_says_that_the_vendor_would_not_answer(
    anthropic_sdk: Anthropic, dialect: str, *, streamed: bool
) -> None:
    model = f"{dialect}/{unique('synthetic~finish=content_filter')}"
    assert message_of(anthropic_sdk, model, streamed=streamed).stop_reason == "refusal"


@EACH
def test_it_parses_into_a_model(anthropic_sdk: Anthropic, dialect: str) -> None:
    parsed = anthropic_sdk.messages.parse(
        model=f"{dialect}/{unique()}", max_tokens=500, messages=HELLO, output_format=City
    )
    assert isinstance(parsed.parsed_output, City)


@EACH
def test_it_shows_an_image(anthropic_sdk: Anthropic, vendor: FakeVendor, dialect: str) -> None:
    model = unique()
    source = {"type": "base64", "media_type": "image/png", "data": IMAGE}
    shown = [{"type": "image", "source": source}, {"type": "text", "text": "What is this?"}]
    message_of(anthropic_sdk, f"{dialect}/{model}", messages=[{"role": "user", "content": shown}])
    (asked,) = vendor.asked(model)
    assert images_in(dialect, asked["body"]) == [IMAGE]


@EACH
def test_it_passes_breakpoints_of_the_prompt_cache(
    anthropic_sdk: Anthropic, vendor: FakeVendor, dialect: str
) -> None:
    model = unique("synthetic~prompt=9~cache_write=4")
    kept: Any = [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]
    message = message_of(anthropic_sdk, f"{dialect}/{model}", system=kept)
    (asked,) = vendor.asked(model)
    if dialect == "anthropic":
        assert asked["body"]["system"] == kept
        usage = message.usage
        assert (usage.input_tokens, usage.cache_creation_input_tokens) == (5, 4)
    else:
        assert system_of(dialect, asked["body"]) == "Be brief."
        assert "cache_control" not in str(asked["body"]) or dialect == "openai"


@EACH
def test_it_counts_tokens(anthropic_sdk: Anthropic, vendor: FakeVendor, dialect: str) -> None:
    model = unique("synthetic~prompt=4321")
    raw = anthropic_sdk.messages.with_raw_response.count_tokens(
        model=f"{dialect}/{model}", messages=HELLO, system="Be brief.", tools=[WEATHER]
    )
    counted = raw.parse().input_tokens
    if dialect == "anthropic":
        (asked,) = vendor.asked(model)
        assert asked["path"].endswith("/count_tokens")
        assert (counted, raw.headers.get("x-gateway-estimated")) == (4321, None)
    else:
        assert vendor.asked(model) == []
        assert 10 < counted < 4321
        assert raw.headers["x-gateway-estimated"] == "true"


@pytest.mark.parametrize("dialect", [name for name in PATHS if name != "anthropic"])
def test_it_names_what_only_anthropic_knows(anthropic_sdk: Anthropic, dialect: str) -> None:
    search = [{"type": "web_search_20250305", "name": "web_search"}]
    error = refusal(anthropic_sdk, f"{dialect}/synthetic", anthropic.BadRequestError, tools=search)
    assert "tools[0]" in error.message


@pytest.mark.parametrize("system", [[], "Be brief."])
def test_it_names_what_a_vendor_cannot_be_shown_as_the_client_does(
    anthropic_sdk: Anthropic, system: Any
) -> None:
    """A system prompt is a message to others, a document's title a part: the places are not the same."""
    paper = {"type": "document", "title": "Paper", "source": {"type": "url", "url": "https://x.test/a.pdf"}}
    turns = [{"role": "user", "content": [paper, {"type": "text", "text": "What is this?"}]}]
    error = refusal(
        anthropic_sdk, "ollama/synthetic", anthropic.BadRequestError, system=system, messages=turns
    )
    assert "'messages[0].content'" in error.message


@EACH
@STREAMED
@pytest.mark.parametrize(
    ("theirs", "kind", "told"),
    [
        (400, anthropic.BadRequestError, "invalid_request_error"),
        (401, anthropic.InternalServerError, "api_error"),
        (404, anthropic.NotFoundError, "not_found_error"),
        (429, anthropic.RateLimitError, "rate_limit_error"),
        (500, anthropic.InternalServerError, "api_error"),
        (529, anthropic.InternalServerError, "api_error"),
    ],
)
def test_it_maps_a_failing_vendor(
    anthropic_sdk: Anthropic, *, dialect: str, theirs: int, kind: Any, told: str, streamed: bool
) -> None:
    model = unique(f"synthetic~fail=99x{theirs}~retry_after=9")
    error = refusal(anthropic_sdk, f"{dialect}/{model}", kind, stream=streamed)
    assert error.type == told
    assert theirs == 401 or f"injected failure {theirs}" in error.message
    assert theirs != 429 or error.response.headers["retry-after"] == "9"


@EACH
@pytest.mark.parametrize("fault", ["end=2500", "eof=2500", "reset=body:2500"])
def test_it_says_that_a_stream_broke(anthropic_sdk: Anthropic, dialect: str, fault: str) -> None:
    stream: Any = anthropic_sdk.messages.create(
        model=f"{dialect}/{unique(f'synthetic~tokens=60~{fault}')}",
        max_tokens=100,
        messages=HELLO,
        stream=True,
    )
    seen: list[str] = []
    with pytest.raises(anthropic.APIStatusError) as caught:
        seen.extend(event.type for event in stream)
    assert "content_block_delta" in seen
    assert not {"message_delta", "message_stop"} & set(seen)
    body: Any = caught.value.body
    assert body["error"]["type"] == "api_error"


async def test_it_serves_the_async_sdk(every_dialect: Gateway) -> None:
    async with AsyncAnthropic(base_url=every_dialect.url, api_key=every_dialect.key, max_retries=0) as sdk:
        for dialect in PATHS:
            fields: Any = {"model": f"{dialect}/{unique()}", "max_tokens": 100, "messages": HELLO}
            message: Any = await sdk.messages.create(**fields)
            async with sdk.messages.stream(**fields) as stream:
                texts = [text async for text in stream.text_stream]
            assert "".join(texts) == message.content[-1].text
