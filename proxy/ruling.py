"""Rows of rate limits and budgets to the rules of everyone and of each tenant, and to those of a key."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from django.conf import settings

from keys.calendar import zone_of
from keys.caller import ANONYMOUS, Caller, KeyTerms
from keys.limit_models import MAX_BUDGET_NANOUSD, MAX_COUNT
from keys.limits import CONCURRENT, EVERYONE, REQUESTS, TOKENS, WINDOWS_S, Ceiling, RateRule, Rules
from proxy.snapshot import ConfigurationError

Row = Mapping[str, Any]
RATE, BUDGET = "rate", "budget"  # what a row is, by its "type"
_KINDS = frozenset({REQUESTS, TOKENS, CONCURRENT})
_EACH = frozenset({"", "tenant", "key", "model", "ip"})
_WINDOWS = frozenset({"day", "week", "month", "total"})
_STRICT, _SOFT = "strict", "soft"
_ID: Final = "rate:"


def compile_rules(rows: Sequence[Row]) -> tuple[Rules, Mapping[int | None, Rules]]:
    """Return the rules of everyone, and those of tenants by their ids. Raises ConfigurationError."""
    owned: dict[int | None, list[Row]] = {}
    for row in rows:
        owned.setdefault(row["tenant_id"], []).append(row)
    everyone = rules_of(owned.pop(None, ()), EVERYONE)
    tenants = {
        tenant_id: rules_of(listed, f"tenant {listed[0]['tenant__name']}")
        for tenant_id, listed in owned.items()
    }
    return Rules((*_of_environment(), *everyone.rates), everyone.ceilings), tenants


def rules_of(rows: Iterable[Row], holds_for: str) -> Rules:
    """Return the rules of one owner, `holds_for` in words. Raises ConfigurationError."""
    rates, ceilings = [], []
    for row in rows:
        if row["type"] == RATE:
            rates.append(_rate(row, holds_for))
        else:
            ceilings.append(_ceiling(row, holds_for))
    return Rules(tuple(rates), tuple(ceilings))


def rule_rows(rules: Rules) -> list[dict[str, Any]]:
    """Return the plain rows of an owner's rules: the inverse of `rules_of`."""
    return [
        *(
            {
                "type": RATE,
                "id": int(rule.id.removeprefix(_ID)),
                "kind": rule.kind,
                "amount": rule.amount,
                "per": rule.per,
                "model": rule.model,
                "each": rule.each,
            }
            for rule in rules.rates
        ),
        *(
            {
                "type": BUDGET,
                "id": each.id,
                "amount_nanousd": each.amount_nanousd,
                "window": each.window,
                "timezone": each.zone.key,
                "mode": _STRICT if each.strict else _SOFT,
                "model": each.model,
                "raised_nanousd": each.raised_nanousd,
                "raised_until": each.raised_until,
                "refuse_unpriced": each.refuse_unpriced,
            }
            for each in rules.ceilings
        ),
    ]


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


def _rate(row: Row, holds_for: str) -> RateRule:
    kind, per, each = row["kind"], row["per"], row["each"]
    if (
        kind not in _KINDS
        or per not in WINDOWS_S
        or each not in _EACH
        or (kind == CONCURRENT) != (per == "")
        or row["amount"] < 1
    ):
        raise ConfigurationError(
            f"rate limit {row['id']} of {holds_for}: {row['amount']} {kind!r} per {per!r} for each {each!r} "
            "is none that this version knows"
        )
    return RateRule(
        id=f"{_ID}{row['id']}",
        kind=kind,
        amount=min(row["amount"], MAX_COUNT),  # rows of before it was the most
        per=per,
        model=row["model"],
        each=each,
        holds_for=holds_for,
    )


def _ceiling(row: Row, holds_for: str) -> Ceiling:
    amount, raised = row["amount_nanousd"], row["raised_nanousd"]
    if (
        row["window"] not in _WINDOWS
        or row["mode"] not in {_STRICT, _SOFT}
        or amount < 0
        or (raised is not None and raised < 0)
    ):
        raise ConfigurationError(
            f"budget {row['id']} of {holds_for}: {amount} nano-dollars (raised: {raised}) "
            f"per {row['window']!r}, {row['mode']!r}, is none that this version knows"
        )
    return Ceiling(
        id=row["id"],
        amount_nanousd=min(amount, MAX_BUDGET_NANOUSD),
        window=row["window"],
        zone=zone_of(row["timezone"]),
        strict=row["mode"] == _STRICT,
        model=row["model"],
        holds_for=holds_for,
        raised_nanousd=None if raised is None else min(raised, MAX_BUDGET_NANOUSD),
        raised_until=row["raised_until"],
        refuse_unpriced=row["refuse_unpriced"],
    )


def _of_environment() -> Sequence[RateRule]:
    limit = settings.GATEWAY.rpm_limit
    return [RateRule("RPM_LIMIT", REQUESTS, limit, per="minute")] if limit else []
