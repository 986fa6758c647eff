"""The only reader of configuration rows: turns them into plain values, part by part.

Plain means JSON-able, so that the same values can be kept on disk and compiled again when the
database is down. Secrets stay as sealed as they are in their rows.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from config.models import ConfigChange, current_version
from keys.models import ApiKey
from providers.models import Price, Provider, ProviderModel
from proxy.models import CacheExclusion, GatewaySettings, Route, Target

Row = Mapping[str, Any]
KEY_CHUNK = 1000
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
    """Yield every key, stepping aside between chunks."""
    rows = ApiKey.objects.order_by("pk").values_list(*_KEY_COLUMNS)
    for number, row in enumerate(rows.iterator(chunk_size=KEY_CHUNK), start=1):
        yield _key(row)
        if number % KEY_CHUNK == 0:
            time.sleep(PAUSE_S)


def read_keys(refs: Sequence[str]) -> list[Row]:
    """Return the keys among `refs` that still exist."""
    return [_key(row) for row in ApiKey.objects.filter(pk__in=refs).values_list(*_KEY_COLUMNS)]


def _key(row: Sequence[Any]) -> Row:
    key = dict(zip(_KEY_COLUMNS, row, strict=True))
    key["expires_at"] = None if key["expires_at"] is None else key["expires_at"].timestamp()
    return key


def _providers() -> list[Row]:
    return list(
        Provider.objects.values(
            "id",
            "name",
            "dialect",
            "base_url",
            "credential",
            "auth_header",
            "extra_headers",
            "enabled",
            "drop_unsupported_params",
            "connect_timeout_s",
            "first_content_timeout_s",
            "idle_timeout_s",
            "total_timeout_s",
            "max_connections",
        )
    )


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
        "effective_from",
        "source",
    )
    return [{**row, "effective_from": row["effective_from"].timestamp()} for row in rows]


def _routes() -> list[Row]:
    targets: dict[int, list[Row]] = {}
    columns = ("route_id", "provider__name", "model", "weight")
    for target in Target.objects.order_by("position", "id").values(*columns):
        targets.setdefault(target["route_id"], []).append(target)
    routes = Route.objects.filter(enabled=True).values("id", "match", "kind", "priority", "strategy")
    return [{**route, "targets": targets.get(route["id"], [])} for route in routes]


def _exclusions() -> list[Row]:
    return list(CacheExclusion.objects.values("kind", "pattern"))


def _settings() -> list[Row]:
    columns = ("default_provider__name", "default_model", "cache_ttl_s", "cache_epoch")
    return list(GatewaySettings.objects.filter(pk=1).values(*columns))


_READERS: Mapping[str, Callable[[], list[Row]]] = {
    "providers": _providers,
    "models": _models,
    "prices": _prices,
    "routes": _routes,
    "exclusions": _exclusions,
    "settings": _settings,
}
SMALL_PARTS = tuple(_READERS)
