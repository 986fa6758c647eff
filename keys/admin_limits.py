"""Operators' screens for what limits callers: RateLimit, Budget, alone and inside other forms."""

from collections.abc import Mapping, Sequence
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponseBase
from django.urls import reverse
from django.utils.html import format_html
from unfold.contrib.filters.admin import ChoicesDropdownFilter, DropdownFilter

from config.audit import audited
from config.screens import OnOffActions, Rows, Screen, display
from keys.models import Budget, RateLimit

NOT_YET = "This version keeps limits and budgets but does not hold requests to them yet (RPM_LIMIT it does)."

audited(RateLimit)
audited(Budget)


class RateLimitRows(Rows):
    """The limits of a tenant or key."""

    model = RateLimit
    verbose_name_plural = "Rate limits"
    fields = ("kind", "amount", "per", "model", "enabled")


class BudgetRows(Rows):
    """The budgets of a tenant or key."""

    model = Budget
    verbose_name_plural = "Budgets"
    fields = ("amount_nanousd", "window", "mode", "model", "enabled")


class OwnerFilter(DropdownFilter):  # type: ignore[misc]  # unfold ships no types
    """By whom a limit or budget holds for."""

    title = "holds for"
    parameter_name = "owner"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Sequence[tuple[str, str]]:
        """Return the choices."""
        return (("everyone", "Everyone"), ("tenant", "A tenant"), ("key", "A key"))

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Return the chosen ones."""
        chosen: Mapping[str, Mapping[str, Any]] = {
            "everyone": {"tenant": None, "key": None},
            "tenant": {"tenant__isnull": False},
            "key": {"key__isnull": False},
        }
        return queryset.filter(**chosen.get(self.value() or "", {}))


class _ScopeScreen(OnOffActions, Screen):
    """Limits and budgets, wherever they hold."""

    list_select_related = ("tenant", "key")
    search_fields = ("tenant__name", "key__name", "model")
    search_help_text = "Tenant, key or model"
    autocomplete_fields = ("tenant", "key")
    actions = ("enable_selected", "disable_selected")
    ordering = ("tenant__name", "key__name", "pk")

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponseBase:
        """Say what this version does with these rows, above the list."""
        if request.method == "GET":
            messages.warning(request, NOT_YET)
        response: HttpResponseBase = super().changelist_view(request, extra_context)
        return response

    @display(description="Holds for")
    def holds_for(self, obj: Any) -> str:
        """Say the owner in words."""
        return str(obj.scope)


_SCOPE = (
    "Holds for",
    {
        "fields": (("tenant", "key"), "model"),
        "description": "Neither a tenant nor a key: it holds for everyone together.",
    },
)


@admin.register(RateLimit)
class RateLimitAdmin(_ScopeScreen):
    """How much, how often."""

    list_display = ("__str__", "holds_for", "enabled")
    list_filter = (OwnerFilter, ("kind", ChoicesDropdownFilter), "enabled")
    fieldsets = ((None, {"fields": (("kind", "amount"), ("per", "enabled"))}), _SCOPE)


@admin.register(Budget)
class BudgetAdmin(_ScopeScreen):
    """How much money."""

    list_display = ("__str__", "holds_for", "mode", "enabled", "alerts")
    list_filter = (OwnerFilter, ("window", ChoicesDropdownFilter), ("mode", ChoicesDropdownFilter), "enabled")
    fieldsets = ((None, {"fields": (("amount_nanousd", "window"), ("mode", "enabled"))}), _SCOPE)

    @display(description="Alerts")
    def alerts(self, obj: Budget) -> str:
        """Link to what it has reached."""
        url = f"{reverse('admin:keys_budgetalert_changelist')}?window__budget__id__exact={obj.pk}"
        return format_html('<a class="gw-link" href="{}">show</a>', url)


def limits_in_words(owner: Any) -> str:
    """Say what holds for a tenant or key; its `ratelimits` and `budgets` should be prefetched."""
    rows = [row for row in (*owner.ratelimits.all(), *owner.budgets.all()) if row.enabled]
    return ", ".join(f"{row} on {row.model}" if row.model else str(row) for row in rows) or "none"
