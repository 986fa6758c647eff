"""The whole configuration, compiled and immutable.

A snapshot is swapped by one assignment; a request keeps the one it started with. `compile_parts`
builds everything but the callers from plain rows (`proxy/rows.py`); callers are patched key by key.
Nothing here reads a database.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson
from django.conf import settings

from config.vault import SecretUnreadable, Vault, reference
from keys.caller import Caller
from providers import demo
from providers.dialects import DIALECTS
from providers.faults import Faults, faults_of
from providers.models import DEMO_URL
from providers.pricing import PriceRule, Rates, schedule
from providers.quirks import read_quirks
from providers.upstream import Account, Quirks, Timeouts, Upstream
from proxy.patterns import BadPattern, compile_regex

Parts = Mapping[str, Sequence[Mapping[str, Any]]]
MAX_MEMO = 10_000
DEMO_MODEL = "demo/echo"


class ConfigurationError(Exception):
    """The rows do not make a configuration; the message says which and why."""


@dataclass(frozen=True, slots=True)
class TargetSpec:
    """One target of a route: the account, and the vendor's model ("" = as asked)."""

    provider: str
    model: str
    weight: int


@dataclass(frozen=True, slots=True)
class RouteSpec:
    """One compiled route. `fingerprint` changes with everything that shapes its answers."""

    id: str
    match: str
    kind: str
    priority: int
    strategy: str
    targets: tuple[TargetSpec, ...]
    search: Callable[[str], Any] | None
    fingerprint: str


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
class Snapshot:
    """Everything a request needs to know. `memo` holds derived values, never decisions of others."""

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
    memo: dict[Any, Any] = field(default_factory=dict)

    def upstream(self, provider: str, model: str) -> Upstream:
        """Return the upstream of a provider's model, made once."""
        key = ("upstream", provider, model)
        found = self.memo.get(key)
        if found is None:
            account = self.accounts[provider]
            found = self.remember(
                key,
                Upstream(
                    id=f"{provider}/{model}",
                    account=account,
                    model=model,
                    prices=schedule(self.prices.get(provider, ()), model),
                    timeouts=account.timeouts,
                ),
            )
        return found  # type: ignore[no-any-return]  # the memo holds values of several types

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


def compile_parts(version: int, parts: Parts, callers: Mapping[bytes, Caller]) -> Snapshot:
    """Return the snapshot of plain rows. Raises ConfigurationError."""
    env = settings.GATEWAY
    accounts, warnings = _accounts(parts["providers"])
    routes = [_route(row) for row in parts["routes"]]
    row = parts["settings"][0] if parts["settings"] else {}
    return Snapshot(
        version=version,
        callers=callers,
        accounts=accounts,
        exact_routes={route.match: route for route in routes if route.kind == "exact"},
        searched_routes=sorted((route for route in routes if route.kind != "exact"), key=_order),
        exclusions=_exclusions(parts["exclusions"]),
        models=_models(parts["models"], accounts),
        prices=_prices(parts["prices"]),
        default_provider=row.get("default_provider__name") or env.default_provider,
        default_model=row.get("default_model") or env.default_model or _demo_model(accounts),
        cache_ttl_s=float(row.get("cache_ttl_s") or env.cache_ttl_s),
        cache_epoch=row.get("cache_epoch") or 0,
        warnings=[*warnings, *_unbalanced(routes)],
    )


def with_callers(snapshot: Snapshot, version: int, callers: Mapping[bytes, Caller]) -> Snapshot:
    """Return the snapshot with other callers; what was derived from the rest is kept."""
    return replace(snapshot, version=version, callers=callers)


def compile_caller(row: Mapping[str, Any]) -> tuple[bytes, Caller]:
    """Return a key's digest and its Caller."""
    caller = Caller(
        key_id=row["id"],
        tenant_id=row["tenant_id"],
        name=row["name"],
        prefix=row["prefix"],
        enabled=row["enabled"],
        expires_at=row["expires_at"],
        allowed=tuple(row["allowed_models"]),
    )
    return bytes.fromhex(row["digest"]), caller


def caller_row(digest: bytes, caller: Caller) -> dict[str, Any]:
    """Return the plain row of a Caller: the inverse of `compile_caller`."""
    return {
        "id": caller.key_id,
        "tenant_id": caller.tenant_id,
        "name": caller.name,
        "prefix": caller.prefix,
        "digest": digest.hex(),
        "enabled": caller.enabled,
        "expires_at": caller.expires_at,
        "allowed_models": list(caller.allowed),
    }


def check() -> str:
    """Compile the rows as they are now (without keys) and return the problem, or ""."""
    from proxy import rows  # noqa: PLC0415 - the hot path never comes here

    try:
        compile_parts(0, {part: rows.read_part(part) for part in rows.SMALL_PARTS}, {})
    except ConfigurationError as problem:
        return str(problem)
    return ""


def _accounts(rows: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Account], list[str]]:
    vault, accounts, warnings = Vault(settings.SECRET_KEYS), {}, []
    for row in rows:
        if not row["enabled"]:
            continue
        account = _account(row, vault)
        accounts[account.name] = account
        if not account.usable:
            warnings.append(f"provider {account.name}: {account.why_unusable}")
        if account.faults is not None:
            warnings.append(f"provider {account.name} fails on purpose: {account.faults}")
    return accounts, warnings


def _account(row: Mapping[str, Any], vault: Vault) -> Account:
    name, dialect = row["name"], DIALECTS.get(row["dialect"])
    variable = reference(row["credential"])
    try:
        credential = vault.open(row["credential"])
    except SecretUnreadable as problem:
        raise ConfigurationError(f"provider {name}: {problem}") from None
    why = ""
    if dialect is None:
        why = f"this version does not speak the {row['dialect']} dialect"
    elif variable and not credential:
        why = f"the environment variable {variable} is not set"
    auth = dialect.auth_headers(credential, row["auth_header"]) if dialect else {}
    return Account(
        name=name,
        dialect=row["dialect"],
        base_url=row["base_url"] if row["base_url"] == DEMO_URL else row["base_url"].rstrip("/"),
        headers={**row["extra_headers"], **auth},
        timeouts=_timeouts(row),
        max_connections=row["max_connections"],
        drop_unsupported_params=row["drop_unsupported_params"],
        shares_stored=row.get("shares_stored", False),
        path_template=row.get("path_template") or "{path}",
        quirks=demo.QUIRKS if row["base_url"] == DEMO_URL else _quirks(row.get("quirks") or {}, name),
        usable=not why,
        why_unusable=why,
        faults=_faults(row),
    )


def _faults(row: Mapping[str, Any]) -> Faults | None:
    """Return how the demo fails on purpose; None where it does not, and for every real vendor."""
    faults = faults_of(row)
    return faults if faults.on and row["base_url"] == DEMO_URL else None


def _quirks(value: Any, provider: str) -> Quirks:
    try:
        return read_quirks(value)
    except ValueError as problem:
        raise ConfigurationError(f"provider {provider}: quirks {problem}") from None


def _timeouts(row: Mapping[str, Any]) -> Timeouts:
    general = settings.GATEWAY.provider_timeout_s
    total = row["total_timeout_s"]
    return Timeouts(
        connect_s=row["connect_timeout_s"],
        first_content_s=row["first_content_timeout_s"] or general or 30.0,
        idle_s=row["idle_timeout_s"],
        total_s=total or 600.0,
        total_json_s=total or general or 600.0,
    )


def _route(row: Mapping[str, Any]) -> RouteSpec:
    match, kind, search = row["match"], row["kind"], None
    if kind == "prefix":
        match = match.removesuffix("*")
    elif kind == "regex":
        search = _search(match, f"route {match!r}")
    targets = tuple(
        TargetSpec(target["provider__name"], _model_name(target["model"], match), target["weight"])
        for target in row["targets"]
    )
    return RouteSpec(
        id=f"{kind}:{row['match']}",
        match=match,
        kind=kind,
        priority=row["priority"],
        strategy=row["strategy"],
        targets=targets,
        search=search,
        fingerprint=hashlib.sha256(orjson.dumps(row, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16],
    )


def _model_name(model: str, route: str) -> str:
    """Return a target's model; it goes out in a header, so a control character would break answers."""
    if not model.isprintable():
        raise ConfigurationError(f"route {route!r}: the target's model {model!r} has control characters")
    return model.strip()


def _unbalanced(routes: Sequence[RouteSpec]) -> list[str]:
    """Say which routes ask for a strategy that this version does not have yet."""
    return [
        f"route {route.id}: strategy {route.strategy} is not available yet; its targets are tried in order"
        for route in routes
        if route.strategy != "ordered"
    ]


def _order(route: RouteSpec) -> tuple[int, int, str]:
    # Highest priority, then the longest match.
    return (-route.priority, -len(route.match), route.match)


def _exclusions(rows: Sequence[Mapping[str, Any]]) -> Exclusions:
    env = settings.GATEWAY
    exact = {row["pattern"] for row in rows if row["kind"] == "exact"} | set(env.cache_exclude_exact)
    patterns = [row["pattern"] for row in rows if row["kind"] == "regex"]
    patterns += [pattern for pattern in env.cache_exclude_patterns if pattern not in patterns]
    searches = tuple(_search(pattern, f"cache exclusion {pattern!r}") for pattern in patterns)
    return Exclusions(exact=frozenset(exact), searches=searches)


def _search(pattern: str, where: str) -> Callable[[str], Any]:
    try:
        return compile_regex(pattern).search  # type: ignore[no-any-return]  # re2 has no types
    except BadPattern as problem:
        raise ConfigurationError(f"{where}: not a valid RE2 regex: {problem}") from None


def _models(rows: Sequence[Mapping[str, Any]], accounts: Mapping[str, Account]) -> list[ServedModel]:
    demos = [
        ServedModel(id=f"{account.name}/{name}", name=name, created=demo.CREATED, owned_by=account.name)
        for account in accounts.values()
        if account.base_url == DEMO_URL
        for name in demo.MODELS
    ]
    return demos + [
        ServedModel(
            id=f"{row['provider__name']}/{row['name']}",
            name=row["name"],
            created=row["created"],
            owned_by=row["owned_by"] or row["provider__name"],
        )
        for row in rows
        if row["provider__name"] in accounts and accounts[row["provider__name"]].base_url != DEMO_URL
    ]


def _prices(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[PriceRule]]:
    rules: dict[str, list[PriceRule]] = {}
    for row in rows:
        rules.setdefault(row["provider__name"], []).append(
            PriceRule(pattern=row["model"], operator=row["source"] == "operator", rates=_rates(row))
        )
    return rules


def _rates(row: Mapping[str, Any]) -> Rates:
    return Rates(
        price_id=row["id"],
        effective_from=row["effective_from"],
        input=row["input_nanousd_per_mtok"],
        output=row["output_nanousd_per_mtok"],
        cached_input=row["cached_input_nanousd_per_mtok"],
        cache_write=row["cache_write_nanousd_per_mtok"],
    )


def _demo_model(accounts: Mapping[str, Account]) -> str:
    return DEMO_MODEL if "demo" in accounts else ""
