"""Operators' screen of the request log; re-rating and reconciliation are in the admin_* modules beside it."""

from collections.abc import Sequence
from typing import Any

from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.html import format_html
from unfold.contrib.filters.admin import (
    ChoicesDropdownFilter,
    DropdownFilter,
    TextFilter,
)

from analytics import admin_reconciliation, admin_rerating  # noqa: F401 - Django looks for screens in admin.py alone
from analytics.admin_live import live_view, request_of
from analytics.models import RequestLog
from analytics.payloads import has_payload, payload_of
from analytics.request_page.page import request_page
from config.filters import CostFilter, LatencyFilter, MomentFilter
from config.screens import EndlessScreen, display
from config.words import dollars, duration, moment
from keys.admin_ledger import (
    KeyNameFilter,
    TagFilter,
    TenantNameFilter,
    of_named,
    owner_lines,
    with_owner_names,
)
from keys.models import ApiKey, Tenant
from providers.models import Provider

# Asks for the texts of a stored payload; a look at them is audited.
SHOW_PAYLOAD = "payload"


class StatusFilter(DropdownFilter):  # type: ignore[misc]  # unfold ships no types
    """By the class of the status that the client saw."""

    title = "status"
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Sequence[tuple[str, str]]:
        """Return the choices."""
        return (("2", "2xx, answered"), ("4", "4xx, refused"), ("429", "429, limited"), ("5", "5xx, failed"))

    def queryset(self, request: HttpRequest, queryset: QuerySet[RequestLog]) -> QuerySet[RequestLog]:
        """Return the chosen ones."""
        chosen = self.value() or ""
        if chosen == "429":
            return queryset.filter(status=429)
        if chosen in {"2", "4", "5"}:
            return queryset.filter(status__gte=int(chosen) * 100, status__lt=int(chosen) * 100 + 100)
        return queryset


class ProviderFilter(DropdownFilter):  # type: ignore[misc]  # unfold ships no types
    """By provider: the choices come from its rows, since collecting them from the log would read it whole."""

    title = "provider"
    parameter_name = "provider"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Sequence[tuple[str, str]]:
        """Return the choices."""
        return [(name, name) for name in Provider.objects.order_by("name").values_list("name", flat=True)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[RequestLog]) -> QuerySet[RequestLog]:
        """Return the chosen ones."""
        return queryset.filter(provider=self.value()) if self.value() else queryset


class CacheFilter(DropdownFilter):  # type: ignore[misc]  # unfold ships no types
    """By what the cache did."""

    title = "cache"
    parameter_name = "cache"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Sequence[tuple[str, str]]:
        """Return the choices."""
        return (("hit", "Hit"), ("miss", "Miss"), ("bypass", "Bypass"))

    def queryset(self, request: HttpRequest, queryset: QuerySet[RequestLog]) -> QuerySet[RequestLog]:
        """Return the chosen ones."""
        return queryset.filter(cache=self.value()) if self.value() else queryset


class ModelFilter(TextFilter):  # type: ignore[misc]  # unfold ships no types
    """By the model that was asked for, or that answered."""

    title = "model"
    parameter_name = "model"

    def queryset(self, request: HttpRequest, queryset: QuerySet[RequestLog]) -> QuerySet[RequestLog]:
        """Return the rows with that exact name."""
        name = self.value()
        return queryset.filter(Q(requested_model=name) | Q(model=name)) if name else queryset


@admin.register(RequestLog)
class RequestLogAdmin(EndlessScreen):
    """What happened, newest first. Nothing here counts or scans the table."""

    searched_ids = ("request_id", "completion_id")
    indexed_filters = ("tenant", "key")
    empty_hint = "Each request to the gateway is here a second or two after its answer, refused ones too."
    list_display = ("arrived", "answer", "model_names", "caller", "tokens", "cost", "latency")
    list_display_links = ("arrived",)
    list_filter = (
        ("at", MomentFilter),
        ("outcome", ChoicesDropdownFilter),
        StatusFilter,
        ProviderFilter,
        ModelFilter,
        KeyNameFilter,
        TenantNameFilter,
        TagFilter,
        CacheFilter,
        ("cost_nanousd", CostFilter),
        ("latency_ms", LatencyFilter),
        "stream",
    )
    search_fields = ("request_id", "completion_id")
    search_help_text = "A whole request id or completion id"
    ordering = ("-at", "-id")

    @display(description="At (UTC)")
    def arrived(self, obj: RequestLog) -> str:
        """Show when the request arrived, over the id that the client saw."""
        return format_html('{}<br><span class="gw-faint gw-clip">{}</span>', moment(obj.at), obj.request_id)

    def get_urls(self) -> list[Any]:
        """Add the live screen, and the way to a request that one knows by its completion id."""
        live, of = self.admin_site.admin_view(self.live), self.admin_site.admin_view(request_of)
        return [
            path("live/", live, name="analytics_requestlog_live"),
            path("of/<str:completion_id>/", of, name="analytics_requestlog_of"),
            *super().get_urls(),
        ]

    def live(self, request: HttpRequest) -> HttpResponse:
        """Show requests as they finish."""
        return live_view(request, self.admin_site.each_context(request))

    def changeform_view(
        self, request: HttpRequest, object_id: Any = None, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """Show a request's own page; there is no form."""
        row = self.get_object(request, unquote(object_id)) if object_id and request.method == "GET" else None
        if row is None:
            return super().changeform_view(request, object_id, form_url, extra_context)
        if not self.has_view_permission(request, row):
            raise PermissionDenied
        context = {**self.admin_site.each_context(request), **(extra_context or {})}
        return request_page(request, row, {**context, **_payload(request, row)})

    def get_queryset(self, request: HttpRequest) -> QuerySet[RequestLog]:
        """Read the names of keys and tenants that still exist along."""
        found: QuerySet[RequestLog] = super().get_queryset(request)
        return with_owner_names(found)

    def by_index(self, request: HttpRequest) -> QuerySet[RequestLog]:
        """Return the rows of the tenant and of the key that are asked for."""
        rows = of_named(RequestLog.objects.all(), "tenant_ref", Tenant, request.GET.get("tenant"))
        return of_named(rows, "key_ref", ApiKey, request.GET.get("key"))

    @display(
        description="Answer",
        label={"ok": "success", "error": "danger", "cancelled": "warning", "interrupted": "danger"},
    )
    def answer(self, obj: RequestLog) -> tuple[str, str]:
        """Show status and, of a failure, its code."""
        word = obj.error_code or ("" if obj.outcome == RequestLog.Outcome.OK else obj.outcome)
        return obj.outcome, f"{obj.status} {word}".strip()

    @display(description="Model, by", header=True)
    def model_names(self, obj: RequestLog) -> list[str]:
        """Show the model as the client named it, over the one that answered."""
        return [f"{obj.requested_model or '-'}{', stream' if obj.stream else ''}", self.upstream(obj)]

    @display(description="Answered by")
    def upstream(self, obj: RequestLog) -> str:
        """Name provider and model, or the cache."""
        if not obj.provider:
            return "-"
        return f"{obj.provider}/{obj.model}{' (cache)' if obj.cache == 'hit' else ''}"

    @display(description="Key", header=True)
    def caller(self, obj: Any) -> list[str]:
        """Show the key over its tenant."""
        return owner_lines(obj)

    @display(description="Tokens in → out")
    def tokens(self, obj: RequestLog) -> str:
        """Show both counts, where known."""
        if obj.prompt_tokens is None and obj.completion_tokens is None:
            return "-"
        about = "≈ " if obj.usage_estimated else ""
        return f"{about}{obj.prompt_tokens or 0:,} → {obj.completion_tokens or 0:,}"

    @display(description="Cost")
    def cost(self, obj: RequestLog) -> str:
        """Show dollars."""
        return dollars(obj.cost_nanousd, unknown="-")

    @display(description="Latency")
    def latency(self, obj: RequestLog) -> str:
        """Show the whole time."""
        return duration(obj.latency_ms)


def _payload(request: HttpRequest, row: RequestLog) -> dict[str, Any]:
    """Return what the page has of the payload: nothing, a way to it, or, once asked for, the texts.

    Each look at the texts is in the audit log, so nobody takes one by opening the page.
    """
    if not request.user.has_perm("analytics.view_storedpayload") or not has_payload(row.completion_id):
        return {}
    if SHOW_PAYLOAD in request.GET:
        return {"payload": payload_of(row.completion_id)}
    return {"payload_url": f"?{SHOW_PAYLOAD}=1#payload"}
