"""A key's plain row to its Callers, one for each of its secrets, and back.

Two secrets work while a rotation's overlap lasts. Nearly all keys have no terms of their own: they share
theirs.
"""

import ipaddress
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from keys.caller import USUAL, Caller, KeyTerms, Network
from proxy.ruling import rule_rows, rules_of
from proxy.snapshot import ConfigurationError

Row = Mapping[str, Any]


def compile_callers(row: Row) -> Mapping[bytes, Caller]:
    """Return a key's Callers by the digests of its secrets, the present one first. Raises ConfigurationError.

    As with 100,000 keys it may take no time: what nearly all keys have is looked at here.
    """
    allowed = row["allowed_models"]
    caller = Caller(
        row["id"],
        row["tenant_id"],
        row["name"],
        row["prefix"],
        row["enabled"],
        row["expires_at"],
        () if allowed == [] else _patterns(row, allowed, "allowed"),
        _terms(row) if "terms" in row or "limits" in row else USUAL,
    )
    try:
        callers = {bytes.fromhex(row["digest"]): caller}
        if "previous" in row:
            previous = row["previous"]
            ends = [moment for moment in (previous["until"], caller.expires_at) if moment is not None]
            older = caller._replace(prefix=previous["prefix"], expires_at=min(ends))
            callers.setdefault(bytes.fromhex(previous["digest"]), older)
    except ValueError:
        raise ConfigurationError(f"key {row['name']}: a digest of its secrets is not hexadecimal") from None
    return callers


def caller_row(digest: bytes, caller: Caller) -> dict[str, Any]:
    """Return the plain row of a secret's Caller: what `compile_callers` makes the same of."""
    row = {
        "id": caller.key_id,
        "tenant_id": caller.tenant_id,
        "name": caller.name,
        "prefix": caller.prefix,
        "digest": digest.hex(),
        "enabled": caller.enabled,
        "expires_at": caller.expires_at,
        "allowed_models": list(caller.allowed),
    }
    terms = caller.terms
    if terms is USUAL:
        return row
    return {
        **row,
        "terms": {
            "denied_models": list(terms.denied),
            "allowed_networks": [str(network) for network in terms.networks],
            "tags": dict(terms.tags),
            "max_tokens": terms.max_tokens,
            "forced_route": terms.forced_route,
            "payload_days": terms.payload_days,
        },
        "limits": rule_rows(terms.rules),
    }


def _terms(row: Row) -> KeyTerms:
    terms, limits = row.get("terms"), row.get("limits")
    rules = rules_of(limits or (), f"key {row['name']}")
    if not terms:
        return KeyTerms(rules=rules)
    most = terms["max_tokens"]
    if most is not None and most < 1:
        raise ConfigurationError(f"key {row['name']}: max_tokens is {most}, and must be 1 or more")
    return KeyTerms(
        denied=_patterns(row, terms["denied_models"], "denied"),
        networks=_networks(row, terms["allowed_networks"]),
        tags=_tags(row, terms["tags"]),
        max_tokens=most,
        forced_route=terms["forced_route"],
        rules=rules,
        payload_days=terms.get("payload_days"),
    )


def _patterns(row: Row, written: Any, which: str) -> tuple[str, ...]:
    if type(written) is not list or not all(isinstance(each, str) for each in written):
        raise ConfigurationError(f"key {row['name']}: its {which} models are not a list of patterns")
    return tuple(written)


def _networks(row: Row, written: Any) -> tuple[Network, ...]:
    """Return networks. Those that cannot be read must never mean "from everywhere"."""
    if not isinstance(written, list) or not all(isinstance(each, str) for each in written):
        raise ConfigurationError(f"key {row['name']}: its allowed networks are not a list of texts")
    try:
        return tuple(_network(each) for each in written)
    except ValueError as problem:
        raise ConfigurationError(f"key {row['name']}: allowed networks: {problem}") from None


@lru_cache(maxsize=1024)
def _network(written: str) -> Network:
    return ipaddress.ip_network(written, strict=False)


def _tags(row: Row, written: Any) -> Mapping[str, str]:
    if not isinstance(written, dict) or not all(isinstance(each, str) for each in written.values()):
        raise ConfigurationError(f"key {row['name']}: its tags are not names and texts")
    return written
