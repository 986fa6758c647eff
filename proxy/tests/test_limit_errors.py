import pytest

from keys.calendar import Span
from keys.limits import CONCURRENT, REQUESTS, TOKENS, Ceiling, Counted, Purse, RateRule
from proxy.limit_errors import duration, limit_headers, refused, unpriced
from proxy.store.base import Left, Refusal


def rule(kind=REQUESTS, amount=60, per="minute", **fields):
    return RateRule("rate:7", kind, amount, per=per, holds_for="key acme-ci", **fields)


def by(limit):
    return Counted(limit, "k", limit.kind == TOKENS)


@pytest.mark.parametrize(
    ("seconds", "written"),
    [(0.12, b"120ms"), (1, b"1s"), (59.2, b"1m0s"), (360, b"6m0s"), (86_400, b"24h0m0s"), (0, b"0ms")],
)
def test_it_writes_times_as_openai_does(seconds, written):
    assert duration(seconds) == written


def test_it_tells_what_is_left_by_openais_names():
    headers = dict(limit_headers(Left(rule(), 59), Left(rule(TOKENS, 1000, "hour"), 10)))
    assert headers == {
        b"x-ratelimit-limit-requests": b"60",
        b"x-ratelimit-remaining-requests": b"59",
        b"x-ratelimit-reset-requests": b"1m0s",
        b"x-ratelimit-limit-tokens": b"1000",
        b"x-ratelimit-remaining-tokens": b"10",
        b"x-ratelimit-reset-tokens": b"1h0m0s",
    }
    assert limit_headers(None, None) == []


def test_a_refusal_names_the_limit_and_when_there_is_room():
    error = refused(Refusal(by(rule(model="gpt-4o*")), 0, 1, 12.25))
    assert (error.status, error.type, error.code) == (429, "rate_limit_error", "rate_limit_exceeded")
    assert "rate:7: 60 requests per minute for key acme-ci, model gpt-4o*" in error.message
    assert "Try again in 12.2 seconds (at 20" in error.message
    assert error.headers["retry-after"] == "13"
    assert error.headers["x-ratelimit-remaining-requests"] == "0"


def test_a_request_that_never_fits_is_not_to_be_tried_again():
    error = refused(Refusal(by(rule(TOKENS, 100)), 100, 900, None))
    assert "needs 900 tokens: more than the limit allows at all" in error.message
    assert error.headers["x-should-retry"] == "false"
    assert "retry-after" not in error.headers


def test_slots_are_free_when_a_request_ends():
    error = refused(Refusal(by(rule(CONCURRENT, 8, "")), 0, 1, 1.0))
    assert "8 requests at once for key acme-ci" in error.message
    assert "free when one of them ends" in error.message


def purse(window="day", **fields):
    ceiling = Ceiling(3, 5 * 10**9, window, holds_for="tenant acme", **fields)
    return Purse(ceiling, "3@0", 5 * 10**9, Span(0, 1_800_000_000))


def test_a_budget_says_what_is_left_and_when_it_resets_and_asks_for_no_retry():
    error = refused(Refusal(purse(), 10**8, 2 * 10**8, 600.0))
    assert (error.status, error.type, error.code) == (429, "insufficient_quota", "insufficient_quota")
    assert error.message == (
        "Budget budget:3: $5 per day for tenant acme. $0.1 is left, and this request may cost $0.2. "
        "It resets at 2027-01-15T08:00:00Z."
    )
    assert (error.headers["x-should-retry"], error.headers["retry-after"]) == ("false", "600")


def test_a_total_never_resets_and_a_soft_budget_goes_by_what_is_likely():
    error = refused(Refusal(purse("total", strict=False), 0, 1, 600.0))
    assert "$5 in total" in error.message
    assert "is likely to cost" in error.message
    assert "It does not reset." in error.message
    assert "retry-after" not in error.headers


def test_an_outage_says_so():
    error = refused(Refusal(purse(), 0, 1, None, outage=True))
    assert (error.status, error.code) == (429, "store_unavailable")
    assert "budget:3" in error.message


def test_an_unpriced_model_is_forbidden_where_a_budget_says_so():
    error = unpriced("secret-model", "tenant acme")
    assert (error.status, error.code, error.param) == (403, "model_price_unknown", "model")
