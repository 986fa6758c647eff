"""The first page's tables: the same figures by provider, model, tenant and key."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from django.http import HttpRequest
from django.urls import reverse
from django.utils.http import urlencode

from analytics.usage import EVERYTHING, Figures, by
from config.words import dollars, duration
from gatewaysite.home.ranges import Range
from keys.models import ApiKey, Tenant
from providers.models import Provider

SHOWN = 10
# Dimension -> title, permission that its table needs beside the log's.
TABLES: Mapping[str, tuple[str, str]] = {
    "provider": ("By provider", ""),
    "model": ("By model", ""),
    "tenant": ("By tenant", "keys.view_tenant"),
    "key": ("By key", "keys.view_apikey"),
}


def breakdowns(request: HttpRequest, chosen: Range, whole: Figures) -> Iterator[dict[str, Any]]:
    """Yield the tables that the user may see: the dearest first, then the busiest."""
    for dimension, (title, permission) in TABLES.items():
        if permission and not request.user.has_perm(permission):
            continue
        ranked = by(dimension, chosen.period, EVERYTHING, latency=True, limit=SHOWN)
        named = _NAMING[dimension]([name for name, _ in ranked])
        yield {
            "id": f"by-{dimension}",
            "title": title,
            "head": title.removeprefix("By ").capitalize(),
            "rows": [_row(named(name), figures, whole) for name, figures in ranked],
            "is_cut": len(ranked) == SHOWN,
        }


def _row(named: tuple[str, str], figures: Figures, whole: Figures) -> dict[str, Any]:
    name, url = named
    weight, of = figures.cost_nanousd, whole.cost_nanousd
    if not of:
        weight, of = figures.requests, whole.requests
    rate = figures.error_rate
    return {
        "name": name,
        "url": url,
        "requests": f"{figures.requests:,}",
        "failed": "-" if rate is None else f"{100 * rate:.1f} %",
        "failing": bool(rate and rate >= 0.05),
        "tokens": f"{figures.tokens:,}",
        "cost": dollars(figures.cost_nanousd),
        "p95": duration(figures.latency_ms(0.95)),
        "limited": figures.limited,
        "share": min(max(round(100 * weight / of), 0), 100) if of else 0,
    }


Named = Callable[[Any], tuple[str, str]]


def _providers(names: list[Any]) -> Named:
    known = dict(Provider.objects.filter(name__in=names).values_list("name", "pk"))

    def named(name: Any) -> tuple[str, str]:
        if name in known:
            return name, reverse("admin:providers_provider_change", args=[known[name]])
        return name or "none", ""

    return named


def _models(_: list[Any]) -> Named:
    log = reverse("admin:analytics_requestlog_changelist")

    def named(name: Any) -> tuple[str, str]:
        if not name:
            return "none", ""
        provider, _, model = name.partition("/")
        return name, f"{log}?{urlencode({'provider': provider, 'model': model})}"

    return named


def _rows_of(model: type[ApiKey] | type[Tenant], screen: str) -> Callable[[list[Any]], Named]:
    def naming(ids: list[Any]) -> Named:
        rows = model.objects.filter(pk__in=[each for each in ids if each])
        known = dict(rows.values_list("pk", "name"))

        def named(pk: Any) -> tuple[str, str]:
            if pk in known:
                return known[pk], reverse(f"admin:{screen}_change", args=[pk])
            return (f"deleted, number {pk}" if pk else "none"), ""

        return named

    return naming


_NAMING: Mapping[str, Callable[[list[Any]], Named]] = {
    "provider": _providers,
    "model": _models,
    "tenant": _rows_of(Tenant, "keys_tenant"),
    "key": _rows_of(ApiKey, "keys_apikey"),
}
