"""Puts the page of a request together."""

from collections.abc import Mapping
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse

from analytics.models import RequestLog
from analytics.request_page.charges import charges
from analytics.request_page.timeline import timeline, timings
from config.words import dollars, moment
from keys.admin_ledger import owner_lines, tags_in_words
from keys.models import ApiKey, Tenant
from providers.models import Provider
from proxy.completion import SHADOW_ROUTE
from proxy.models import Route


def request_page(request: HttpRequest, row: Any, context: Mapping[str, Any]) -> HttpResponse:
    """Show one RequestLog row, read with the names of its key and tenant. `context`: what admin pages have.

    `payload` in the context is shown, or, with `payload_url`, a way to it; who may see it is for whoever puts
    it there.
    """
    page = {
        **context,
        "title": f"Request {row.request_id}",
        "row": row,
        "headline": _headline(row),
        "good": row.outcome == RequestLog.Outcome.OK,
        "facts": _facts(request, row),
        "tries": timeline(row),
        "timings": timings(row),
        "usage": _usage(row),
        "limits": [each for each in row.limits or [] if isinstance(each, dict) and each.get("limit")],
        "tells_limits": row.limits is not None,
        "back_url": reverse("admin:analytics_requestlog_changelist"),
    }
    if request.user.has_perm("keys.view_ledgerentry"):
        page["charges"] = charges(row.completion_id)
    return render(request, "admin/analytics/requestlog/request.html", page)


def _headline(row: RequestLog) -> str:
    code = f", {row.error_code}" if row.error_code else ""
    return f"{row.status}, {row.get_outcome_display()}{code}"


def _facts(request: HttpRequest, row: Any) -> list[tuple[str, str, str]]:
    """Return name, text and link of what is known of it."""
    key, tenant = owner_lines(row)
    hit = " (from the cache)" if row.cache == "hit" else ""
    upstream = f"{row.provider}/{row.model}{hit}" if row.provider else "-"
    return [
        ("Arrived (UTC)", moment(row.at), ""),
        ("Endpoint", row.endpoint, ""),
        ("Key", key, _key_url(request, row)),
        ("Tenant", tenant or "-", _tenant_url(request, row)),
        ("Tags", tags_in_words(row.tags), ""),
        ("Asked for", f"{row.requested_model or '-'}{', as a stream' if row.stream else ''}", ""),
        ("Route", row.route or "-", _route_url(request, row)),
        ("Answered by", upstream, _provider_url(request, row)),
        ("Cache", row.cache or "not asked", ""),
        ("Saved", dollars(row.saved_nanousd), "") if row.saved_nanousd is not None else ("", "", ""),
        ("Request id", row.request_id, ""),
        ("Completion id", row.completion_id, ""),
    ]


def _usage(row: RequestLog) -> list[tuple[str, str]]:
    counts = (
        ("Prompt", row.prompt_tokens),
        ("of it from the vendor's cache", row.cached_tokens),
        ("of it written to the vendor's cache", row.cache_write_tokens),
        ("Answer", row.completion_tokens),
        ("of it reasoning", row.reasoning_tokens),
    )
    return [(name, f"{value:,}") for name, value in counts if value is not None]


def _key_url(request: HttpRequest, row: Any) -> str:
    there = row.key_ref and request.user.has_perm("keys.view_apikey")
    return _change("keys_apikey", ApiKey.objects.filter(pk=row.key_ref)) if there else ""


def _tenant_url(request: HttpRequest, row: Any) -> str:
    there = row.tenant_ref and request.user.has_perm("keys.view_tenant")
    return _change("keys_tenant", Tenant.objects.filter(pk=row.tenant_ref)) if there else ""


def _route_url(request: HttpRequest, row: Any) -> str:
    """Link to a route of the tables: some, of prefixes built in, have no row."""
    if not row.route or not request.user.has_perm("proxy.view_route"):
        return ""
    return _change("proxy_route", Route.objects.filter(match=row.route.removeprefix(SHADOW_ROUTE)))


def _provider_url(request: HttpRequest, row: Any) -> str:
    there = row.provider and request.user.has_perm("providers.view_provider")
    return _change("providers_provider", Provider.objects.filter(name=row.provider)) if there else ""


def _change(screen: str, rows: Any) -> str:
    pk = rows.values_list("pk", flat=True).first()
    return reverse(f"admin:{screen}_change", args=[pk]) if pk is not None else ""
