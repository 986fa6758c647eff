"""Rows of rate limits and budgets to the rules of everyone and of each tenant, and to those of a key."""

from collections.abc import Mapping, Sequence
from typing import Any

from django.conf import settings

from keys.caller import ANONYMOUS, Caller, KeyTerms
from keys.limits import REQUESTS, RateRule, Rules

Row = Mapping[str, Any]


def compile_rules(rows: Sequence[Row]) -> tuple[Rules, Mapping[int | None, Rules]]:  # noqa: ARG001 - to come
    """Return the rules of everyone, and those of tenants by their ids."""
    return Rules(rates=tuple(_of_environment())), {}


def nobody(requests_per_minute: int) -> Caller:
    """Return who calls where no key is needed: limited per client address, 0 not at all."""
    if not requests_per_minute:
        return ANONYMOUS
    rule = RateRule(
        "ANON_IP_RPM",
        REQUESTS,
        requests_per_minute,
        per="minute",
        each="ip",
        holds_for="callers without a key",
    )
    return ANONYMOUS._replace(terms=KeyTerms(rules=Rules(rates=(rule,))))


def _of_environment() -> Sequence[RateRule]:
    limit = settings.GATEWAY.rpm_limit
    return [RateRule("RPM_LIMIT", REQUESTS, limit, per="minute")] if limit else []
