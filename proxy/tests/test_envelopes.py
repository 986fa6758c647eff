import orjson
import pytest

from proxy.envelopes import anthropic_envelope, enveloped, speaks_anthropic
from proxy.errors import BadRequest, GatewayError, NotFound, RateLimited, Unauthenticated, Unavailable


@pytest.mark.parametrize(
    ("path", "anthropic"),
    [
        ("/v1/messages", True),
        ("/v1/messages/", True),
        ("/v1/messages/count_tokens", True),
        ("/v1/messages/nothing", True),
        ("/v1/messagesx", False),
        ("/v1/chat/completions", False),
        ("/v1", False),
    ],
)
def test_it_writes_errors_as_the_clients_of_a_path_read_them(path, anthropic):
    assert speaks_anthropic(path) is anthropic
    error = NotFound("No.", param="model", code="gone")
    body = orjson.loads(enveloped(error, "req-1", anthropic=anthropic))
    if anthropic:
        told = {"type": "not_found_error", "message": "No."}
        assert body == {"type": "error", "error": told, "request_id": "req-1"}
    else:
        told = {"message": "No.", "type": "not_found_error", "param": "model", "code": "gone"}
        assert body == {"error": told}


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (BadRequest("x"), "invalid_request_error"),
        (Unauthenticated("x"), "authentication_error"),
        (GatewayError("x", status=402), "billing_error"),
        (GatewayError("x", status=403), "permission_error"),
        (NotFound("x"), "not_found_error"),
        (GatewayError("x", status=405), "invalid_request_error"),
        (GatewayError("x", status=413), "request_too_large"),
        (GatewayError("x", status=422), "invalid_request_error"),
        (RateLimited("x"), "rate_limit_error"),
        (GatewayError("x", status=431), "invalid_request_error"),
        (GatewayError("x"), "api_error"),
        (GatewayError("x", status=502), "api_error"),
        (Unavailable("x"), "overloaded_error"),
        (GatewayError("x", status=504, type="timeout_error"), "timeout_error"),
    ],
)
def test_it_names_errors_as_anthropic_does(error, kind):
    assert anthropic_envelope(error, "")["error"]["type"] == kind
    assert anthropic_envelope(error, "")["request_id"] is None


def test_it_says_that_a_prompt_is_too_long_in_the_words_that_agents_know():
    def told(message, code):
        return anthropic_envelope(BadRequest(message, code=code), "")["error"]["message"]

    assert told("This model has 8192 tokens.", "context_length_exceeded") == (
        "prompt is too long: This model has 8192 tokens."
    )
    assert told("Prompt is too long: 9 > 8", "context_length_exceeded") == "Prompt is too long: 9 > 8"
    assert told("This model has 8192 tokens.", None) == "This model has 8192 tokens."


def test_it_tells_sdks_to_go_on_without_a_thread():
    refusal = BadRequest("No threads.", param="thread", code="unsupported_parameter")
    details = {"error_code": "thread_unsupported_request"}
    assert anthropic_envelope(refusal, "")["error"]["details"] == details
    assert "details" not in anthropic_envelope(BadRequest("No.", param="thread"), "")["error"]
    other = BadRequest("No.", param="container", code="unsupported_parameter")
    assert "details" not in anthropic_envelope(other, "")["error"]
