"""Who belongs to a tenant: operators' screen of members, and their rows in forms of tenants and users."""

from django.contrib import admin
from unfold.contrib.filters.admin import AutocompleteSelectFilter, ChoicesDropdownFilter

from config.screens import Rows, Screen
from keys.models import Member


@admin.register(Member)
class MemberAdmin(Screen):
    """People's parts in tenants."""

    empty_hint = (
        "A member signs in at /dashboard/ and sees one tenant: its usage, keys and playground. Give each "
        "tenant an owner, who can bring in the others."
    )
    list_display = ("user", "tenant", "role", "created_at")
    list_filter = (("tenant", AutocompleteSelectFilter), ("role", ChoicesDropdownFilter))
    list_select_related = ("user", "tenant")
    search_fields = ("user__username", "user__email", "tenant__name")
    search_help_text = "User name, e-mail address or tenant"
    autocomplete_fields = ("user", "tenant")
    fields = (("tenant", "user"), "role")


class MemberRows(Rows):
    """Who belongs to a tenant, and as what."""

    model = Member
    verbose_name_plural = "members"
    fields = ("user", "role")
    autocomplete_fields = ("user",)


class MembershipRows(Rows):
    """Which tenants a user belongs to."""

    model = Member
    verbose_name = "membership"
    verbose_name_plural = "memberships"
    fields = ("tenant", "role")
    autocomplete_fields = ("tenant",)
