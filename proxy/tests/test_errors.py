import orjson
import pytest

from providers.errors import AUTH_FAILED, CONTEXT_EXCEEDED, QUOTA_EXHAUSTED, Owner, UpstreamError
from proxy.errors import (
    BadRequest,
    Forbidden,
    GatewayError,
    NotFound,
    RateLimited,
    Unauthenticated,
    Unavailable,
    upstream_failed,
)

CALLER, CREDENTIAL, HEALTH, CAPACITY = Owner.CALLER, Owner.CREDENTIAL, Owner.HEALTH, Owner.CAPACITY


def failed(owner, **fields):
    return upstream_failed(UpstreamError("their words", owner=owner, **fields), provider="acme")


@pytest.mark.parametrize(
    ("kind", "status", "type_", "code"),
    [
        (GatewayError, 500, "api_error", None),
        (BadRequest, 400, "invalid_request_error", None),
        (Unauthenticated, 401, "authentication_error", "invalid_api_key"),
        (Forbidden, 403, "permission_error", None),
        (NotFound, 404, "not_found_error", None),
        (RateLimited, 429, "rate_limit_error", "rate_limit_exceeded"),
        (Unavailable, 503, "api_error", "service_unavailable"),
    ],
)
def test_it_speaks_openais_envelope(kind, status, type_, code):
    error = kind("Why.")
    assert error.status == status
    assert orjson.loads(error.body()) == {
        "error": {"message": "Why.", "type": type_, "param": None, "code": code}
    }


def test_it_lets_a_raiser_overrule_its_class():
    error = BadRequest("Why.", status=413, type="x", code="y", param="z", headers={"allow": "GET"})
    assert (error.status, error.type, error.code, error.param) == (413, "x", "y", "z")
    assert error.headers == {"allow": "GET"}
    # What one raiser sets, the next one does not see.
    assert (BadRequest("Why.").status, BadRequest("Why.").headers) == (400, {})


@pytest.mark.parametrize(("seconds", "header"), [(0, "0"), (0.1, "1"), (1.0, "1"), (1.2, "2"), (-3, "0")])
def test_it_says_when_to_come_back_in_whole_seconds(seconds, header):
    assert RateLimited("Why.", retry_after_s=seconds).headers["retry-after"] == header


@pytest.mark.parametrize(
    ("error", "status", "type_", "code"),
    [
        # The caller's own mistakes keep the vendor's status, words, type, param and code.
        ({"owner": CALLER, "status": 400, "code": "c", "kind": "k"}, 400, "k", "c"),
        (
            {"owner": CALLER, "status": 404, "code": "model_not_found"},
            404,
            "not_found_error",
            "model_not_found",
        ),
        ({"owner": CALLER, "status": 422}, 422, "invalid_request_error", None),
        ({"owner": CALLER}, 400, "invalid_request_error", None),
        (
            {"owner": CALLER, "status": 500, "code": CONTEXT_EXCEEDED},
            400,
            "invalid_request_error",
            CONTEXT_EXCEEDED,
        ),
        # Our credential.
        ({"owner": CREDENTIAL, "status": 401, "code": AUTH_FAILED}, 502, "api_error", AUTH_FAILED),
        ({"owner": CREDENTIAL, "status": 402, "code": QUOTA_EXHAUSTED}, 502, "api_error", QUOTA_EXHAUSTED),
        (
            {"owner": CREDENTIAL, "status": 429, "code": QUOTA_EXHAUSTED},
            429,
            "rate_limit_error",
            QUOTA_EXHAUSTED,
        ),
        # The vendor limits us.
        ({"owner": CAPACITY, "status": 429, "code": "slow"}, 429, "rate_limit_error", "slow"),
        # The vendor is ill.
        ({"owner": HEALTH}, 502, "api_error", "upstream_error"),
        ({"owner": HEALTH, "status": 500}, 502, "api_error", "upstream_error"),
        ({"owner": HEALTH, "status": 529}, 502, "api_error", "upstream_error"),
        ({"owner": HEALTH, "status": 503}, 503, "api_error", "upstream_error"),
        ({"owner": HEALTH, "status": 504}, 504, "timeout_error", "upstream_timeout"),
        ({"owner": HEALTH, "status": 408}, 504, "timeout_error", "upstream_timeout"),
        ({"owner": HEALTH, "timeout": "first content"}, 504, "timeout_error", "upstream_timeout"),
        ({"owner": HEALTH, "code": "upstream_reset"}, 502, "api_error", "upstream_reset"),
    ],
)
def test_it_shows_the_caller_a_vendors_failure(error, status, type_, code):
    failure = failed(**error)
    assert (failure.status, failure.type, failure.code) == (status, type_, code)


@pytest.mark.parametrize(
    ("error", "header"),
    [
        ({"owner": CAPACITY, "retry_after_s": 7.2}, "8"),
        ({"owner": CAPACITY}, "60"),
        ({"owner": CAPACITY, "retry_after_s": 0.0}, "0"),
        ({"owner": HEALTH, "status": 503, "retry_after_s": 3.0}, "3"),
        ({"owner": HEALTH, "status": 503}, None),
        ({"owner": CALLER, "status": 400}, None),
        ({"owner": CREDENTIAL, "code": AUTH_FAILED}, None),
    ],
)
def test_it_passes_the_time_to_wait_on(error, header):
    assert failed(**error).headers.get("retry-after") == header


def test_it_tells_no_client_to_retry_an_empty_account():
    assert failed(CREDENTIAL, code=QUOTA_EXHAUSTED, status=429).headers["x-should-retry"] == "false"


def test_it_keeps_a_vendors_words_on_our_credential_to_itself():
    """They may quote the key back: "Incorrect API key provided: sk-abc...def"."""
    failure = upstream_failed(
        UpstreamError("Incorrect API key provided: sk-secret", owner=CREDENTIAL, code=AUTH_FAILED),
        provider="acme",
    )
    assert "sk-secret" not in failure.message
    assert "acme" in failure.message


def test_it_names_the_provider_that_is_ill_and_passes_the_callers_mistake_on_as_it_is():
    assert failed(HEALTH).message == "Provider 'acme': their words"
    assert failed(CALLER, status=400).message == "their words"
