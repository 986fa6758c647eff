"""An ApiKey compiled for the hot path."""

from typing import NamedTuple


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

    def expired(self, now: float) -> bool:
        """Has the key run out at epoch second `now`?"""
        return self.expires_at is not None and now >= self.expires_at

    def may_use(self, *names: str) -> bool:
        """May the key use a model that goes by any of `names` (as asked, and provider/model)?"""
        return not self.allowed or any(matches(pattern, name) for pattern in self.allowed for name in names)


def matches(pattern: str, name: str) -> bool:
    """Does an exact name or a `*` prefix match?"""
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern


ANONYMOUS = Caller(key_id=None, tenant_id=None, name="anonymous", prefix="")
