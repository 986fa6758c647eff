"""The reader of configuration rows (of keys: `key_rows.py`): turns them into plain values, part by part.

Plain means JSON-able, so that the same values can be kept on disk and compiled again when the
database is down. Secrets stay as sealed as they are in their rows.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any

from config.models import ConfigChange, current_version
from keys.models import Tenant
from providers.faults import COLUMNS
from providers.models import Credential, Price, Provider, ProviderModel
from providers.pricing import RULE_COLUMNS
from proxy.limit_rows import read_limits
from proxy.models import CacheExclusion, GatewaySettings, Route, Target, UpstreamState

Row = Mapping[str, Any]


def version() -> int:
    """Return the committed configuration version."""
    return current_version()


def changes_since(seen: int, limit: int) -> list[tuple[int, str, str]] | None:
    """Return (version, part, ref) of every change after `seen`, oldest first; None if too many or lost."""
    rows = list(
        ConfigChange.objects.filter(version__gt=seen)
        .order_by("version")
        .values_list("version", "part", "ref")[: limit + 1]
    )
    complete = bool(rows) and rows[0][0] == seen + 1 and len(rows) <= limit
    return rows if complete else None


def read_part(part: str) -> list[Row]:
    """Return all rows of one part."""
    return _READERS[part]()


_PROVIDER_COLUMNS = (
    "id",
    "name",
    "dialect",
    "base_url",
    "credential",
    "auth_header",
    "extra_headers",
    "enabled",
    "drop_unsupported_params",
    "shares_stored",
    "path_template",
    "quirks",
    "connect_timeout_s",
    "first_content_timeout_s",
    "idle_timeout_s",
    "total_timeout_s",
    "max_connections",
    "max_concurrency",
    "max_queue",
    "queue_timeout_s",
    *COLUMNS,
)


def _providers() -> list[Row]:
    further: dict[int, list[Row]] = {}
    enabled = Credential.objects.filter(enabled=True).order_by("position", "id")
    for row in enabled.values("provider_id", "name", "credential"):
        further.setdefault(row["provider_id"], []).append(row)
    rows = Provider.objects.values(*_PROVIDER_COLUMNS)
    return [{**row, "credentials": further.get(row["id"], [])} for row in rows]


def _models() -> list[Row]:
    return list(ProviderModel.objects.values("provider__name", "name", "created", "owned_by"))


def price_rows(providers: Collection[str] | None = None) -> list[Row]:
    """Return the rows of prices, or those of some providers (by name) alone."""
    prices = Price.objects.all() if providers is None else Price.objects.filter(provider__name__in=providers)
    rows = prices.values("provider__name", *RULE_COLUMNS)
    return [{**row, "effective_from": row["effective_from"].timestamp()} for row in rows]


_TARGET_COLUMNS = (
    "route_id",
    "provider__name",
    "model",
    "role",
    "weight",
    "percent",
    "shadow_budget_nanousd_per_day",
    "context_window",
)
_ROUTE_COLUMNS = (
    "id",
    "match",
    "kind",
    "priority",
    "strategy",
    "sticky",
    "sticky_header",
    "connect_timeout_s",
    "first_content_timeout_s",
    "idle_timeout_s",
    "total_timeout_s",
    "hedge",
    "continue_streams",
)


def _routes() -> list[Row]:
    targets: dict[int, list[Row]] = {}
    for target in Target.objects.order_by("position", "id").values(*_TARGET_COLUMNS):
        targets.setdefault(target["route_id"], []).append(target)
    routes = Route.objects.filter(enabled=True).values(*_ROUTE_COLUMNS)
    return [{**route, "targets": targets.get(route["id"], [])} for route in routes]


def _exclusions() -> list[Row]:
    return list(CacheExclusion.objects.values("kind", "pattern"))


def _settings() -> list[Row]:
    columns = ("default_provider__name", "default_model", "cache_ttl_s", "cache_epoch")
    return list(GatewaySettings.objects.filter(pk=1).values(*columns))


def _tenants() -> list[Row]:
    unusual = Tenant.objects.exclude(queue_weight=1, timezone="UTC", payload_days=0)
    return list(unusual.values("id", "queue_weight", "timezone", "payload_days"))


def _upstreams() -> list[Row]:
    asked = UpstreamState.objects.exclude(held_open=False, reset_at=None)
    return [
        {**row, "reset_at": row["reset_at"] and row["reset_at"].timestamp()}
        for row in asked.values("upstream", "held_open", "reset_at")
    ]


_READERS: Mapping[str, Callable[[], list[Row]]] = {
    "providers": _providers,
    "models": _models,
    "prices": price_rows,
    "routes": _routes,
    "exclusions": _exclusions,
    "settings": _settings,
    "tenants": _tenants,
    "limits": read_limits,
    "upstreams": _upstreams,
}
SMALL_PARTS = tuple(_READERS)
