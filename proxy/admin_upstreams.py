"""Operators' screen for upstreams' health: what the workers report, and what may be asked of them."""

from collections.abc import Mapping
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.utils import model_ngettext
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.timesince import timesince
from unfold.contrib.filters.admin import ChoicesDropdownFilter

from config.screens import Screen, display
from config.words import moment
from proxy.upstream_state import REPORT_EVERY_S, UpstreamState

_SHOWN = (
    "upstream",
    "badge",
    "failures",
    "last_failure",
    "opens_until",
    "cools_until",
    "reported",
    "held_open",
    "reset_at",
)


@admin.register(UpstreamState)
class UpstreamStateAdmin(Screen):
    """Circuit breakers. The workers write the rows: nobody adds, edits or deletes one here."""

    list_before_template = "admin/proxy/upstreamstate/before.html"
    list_display = _SHOWN[:-2]
    list_filter = (("state", ChoicesDropdownFilter), "held_open")
    search_fields = ("upstream", "reason")
    search_help_text = "Provider, model or reason"
    ordering = ("upstream",)
    actions = ("reset_selected", "hold_selected", "let_go_selected")
    fields = readonly_fields = tuple("in_words" if name == "badge" else name for name in _SHOWN)

    def changeform_view(
        self, request: HttpRequest, object_id: Any = None, form_url: str = "", extra_context: Any = None
    ) -> Any:
        """Offer nothing to save: what may be asked is asked on the list."""
        context = {**(extra_context or {}), "show_save": False, "show_save_and_continue": False}
        return super().changeform_view(request, object_id, form_url, context)

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> Any:
        """Say how old what is shown may be."""
        context = {**(extra_context or {}), "title": "Upstream health", "report_every_s": REPORT_EVERY_S}
        return super().changelist_view(request, context)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Refuse."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse."""
        return False

    @display(
        description="State",
        ordering="state",
        label={"closed": "success", "half_open": "warning", "open": "danger", "held": "danger"},
    )
    def badge(self, obj: UpstreamState) -> tuple[str, str]:
        """Say what becomes of its calls."""
        if obj.held_open:
            return "held", "held open"
        return obj.state, obj.state.replace("_", " ")

    @display(description="State")
    def in_words(self, obj: UpstreamState) -> str:
        """Say the same at length."""
        if obj.held_open:
            return "Held open: passed over until it is let go"
        return obj.get_state_display()

    @display(description="Reason")
    def last_failure(self, obj: UpstreamState) -> str:
        """Show the last failure."""
        return obj.reason or "-"

    @display(description="Open until", ordering="open_until")
    def opens_until(self, obj: UpstreamState) -> str:
        """Show the moment."""
        return moment(obj.open_until)

    @display(description="Cooling until", ordering="cooling_until")
    def cools_until(self, obj: UpstreamState) -> str:
        """Show the moment."""
        return moment(obj.cooling_until)

    @display(description="Reported", ordering="reported_at")
    def reported(self, obj: UpstreamState) -> str:
        """Say when, and by whom."""
        if obj.reported_at is None:
            return "not yet"
        by = f" by {obj.worker}" if obj.worker else ""
        return f"{timesince(obj.reported_at)} ago{by}"

    @admin.action(description="Reset: forget its failures and let it go", permissions=["change"])
    def reset_selected(self, request: HttpRequest, queryset: QuerySet[UpstreamState]) -> None:
        """Have every worker forget what failed before now."""
        self._ask(request, queryset, "reset", {"reset_at": timezone.now(), "held_open": False})

    @admin.action(description="Hold open: pass it over until it is let go", permissions=["change"])
    def hold_selected(self, request: HttpRequest, queryset: QuerySet[UpstreamState]) -> None:
        """Have every worker pass it over."""
        self._ask(request, queryset, "held open", {"held_open": True})

    @admin.action(description="Let go: calls may go through again", permissions=["change"])
    def let_go_selected(self, request: HttpRequest, queryset: QuerySet[UpstreamState]) -> None:
        """End the holding; what has failed still counts."""
        self._ask(request, queryset, "let go", {"held_open": False})

    def _ask(
        self,
        request: HttpRequest,
        queryset: QuerySet[UpstreamState],
        done: str,
        wanted: Mapping[str, Any],
    ) -> None:
        # Row by row, because a bulk update leaves no trace in the audit log.
        count = 0
        with transaction.atomic():
            for row in queryset.order_by("pk").select_for_update():
                columns = {name: value for name, value in wanted.items() if getattr(row, name) != value}
                for name, value in columns.items():
                    setattr(row, name, value)
                if columns:
                    row.save(update_fields=sorted(columns))
                    count += 1
        text = f"{count} {model_ngettext(self.model, count)} {done}; in force within a second."
        messages.success(request, text if count else f"Already {done}.")
