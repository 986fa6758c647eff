import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.dialects.openai.errors import error_in_body, read_error
from providers.errors import AUTH_FAILED, CONTEXT_EXCEEDED, QUOTA_EXHAUSTED, Owner, UpstreamError

CALLER, CREDENTIAL, HEALTH, CAPACITY = Owner.CALLER, Owner.CREDENTIAL, Owner.HEALTH, Owner.CAPACITY


def body(message="no", **fields):
    return orjson.dumps({"error": {"message": message, **fields}})


@pytest.mark.parametrize(
    ("status", "content", "owner", "code"),
    [
        (400, body(code="unknown_parameter"), CALLER, "unknown_parameter"),
        (404, body(code="model_not_found"), CALLER, "model_not_found"),
        (409, body(), CALLER, None),
        (413, body(), CALLER, None),
        (422, body(), CALLER, None),
        (401, body(code="invalid_api_key"), CREDENTIAL, AUTH_FAILED),
        (403, body(), CREDENTIAL, AUTH_FAILED),
        (400, body(code="invalid_api_key"), CREDENTIAL, AUTH_FAILED),
        (402, body(), CREDENTIAL, QUOTA_EXHAUSTED),
        (429, body(code="insufficient_quota"), CREDENTIAL, QUOTA_EXHAUSTED),
        (429, body(type="insufficient_quota"), CREDENTIAL, QUOTA_EXHAUSTED),
        (429, body(code="rate_limit_exceeded"), CAPACITY, "rate_limit_exceeded"),
        (408, body(), HEALTH, None),
        (500, body(code="server_error"), HEALTH, "server_error"),
        (503, b"", HEALTH, None),
        (529, body(), HEALTH, None),
        (302, b"", HEALTH, None),
        # Context overflow, in whichever status and words.
        (400, body(code="context_length_exceeded"), CALLER, CONTEXT_EXCEEDED),
        (500, body(type="exceed_context_size_error"), CALLER, CONTEXT_EXCEEDED),
        (500, body("Context size has been exceeded."), CALLER, CONTEXT_EXCEEDED),
        (400, body("This model's maximum context length is 4096 tokens."), CALLER, CONTEXT_EXCEEDED),
        (400, body("the request exceeds the available context size"), CALLER, CONTEXT_EXCEEDED),
        (400, body("context window exceeded"), CALLER, CONTEXT_EXCEEDED),
        (400, body("no such context"), CALLER, None),
        (400, body("prompt is too long: 201234 tokens > 200000 maximum"), CALLER, CONTEXT_EXCEEDED),
        (400, body("This model's maximum prompt length is 131072 but ..."), CALLER, CONTEXT_EXCEEDED),
        (400, body("Please reduce the length of the messages or completion."), CALLER, CONTEXT_EXCEEDED),
        (400, body("longer than the maximum model length of 4096"), CALLER, CONTEXT_EXCEEDED),
        (422, body("`inputs` tokens + `max_new_tokens` must be <= 4097"), CALLER, CONTEXT_EXCEEDED),
        (400, body("Your request exceeded model token limit: 8192"), CALLER, CONTEXT_EXCEEDED),
        # Our account, in whichever status.
        (400, b'{"code": "invalid", "error": "Incorrect API key provided: xa***"}', CREDENTIAL, AUTH_FAILED),
        (400, body("the tool said: no API"), CALLER, None),
        (429, body("out of credits"), CREDENTIAL, QUOTA_EXHAUSTED),
        (403, body("Your newly created team doesn't have any credits yet."), CREDENTIAL, QUOTA_EXHAUSTED),
        (400, body(code="billing_hard_limit_reached"), CREDENTIAL, QUOTA_EXHAUSTED),
        (429, body(code="billing_not_active"), CREDENTIAL, QUOTA_EXHAUSTED),
        # The request or its model, although the status says our key.
        (403, body("The model requires moderation and your input was flagged"), CALLER, "content_filter"),
        (403, body("Content violates usage guidelines."), CALLER, "content_filter"),
        (403, body("no access to model", code="model_not_found"), CALLER, "model_not_found"),
        (400, body(code="content_filter"), CALLER, "content_filter"),
        (400, body(code="content_policy_violation"), CALLER, "content_filter"),
        (400, body(code="data_inspection_failed"), CALLER, "content_filter"),
        (498, body(), CAPACITY, None),
    ],
)
def test_it_decides_whose_fault_it_is(status, content, owner, code):
    error = read_error(status, {}, content)
    assert (error.owner, error.code, error.status) == (owner, code, status)
    assert error.retryable is (owner is not CALLER)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (body("Slow down."), "Slow down."),
        (b'{"object": "error", "message": "vLLM says no", "code": 400}', "vLLM says no"),
        (b'{"detail": "FastAPI says no"}', "FastAPI says no"),
        (b'{"detail": [{"loc": ["body", "n"], "msg": "bad"}]}', '[{"loc":["body","n"],"msg":"bad"}]'),
        (b'[{"error": {"message": "Gemini says no"}}]', "Gemini says no"),
        (b'{"error": "just words"}', "just words"),
        (b'{"error": {"error": "nested words"}}', "nested words"),
        (b"plain words\n", "plain words"),
        (b"<html><body>502</body></html>", "The provider answered with status 502."),
        (b"", "The provider answered with status 502."),
        (b"{}", "The provider answered with status 502."),
        (b"[]", "The provider answered with status 502."),
        (b'"words"', "The provider answered with status 502."),
        (b"\xff\xfe", "\ufffd\ufffd"),
    ],
)
def test_it_finds_the_vendors_words(content, message):
    assert read_error(502, {}, content).message == message


def test_it_keeps_type_param_and_the_time_to_wait():
    error = read_error(429, {"retry-after": "7"}, body("no", type="tokens", param="messages", code="slow"))
    assert (error.kind, error.param, error.code, error.retry_after_s) == ("tokens", "messages", "slow", 7.0)


def test_it_does_not_read_a_date_as_seconds_since_1970():
    """A dialect has no clock, so it must not guess: the answer went out as `retry-after: 1826786977`."""
    error = read_error(503, {"retry-after": "Sun, 21 Nov 2027 08:49:37 GMT"}, b"")
    assert error.retry_after_s is None or error.retry_after_s < 10**9


@pytest.mark.parametrize(
    ("error", "owner", "status"),
    [
        ({"message": "no", "code": 429}, CAPACITY, 429),
        ({"message": "no", "code": "503"}, HEALTH, 503),
        ({"message": "no", "code": "server_error"}, HEALTH, 502),
        ({"message": "no", "code": 200}, HEALTH, 200),
        ({}, HEALTH, 502),
        ("words", HEALTH, 502),
        (["words"], HEALTH, 502),
        (True, HEALTH, 502),
        ({"code": 400, "message": "maximum context length"}, CALLER, 400),
    ],
)
def test_it_classifies_an_error_that_came_with_status_200(error, owner, status):
    problem = error_in_body(error)
    assert (problem.owner, problem.status) == (owner, status)
    assert problem.message


def test_it_reads_a_code_of_strange_digits():
    assert error_in_body({"code": "²²²", "message": "no"}).status == 502


def test_it_survives_a_message_nested_deeper_than_can_be_written():
    deep = b"[" * 300 + b"]" * 300
    assert isinstance(read_error(400, {}, b'{"error": {"message": ' + deep + b"}}"), UpstreamError)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "message", "detail", "code", "type", "param"]) | st.text(max_size=3),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@given(st.integers(300, 599), JSON.map(orjson.dumps) | st.binary())
def test_it_makes_an_error_of_anything(status, raw):
    error = read_error(status, {}, raw)
    assert isinstance(error.owner, Owner)
    assert error.message


@given(JSON)
def test_it_makes_an_error_of_any_error_field(value):
    assert isinstance(error_in_body(value), UpstreamError)
