"""Plain rows (`proxy/rows.py`) to a Snapshot: everything but the callers, which are patched key by key.

Nothing here reads a database but `check`. What an older version has kept on disk compiles too: columns
and parts that it did not have are what they are by default.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson
from django.conf import settings

from keys.caller import Caller
from providers import demo
from providers.models import DEMO_URL
from providers.pricing import PriceRule, price_rule
from providers.upstream import Account
from proxy.accounts import compile_accounts
from proxy.models import DEFAULT_STICKY_HEADER
from proxy.patterns import BadPattern, compile_regex
from proxy.ruling import compile_rules
from proxy.snapshot import (
    ConfigurationError,
    Control,
    Exclusions,
    Role,
    RouteSpec,
    ServedModel,
    Snapshot,
    TargetSpec,
)

Row = Mapping[str, Any]
Parts = Mapping[str, Sequence[Row]]
DEMO_MODEL = "demo/echo"
_TIMEOUTS = {
    "connect_timeout_s": ("connect_s",),
    "first_content_timeout_s": ("first_content_s",),
    "idle_timeout_s": ("idle_s",),
    "total_timeout_s": ("total_s", "total_json_s"),
}


def compile_parts(version: int, parts: Parts, callers: Mapping[bytes, Caller]) -> Snapshot:
    """Return the snapshot of plain rows. Raises ConfigurationError."""
    env = settings.GATEWAY
    accounts, warnings = compile_accounts(parts["providers"])
    routes = [_route(row) for row in parts["routes"]]
    row = parts["settings"][0] if parts["settings"] else {}
    rules, tenant_rules = compile_rules(parts.get("limits", ()))
    return Snapshot(
        version=version,
        callers=callers,
        accounts=accounts,
        exact_routes={route.match: route for route in routes if route.kind == "exact"},
        searched_routes=sorted((route for route in routes if route.kind != "exact"), key=_order),
        exclusions=_exclusions(parts["exclusions"]),
        models=_models(parts["models"], accounts),
        prices=price_rules(parts["prices"]),
        default_provider=row.get("default_provider__name") or env.default_provider,
        default_model=row.get("default_model") or env.default_model or _demo_model(accounts),
        cache_ttl_s=float(row.get("cache_ttl_s") or env.cache_ttl_s),
        cache_epoch=row.get("cache_epoch") or 0,
        warnings=warnings,
        tenant_weights={
            each["id"]: weight for each in parts.get("tenants", ()) if (weight := each["queue_weight"]) != 1
        },
        controls={each["upstream"]: _control(each) for each in parts.get("upstreams", ())},
        rules=rules,
        tenant_rules=tenant_rules,
        payload_days={
            each["id"]: days for each in parts.get("tenants", ()) if (days := each.get("payload_days"))
        },
    )


def check() -> str:
    """Compile the rows as they are now (without keys) and return the problem, or ""."""
    from proxy import rows  # noqa: PLC0415 - the hot path never comes here

    try:
        compile_parts(0, {part: rows.read_part(part) for part in rows.SMALL_PARTS}, {})
    except ConfigurationError as problem:
        return str(problem)
    return ""


def _route(row: Row) -> RouteSpec:
    match, kind, search = row["match"], row["kind"], None
    if kind == "prefix":
        match = match.removesuffix("*")
    elif kind == "regex":
        search = _search(match, f"route {match!r}")
    targets = tuple(_target(target, match) for target in row["targets"])
    return RouteSpec(
        id=f"{kind}:{row['match']}",
        match=match,
        kind=kind,
        priority=row["priority"],
        strategy=row["strategy"],
        targets=targets,
        search=search,
        fingerprint=_fingerprint(row, targets),
        timeouts=_own_timeouts(row),
        sticky=_sticky(row),
        hedges=row.get("hedge", False),
        continues=row.get("continue_streams", False),
    )


def _target(row: Row, route: str) -> TargetSpec:
    role = _role(row, route)
    percent, budget = row.get("percent"), row.get("shadow_budget_nanousd_per_day")
    return TargetSpec(
        provider=row["provider__name"],
        model=_model_name(row["model"], route),
        weight=row["weight"],
        role=role,
        percent=100.0 if percent is None and role is Role.SHADOW else percent or 0.0,
        budget_nanousd=None if budget is None else budget // settings.GATEWAY.workers,
        context_window=row.get("context_window"),
    )


def _role(row: Row, route: str) -> Role:
    try:
        return Role(row.get("role") or Role.NORMAL)
    except ValueError:
        raise ConfigurationError(f"route {route!r}: a target has the unknown role {row['role']!r}") from None


def _fingerprint(row: Row, targets: Sequence[TargetSpec]) -> str:
    """Return a digest of who may answer, and how an answer comes about.

    Whom a request meets first (weights, percentages, stickiness, hedging, windows) and how long we wait
    changes no answer that was good before; a shadow gives none.
    """
    answering = [[each.role, each.provider, each.model] for each in targets if each.role is not Role.SHADOW]
    shape = [row["kind"], row["match"], row["strategy"], row.get("continue_streams", False), answering]
    return hashlib.sha256(orjson.dumps(shape)).hexdigest()[:16]


def _own_timeouts(row: Row) -> tuple[tuple[str, float], ...]:
    return tuple(
        (name, row[column])
        for column, names in _TIMEOUTS.items()
        if row.get(column) is not None
        for name in names
    )


def _sticky(row: Row) -> str:
    sticky: str = row.get("sticky") or ""
    return (row["sticky_header"] or DEFAULT_STICKY_HEADER).lower() if sticky == "header" else sticky


def _model_name(model: str, route: str) -> str:
    """Return a target's model; it goes out in a header, so a control character would break answers."""
    if not model.isprintable():
        raise ConfigurationError(f"route {route!r}: the target's model {model!r} has control characters")
    return model.strip()


def _order(route: RouteSpec) -> tuple[int, int, str]:
    # Highest priority, then the longest match.
    return (-route.priority, -len(route.match), route.match)


def _exclusions(rows: Sequence[Row]) -> Exclusions:
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


def _models(rows: Sequence[Row], accounts: Mapping[str, Account]) -> list[ServedModel]:
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


def price_rules(rows: Sequence[Row]) -> dict[str, list[PriceRule]]:
    """Return each provider's rules."""
    rules: dict[str, list[PriceRule]] = {}
    for row in rows:
        rules.setdefault(row["provider__name"], []).append(price_rule(row))
    return rules


def _demo_model(accounts: Mapping[str, Account]) -> str:
    return DEMO_MODEL if "demo" in accounts else ""


def _control(row: Row) -> Control:
    return Control(held_open=row["held_open"], reset_at=row["reset_at"])
