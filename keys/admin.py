"""Operators' screen for teams; keys, limits and the ledger are in the admin_* modules beside it."""

from collections.abc import Sequence
from typing import Any

from django.contrib import admin
from django.db.models import Count, IntegerField, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html

from config.screens import Rows, Screen, display
from config.vault import reference
from keys import admin_alerts, admin_keys, admin_ledger, admin_members  # noqa: F401 - Django looks for screens in admin.py alone
from keys.admin_limits import BudgetRows, RateLimitRows, limits_in_words
from keys.admin_members import MemberRows
from keys.admin_tenant_form import TenantForm
from keys.models import ApiKey, Tenant


class KeyRows(Rows):
    """A tenant's keys, to look at; each has a form of its own."""

    model = ApiKey
    verbose_name_plural = "API keys"
    fields = readonly_fields = ("link", "prefix", "enabled", "expires_at", "last_used_at")
    per_page = 20
    can_delete = False

    @display(description="Name")
    def link(self, obj: ApiKey) -> str:
        """Link to the key's own form."""
        url = reverse("admin:keys_apikey_change", args=[obj.pk])
        return format_html('<a class="gw-link" href="{}">{}</a>', url, obj.name)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """A key is made on its own form, which shows the secret."""
        return False


@admin.register(Tenant)
class TenantAdmin(Screen):
    """Teams."""

    empty_hint = "A tenant is a team: it owns keys, and its limits and budgets hold for all of them together."
    list_display = ("name", "timezone", "keys", "limits", "created_at")
    search_fields = ("name",)
    search_help_text = "Name"
    form = TenantForm
    fieldsets = (
        (None, {"fields": (("name", "timezone"), ("queue_weight", "payload_days"))}),
        (
            "Budget alerts",
            {
                "fields": ("alert_emails", ("stored_webhook", "clear_webhook"), "new_webhook"),
                "description": "Who is told when a budget of this tenant, or of one of its keys, reaches "
                "one of its percentages.",
            },
        ),
    )
    readonly_fields = ("stored_webhook",)
    inlines = (MemberRows, RateLimitRows, BudgetRows, KeyRows)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Tenant]:
        """Count the keys along, and read limits and budgets at once."""
        counted = (
            ApiKey.objects.filter(tenant=OuterRef("pk"))
            .order_by()
            .values("tenant")
            .annotate(rows=Count("pk"))
        )
        keys = Coalesce(Subquery(counted.values("rows"), output_field=IntegerField()), 0)
        found: QuerySet[Tenant] = super().get_queryset(request)
        return found.annotate(key_count=keys).prefetch_related("ratelimits", "budgets")

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """A new tenant has no stored webhook to forget."""
        basic, alerts = super().get_fieldsets(request, obj)
        if obj is None:
            alerts = (alerts[0], {**alerts[1], "fields": ("alert_emails", "new_webhook")})
        return basic, alerts

    def get_inlines(self, request: HttpRequest, obj: Any) -> Sequence[type[Rows]]:
        """A new tenant has no keys to look at."""
        return self.inlines if obj else (MemberRows, RateLimitRows, BudgetRows)

    @display(description="Stored webhook")
    def stored_webhook(self, obj: Tenant | None) -> str:
        """Say in words what is stored, never the address: whoever knows it may post to it."""
        stored = "" if obj is None else obj.alert_webhook
        if not stored:
            return "none"
        return stored if reference(stored) else "stored, encrypted"

    @display(description="API keys", ordering="key_count")
    def keys(self, obj: Any) -> str:
        """Count them, with a link."""
        url = f"{reverse('admin:keys_apikey_changelist')}?tenant__id__exact={obj.pk}"
        return format_html('<a class="gw-link" href="{}">{}</a>', url, obj.key_count)

    @display(description="Limits")
    def limits(self, obj: Tenant) -> str:
        """Say them in words."""
        return limits_in_words(obj)
