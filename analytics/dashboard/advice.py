"""What to do about a failed request, by its code: in a sentence for whoever sent it."""

from collections.abc import Mapping

from analytics.models import RequestLog

_LATER = "Try again in a while; SDKs do so by themselves."
_OPERATORS = "Only the gateway's operators can change this: tell them the request id."

_BY_CODE: Mapping[str, str] = {
    "missing_api_key": "Send the key: Authorization: Bearer sk-gw-...",
    "invalid_api_key": "The key is unknown or mistyped. Make a new one, or rotate the one that is lost.",
    "api_key_disabled": "The key is disabled. Enable it under Keys, or use another.",
    "api_key_expired": "The key has expired. Give it a later date under Keys, or make a new one.",
    "ip_not_allowed": "The key is not accepted from this address. Operators choose from where it is.",
    "model_not_allowed": "The key may not use this model. Look under Models what it may use.",
    "model_not_found": "No provider has this model. Look under Models for its right name.",
    "permission_denied": "The key may not do this. Use another key, or ask the operators.",
    "rate_limit_exceeded": "A rate limit was reached. Send less at a time, or ask for a higher limit.",
    "insufficient_quota": "A budget is used up. Wait for its next window, or ask the operators for a raise.",
    "model_price_unknown": "A budget refuses models whose price nobody knows. Use one with a price.",
    "max_tokens_exceeds_key_limit": "Ask for fewer tokens of answer: the key has a limit.",
    "context_length_exceeded": "The prompt is longer than the model takes. Shorten it, or use another model.",
    "unsupported_parameter": "The model's vendor has no such parameter. Leave it out.",
    "unsupported_endpoint": "This model's vendor has no such endpoint.",
    "unknown_path": "There is no such address. Compare it with the documentation.",
    "method_not_allowed": "The address takes another method, mostly POST.",
    "body_too_large": "The request is larger than the gateway takes. Send less at once.",
    "request_timeout": "The request took too long to arrive. Look at the network on your side.",
    "content_filter": "The vendor refused the content.",
    "idempotency_key_reused": "The same Idempotency-Key came with another request. Use a new one for each.",
    "idempotency_key_in_use": "The first request with this Idempotency-Key still runs. Wait for it.",
    "upstream_timeout": f"The vendor did not answer in time. {_LATER}",
    "upstream_reset": f"The vendor's answer broke off. {_LATER}",
    "upstream_error": f"The vendor failed. {_LATER}",
    "upstream_rate_limited": f"The vendor limits the gateway. {_LATER}",
    "upstream_auth_failed": f"The vendor refused the gateway's credential. {_OPERATORS}",
    "upstream_quota_exhausted": f"The gateway's account at the vendor has no credit. {_OPERATORS}",
    "circuit_open": f"The vendor failed too often and is left alone for a while. {_LATER}",
    "provider_busy": f"Too many calls wait for this provider. {_LATER}",
    "no_usable_provider": f"No provider of this model can be asked. {_OPERATORS}",
    "store_unavailable": f"The gateway cannot count limits at the moment. {_LATER}",
    "service_unavailable": f"The gateway was not ready. {_LATER}",
    "spool_full": f"The gateway cannot keep records at the moment. {_OPERATORS}",
    "internal_error": f"The gateway failed. {_OPERATORS}",
    "interrupted": f"The gateway was stopped while it answered. What was used is estimated. {_LATER}",
}


def advice(row: RequestLog) -> str:
    """Return what to do about a request that failed."""
    known = _BY_CODE.get(row.error_code)
    if known is not None:
        return known
    if row.status == 429:
        return _BY_CODE["rate_limit_exceeded"]
    if 400 <= row.status < 500:
        return "The request is not as it should be: the answer's error message says what."
    return f"Something beyond this request failed. {_LATER}"
