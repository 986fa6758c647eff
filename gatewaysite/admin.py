"""Screens of what other packages brought: users, groups and the audit log."""

from typing import Any

from auditlog import get_logentry_model
from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html
from unfold.contrib.filters.admin import ChoicesDropdownFilter, RelatedDropdownFilter
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from config.audit import audited
from config.filters import MomentFilter
from config.money import usd
from config.screens import EndlessScreen, Screen, display
from config.words import moment, table

LogEntry = get_logentry_model()
SHOWN_CHANGES = 4

audited(User, hidden=("password",), skipped=("last_login",))
audited(Group)

for foreign in (User, Group, LogEntry):
    admin.site.unregister(foreign)


@admin.register(User)
class UserAdmin(DjangoUserAdmin, Screen):  # type: ignore[misc, type-arg]  # unfold ships no types
    """People who sign in."""

    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_display = ("username", "email", "is_active", "is_staff", "is_superuser", "last_login")


@admin.register(Group)
class GroupAdmin(DjangoGroupAdmin, Screen):  # type: ignore[misc]  # unfold ships no types
    """Roles: sets of permissions."""


@admin.register(LogEntry)
class AuditLogAdmin(EndlessScreen):
    """Who changed what, and when. Nobody edits or deletes it here."""

    list_display = ("when", "who", "did", "what", "summary")
    list_display_links = ("when",)
    list_filter = (
        ("timestamp", MomentFilter),
        ("action", ChoicesDropdownFilter),
        ("content_type", RelatedDropdownFilter),
        ("actor", RelatedDropdownFilter),
    )
    list_select_related = ("actor", "content_type")
    search_fields = ("object_repr", "actor__username")
    search_help_text = "Name of a row, or of who changed it"
    ordering = ("-timestamp", "-id")
    fields = (("when", "action"), ("who", "remote_addr"), "what", "changed")
    readonly_fields = ("when", "who", "what", "changed")

    @display(description="At (UTC)")
    def when(self, obj: Any) -> str:
        """Show when it was done."""
        return moment(obj.timestamp)

    @display(description="Who")
    def who(self, obj: Any) -> str:
        """Name the person; the gateway's own commands have none."""
        return str(obj.actor) if obj.actor else obj.actor_email or "system"

    @display(description="Did", label={"create": "success", "update": "info", "delete": "danger"})
    def did(self, obj: Any) -> tuple[str, str]:
        """Say what was done."""
        word = obj.get_action_display()
        return str(word), str(word)

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
        if obj.action != LogEntry.Action.UPDATE:
            return ""
        more = f" and {len(lines) - SHOWN_CHANGES} more" if len(lines) > SHOWN_CHANGES else ""
        return "; ".join(lines[:SHOWN_CHANGES]) + more

    @display(description="Changes")
    def changed(self, obj: Any) -> str:
        """Show all changes as a table."""
        return table(("Field", "Before", "After"), _changes(obj))

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Leave the serialised copies of rows out: no screen shows them."""
        found: QuerySet[Any] = super().get_queryset(request)
        return found.defer("serialized_data")


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
