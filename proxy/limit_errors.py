"""What a caller is told whom a limit or budget refuses: which one, what is left, and until when."""

import math
from datetime import UTC, datetime
from functools import lru_cache

from config.money import usd
from keys.limits import CONCURRENT, EVERYONE, Counted, Purse, RateRule
from proxy.errors import Forbidden, GatewayError, RateLimited
from proxy.http import WireHeader
from proxy.store.base import Left, Refusal

NEVER = {"x-should-retry": "false"}  # what OpenAI's and Anthropic's SDKs ask before they try again


class BudgetExhausted(RateLimited):
    """A budget has no room for the request: trying again is of no use before its window ends."""

    type = "insufficient_quota"
    code = "insufficient_quota"


def refused(refusal: Refusal) -> GatewayError:
    """Return the error that says what refuses a request."""
    if refusal.outage:
        return RateLimited(
            "The store of limits and budgets is away, and this worker's share of "
            f"{_name(refusal.by)} is used up.",
            code="store_unavailable",
            retry_after_s=refusal.retry_after_s or 1.0,
        )
    if isinstance(refusal.by, Purse):
        return _over_budget(refusal, refusal.by)
    return _over_limit(refusal, refusal.by.rule)


def unpriced(model: str, holds_for: str) -> Forbidden:
    """Return the error of a model whose price nobody knows, where a budget refuses those."""
    return Forbidden(
        f"Nobody knows what model {model!r} costs here, and the budget of {holds_for} refuses such models. "
        "The operator can enter its price.",
        code="model_price_unknown",
        param="model",
    )


def limit_headers(requests: Left | None, tokens: Left | None) -> list[WireHeader]:
    """Return the headers that say how much is left, by OpenAI's names."""
    headers: list[WireHeader] = []
    if requests is not None:
        limit, reset = _of_rule(requests.rule)
        remaining = b"%d" % requests.remaining
        headers += ((b"x-ratelimit-limit-requests", limit), (b"x-ratelimit-remaining-requests", remaining))
        headers.append((b"x-ratelimit-reset-requests", reset))
    if tokens is not None:
        limit, reset = _of_rule(tokens.rule)
        remaining = b"%d" % tokens.remaining
        headers += ((b"x-ratelimit-limit-tokens", limit), (b"x-ratelimit-remaining-tokens", remaining))
        headers.append((b"x-ratelimit-reset-tokens", reset))
    return headers


@lru_cache(maxsize=4096)
def _of_rule(rule: RateRule) -> tuple[bytes, bytes]:
    """Return a limit's amount, and how long until all of it is free again if nothing comes."""
    return b"%d" % rule.amount, duration(rule.window_s)


def duration(seconds: float) -> bytes:
    """Return a time as OpenAI writes it: 1s, 6m0s, 120ms."""
    if seconds < 1:
        return b"%dms" % math.ceil(seconds * 1000)
    minutes, rest = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return b"%dh%dm%ds" % (hours, minutes, rest)
    return b"%dm%ds" % (minutes, rest) if minutes else b"%ds" % rest


def in_words(rule: RateRule) -> str:
    """Say a rate limit: "60 requests per minute for key acme-ci"."""
    what = "requests at once" if rule.kind == CONCURRENT else f"{rule.kind} per {rule.per}"
    each = {"": "", "ip": " and client address"}.get(rule.each, f" and {rule.each}")
    model = f", model {rule.model}" if rule.model else ""
    return f"{rule.amount:,} {what} for {rule.holds_for}{each}{model}"


def _over_limit(refusal: Refusal, rule: RateRule) -> GatewayError:
    told = f"Rate limit {rule.id}: {in_words(rule)}."
    headers = {name.decode(): value.decode() for name, value in _headers(refusal, rule)}
    if refusal.retry_after_s is None:
        return RateLimited(
            f"{told} This request needs {refusal.needs:,} {rule.kind}: more than the limit allows at all.",
            headers={**headers, **NEVER},
        )
    if rule.kind == CONCURRENT:
        told = f"{told} All of them are in use; the next one is free when one of them ends."
    else:
        needs = f", and this request needs {refusal.needs:,}" if refusal.needs > 1 else ""
        told = (
            f"{told} {refusal.left:,} left{needs}. Try again in {refusal.retry_after_s:.1f} seconds "
            f"(at {_at(refusal.retry_after_s)})."
        )
    return RateLimited(told, retry_after_s=refusal.retry_after_s, headers=headers)


def _headers(refusal: Refusal, rule: RateRule) -> list[WireHeader]:
    if rule.kind == CONCURRENT:
        return []
    left = Left(rule, refusal.left)
    return limit_headers(None, left) if rule.kind == "tokens" else limit_headers(left, None)


def _over_budget(refusal: Refusal, purse: Purse) -> BudgetExhausted:
    ceiling = purse.ceiling
    window = "in total" if ceiling.window == "total" else f"per {ceiling.window}"
    model = f", model {ceiling.model}" if ceiling.model else ""
    most = "may cost" if ceiling.strict else "is likely to cost"
    resets = (
        " It does not reset."
        if ceiling.window == "total"
        else f" It resets at {datetime.fromtimestamp(purse.span.end, UTC):%Y-%m-%dT%H:%M:%SZ}."
    )
    # The amount of everyone's, with what is left of it, would say what other tenants have spent.
    amount = "" if ceiling.holds_for == EVERYONE else f"${usd(purse.limit)} "
    return BudgetExhausted(
        f"Budget budget:{ceiling.id}: {amount}{window} for {ceiling.holds_for}{model}. "
        f"${usd(refusal.left)} is left, and this request {most} ${usd(refusal.needs)}.{resets}",
        retry_after_s=None if ceiling.window == "total" else refusal.retry_after_s,
        headers=NEVER,
    )


def _name(by: Counted | Purse) -> str:
    return f"budget:{by.ceiling.id}" if isinstance(by, Purse) else by.rule.id


def _at(after_s: float) -> str:
    at = datetime.now(UTC).timestamp() + after_s
    return datetime.fromtimestamp(math.ceil(at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
