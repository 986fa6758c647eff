"""Operators' screen for API keys. A secret is shown once, in the answer to the form that made it."""

from collections.abc import Sequence
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin
from django.db.models import F, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.timesince import timesince, timeuntil
from django.views.decorators.debug import sensitive_variables
from unfold.contrib.filters.admin import AutocompleteSelectFilter, DropdownFilter
from unfold.widgets import UnfoldAdminPasswordWidget, UnfoldAdminTextareaWidget

from config.audit import audited
from config.form_fields import LinesField
from config.screens import OnOffActions, Screen, display
from keys import secret as secrets
from keys.admin_limits import BudgetRows, RateLimitRows, limits_in_words
from keys.models import ApiKey

audited(ApiKey, skipped=("digest", "last_used_at"))


class ApiKeyForm(forms.ModelForm):  # type: ignore[type-arg]  # generic only in the stubs
    """A key; a new one gets a secret, or takes the one it is given."""

    own_secret = forms.CharField(
        label="Own secret",
        required=False,
        strip=False,
        widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "new-password"}),
        help_text=f"Only to keep a secret that clients have: {secrets.MIN_SECRET_LENGTH} characters or more. "
        "Empty: the gateway makes one and shows it once.",
    )
    allowed_models = LinesField(
        required=False,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 4, "placeholder": "gpt-4o*\nanthropic/*"}),
        help_text="One a line: a whole name, the beginning of names (gpt-4o*) or a provider (anthropic/*). "
        "Empty: every model.",
    )

    @sensitive_variables()
    def clean_own_secret(self) -> str:
        """Refuse a secret that is weak, mistyped or taken."""
        secret: str = self.cleaned_data["own_secret"]
        if not secret:
            return ""
        if not secret.isascii() or not secret.isprintable() or " " in secret:
            raise forms.ValidationError("It has no spaces, line breaks or letters beyond ASCII.")
        try:
            self.instance.set_secret(secret)
        except ValueError as problem:
            raise forms.ValidationError(f"It {problem}") from None
        if ApiKey.objects.filter(digest=self.instance.digest).exists():
            raise forms.ValidationError("This secret cannot be used.")
        return secret

    @sensitive_variables()
    def save(self, commit: bool = True) -> Any:  # noqa: FBT001, FBT002 - Django's signature
        """Give a new key its secret, which the page after saving shows."""
        if self.instance.pk is None:
            secret = self.cleaned_data.get("own_secret") or secrets.issue()
            self.instance.set_secret(secret)
            # Lives as long as this request: response_add renders it, nothing stores it.
            self.instance.issued_secret = secret
        return super().save(commit)


class KeyStateFilter(DropdownFilter):  # type: ignore[misc]  # unfold ships no types
    """By whether a key is accepted now."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Sequence[tuple[str, str]]:
        """Return the choices."""
        return (
            ("active", "Active"),
            ("disabled", "Disabled"),
            ("expired", "Expired"),
            ("unused", "Never used"),
        )

    def queryset(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> QuerySet[ApiKey]:
        """Return the chosen ones."""
        expired = Q(expires_at__lte=timezone.now())
        chosen = {
            "active": Q(enabled=True) & ~expired,
            "disabled": Q(enabled=False),
            "expired": expired,
            "unused": Q(last_used_at=None),
        }
        return queryset.filter(chosen.get(self.value() or "", Q()))


@admin.register(ApiKey)
class ApiKeyAdmin(OnOffActions, Screen):
    """Callers' credentials."""

    form = ApiKeyForm
    list_display = ("title", "tenant", "state", "models", "limits", "last_used")
    list_filter = (KeyStateFilter, ("tenant", AutocompleteSelectFilter))
    list_select_related = ("tenant",)
    search_fields = ("name", "prefix", "tenant__name")
    # What is searched for stands in the address, and so in logs.
    search_help_text = "Name, tenant or the first characters of a secret; never a whole secret"
    autocomplete_fields = ("tenant",)
    actions = ("enable_selected", "disable_selected")
    readonly_fields = ("secret_begins", "created_at", "last_used")
    inlines = (RateLimitRows, BudgetRows)
    add_fieldsets = (
        (None, {"fields": (("name", "tenant"), "enabled", "expires_at", "allowed_models")}),
        ("Secret", {"fields": ("own_secret",)}),
    )
    fieldsets = (
        (None, {"fields": (("name", "tenant"), "enabled", "expires_at", "allowed_models")}),
        ("Secret", {"fields": (("secret_begins", "created_at", "last_used"),)}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[ApiKey]:
        """Read limits and budgets of a page's keys at once."""
        found: QuerySet[ApiKey] = super().get_queryset(request)
        return found.prefetch_related("ratelimits", "budgets")

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], **options: Any
    ) -> HttpResponse:
        """A new key is saved to its secret and nowhere else."""
        if options.get("add"):
            context |= {"show_save_and_add_another": False, "show_save_and_continue": False}
        response: HttpResponse = super().render_change_form(request, context, **options)
        return response

    @sensitive_variables()
    def response_add(
        self, request: HttpRequest, obj: Any, post_url_continue: str | None = None
    ) -> HttpResponse:
        """Show the secret in the answer to the form itself.

        No redirect, because that would have to carry the secret in an address, a cookie or a session.
        """
        base = settings.GATEWAY.app_base_url or request.build_absolute_uri("/")
        context = {
            **self.admin_site.each_context(request),
            "title": "API key created",
            "opts": self.model._meta,
            "key": obj,
            "secret": obj.issued_secret,
            "base_url": f"{base.rstrip('/')}/v1",
        }
        response = render(request, "admin/keys/apikey/secret.html", context)
        response["Cache-Control"] = "no-store"
        return response

    @display(description="Key", header=True, ordering="name")
    def title(self, obj: ApiKey) -> list[str]:
        """Show the name over the secret's first characters."""
        return [obj.name, f"{obj.prefix}…"]

    @display(description="State", label={"active": "success", "disabled": "warning", "expired": "danger"})
    def state(self, obj: ApiKey) -> tuple[str, str]:
        """Say whether it is accepted now."""
        now = timezone.now()
        if obj.expires_at and obj.expires_at <= now:
            return "expired", f"expired {_ago(obj.expires_at)}"
        if not obj.enabled:
            return "disabled", "disabled"
        if obj.expires_at:
            return "active", f"active, {timeuntil(obj.expires_at, depth=1)} left"
        return "active", "active"

    @display(description="Models")
    def models(self, obj: ApiKey) -> str:
        """Say what it may use."""
        return ", ".join(obj.allowed_models) or "every model"

    @display(description="Limits")
    def limits(self, obj: ApiKey) -> str:
        """Say them in words."""
        return limits_in_words(obj)

    @display(description="Secret begins with")
    def secret_begins(self, obj: ApiKey) -> str:
        """Show what tells keys apart."""
        return f"{obj.prefix}…"

    @display(description="Last used", ordering=F("last_used_at").desc(nulls_last=True))
    def last_used(self, obj: ApiKey) -> str:
        """Say how long ago."""
        return _ago(obj.last_used_at) if obj.last_used_at else "never"


def _ago(moment: Any) -> str:
    return f"{timesince(moment, depth=1)} ago"
