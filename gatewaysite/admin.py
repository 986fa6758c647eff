"""The audit log's screen; users and roles have theirs in admin_users."""

from typing import Any

from auditlog import get_logentry_model
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html
from unfold.contrib.filters.admin import ChoicesDropdownFilter, RelatedDropdownFilter

from config.filters import MomentFilter
from config.money import usd
from config.screens import EndlessScreen, action, display, goto
from config.words import moment, table
from gatewaysite import admin_jobs, admin_tokens, admin_users  # noqa: F401 - Django looks for screens in admin.py alone
from gatewaysite.audit_chain import entries, holds, verify
from gatewaysite.audit_events import FAILED

LogEntry = get_logentry_model()
SHOWN_CHANGES = 4
CHANGED = "The entry is NOT what was sealed."

# How many of the latest entries the button looks at; the command looks at all.
LOOKED_AT = 10_000

admin.site.unregister(LogEntry)


@admin.register(LogEntry)
class AuditLogAdmin(EndlessScreen):
    """Who changed what, and when. Nobody edits or deletes it here."""

    list_display = ("when", "who", "did", "what", "summary", "sealed")
    actions_list = ("verify_chain",)
    list_display_links = ("when",)
    list_filter = (
        ("timestamp", MomentFilter),
        ("action", ChoicesDropdownFilter),
        ("content_type", RelatedDropdownFilter),
        ("actor", RelatedDropdownFilter),
    )
    search_fields = ("object_repr", "actor__username")
    search_help_text = "Name of a row, or of who changed it"
    ordering = ("-timestamp", "-id")
    fields = (("when", "did"), ("who", "remote_addr"), "what", "changed", "seal")
    readonly_fields = ("when", "who", "did", "what", "changed", "seal")

    @display(description="At (UTC)")
    def when(self, obj: Any) -> str:
        """Show when it was done."""
        return moment(obj.timestamp)

    @display(description="Who")
    def who(self, obj: Any) -> str:
        """Name the person; the gateway's own commands have none."""
        return str(obj.actor) if obj.actor else obj.actor_email or "system"

    @display(
        description="Did",
        label={"create": "success", "update": "info", "delete": "danger", FAILED: "warning"},
    )
    def did(self, obj: Any) -> tuple[str, str]:
        """Say what was done."""
        word = str((obj.additional_data or {}).get("event") or obj.get_action_display())
        return word, word

    @display(description="What")
    def what(self, obj: Any) -> str:
        """Name the row, with a link while it exists."""
        model = obj.content_type.model_class()
        kind = model._meta.verbose_name if model else obj.content_type.model
        alone = obj.object_repr.casefold() == str(kind).casefold()  # the one row of settings
        label = obj.object_repr if alone else f"{kind} {obj.object_repr}"
        if obj.action == LogEntry.Action.DELETE:
            return label
        try:
            url = reverse(
                f"admin:{obj.content_type.app_label}_{obj.content_type.model}_change", args=[obj.object_pk]
            )
        except NoReverseMatch:
            return label
        return format_html('<a class="gw-link" href="{}">{}</a>', url, label)

    @display(description="Changed")
    def summary(self, obj: Any) -> str:
        """Show the first changes in a line."""
        lines = [f"{name}: {old} → {new}" for name, old, new in _changes(obj)]
        if obj.action not in {LogEntry.Action.UPDATE, LogEntry.Action.ACCESS}:
            return ""
        more = f" and {len(lines) - SHOWN_CHANGES} more" if len(lines) > SHOWN_CHANGES else ""
        return "; ".join(lines[:SHOWN_CHANGES]) + more

    @display(description="Changes")
    def changed(self, obj: Any) -> str:
        """Show all changes as a table."""
        return table(("Field", "Before", "After"), _changes(obj))

    @display(description="Sealed")
    def sealed(self, obj: Any) -> str:
        """Show the beginning of the seal."""
        return format_html('<code title="{}">{}</code>', obj.seal, obj.seal[:8]) if obj.seal else "not yet"

    @display(description="Seal")
    def seal(self, obj: Any) -> str:
        """Show the seal, and whether the entry is still what was sealed."""
        verdict = holds(obj)
        if verdict is None:
            return "None yet: entries are sealed within a minute."
        words = ("gw-good", "The entry is as it was sealed.") if verdict else ("gw-bad", CHANGED)
        return format_html('<span class="{}">{}</span> <code>{}</code>', *words, obj.seal)

    @action(description="Verify the chain", url_path="verify", icon="verified", permissions=["verify"])
    def verify_chain(self, request: HttpRequest) -> HttpResponse:
        """Recompute the latest seals and say whether they hold."""
        verdict = verify(last=LOOKED_AT)
        for problem in verdict.problems[:SHOWN_CHANGES]:
            messages.error(request, f"{problem}.")
        if not verdict.problems:
            messages.success(request, f"The chain holds: {verdict.entries} entries, head {verdict.head}.")
        return goto(request, reverse("admin:auditlog_logentry_changelist"))

    def has_verify_permission(self, request: HttpRequest) -> bool:
        """Let those verify who may look."""
        return bool(self.has_view_permission(request))

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Leave the serialised copies of rows out: no screen shows them."""
        return entries().defer("serialized_data")


def _changes(entry: Any) -> list[tuple[str, str, str]]:
    """Return (field, before, after) in words."""
    model = entry.content_type.model_class()
    return [
        (_field_name(model, name), _value(name, _pair(change)[0]), _value(name, _pair(change)[1]))
        for name, change in sorted((entry.changes_dict or {}).items())
    ]


def _pair(change: Any) -> tuple[Any, Any]:
    if isinstance(change, dict):  # many-to-many: {"operation": "add", "objects": [...]}
        listed = ", ".join(map(str, change.get("objects", ())))
        return (listed, "") if change.get("operation") == "delete" else ("", listed)
    before, after = change
    return before, after


def _field_name(model: Any, name: str) -> str:
    try:
        return str(model._meta.get_field(name).verbose_name)
    except Exception:  # noqa: BLE001 - a field or model of an older version: its own name says enough
        return name


def _value(name: str, value: Any) -> str:
    if value in (None, "", "None"):
        return "-"
    if name.endswith("_nanousd") or "_nanousd_per_" in name:
        try:
            return f"${usd(int(value))}"
        except ValueError:
            return str(value)
    return str(value)
