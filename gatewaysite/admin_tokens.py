"""Operators' screen for tokens of the management API. A secret is shown once, in the answer to the form."""

from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin
from django.contrib.auth import get_user_model
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.timesince import timesince
from django.views.decorators.debug import sensitive_variables
from unfold.contrib.filters.admin import RelatedDropdownFilter
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget

from config.screens import OnOffActions, Screen, display
from gatewaysite.api import tokens
from gatewaysite.models import ApiToken


class ApiTokenForm(forms.ModelForm):  # type: ignore[type-arg]  # generic only in the stubs
    """A token; a new one gets a secret."""

    scopes = forms.MultipleChoiceField(
        choices=[(scope, f"{scope}: {told}") for scope, told in tokens.SCOPES.items()],
        widget=UnfoldAdminCheckboxSelectMultipleWidget(),
        help_text="What it may do, of what its user may.",
    )

    @sensitive_variables()
    def save(self, commit: bool = True) -> Any:  # noqa: FBT001, FBT002 - Django's signature
        """Give a new token its secret, which the page after saving shows."""
        if self.instance.pk is None:
            # Lives as long as this request: response_add renders it, nothing stores it.
            self.instance.issued_secret = tokens.give_secret(self.instance)
        return super().save(commit)


@admin.register(ApiToken)
class ApiTokenAdmin(OnOffActions, Screen):
    """Programs that use the management API."""

    form = ApiTokenForm
    empty_hint = (
        "A token lets a program use the management API in a person's name: a script, a portal of yours."
    )
    list_display = ("title", "user", "state", "scopes_in_words", "last_used")
    list_filter = ("enabled", ("user", RelatedDropdownFilter))
    list_select_related = ("user",)
    search_fields = ("name", "prefix", "user__username")
    search_help_text = "Name, user or the first characters of a secret; never a whole secret"
    autocomplete_fields = ("user",)
    actions = ("enable_selected", "disable_selected")
    readonly_fields = ("secret_begins", "created_at", "last_used")
    add_fieldsets = ((None, {"fields": (("name", "user"), "scopes", "expires_at")}),)
    fieldsets = (
        (None, {"fields": (("name", "user"), "enabled", "scopes", "expires_at")}),
        ("Secret", {"fields": ("secret_begins", ("created_at", "last_used"))}),
    )

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], **options: Any
    ) -> HttpResponse:
        """A new token is saved to its secret and nowhere else."""
        if options.get("add"):
            context |= {"show_save_and_add_another": False, "show_save_and_continue": False}
        response: HttpResponse = super().render_change_form(request, context, **options)
        return response

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Whose a token is, is said once: another person's token would be another token."""
        fields = super().get_readonly_fields(request, obj)
        return (*fields, "user") if obj else fields

    def get_queryset(self, request: HttpRequest) -> QuerySet[ApiToken]:
        """Show others' tokens to superusers alone."""
        found: QuerySet[ApiToken] = super().get_queryset(request)
        return found if request.user.is_superuser else found.filter(user=request.user)  # type: ignore[misc]  # staff alone come here

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **options: Any) -> Any:
        """Propose the person who makes it; a token for another, who may do more, is a superuser's to make."""
        if db_field.name == "user":
            options.setdefault("initial", request.user.pk)
            if not request.user.is_superuser:
                options["queryset"] = get_user_model().objects.filter(username=request.user.get_username())
        return super().formfield_for_foreignkey(db_field, request, **options)

    @sensitive_variables()
    def response_add(
        self, request: HttpRequest, obj: Any, post_url_continue: str | None = None
    ) -> HttpResponse:
        """Show the secret in the answer to the form itself: a redirect would have to carry it."""
        base = settings.GATEWAY.app_base_url or request.build_absolute_uri("/")
        context = {
            **self.admin_site.each_context(request),
            "title": "API token created",
            "opts": self.model._meta,
            "token": obj,
            "secret": obj.issued_secret,
            "base_url": f"{base.rstrip('/')}/api",
        }
        response = render(request, "admin/gatewaysite/apitoken/secret.html", context)
        response["Cache-Control"] = "no-store"
        return response

    @display(description="Token", header=True, ordering="name")
    def title(self, obj: ApiToken) -> list[str]:
        """Show the name over the secret's first characters."""
        return [obj.name, f"{obj.prefix}…"]

    @display(description="State", label={"active": "success", "disabled": "warning", "expired": "danger"})
    def state(self, obj: ApiToken) -> tuple[str, str]:
        """Say whether it is accepted now."""
        word = tokens.state(obj)
        return word, word

    @display(description="Scopes")
    def scopes_in_words(self, obj: ApiToken) -> str:
        """List them."""
        return ", ".join(obj.scopes) or "none"

    @display(description="Secret begins with")
    def secret_begins(self, obj: ApiToken) -> str:
        """Show what tells tokens apart."""
        return f"{obj.prefix}…"

    @display(description="Last used", ordering="last_used_at")
    def last_used(self, obj: ApiToken) -> str:
        """Say how long ago."""
        return f"{timesince(obj.last_used_at, depth=1)} ago" if obj.last_used_at else "never"
