"""The only reader of configuration rows: turns them into plain values, part by part.

Plain means JSON-able, so that the same values can be kept on disk and compiled again when the
database is down. Secrets stay as sealed as they are in their rows.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import orjson
from django.db import connection

from config.models import ConfigChange, current_version
from keys.models import ApiKey, Tenant
from providers.faults import COLUMNS
from providers.models import Credential, Price, Provider, ProviderModel
from proxy.models import CacheExclusion, GatewaySettings, Route, Target, UpstreamState

Row = Mapping[str, Any]
KEY_CHUNK = 2500
# Between chunks the reading thread steps aside, so that requests wait for no long GIL hold.
PAUSE_S = 0.001

_KEY_COLUMNS = ("id", "tenant_id", "name", "prefix", "digest", "enabled", "expires_at", "allowed_models")


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
    """Return all rows of one part (keys have their own readers)."""
    return _READERS[part]()


def read_all_keys() -> Iterator[Row]:
    """Yield every key, stepping aside between chunks.

    Read past the ORM: of 100,000 keys it would spend half of the second that a change may take on
    converting columns that nearly all hold the same values.
    """
    last, whole = 0, True
    while whole:
        chunk = ApiKey.objects.filter(pk__gt=last).order_by("pk").values_list(*_KEY_COLUMNS)[:KEY_CHUNK]
        sql, params = chunk.query.sql_with_params()
        with connection.cursor() as cursor:
            cursor.execute(sql, params)
            rows = cursor.fetchall()
        for row in rows:
            yield _key(row)
        whole = len(rows) == KEY_CHUNK
        if whole:
            last = rows[-1][0]
            time.sleep(PAUSE_S)


def read_keys(refs: Sequence[str]) -> list[Row]:
    """Return the keys among `refs` that still exist."""
    return [_key(row) for row in ApiKey.objects.filter(pk__in=refs).values_list(*_KEY_COLUMNS)]


def _key(row: Sequence[Any]) -> Row:
    """Return a key's row, whether the ORM has read it or the database's driver."""
    pk, tenant_id, name, prefix, digest, enabled, expires_at, allowed = row
    if expires_at is not None:
        if isinstance(expires_at, str):  # SQLite keeps times as text, in UTC
            expires_at = datetime.fromisoformat(expires_at).replace(tzinfo=UTC)
        expires_at = expires_at.timestamp()
    return {
        "id": pk,
        "tenant_id": tenant_id,
        "name": name,
        "prefix": prefix,
        "digest": digest,
        "enabled": bool(enabled),
        "expires_at": expires_at,
        "allowed_models": _parsed(allowed) if isinstance(allowed, str) else allowed,
    }


@lru_cache(maxsize=1024)
def _parsed(patterns: str) -> list[str]:
    parsed: list[str] = orjson.loads(patterns)
    return parsed


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


def _prices() -> list[Row]:
    rows = Price.objects.values(
        "id",
        "provider__name",
        "model",
        "input_nanousd_per_mtok",
        "output_nanousd_per_mtok",
        "cached_input_nanousd_per_mtok",
        "cache_write_nanousd_per_mtok",
        "context_window",
        "effective_from",
        "source",
    )
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
    return list(Tenant.objects.exclude(queue_weight=1).values("id", "queue_weight"))


def _upstreams() -> list[Row]:
    asked = UpstreamState.objects.exclude(held_open=False, reset_at=None)
    return [
        {**row, "reset_at": row["reset_at"] and row["reset_at"].timestamp()}
        for row in asked.values("upstream", "held_open", "reset_at")
    ]


_READERS: Mapping[str, Callable[[], list[Row]]] = {
    "providers": _providers,
    "models": _models,
    "prices": _prices,
    "routes": _routes,
    "exclusions": _exclusions,
    "settings": _settings,
    "tenants": _tenants,
    "upstreams": _upstreams,
}
SMALL_PARTS = tuple(_READERS)
