"""Operators' screen for what was spent, and what it shares with the request log."""

from typing import Any

from django.contrib import admin
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import HttpRequest
from unfold.contrib.filters.admin import ChoicesDropdownFilter, TextFilter

from config.filters import MomentFilter
from config.screens import EndlessScreen, display
from config.words import dollars, moment
from keys.models import ApiKey, LedgerEntry, Tenant


class TenantNameFilter(TextFilter):  # type: ignore[misc]  # unfold ships no types
    """By a tenant's name: the ledger holds plain numbers, which outlive the rows."""

    title = "tenant"
    parameter_name = "tenant"

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Return the rows of tenants of that name."""
        name = self.value()
        return (
            queryset.filter(tenant_ref__in=Tenant.objects.filter(name=name).values("pk"))
            if name
            else queryset
        )


class KeyNameFilter(TextFilter):  # type: ignore[misc]  # unfold ships no types
    """By a key's name."""

    title = "API key"
    parameter_name = "key"

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Return the rows of keys of that name."""
        name = self.value()
        return (
            queryset.filter(key_ref__in=ApiKey.objects.filter(name=name).values("pk")) if name else queryset
        )


@admin.register(LedgerEntry)
class LedgerEntryAdmin(EndlessScreen):
    """What was spent: written by the gateway, never by hand."""

    list_display = ("when", "kind_label", "caller", "upstream", "tokens", "cost", "completion_id")
    list_filter = (
        ("at", MomentFilter),
        ("kind", ChoicesDropdownFilter),
        "estimated",
        TenantNameFilter,
        KeyNameFilter,
    )
    search_fields = ("completion_id",)
    search_help_text = "A whole completion id"
    ordering = ("-at", "-id")
    fieldsets = (
        (None, {"fields": (("completion_id", "attempt"), ("when", "kind"), "owner", "upstream")}),
        (
            "Tokens",
            {
                "fields": (
                    ("prompt_tokens", "completion_tokens"),
                    ("cached_tokens", "cache_write_tokens", "reasoning_tokens"),
                    "estimated",
                )
            },
        ),
        ("Cost", {"fields": (("cost", "price_ref"),)}),
    )
    readonly_fields = ("when", "owner", "upstream", "cost")
    searched_ids = ("completion_id",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[LedgerEntry]:
        """Read the names of keys and tenants that still exist along."""
        found: QuerySet[LedgerEntry] = super().get_queryset(request)
        return with_owner_names(found)

    @display(description="At (UTC)")
    def when(self, obj: LedgerEntry) -> str:
        """Show when it was spent."""
        return moment(obj.at)

    @display(description="Kind", label={"spent": "success", "interrupted": "warning", "shadow": "info"})
    def kind_label(self, obj: LedgerEntry) -> tuple[str, str]:
        """Say how the row came to be."""
        return obj.kind, obj.get_kind_display()

    @display(description="Key")
    def owner(self, obj: Any) -> str:
        """Name key and tenant."""
        return owner_name(obj)

    @display(description="Key", header=True)
    def caller(self, obj: Any) -> list[str]:
        """Show the key over its tenant."""
        return owner_lines(obj)

    @display(description="Upstream")
    def upstream(self, obj: LedgerEntry) -> str:
        """Name provider and model."""
        return f"{obj.provider}/{obj.model}"

    @display(description="Tokens in → out")
    def tokens(self, obj: LedgerEntry) -> str:
        """Show both counts."""
        about = "≈ " if obj.estimated else ""
        return f"{about}{obj.prompt_tokens:,} → {obj.completion_tokens:,}"

    @display(description="Cost")
    def cost(self, obj: LedgerEntry) -> str:
        """Show dollars."""
        return dollars(obj.cost_nanousd, unknown="no price known")


def with_owner_names(rows: QuerySet[Any]) -> QuerySet[Any]:
    """Add `key_name` and `tenant_name` to rows that hold `key_ref` and `tenant_ref`."""
    named: QuerySet[Any] = rows.annotate(
        key_name=Subquery(ApiKey.objects.filter(pk=OuterRef("key_ref")).values("name")),
        tenant_name=Subquery(Tenant.objects.filter(pk=OuterRef("tenant_ref")).values("name")),
    )
    return named


def owner_lines(row: Any) -> list[str]:
    """Say whose a row is, [key, tenant]: names while they exist, numbers afterwards."""
    if row.key_ref is None:
        return ["anonymous", ""]
    return [row.key_name or f"deleted key {row.key_ref}", row.tenant_name or ""]


def owner_name(row: Any) -> str:
    """Say whose a row is in one line."""
    key, tenant = owner_lines(row)
    return f"{key} ({tenant})" if tenant else key
