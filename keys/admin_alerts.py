"""Operators' screen for what budgets have reached, and who has been told of it."""

from collections.abc import Sequence
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from unfold.contrib.filters.admin import DropdownFilter

from config.filters import MomentFilter
from config.screens import EndlessScreen, Rows, display
from config.words import dollars, moment
from keys.models import AlertDelivery, BudgetAlert


class ToldFilter(DropdownFilter):  # type: ignore[misc]  # unfold ships no types
    """By whether somebody has been told."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Sequence[tuple[str, str]]:
        """Return the choices."""
        return (("sent", "Sent"), ("unsent", "Not sent"), ("failing", "With a problem"))

    def queryset(self, request: HttpRequest, queryset: QuerySet[BudgetAlert]) -> QuerySet[BudgetAlert]:
        """Return the chosen ones."""
        match self.value():
            case "sent":
                return queryset.exclude(sent_at=None)
            case "unsent":
                return queryset.filter(sent_at=None)
            case "failing":
                return queryset.exclude(problem="")
        return queryset


class DeliveryRows(Rows):
    """Who is told of an alert."""

    model = AlertDelivery
    verbose_name_plural = "Who is told"
    fields = readonly_fields = ("kind", "address", "attempts", "sent_at", "due_at", "problem")
    can_delete = False

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """The gateway writes them."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nor does anybody change them."""
        return False


@admin.register(BudgetAlert)
class BudgetAlertAdmin(EndlessScreen):
    """What was reached: written by the gateway, never by hand."""

    empty_hint = (
        "When a budget has reached one of its percentages (80 and 100 unless it says others), it is here, "
        "with who has been told. Who is told is on the tenant's form."
    )
    list_display = ("when", "percentage", "budget", "holds_for", "spent", "limit", "state", "problem")
    list_filter = (ToldFilter, ("reached_at", MomentFilter))
    list_select_related = ("window__budget__tenant", "window__budget__key")
    ordering = ("-reached_at", "-id")
    inlines = (DeliveryRows,)
    fieldsets = (
        (None, {"fields": (("when", "percentage"), ("budget", "holds_for"), ("spent", "limit"))}),
        ("Told", {"fields": (("state", "sent_at", "attempts"), "problem")}),
    )
    readonly_fields = ("when", "percentage", "budget", "holds_for", "spent", "limit", "state")

    def get_queryset(self, request: HttpRequest) -> QuerySet[BudgetAlert]:
        """Read along whether somebody is still to be told."""
        found: QuerySet[BudgetAlert] = super().get_queryset(request)
        return found.prefetch_related("deliveries")

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        """A budget's form links to its own."""
        return lookup == "window__budget__id__exact" or super().lookup_allowed(lookup, value, request)

    @display(description="Reached (UTC)")
    def when(self, obj: BudgetAlert) -> str:
        """Show when it was found."""
        return moment(obj.reached_at)

    @display(description="Percent")
    def percentage(self, obj: BudgetAlert) -> str:
        """Show it as one."""
        return f"{obj.percent} %"

    @display(description="Budget")
    def budget(self, obj: BudgetAlert) -> str:
        """Link to the budget."""
        budget = obj.window.budget
        url = reverse("admin:keys_budget_change", args=[budget.pk])
        return format_html('<a class="gw-link" href="{}">{}</a>', url, str(budget))

    @display(description="Holds for")
    def holds_for(self, obj: BudgetAlert) -> str:
        """Say the owner in words."""
        return obj.window.budget.scope

    @display(description="Spent")
    def spent(self, obj: BudgetAlert) -> str:
        """Show what was spent when it was reached."""
        return dollars(obj.spent_nanousd)

    @display(description="Of")
    def limit(self, obj: BudgetAlert) -> str:
        """Show the limit that was in force."""
        return dollars(obj.limit_nanousd)

    @display(
        description="State",
        label={
            "sent": "success",
            "trying": "info",
            "again": "warning",
            "given up": "danger",
            "nobody": "warning",
        },
    )
    def state(self, obj: BudgetAlert) -> tuple[str, str]:
        """Say whether everybody has been told."""
        deliveries = list(obj.deliveries.all())
        waiting = [each for each in deliveries if each.due_at is not None]
        if waiting:
            failed = any(each.problem for each in waiting)
            return ("again", "trying again") if failed else ("trying", "being sent")
        if obj.sent_at is not None:
            return "sent", "sent" if deliveries else "told with a higher one"
        return ("given up", "given up") if deliveries else ("nobody", "nobody is told")
