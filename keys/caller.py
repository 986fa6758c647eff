"""An ApiKey compiled for the hot path."""

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from keys.limits import NO_RULES, Rules

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True, eq=False)
class KeyTerms:
    """What few keys have: on what terms this one may be used. Keys that have none of it share `USUAL`.

    `denied`: patterns of models that it may never use. `networks`: where it is accepted from, () from
    everywhere. `max_tokens`: the most of an answer, None: as much as the model gives. `forced_route`: the
    model name that is asked for instead of any other. `payload_days`: for how long what is
    said is stored, 0 not at all, None: as its tenant has it.
    """

    denied: Sequence[str] = ()
    networks: Sequence[Network] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    max_tokens: int | None = None
    forced_route: str = ""
    rules: Rules = NO_RULES
    payload_days: int | None = None


USUAL = KeyTerms()


class Caller(NamedTuple):
    """Who calls: ids for records, and what the key may use.

    `allowed` holds patterns: an exact model name, a prefix ending in `*`, or `provider/*`.
    Empty: every model. `expires_at` is epoch seconds, None: never.
    """

    key_id: int | None
    tenant_id: int | None
    name: str
    prefix: str
    enabled: bool = True
    expires_at: float | None = None
    allowed: tuple[str, ...] = ()
    terms: KeyTerms = USUAL

    def expired(self, now: float) -> bool:
        """Has the key run out at epoch second `now`?"""
        return self.expires_at is not None and now >= self.expires_at

    def may_use(self, *names: str) -> bool:
        """May the key use a model that goes by any of `names` (as asked, and provider/model)?"""
        return not self.allowed or any(matches(pattern, name) for pattern in self.allowed for name in names)

    def must_not_use(self, *names: str) -> bool:
        """Is a model that goes by any of `names` denied, whatever is allowed?"""
        return any(matches(pattern, name) for pattern in self.terms.denied for name in names)


def matches(pattern: str, name: str) -> bool:
    """Does an exact name or a `*` prefix match?"""
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern


ANONYMOUS = Caller(key_id=None, tenant_id=None, name="anonymous", prefix="")
