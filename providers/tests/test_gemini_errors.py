import orjson
import pytest

from providers.dialects.gemini.errors import error_in_body, read_error
from providers.errors import AUTH_FAILED, CONTEXT_EXCEEDED, QUOTA_EXHAUSTED, Owner

CALLER, CREDENTIAL, HEALTH, CAPACITY = Owner.CALLER, Owner.CREDENTIAL, Owner.HEALTH, Owner.CAPACITY
KEY_INVALID = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}
RETRY = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.5s"}
TOO_LONG = "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."
TOO_LONG_ON_VERTEX = "the input token count is 1048577 but model only supports up to 1048576."
# Said of a minute's limit, so it is no matter of money.
LIMITED = "You exceeded your current quota, please check your plan and billing details."


def body(status, word="", message="no", *details):
    return orjson.dumps({"error": {"code": status, "message": message, "status": word, "details": details}})


@pytest.mark.parametrize(
    ("status", "said", "owner", "code"),
    [
        (400, ("INVALID_ARGUMENT", "no"), CALLER, "INVALID_ARGUMENT"),
        (400, ("INVALID_ARGUMENT", "API key not valid. Please pass one."), CREDENTIAL, AUTH_FAILED),
        (400, ("INVALID_ARGUMENT", "no", KEY_INVALID), CREDENTIAL, AUTH_FAILED),
        (400, ("INVALID_ARGUMENT", "API key expired."), CREDENTIAL, AUTH_FAILED),
        (400, ("FAILED_PRECONDITION", "User location is not supported."), CREDENTIAL, AUTH_FAILED),
        (401, ("UNAUTHENTICATED", "no"), CREDENTIAL, AUTH_FAILED),
        (403, ("PERMISSION_DENIED", "no"), CREDENTIAL, AUTH_FAILED),
        (404, ("NOT_FOUND", "models/x is not found"), CALLER, "model_not_found"),
        (404, ("NOT_FOUND", "no such file"), CALLER, "NOT_FOUND"),
        (400, ("INVALID_ARGUMENT", TOO_LONG), CALLER, CONTEXT_EXCEEDED),
        (400, ("INVALID_ARGUMENT", TOO_LONG_ON_VERTEX), CALLER, CONTEXT_EXCEEDED),
        (429, ("RESOURCE_EXHAUSTED", LIMITED, RETRY), CAPACITY, "RESOURCE_EXHAUSTED"),
        (429, ("RESOURCE_EXHAUSTED", "Your credits are depleted."), CREDENTIAL, QUOTA_EXHAUSTED),
        (499, ("CANCELLED", "no"), HEALTH, "CANCELLED"),
        (500, ("INTERNAL", "no"), HEALTH, "INTERNAL"),
        (503, ("UNAVAILABLE", "The model is overloaded."), HEALTH, "UNAVAILABLE"),
        (504, ("DEADLINE_EXCEEDED", "no"), HEALTH, "DEADLINE_EXCEEDED"),
    ],
)
def test_it_decides_whose_fault_it_is(status, said, owner, code):
    error = read_error(status, {}, body(status, *said))
    assert (error.owner, error.code, error.status, error.message) == (owner, code, status, said[1])
    in_list = read_error(status, {}, b"[" + body(status, *said) + b"]")
    assert (in_list.owner, in_list.code) == (owner, code)


@pytest.mark.parametrize(
    ("delay", "seconds"),
    [("34s", 34.0), ("34.074824224s", 34.074824224), ("0s", 0.0), ("soon", None), (7, None), (None, None)],
)
def test_it_waits_as_long_as_google_says(delay, seconds):
    details = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}
    assert read_error(429, {}, body(429, "", "no", details)).retry_after_s == seconds
    assert read_error(429, {"retry-after": "3"}, body(429, "", "no", details)).retry_after_s == 3.0


@pytest.mark.parametrize("raw", [b"", b"<html>", b"[]", b"{}", b"3", b'{"error": "words"}', b'{"error": []}'])
def test_it_makes_an_error_of_anything(raw):
    assert read_error(502, {}, raw).owner is HEALTH


def test_it_classifies_an_error_inside_a_stream():
    error = error_in_body({"code": 503, "message": "overloaded", "status": "UNAVAILABLE"})
    assert (error.owner, error.status, error.code) == (HEALTH, 503, "UNAVAILABLE")
    assert error_in_body("words").owner is HEALTH
