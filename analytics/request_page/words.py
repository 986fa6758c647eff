"""Why an attempt ended as it did, and why the next one was made: the table of failures, in words."""

from collections.abc import Mapping
from typing import Any

# Outcomes that we name ourselves; other codes are a vendor's.
OUTCOMES: Mapping[str, str] = {
    "ok": "It answered.",
    "hedged": "Another target, asked beside it, was faster.",
    "cancelled": "The client left while it was under way.",
    "error": "It was given up, because the request ended with an error.",
    "interrupted": "The gateway's process ended while it was under way.",
    "upstream_auth_failed": "The vendor refused the credential.",
    "upstream_quota_exhausted": "The account at the vendor has used up its quota.",
    "context_length_exceeded": "The prompt is longer than the model takes.",
    "content_filter": "The vendor's content filter stopped it.",
    "upstream_rate_limited": "The vendor limits the rate of requests.",
    "upstream_timeout": "The vendor did not answer in time.",
    "upstream_reset": "The connection broke off.",
    "upstream_invalid_response": "The vendor's answer makes no sense.",
    "circuit_open": "Its circuit breaker is open: it was not asked.",
    "provider_busy": "All connections to the provider were in use.",
    "caller": "The vendor refused the request itself.",
    "credential": "The vendor refused the credential.",
    "health": "The vendor could not answer.",
    "capacity": "The vendor is at its limit.",
}
_FINAL = frozenset({"ok", "hedged", "cancelled", "interrupted", "error"})
_OF_THE_CREDENTIAL = frozenset({"upstream_auth_failed", "upstream_quota_exhausted", "credential"})
_OF_THE_REQUEST = frozenset({400, 404, 409, 413, 422})


def outcome_in_words(attempt: Mapping[str, Any]) -> str:
    """Say what became of it."""
    outcome, status = str(attempt.get("outcome") or ""), _status(attempt)
    if outcome in OUTCOMES:
        return OUTCOMES[outcome]
    if status is None:
        return "No answer came: the connection failed, or broke off."
    if status == 429:
        return OUTCOMES["upstream_rate_limited"]
    if status in {408, 504}:
        return OUTCOMES["upstream_timeout"]
    if status in {401, 403}:
        return OUTCOMES["credential"]
    if status in _OF_THE_REQUEST:
        return OUTCOMES["caller"]
    return OUTCOMES["health"] if status >= 500 else "It failed."


def moved_on_in_words(attempt: Mapping[str, Any], *, is_last: bool, answered: bool) -> str:
    """Say why another attempt followed, or none. "": there is nothing to say of it."""
    outcome, status = str(attempt.get("outcome") or ""), _status(attempt)
    if outcome in _FINAL:
        return ""
    if is_last:
        return "" if answered else _why_it_ended(outcome, status)
    if outcome == "context_length_exceeded":
        return "So a target that takes longer prompts was asked."
    if outcome == "content_filter":
        return "So a target for such cases was asked."
    if outcome in _OF_THE_CREDENTIAL or status in {401, 402, 403}:
        return "Another credential or provider may do better: the credential rests, the next one was tried."
    if outcome in {"upstream_rate_limited", "capacity"} or status == 429:
        return "It rests for as long as the vendor asks; the next one was tried."
    return "This counts against its circuit breaker; the next one was tried."


def _why_it_ended(outcome: str, status: int | None) -> str:
    if outcome == "caller" or status in _OF_THE_REQUEST:
        return "No other target would take this request either: the client got the vendor's message."
    return "No target, attempt or time was left: the client got the error."


def _status(attempt: Mapping[str, Any]) -> int | None:
    status = attempt.get("status")
    return status if isinstance(status, int) else None
