"""The real Anthropic SDK, sync and async, against a served gateway before vendors of another format."""

import asyncio
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest
from anthropic import Anthropic, AsyncAnthropic
from pydantic import BaseModel

from tests.gateway import Gateway
from tests.upstream import DISABLED_KEY, LIMITED_KEY, UPSTREAM_KEY, FakeVendor, unique

# As a user writes it: plain dicts, not the SDK's types.
HELLO: Any = [{"role": "user", "content": "Hello there"}]
WEATHER: Any = {
    "name": "weather",
    "description": "Tells the weather.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


@pytest.fixture(scope="module")
def client(wired_gateway: Gateway) -> Iterator[Anthropic]:
    with client_with(wired_gateway, wired_gateway.key) as made:
        yield made


def client_with(gateway: Gateway, key: str) -> Anthropic:
    return Anthropic(base_url=gateway.url, api_key=key, max_retries=0, timeout=30)


def say(client: Anthropic, model: str, **more: Any) -> Any:
    return client.messages.create(**{"model": model, "max_tokens": 100, "messages": HELLO, **more})


def refusal(
    client: Anthropic, model: str, kind: type[anthropic.APIStatusError], **more: Any
) -> anthropic.APIStatusError:
    with pytest.raises(kind) as caught:
        say(client, model, **more)
    error = caught.value
    body: Any = error.body
    assert (set(body), body["type"]) == ({"type", "error", "request_id"}, "error")
    assert error.request_id == body["request_id"]
    assert UPSTREAM_KEY not in error.response.text
    return error


def test_it_answers_with_a_message(client: Anthropic, vendor: FakeVendor) -> None:
    model = unique("synthetic~text=Good%20day~prompt=7~tokens=2~cached=3")
    message = say(client, f"replay/{model}", system="Be polite.")
    assert [block.text for block in message.content] == ["Good day"]
    assert (message.role, message.type, message.stop_reason) == ("assistant", "message", "end_turn")
    assert message.id.startswith("msg_")
    assert message.model == model
    assert message._request_id
    usage = message.usage
    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.output_tokens) == (4, 3, 2)
    (asked,) = vendor.asked(model)
    assert asked["headers"]["authorization"] == f"Bearer {UPSTREAM_KEY}"
    assert "x-api-key" not in asked["headers"]
    assert "anthropic-version" not in asked["headers"]
    assert [each["role"] for each in asked["body"]["messages"]] == ["system", "user"]


def test_it_answers_without_any_vendor(client: Anthropic) -> None:
    assert say(client, "demo/echo").content[0].text == "Hello there"


def test_it_takes_the_key_as_a_bearer_token(wired_gateway: Gateway) -> None:
    with Anthropic(base_url=wired_gateway.url, auth_token=wired_gateway.key, max_retries=0) as bearer:
        assert say(bearer, "demo/echo").content[0].text == "Hello there"


def test_it_lists_models(client: Anthropic, wired_gateway: Gateway) -> None:
    listed = list(client.models.list(limit=1000))
    assert "demo/echo" in [each.id for each in listed]
    assert {each.type for each in listed} == {"model"}
    assert client.models.retrieve("demo/echo").display_name == "echo"
    with pytest.raises(anthropic.NotFoundError, match="does not exist here"):
        client.models.retrieve("absent")
    with client_with(wired_gateway, "nobody") as stranger, pytest.raises(anthropic.AuthenticationError):
        stranger.models.list()


def test_it_streams_events(client: Anthropic) -> None:
    events = list(say(client, "replay/synthetic~text=one%20two~prompt=9~tokens=2", stream=True))
    assert [event.type for event in events[:2]] == ["message_start", "content_block_start"]
    assert [event.type for event in events[-3:]] == [
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert events[0].message.usage.output_tokens == 0
    assert (events[-2].usage.input_tokens, events[-2].usage.output_tokens) == (9, 2)


def test_it_accumulates_through_the_stream_helper(client: Anthropic) -> None:
    with client.messages.stream(
        model="replay/synthetic~text=one%20two%20three~prompt=9", max_tokens=100, messages=HELLO
    ) as stream:
        assert "".join(stream.text_stream) == "one two three"
        final = stream.get_final_message()
    assert (final.stop_reason, final.usage.input_tokens) == ("end_turn", 9)


def test_it_cuts_at_the_limit(client: Anthropic) -> None:
    message = say(client, "replay/synthetic~tokens=50", max_tokens=5)
    assert (message.stop_reason, message.usage.output_tokens) == ("max_tokens", 5)


@pytest.mark.parametrize("streamed", [False, True])
def test_it_calls_tools_and_takes_their_results(
    client: Anthropic, vendor: FakeVendor, *, streamed: bool
) -> None:
    model = unique("synthetic~tool=2")
    fields: Any = {"model": f"replay/{model}", "max_tokens": 100, "messages": HELLO, "tools": [WEATHER]}
    if streamed:
        with client.messages.stream(**fields) as stream:
            message: Any = stream.get_final_message()
    else:
        message = client.messages.create(**fields)
    calls = [block for block in message.content if block.type == "tool_use"]
    assert message.stop_reason == "tool_use"
    assert [call.name for call in calls] == ["weather", "weather"]
    assert len({call.id for call in calls}) == 2
    assert all(isinstance(call.input, dict) for call in calls)
    results: Any = [
        {"type": "tool_result", "tool_use_id": calls[0].id, "content": "sunny"},
        {
            "type": "tool_result",
            "tool_use_id": calls[1].id,
            "content": [{"type": "text", "text": "no idea"}],
            "is_error": True,
        },
        {"type": "text", "text": "And tomorrow?"},
    ]
    turns = [
        *HELLO,
        {"role": "assistant", "content": message.content},
        {"role": "user", "content": results},
    ]
    second = unique()
    answer = say(client, f"replay/{second}", messages=turns, tools=[WEATHER])
    assert answer.stop_reason == "end_turn"
    (asked,) = vendor.asked(second)
    sent = asked["body"]["messages"]
    assert [each["role"] for each in sent] == ["user", "assistant", "tool", "tool", "user"]
    assert [call["id"] for call in sent[1]["tool_calls"]] == [call.id for call in calls]
    assert [each["content"] for each in sent[2:]] == ["sunny", "no idea", "And tomorrow?"]
    assert asked["body"]["tools"][0]["function"]["parameters"] == WEATHER["input_schema"]


def test_it_is_told_which_tool_to_use(client: Anthropic, vendor: FakeVendor) -> None:
    model = unique()
    choice = {"type": "tool", "name": "weather", "disable_parallel_tool_use": True}
    message = say(client, f"replay/{model}", tools=[WEATHER], tool_choice=choice)
    assert [block.name for block in message.content] == ["weather"]
    (asked,) = vendor.asked(model)
    assert asked["body"]["tool_choice"] == {"type": "function", "function": {"name": "weather"}}
    assert asked["body"]["parallel_tool_calls"] is False


class Person(BaseModel):
    """What the model has to answer with."""

    name: str
    age: int


def test_it_parses_structured_output(client: Anthropic, vendor: FakeVendor) -> None:
    model = unique()
    parsed = client.messages.parse(
        model=f"replay/{model}", max_tokens=500, messages=HELLO, output_format=Person
    )
    assert isinstance(parsed.parsed_output, Person)
    (asked,) = vendor.asked(model)
    assert asked["body"]["response_format"]["json_schema"]["strict"] is True


def test_it_counts_tokens(client: Anthropic, vendor: FakeVendor) -> None:
    model = unique()
    raw = client.messages.with_raw_response.count_tokens(
        model=f"replay/{model}", messages=HELLO, system="Be polite.", tools=[WEATHER]
    )
    assert raw.parse().input_tokens > 20
    assert raw.headers["x-gateway-estimated"] == "true"
    assert vendor.asked(model) == []


def test_it_serves_the_beta_client(client: Anthropic) -> None:
    fields: Any = {"model": "demo/echo", "max_tokens": 50, "messages": HELLO, "betas": ["some-beta-2026"]}
    message: Any = client.beta.messages.create(**fields)
    assert message.content[0].text == "Hello there"
    with client.beta.messages.stream(**fields) as stream:
        assert "".join(stream.text_stream) == "Hello there"
    del fields["max_tokens"]
    assert client.beta.messages.count_tokens(**fields).input_tokens > 0


def test_it_lets_the_sdk_run_tools(client: Anthropic, vendor: FakeVendor) -> None:
    """It asks for a conversation that the vendor keeps; told that there is none, it goes on by itself."""
    model = unique("synthetic~tool=1")
    cities = []

    @anthropic.beta_tool
    def weather(city: str) -> str:
        """Tell the weather."""
        cities.append(city)
        return f"sunny in {city}"

    runner = client.beta.messages.tool_runner(
        model=f"replay/{model}", max_tokens=100, messages=HELLO, tools=[weather], max_iterations=2
    )
    messages = list(runner)
    assert [message.stop_reason for message in messages] == ["tool_use", "tool_use"]
    assert cities
    first, second = vendor.asked(model)
    assert [each["role"] for each in first["body"]["messages"]] == ["user"]
    assert [each["role"] for each in second["body"]["messages"]] == ["user", "assistant", "tool"]


# ---------------------------------------------------------------- errors


def test_it_maps_wrong_keys_to_authentication_errors(wired_gateway: Gateway) -> None:
    for key in (DISABLED_KEY, "any-string"):
        with client_with(wired_gateway, key) as stranger:
            error = refusal(stranger, "demo/echo", anthropic.AuthenticationError)
        assert (error.status_code, error.type) == (401, "authentication_error")


def test_it_maps_a_model_the_key_may_not_use_to_permission_denied(wired_gateway: Gateway) -> None:
    with client_with(wired_gateway, LIMITED_KEY) as limited:
        error = refusal(limited, "replay/synthetic", anthropic.PermissionDeniedError)
    assert error.type == "permission_error"


def test_it_maps_bad_requests(client: Anthropic) -> None:
    ours = refusal(client, "replay/synthetic", anthropic.BadRequestError, max_tokens=0)
    assert (ours.type, "'max_tokens'" in ours.message) == ("invalid_request_error", True)
    theirs = refusal(client, "replay/synthetic", anthropic.BadRequestError, extra_body={"temperature": 9})
    assert (theirs.type, "temperature" in theirs.message) == ("invalid_request_error", True)
    native = refusal(
        client,
        "replay/synthetic",
        anthropic.BadRequestError,
        tools=[{"type": "web_search_20250305", "name": "web_search"}],
    )
    assert "tools[0]" in native.message
    assert refusal(client, "no-such-model", anthropic.NotFoundError).type == "not_found_error"
    large = refusal(
        client, "demo/echo", anthropic.ContentTooLargeError, system="x" * 100_000
    )  # this gateway's limit is 64 KiB
    body: Any = large.body
    assert body["error"]["type"] == "request_too_large"


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("theirs", "kind", "told"),
    [
        (429, anthropic.RateLimitError, "rate_limit_error"),
        (500, anthropic.InternalServerError, "api_error"),
        (503, anthropic.ServiceUnavailableError, "overloaded_error"),
        (529, anthropic.InternalServerError, "api_error"),
        (401, anthropic.InternalServerError, "api_error"),
    ],
)
def test_it_maps_a_failing_vendor(
    client: Anthropic, theirs: int, kind: type[anthropic.APIStatusError], told: str, *, streamed: bool
) -> None:
    model = unique(f"synthetic~fail=99x{theirs}~retry_after=9")
    error = refusal(client, f"brief/{model}", kind, stream=streamed)
    assert error.type == told
    assert theirs != 429 or error.response.headers["retry-after"] == "9"


def test_it_says_that_a_stream_broke(client: Anthropic) -> None:
    stream = say(client, f"replay/{unique('synthetic~tokens=40~reset=body:3000')}", stream=True)
    seen = []
    with pytest.raises(anthropic.APIStatusError) as caught:
        seen.extend(stream)
    assert seen[0].type == "message_start"
    assert "message_stop" not in [event.type for event in seen]
    body: Any = caught.value.body
    assert body["error"]["type"] == "api_error"


async def test_it_serves_the_async_sdk(wired_gateway: Gateway) -> None:
    async with AsyncAnthropic(base_url=wired_gateway.url, api_key=wired_gateway.key, max_retries=0) as client:
        fields: Any = {"model": "replay/synthetic~tokens=5", "max_tokens": 100, "messages": HELLO}
        messages = await asyncio.gather(*(client.messages.create(**fields) for _ in range(20)))
        assert len({message.id for message in messages}) == 20
        async with client.messages.stream(**fields) as stream:
            texts = [text async for text in stream.text_stream]
            final = await stream.get_final_message()
        block: Any = final.content[0]
        assert "".join(texts) == block.text
        counted = await client.messages.count_tokens(model="demo/echo", messages=HELLO)
        assert counted.input_tokens > 0
        with pytest.raises(anthropic.NotFoundError):
            await client.messages.create(**{**fields, "model": "no-such-model"})


def test_it_serves_a_client_that_changes_nothing_but_the_base_url(
    wired_gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_BASE_URL", wired_gateway.url)
    monkeypatch.setenv("ANTHROPIC_API_KEY", wired_gateway.key)
    with Anthropic() as client:
        assert say(client, "demo/echo").content[0].text == "Hello there"
