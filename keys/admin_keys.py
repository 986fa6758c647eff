"""Operators' screen for API keys. A secret is shown once, in the answer to the form that made it."""

from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.contrib import admin
from django.db import transaction
from django.db.models import F, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils import timezone
from django.utils.timesince import timesince, timeuntil
from django.views.decorators.debug import sensitive_variables
from unfold.contrib.filters.admin import AutocompleteSelectFilter, DropdownFilter

from config.screens import OnOffActions, Screen, action, display
from keys.admin_key_forms import ApiKeyForm, RotateForm
from keys.admin_limits import BudgetRows, RateLimitRows, limits_in_words
from keys.models import DISABLED_BY, ROTATED, ApiKey


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
            ("rotating", "Old secret still works"),
            ("leaked", "Reported as leaked"),
        )

    def queryset(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> QuerySet[ApiKey]:
        """Return the chosen ones."""
        now = timezone.now()
        expired = Q(expires_at__lte=now)
        chosen = {
            "active": Q(enabled=True) & ~expired,
            "disabled": Q(enabled=False),
            "expired": expired,
            "unused": Q(last_used_at=None),
            "rotating": Q(previous_until__gt=now),
            "leaked": Q(disabled_because__startswith="reported as leaked"),
        }
        return queryset.filter(chosen.get(self.value() or "", Q()))


_WHAT = (None, {"fields": (("name", "tenant"), "enabled", "expires_at")})
_MODELS = (
    "Models",
    {
        "fields": (("allowed_models", "denied_models"), ("forced_route", "max_tokens")),
        "description": "What requests with this key may ask for, and what they get.",
    },
)
_FROM_WHERE = (
    "Where from, and what for",
    {"fields": (("allowed_networks", "tags"), "payload_days")},
)


@admin.register(ApiKey)
class ApiKeyAdmin(OnOffActions, Screen):
    """Callers' credentials."""

    form = ApiKeyForm
    empty_hint = (
        "A key is what an application shows the gateway. It belongs to a tenant, and has limits of its own."
    )
    list_display = ("title", "tenant", "state", "models", "limits", "last_used")
    list_filter = (KeyStateFilter, ("tenant", AutocompleteSelectFilter))
    list_select_related = ("tenant",)
    search_fields = ("name", "prefix", "previous_prefix", "tenant__name")
    # What is searched for stands in the address, and so in logs.
    search_help_text = "Name, tenant or the first characters of a secret; never a whole secret"
    autocomplete_fields = ("tenant",)
    actions = ("enable_selected", "disable_selected")
    actions_detail = ("rotate_secret",)
    readonly_fields = ("secret_begins", "old_secret", "created_at", "last_used", "state_in_words")
    inlines = (RateLimitRows, BudgetRows)
    add_fieldsets = (_WHAT, _MODELS, _FROM_WHERE, ("Secret", {"fields": ("own_secret",)}))
    fieldsets = (
        (None, {"fields": (("name", "tenant"), ("enabled", "state_in_words"), "expires_at")}),
        _MODELS,
        _FROM_WHERE,
        ("Secret", {"fields": (("secret_begins", "old_secret"), ("created_at", "last_used"))}),
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
        """Show the secret in the answer to the form itself."""
        return self._shown_once(request, obj, obj.issued_secret, title="API key created")

    @admin.action(description="Disable selected", permissions=["change"])
    def disable_selected(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        """Switch off, also what its tenant has switched off: it is the operators' to enable from now on."""
        with transaction.atomic():
            theirs = queryset.filter(enabled=False, tags__has_key=DISABLED_BY).order_by("pk")
            for key in theirs.select_for_update(of=("self",)):
                key.tags = key.tags_of_operators
                key.save(update_fields=["tags"])
            super().disable_selected(request, queryset)

    @action(description="Rotate secret", icon="autorenew", url_path="rotate", permissions=("change",))
    @sensitive_variables()
    def rotate_secret(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Give the key a new secret, and show it in the answer to the form itself."""
        with transaction.atomic():
            key = get_object_or_404(ApiKey.objects.select_for_update(of=("self",)), pk=object_id)
            form = RotateForm(key, request.POST) if request.method == "POST" else RotateForm(key)
            if form.is_valid():
                secret = key.rotate(until=form.ends_at)
                key.save(update_fields=list(ROTATED))
                self.log_change(request, key, "Rotated the secret.")
                return self._shown_once(request, key, secret, title="Secret rotated", rotated=True)
        context = {
            **self.admin_site.each_context(request),
            "title": f"Rotate the secret of {key}",
            "opts": self.model._meta,
            "key": key,
            "form": form,
            "ending": _works_until(key),
        }
        return render(request, "admin/keys/apikey/rotate.html", context)

    @sensitive_variables()
    def _shown_once(
        self, request: HttpRequest, key: ApiKey, secret: str, *, title: str, rotated: bool = False
    ) -> HttpResponse:
        """Return the page with a secret.

        No redirect to it, because that would have to carry the secret in an address, a cookie or a session.
        """
        base = settings.GATEWAY.app_base_url or request.build_absolute_uri("/")
        context = {
            **self.admin_site.each_context(request),
            "title": title,
            "opts": self.model._meta,
            "key": key,
            "secret": secret,
            "ending": _works_until(key),
            "rotated": rotated,
            "base_url": f"{base.rstrip('/')}/v1",
        }
        response = render(request, "admin/keys/apikey/secret.html", context)
        response["Cache-Control"] = "no-store"
        return response

    @display(description="Key", header=True, ordering="name")
    def title(self, obj: ApiKey) -> list[str]:
        """Show the name over the secret's first characters, and the old one's while it works."""
        ending = _works_until(obj)
        return [obj.name, f"{obj.prefix}…" + (f" (old secret {ending})" if ending else "")]

    @display(description="State", label={"active": "success", "disabled": "warning", "expired": "danger"})
    def state(self, obj: ApiKey) -> tuple[str, str]:
        """Say whether it is accepted now."""
        now = timezone.now()
        if not obj.enabled and obj.disabled_because:
            return "expired", obj.disabled_because.partition(",")[0]
        if obj.expires_at and obj.expires_at <= now:
            return "expired", f"expired {_ago(obj.expires_at)}"
        if not obj.enabled:
            return "disabled", "disabled"
        if obj.expires_at:
            return "active", f"active, {timeuntil(obj.expires_at, depth=1)} left"
        return "active", "active"

    @display(description="State")
    def state_in_words(self, obj: ApiKey) -> str:
        """Say whether it is accepted now, and why not."""
        return obj.disabled_because if obj.disabled_because and not obj.enabled else self.state(obj)[1]

    @display(description="Models")
    def models(self, obj: ApiKey) -> str:
        """Say what it may use."""
        if obj.forced_route:
            return f"always {obj.forced_route}"
        allowed = ", ".join(obj.allowed_models) or "every model"
        return f"{allowed}; never {', '.join(obj.denied_models)}" if obj.denied_models else allowed

    @display(description="Limits")
    def limits(self, obj: ApiKey) -> str:
        """Say them in words."""
        return limits_in_words(obj)

    @display(description="Secret begins with")
    def secret_begins(self, obj: ApiKey) -> str:
        """Show what tells keys apart."""
        return f"{obj.prefix}…"

    @display(description="Old secret")
    def old_secret(self, obj: ApiKey) -> str:
        """Say how long the secret before the last rotation works."""
        ending = _works_until(obj)
        return f"{obj.previous_prefix}… {ending}" if ending else "none works"

    @display(description="Last used", ordering=F("last_used_at").desc(nulls_last=True))
    def last_used(self, obj: ApiKey) -> str:
        """Say how long ago."""
        return _ago(obj.last_used_at) if obj.last_used_at else "never"


def _works_until(key: ApiKey) -> str:
    """Say until when the secret before the last rotation works, "" if it does not."""
    until = key.previous_until
    return f"works until {until:%Y-%m-%d %H:%M} UTC" if until and until > timezone.now() else ""


def _ago(moment: Any) -> str:
    return f"{timesince(moment, depth=1)} ago"
