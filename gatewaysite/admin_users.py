"""Screens for people and roles."""

from typing import Any

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount, SocialApp, SocialToken
from django.contrib import admin, messages
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from django.db.models import Exists, OuterRef, QuerySet
from django.http import HttpRequest
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from config.screens import Rows, Screen, display
from config.words import moment
from keys.admin_members import MembershipRows

# allauth's own screens: providers come from the environment, and tokens and addresses are not kept.
for foreign in (User, Group, EmailAddress, SocialAccount, SocialApp, SocialToken, Authenticator):
    admin.site.unregister(foreign)


@admin.register(User)
class UserAdmin(DjangoUserAdmin, Screen):  # type: ignore[misc, type-arg]  # unfold ships no types
    """People who sign in."""

    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_display = ("username", "email", "role", "second_factor", "is_active", "signed_in")
    list_filter = ("is_active", "is_staff", "is_superuser", "groups")
    readonly_fields = ("second_factor", "connected", "last_login", "date_joined")
    inlines = (MembershipRows,)
    actions = ("remove_second_factor",)
    fieldsets = (
        (None, {"fields": ("username", "password", ("first_name", "last_name"), "email")}),
        (
            "Roles",
            {
                "fields": ("is_active", "groups", "is_staff", "is_superuser", "user_permissions"),
                "description": "Who gets a role is let into the admin, and who loses the last one is not. "
                "Members of a tenant need none.",
            },
        ),
        ("Sign-in", {"fields": (("second_factor", "connected"), ("last_login", "date_joined"))}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        """Read roles and second factors at once."""
        factors = Authenticator.objects.filter(user=OuterRef("pk"), type=Authenticator.Type.TOTP)
        found: QuerySet[User] = super().get_queryset(request)
        return found.annotate(has_factor=Exists(factors)).prefetch_related("groups")

    def get_inlines(self, request: HttpRequest, obj: Any) -> tuple[type[Rows], ...]:
        """A new user has a name and a password first."""
        return self.inlines if obj else ()

    @display(description="Role")
    def role(self, obj: User) -> str:
        """Name the roles."""
        names = ["administrator"] if obj.is_superuser else []
        names += [group.name for group in obj.groups.all()]
        return ", ".join(names) or ("staff" if obj.is_staff else "-")

    @display(description="Second factor", boolean=True)
    def second_factor(self, obj: Any) -> bool:
        """Say whether signing in asks for one."""
        return bool(getattr(obj, "has_factor", False))

    @display(description="Single sign-on")
    def connected(self, obj: User) -> str:
        """Name whom the issuer knows them as."""
        accounts = SocialAccount.objects.filter(user_id=obj.pk)
        return ", ".join(account.uid for account in accounts) or "not connected"

    @display(description="Last sign-in (UTC)", ordering="last_login")
    def signed_in(self, obj: User) -> str:
        """Show when they signed in last."""
        return moment(obj.last_login)

    @admin.action(description="Remove the second factor", permissions=["change"])
    def remove_second_factor(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        """Let people in again who have lost their phone and their recovery codes."""
        found = list(Authenticator.objects.filter(user__in=queryset))
        for authenticator in found:  # one by one, so that each is audited
            authenticator.delete()
        people = len({authenticator.user_id for authenticator in found})
        messages.success(request, f"Second factor removed from {people} of {queryset.count()} users.")


@admin.register(Group)
class GroupAdmin(DjangoGroupAdmin, Screen):  # type: ignore[misc]  # unfold ships no types
    """Roles: sets of permissions."""
