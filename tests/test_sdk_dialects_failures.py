"""The real OpenAI SDK through a served gateway, with each vendor's format behind it: failures."""

import json
from typing import Any

import openai
import pytest
from openai import OpenAI

from tests.dialects import EACH
from tests.upstream import UPSTREAM_KEY, FakeVendor, unique

HELLO: Any = [{"role": "user", "content": "Hello there"}]
STREAMED = pytest.mark.parametrize("streamed", [False, True])
# As each says that a prompt is too long for its model.
OVERFLOWS = {
    "openai": {
        "error": {
            "message": "This model's maximum context length is 8192 tokens.",
            "type": "invalid_request_error",
            "param": "messages",
            "code": "context_length_exceeded",
        }
    },
    "anthropic": {
        "type": "error",
        "error": {
            "type": "invalid_request_error",
            "message": "prompt is too long: 200001 tokens > 200000 maximum",
        },
    },
    "gemini": {
        "error": {
            "code": 400,
            "message": "The input token count (1048577) exceeds the maximum number of tokens allowed.",
            "status": "INVALID_ARGUMENT",
        }
    },
    "mistral": {
        "object": "error",
        "message": "Prompt contains 40000 tokens, too large for model with 32768 maximum context length",
        "type": "invalid_request_error",
        "param": None,
        "code": "3051",
    },
    "ollama": {"error": "the input length exceeds the context length"},
}


def refusal(
    openai_sdk: OpenAI, model: str, kind: type[openai.APIStatusError], *, streamed: bool = False
) -> Any:
    with pytest.raises(kind) as caught:
        openai_sdk.chat.completions.create(model=model, messages=HELLO, stream=streamed)
    error: Any = caught.value
    assert set(error.body) == {"message", "type", "param", "code"}
    assert error.response.headers["content-type"] == "application/json"
    assert UPSTREAM_KEY not in error.response.text
    return error


@EACH
@STREAMED
@pytest.mark.parametrize(
    ("theirs", "kind", "ours", "told"),
    [
        (400, openai.BadRequestError, 400, "invalid_request_error"),
        (401, openai.InternalServerError, 502, "api_error"),
        (404, openai.NotFoundError, 404, ""),
        (429, openai.RateLimitError, 429, "rate_limit_error"),
        (500, openai.InternalServerError, 502, "api_error"),
        (503, openai.InternalServerError, 503, "api_error"),
        (529, openai.InternalServerError, 502, "api_error"),
    ],
)
def test_it_maps_a_failing_vendor(
    openai_sdk: OpenAI, *, dialect: str, theirs: int, kind: Any, ours: int, told: str, streamed: bool
) -> None:
    model = unique(f"synthetic~fail=99x{theirs}~retry_after=9")
    error = refusal(openai_sdk, f"{dialect}/{model}", kind, streamed=streamed)
    assert error.status_code == ours
    assert not told or error.type == told
    if theirs == 401:
        assert error.code == "upstream_auth_failed"
    else:
        assert f"injected failure {theirs}" in error.message
    if theirs == 429:
        assert error.response.headers["retry-after"] == "9"


@EACH
@pytest.mark.parametrize("body", ["html", "empty", "invalid"])
def test_it_words_an_error_that_says_nothing(openai_sdk: OpenAI, dialect: str, body: str) -> None:
    model = unique(f"synthetic~fail=99x502~fail_body={body}")
    assert refusal(openai_sdk, f"{dialect}/{model}", openai.InternalServerError).status_code == 502


@EACH
@STREAMED
def test_it_tells_of_a_prompt_that_is_too_long(
    openai_sdk: OpenAI, vendor: FakeVendor, dialect: str, *, streamed: bool
) -> None:
    case = f"too-long-for-{dialect}"
    vendor.learn(case, provider=dialect, status=400, body=json.dumps(OVERFLOWS[dialect]))
    error = refusal(openai_sdk, f"{dialect}/{unique(case)}", openai.BadRequestError, streamed=streamed)
    assert error.code == "context_length_exceeded"


@EACH
@pytest.mark.parametrize(
    "fault", ["json=trunc", "json=invalid", "json=array", "json=null", "reset=head", "eof=40"]
)
@STREAMED
def test_it_makes_no_answer_of_a_broken_one(
    openai_sdk: OpenAI, dialect: str, fault: str, *, streamed: bool
) -> None:
    fields: Any = {"model": f"{dialect}/{unique(f'synthetic~{fault}')}", "messages": HELLO}
    with pytest.raises(openai.APIError):
        list(openai_sdk.chat.completions.create(**fields, stream=streamed))


@EACH
@pytest.mark.parametrize("fault", ["end=2000", "eof=2000", "reset=body:2000"])
def test_it_says_that_a_stream_broke(openai_sdk: OpenAI, dialect: str, fault: str) -> None:
    """It has said something by then, so that nothing else is left but to say so."""
    stream: Any = openai_sdk.chat.completions.create(
        model=f"{dialect}/{unique(f'synthetic~tokens=60~{fault}')}", messages=HELLO, stream=True
    )
    seen: list[Any] = []
    with pytest.raises(openai.APIError) as caught:
        seen.extend(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in seen).startswith("This is")
    assert not any(chunk.choices[0].finish_reason for chunk in seen)
    assert caught.value.type == "api_error"


@EACH
def test_it_stops_the_vendor_when_the_client_leaves(
    openai_sdk: OpenAI, vendor: FakeVendor, dialect: str
) -> None:
    model = unique("synthetic~tokens=400~gap_ms=20")
    stream: Any = openai_sdk.chat.completions.create(model=f"{dialect}/{model}", messages=HELLO, stream=True)
    next(chunk for chunk in stream if chunk.choices[0].delta.content)
    stream.close()
    vendor.wait_for_outcome(model, "client-gone")
