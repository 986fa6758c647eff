"""The whole configuration, compiled and immutable.

A snapshot is swapped by one assignment; a request keeps the one it started with. `proxy/compiling.py`
makes it of plain rows; callers are patched key by key.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from keys.caller import Caller
from keys.limits import NO_RULES, Rules
from providers.pricing import PriceRule, context_window, max_output, schedule
from providers.upstream import Account, Upstream

MAX_MEMO = 10_000


class ConfigurationError(Exception):
    """The rows do not make a configuration; the message says which and why."""


class Role(StrEnum):
    """When a target is asked: the values of `proxy.models.Target.Role`."""

    NORMAL = "normal"
    CANARY = "canary"
    ON_CONTEXT_OVERFLOW = "on_context_overflow"
    ON_CONTENT_FILTER = "on_content_filter"
    SHADOW = "shadow"


@dataclass(frozen=True, slots=True)
class TargetSpec:
    """One target of a route: the account, and the vendor's model ("" = as asked).

    `percent` is of requests, for canaries and shadows; `budget_nanousd` what a shadow may cost in a day in
    this process (None: anything); `context_window` in tokens (None: as its price says).
    """

    provider: str
    model: str
    weight: int
    role: Role = Role.NORMAL
    percent: float = 0.0
    budget_nanousd: int | None = None
    context_window: int | None = None


@dataclass(frozen=True, slots=True)
class RouteSpec:
    """One compiled route. `fingerprint` changes with everything that shapes its answers.

    `timeouts` are the route's own, by the names of `Timeouts`. `sticky`: "", "user" or a lower-case header.
    """

    id: str
    match: str
    kind: str
    priority: int
    strategy: str
    targets: tuple[TargetSpec, ...]
    search: Callable[[str], Any] | None
    fingerprint: str
    timeouts: tuple[tuple[str, float], ...] = ()
    sticky: str = ""
    hedges: bool = False
    continues: bool = False


@dataclass(frozen=True, slots=True)
class Exclusions:
    """Models whose answers are never cached."""

    exact: frozenset[str] = frozenset()
    searches: tuple[Callable[[str], Any], ...] = ()

    def match(self, *names: str) -> bool:
        """Is a model that goes by any of `names` excluded?"""
        return any(name in self.exact or any(search(name) for search in self.searches) for name in names)


@dataclass(frozen=True, slots=True)
class ServedModel:
    """An entry of /v1/models: the prefixed id and the vendor's facts."""

    id: str
    name: str
    created: int
    owned_by: str


@dataclass(frozen=True, slots=True)
class Control:
    """What an operator asks of an upstream: to pass it over; to forget what failed before an epoch second."""

    held_open: bool
    reset_at: float | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything a request needs to know. `memo` holds derived values, never decisions of others.

    `tenant_weights`: shares of a line, by tenant id, where they are not 1. `controls`: by upstream id.
    `payload_days`: by tenant id, of those that have payloads stored.
    `rules` hold for everyone, `tenant_rules` for a tenant's keys, by its id; a key's own are in its Caller.
    """

    version: int
    callers: Mapping[bytes, Caller]
    accounts: Mapping[str, Account]
    exact_routes: Mapping[str, RouteSpec]
    searched_routes: Sequence[RouteSpec]
    exclusions: Exclusions
    models: Sequence[ServedModel]
    prices: Mapping[str, Sequence[PriceRule]]
    default_provider: str
    default_model: str
    cache_ttl_s: float
    cache_epoch: int
    warnings: Sequence[str] = ()
    tenant_weights: Mapping[int | None, int] = field(default_factory=dict)
    controls: Mapping[str, Control] = field(default_factory=dict)
    rules: Rules = NO_RULES
    tenant_rules: Mapping[int | None, Rules] = field(default_factory=dict)
    payload_days: Mapping[int | None, int] = field(default_factory=dict)
    memo: dict[Any, Any] = field(default_factory=dict)

    def upstream(
        self,
        provider: str,
        model: str,
        *,
        timeouts: tuple[tuple[str, float], ...] = (),
        window: int | None = None,
    ) -> Upstream:
        """Return the upstream of a provider's model, made once for each route's `timeouts` and `window`.

        Its `id` is the same in all of them.
        """
        key = ("upstream", provider, model, timeouts, window)
        found: Upstream | None = self.memo.get(key)
        if found is None:
            found = self.remember(key, self._upstream(provider, model, timeouts=timeouts, window=window))
        return found

    def _upstream(
        self, provider: str, model: str, *, timeouts: tuple[tuple[str, float], ...], window: int | None
    ) -> Upstream:
        account, rules = self.accounts[provider], self.prices.get(provider, ())
        first = Upstream(
            id=f"{provider}/{model}",
            account=account,
            model=model,
            prices=schedule(rules, model),
            timeouts=replace(account.timeouts, **dict(timeouts)),
            context_window=context_window(rules, model) if window is None else window,
            max_output=max_output(rules, model),
        )
        spares = tuple(replace(first, account=spare) for spare in account.spares)
        return replace(first, spares=spares) if spares else first

    def names(self, provider: str, model: str) -> tuple[str, ...]:
        """Return the names of a provider's model that a key's patterns may match.

        Its bare name is one of them, but for one in another provider's namespace: OpenRouter's "openai/gpt-5"
        is not what a key for "openai/*" may use.
        """
        prefix, slash, _ = model.partition("/")
        foreign = slash and prefix != provider and prefix in self.accounts
        return (f"{provider}/{model}",) if foreign else (f"{provider}/{model}", model)

    def remember(self, key: Any, value: Any) -> Any:
        """Keep a derived value; client-chosen keys are bounded."""
        if len(self.memo) >= MAX_MEMO:
            self.memo.clear()
        self.memo[key] = value
        return value


def with_callers(snapshot: Snapshot, version: int, callers: Mapping[bytes, Caller]) -> Snapshot:
    """Return the snapshot with other callers; what was derived from the rest is kept."""
    return replace(snapshot, version=version, callers=callers)
