import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.dialects.anthropic.errors import error_inside, read_error
from providers.errors import AUTH_FAILED, CONTEXT_EXCEEDED, QUOTA_EXHAUSTED, Owner, UpstreamError
from providers.tests.samples import cassettes

CALLER, CREDENTIAL, HEALTH, CAPACITY = Owner.CALLER, Owner.CREDENTIAL, Owner.HEALTH, Owner.CAPACITY


def body(kind, message="no"):
    return orjson.dumps({"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"})


@pytest.mark.parametrize(
    ("said", "owner", "code"),
    [
        ((400, "invalid_request_error", "max_tokens: Field required"), CALLER, None),
        ((401, "authentication_error", "invalid x-api-key"), CREDENTIAL, AUTH_FAILED),
        ((402, "billing_error", "Pay first."), CREDENTIAL, QUOTA_EXHAUSTED),
        ((403, "permission_error", "Not yours."), CREDENTIAL, AUTH_FAILED),
        ((404, "not_found_error", "model: claude-9"), CALLER, "model_not_found"),
        ((404, "not_found_error", "No such file."), CALLER, None),
        (
            (400, "invalid_request_error", "You have reached your specified API usage limits. ..."),
            CREDENTIAL,
            QUOTA_EXHAUSTED,
        ),
        ((413, "request_too_large", "Request exceeds the maximum size"), CALLER, None),
        ((429, "rate_limit_error", "Slower."), CAPACITY, None),
        ((500, "api_error", "Internal server error"), HEALTH, None),
        ((504, "timeout_error", "Too long."), HEALTH, None),
        ((529, "overloaded_error", "Overloaded"), HEALTH, None),
        (
            (400, "invalid_request_error", "Your credit balance is too low to access the Anthropic API."),
            CREDENTIAL,
            QUOTA_EXHAUSTED,
        ),
        ((400, "invalid_request_error", "This organization has been disabled."), CREDENTIAL, AUTH_FAILED),
        (
            (400, "invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum"),
            CALLER,
            CONTEXT_EXCEEDED,
        ),
        (
            (400, "invalid_request_error", "Output blocked by content filtering policy"),
            CALLER,
            "content_filter",
        ),
        (
            (
                400,
                "invalid_request_error",
                "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000",
            ),
            CALLER,
            CONTEXT_EXCEEDED,
        ),
    ],
)
def test_it_classifies_errors(said, owner, code):
    status, kind, message = said
    error = read_error(status, {"retry-after": "7"}, body(kind, message))
    assert (error.owner, error.code, error.kind, error.status) == (owner, code, kind, status)
    assert error.message == message
    assert error.retry_after_s == 7
    assert error.retryable is (owner is not CALLER)
    inside = error_inside({"type": kind, "message": message})
    assert (inside.owner, inside.code, inside.status, inside.message) == (owner, code, status, message)


@pytest.mark.parametrize(
    "said", [None, {}, [], "Overloaded", 3, {"type": ["x"], "message": {}}, {"type": "new"}]
)
def test_it_takes_an_error_inside_without_known_type_for_the_vendors(said):
    error = error_inside(said)
    assert (error.owner, error.status) == (HEALTH, 500)
    assert error.message


@given(st.integers(300, 599), st.binary())
def test_it_classifies_any_bytes(status, content):
    assert isinstance(read_error(status, {}, content), UpstreamError)


def refused(param):
    return bool(param.marks) or param.values[0]["response"]["status"] >= 300


@pytest.mark.parametrize("cassette", list(filter(refused, cassettes("anthropic"))))
def test_it_reads_recorded_errors(cassette):
    response = cassette["response"]
    error = read_error(response["status"], response["headers"], response["body"].encode())
    assert error.message == orjson.loads(response["body"])["error"]["message"]
    assert error.status == response["status"]
