"""The real OpenAI SDK, sync and async, against a served gateway: it notices nothing but the base URL."""

import asyncio
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from tests.gateway import Gateway
from tests.upstream import (
    DISABLED_KEY,
    EXPIRED_KEY,
    LIMITED_KEY,
    UPSTREAM_KEY,
    FakeVendor,
    unique,
)

# As a user writes it: a plain dict, not one of the SDK's types.
HELLO: Any = [{"role": "user", "content": "Hello there"}]


@pytest.fixture(scope="module")
def client(wired_gateway: Gateway) -> Iterator[OpenAI]:
    with client_with(wired_gateway, wired_gateway.key) as made:
        yield made


def client_with(gateway: Gateway, key: str) -> OpenAI:
    return OpenAI(base_url=f"{gateway.url}/v1", api_key=key, max_retries=0, timeout=30)


def say(client: OpenAI, model: str, **more):
    return client.chat.completions.create(model=model, messages=HELLO, **more)


def refusal(client: OpenAI, model: str, kind: type[openai.APIStatusError], **more) -> openai.APIStatusError:
    with pytest.raises(kind) as caught:
        say(client, model, **more)
    error = caught.value
    body: Any = error.body
    assert set(body) == {"message", "type", "param", "code"}
    assert error.response.headers["x-request-id"]
    assert UPSTREAM_KEY not in error.response.text
    return error


def test_it_answers_a_chat(client: OpenAI, vendor: FakeVendor) -> None:
    model = unique("synthetic~text=Good%20day~prompt=7~tokens=2")
    answer = say(client, f"replay/{model}")
    assert answer.choices[0].message.content == "Good day"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (7, 2)
    (asked,) = vendor.asked(model)
    assert asked["headers"]["authorization"] == f"Bearer {UPSTREAM_KEY}"


def test_it_gives_the_facts_of_an_answer_in_headers(client: OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model="replay/synthetic", messages=HELLO, extra_headers={"x-request-id": "asked-by-me-1"}
    )
    assert raw.headers["x-request-id"] == "asked-by-me-1"
    assert raw.request_id == "asked-by-me-1"
    assert raw.headers["x-gateway-provider"] == "replay"
    assert raw.headers["x-gateway-model"] == "synthetic"
    assert raw.headers["x-gateway-cache"] == "bypass"
    assert raw.headers["x-gateway-attempts"] == "1"
    assert raw.parse().choices[0].message.content


def test_it_makes_a_request_id_of_its_own_for_each_request(client: OpenAI) -> None:
    made = {
        client.chat.completions.with_raw_response.create(model="demo/echo", messages=HELLO).headers[
            "x-request-id"
        ]
        for _ in range(3)
    }
    assert len(made) == 3


def test_it_streams(client: OpenAI) -> None:
    chunks = list(say(client, "replay/synthetic~text=one%20two%20three", stream=True))
    texts = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(texts) == "one two three"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert len({chunk.id for chunk in chunks}) == 1
    assert all(chunk.usage is None for chunk in chunks)


def test_it_streams_usage_to_those_who_ask(client: OpenAI) -> None:
    *_, last = say(
        client,
        "replay/synthetic~tokens=5~prompt=9",
        stream=True,
        stream_options={"include_usage": True},
    )
    assert last.choices == []
    assert last.usage is not None
    assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (9, 5)


def test_it_gives_the_facts_of_a_stream_in_headers(client: OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model="replay/synthetic", messages=HELLO, stream=True
    )
    assert raw.headers["content-type"].startswith("text/event-stream")
    assert raw.headers["x-gateway-provider"] == "replay"
    assert raw.headers["x-gateway-attempts"] == "1"
    assert list(raw.parse())


def test_it_accumulates_through_the_sdks_stream_helper(client: OpenAI) -> None:
    with client.chat.completions.stream(model="replay/synthetic~tokens=8", messages=HELLO) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].finish_reason == "stop"
    assert final.choices[0].message.content


def test_it_passes_tool_calls_streamed_or_not(client: OpenAI) -> None:
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    tool: Any = {"type": "function", "function": {"name": "weather", "parameters": parameters}}
    answer = say(client, "replay/synthetic~tool=2", tools=[tool])
    calls = answer.choices[0].message.tool_calls
    assert [call.function.name for call in calls or ()] == ["weather", "weather"]
    with client.chat.completions.stream(
        model="replay/synthetic~tool=2", messages=HELLO, tools=[tool]
    ) as stream:
        streamed = stream.get_final_completion().choices[0].message.tool_calls
    assert [call.function.arguments for call in streamed or ()] == [
        call.function.arguments for call in calls or ()
    ]


def test_it_lists_models_and_retrieves_one(client: OpenAI) -> None:
    names = [model.id for model in client.models.list()]
    assert {"demo/echo", "demo/lorem", "demo/embed"} <= set(names)
    assert client.models.retrieve("demo/echo").id == "demo/echo"
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("absent")
    assert caught.value.code == "model_not_found"


def test_it_lists_what_the_key_may_use(wired_gateway: Gateway) -> None:
    with client_with(wired_gateway, LIMITED_KEY) as limited:
        assert {model.id for model in limited.models.list()} == {"demo/echo", "demo/lorem", "demo/embed"}


def test_it_embeds(client: OpenAI) -> None:
    # The SDK asks for base64 unless told otherwise.
    answer = client.embeddings.create(model="demo/embed", input=["one", "two"], encoding_format="float")
    assert [len(each.embedding) for each in answer.data] == [16, 16]
    again = client.embeddings.create(model="demo/embed", input="one")
    assert again.data[0].embedding == pytest.approx(answer.data[0].embedding, abs=1e-6)
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == 2


@pytest.mark.parametrize(
    ("given", "count"), [("one", 1), (["one"], 1), ([1, 2, 3], 1), ([[1, 2], [3], [4, 5]], 3)]
)
def test_it_embeds_every_form_of_input(client: OpenAI, given: Any, count: int) -> None:
    for model in ("demo/embed", "replay/synthetic"):
        answer = client.embeddings.create(model=model, input=given, dimensions=8)
        assert [len(each.embedding) for each in answer.data] == [8] * count


def test_it_names_the_input_that_is_wrong(client: OpenAI) -> None:
    wrong: Any = ["one", "two", "three", 4]
    with pytest.raises(openai.BadRequestError) as caught:
        client.embeddings.create(model="demo/embed", input=wrong)
    assert caught.value.param == "input[3]"


def test_it_maps_a_wrong_key_to_authentication_error(wired_gateway: Gateway) -> None:
    for key, code in (
        (DISABLED_KEY, "api_key_disabled"),
        (EXPIRED_KEY, "api_key_expired"),
        ("any-string", None),
    ):
        with client_with(wired_gateway, key) as stranger:
            error = refusal(stranger, "demo/echo", openai.AuthenticationError)
        assert error.status_code == 401
        assert error.type == "authentication_error"
        assert code is None or error.code == code
        assert key not in error.message


def test_it_maps_a_model_the_key_may_not_use_to_permission_denied(wired_gateway: Gateway) -> None:
    with client_with(wired_gateway, LIMITED_KEY) as limited:
        error = refusal(limited, "replay/synthetic", openai.PermissionDeniedError)
    assert (error.status_code, error.type, error.param) == (403, "permission_error", "model")


def test_it_maps_an_unknown_model_to_not_found(client: OpenAI) -> None:
    error = refusal(client, "no-such-model", openai.NotFoundError)
    assert (error.status_code, error.code, error.param) == (404, "model_not_found", "model")


def test_it_maps_our_refusal_and_the_vendors_to_bad_request(client: OpenAI) -> None:
    ours = refusal(client, "replay/synthetic", openai.BadRequestError, n=0)
    assert (ours.type, ours.param) == ("invalid_request_error", "n")
    theirs = refusal(client, "replay/synthetic", openai.BadRequestError, temperature=9)
    assert (theirs.type, theirs.param) == ("invalid_request_error", "temperature")


def test_it_maps_a_vendors_limit_to_rate_limit_error_and_keeps_its_retry_after(
    client: OpenAI, vendor: FakeVendor
) -> None:
    model = unique("synthetic~fail=99x429~retry_after=7")
    error = refusal(client, f"brief/{model}", openai.RateLimitError)
    assert (error.status_code, error.type) == (429, "rate_limit_error")
    assert error.response.headers["retry-after"] == "7"
    # Seven seconds are more than this provider's total timeout: waiting would have been in vain.
    assert len(vendor.asked(model)) == 1


def test_it_tells_a_retry_after_where_the_vendor_gave_none(client: OpenAI) -> None:
    error = refusal(client, f"brief/{unique('synthetic~fail=99x429')}", openai.RateLimitError)
    assert int(error.response.headers["retry-after"]) > 0


@pytest.mark.parametrize(("theirs", "ours"), [(500, 502), (502, 502), (503, 503), (529, 502)])
def test_it_maps_a_failing_vendor_to_internal_server_error(
    client: OpenAI, vendor: FakeVendor, theirs: int, ours: int
) -> None:
    model = unique(f"synthetic~fail=99x{theirs}")
    error = refusal(client, f"replay/{model}", openai.InternalServerError)
    assert (error.status_code, error.type) == (ours, "api_error")
    assert error.response.headers["x-gateway-attempts"] == "2"
    assert len(vendor.asked(model)) == 2


def test_it_says_nothing_of_its_own_credential_when_the_vendor_refuses_it(client: OpenAI) -> None:
    error = refusal(client, f"replay/{unique('synthetic~fail=99x401')}", openai.InternalServerError)
    assert (error.status_code, error.code) == (502, "upstream_auth_failed")


def test_it_maps_a_silent_vendor_to_a_timeout(client: OpenAI, vendor: FakeVendor) -> None:
    model = unique("synthetic~hang=head")
    error = refusal(client, f"brief/{model}", openai.InternalServerError, stream=True)
    assert (error.status_code, error.type) == (504, "timeout_error")
    # The silent target is not tried twice, and its connection is dropped.
    assert len(vendor.asked(model)) == 1
    vendor.wait_for_outcome(model, "client-gone")


def test_it_lets_the_sdk_time_out_by_itself(client: OpenAI, vendor: FakeVendor) -> None:
    model = unique("synthetic~hang=head")
    with pytest.raises(openai.APITimeoutError):
        say(client.with_options(timeout=0.5), f"replay/{model}")
    vendor.wait_for_outcome(model, "client-gone")


def test_it_refuses_a_stream_with_a_status_when_nothing_was_sent_yet(client: OpenAI) -> None:
    error = refusal(
        client, f"replay/{unique('synthetic~fail=99x500')}", openai.InternalServerError, stream=True
    )
    assert error.response.headers["content-type"] == "application/json"


def test_it_gives_the_sdk_an_error_in_the_middle_of_a_stream(client: OpenAI) -> None:
    stream = say(client, f"replay/{unique('synthetic~tokens=40~reset=body:3000')}", stream=True)
    seen = []
    with pytest.raises(openai.APIError) as caught:
        seen.extend(stream)
    assert seen
    assert caught.value.type == "api_error"


async def test_it_serves_the_async_sdk(wired_gateway: Gateway) -> None:
    async with AsyncOpenAI(
        base_url=f"{wired_gateway.url}/v1", api_key=wired_gateway.key, max_retries=0
    ) as client:
        answers = await asyncio.gather(
            *(client.chat.completions.create(model="replay/synthetic", messages=HELLO) for _ in range(20))
        )
        assert all(answer.choices[0].message.content for answer in answers)
        stream: Any = await client.chat.completions.create(
            model="replay/synthetic", messages=HELLO, stream=True
        )
        chunks = [chunk async for chunk in stream]
        assert chunks[-1].choices[0].finish_reason == "stop"
        raw = await client.chat.completions.with_raw_response.create(model="demo/echo", messages=HELLO)
        assert raw.headers["x-gateway-provider"] == "demo"
        assert [model.id async for model in client.models.list()]
        with pytest.raises(openai.NotFoundError):
            await client.chat.completions.create(model="no-such-model", messages=HELLO)


def test_it_serves_a_client_that_changes_nothing_but_the_base_url(
    wired_gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", f"{wired_gateway.url}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", wired_gateway.key)
    with OpenAI() as client:
        assert say(client, "demo/echo").choices[0].message.content == "Hello there"
