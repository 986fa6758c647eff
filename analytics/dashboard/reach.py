"""Which models a tenant's members may give to the keys that they make: those that operators gave to its keys.

A tenant has no list of models of its own, its keys have. So the keys that operators made say what it may use:
what any of them allows is allowed, what all of them deny is denied. While there is none, every model is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from analytics.dashboard.access import MADE_BY
from keys.caller import matches
from keys.models import ApiKey, Tenant


@dataclass(frozen=True, slots=True)
class Reach:
    """Patterns as keys have them. `allowed` (): every model."""

    allowed: tuple[str, ...] = ()
    denied: tuple[str, ...] = ()

    @classmethod
    def of(cls, tenant: Tenant) -> Self:
        """Read the terms of the keys that operators made; disabled ones too, so that nothing widens it."""
        keys = ApiKey.objects.filter(tenant=tenant).exclude(tags__has_key=MADE_BY).order_by()
        terms = list(keys.values_list("allowed_models", "denied_models", "forced_route").distinct())
        if not terms:
            return cls()
        lists = [[route] if route else allowed for allowed, _, route in terms]
        allowed = () if not all(lists) else tuple(sorted({each for found in lists for each in found}))
        common = set.intersection(*(set(denied) for _, denied, _ in terms))
        return cls(allowed, tuple(sorted(common)))

    def beyond(self, patterns: Sequence[str]) -> list[str]:
        """Return those of `patterns` that would let a key use more."""
        return [
            each for each in patterns if self.allowed and not any(_covers(own, each) for own in self.allowed)
        ]

    def allowed_for(self, patterns: Sequence[str]) -> list[str]:
        """Return what a key is to allow for which `patterns` were chosen; none: as much as there is."""
        return list(patterns or self.allowed)

    def denied_for(self, patterns: Sequence[str]) -> list[str]:
        """Return what a key is to deny."""
        return list(dict.fromkeys([*patterns, *self.denied]))


def _covers(own: str, wanted: str) -> bool:
    """Does the pattern `own` take in all that `wanted` does?"""
    if wanted.endswith("*"):
        return own.endswith("*") and wanted[:-1].startswith(own[:-1])
    return matches(own, wanted)
