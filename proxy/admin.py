"""Operators' screens for the data plane: Route and Target, CacheExclusion, GatewaySettings."""

from typing import Any

from django.conf import settings
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import path, reverse
from unfold.contrib.filters.admin import ChoicesDropdownFilter, RelatedDropdownFilter
from unfold.enums import ActionVariant
from unfold.widgets import UnfoldAdminSelectWidget

from config.form_fields import ChoicesOnce
from config.screens import OnOffActions, Rows, Screen, action, display, goto
from proxy import admin_upstreams  # noqa: F401 - Django looks for screens in admin.py alone
from proxy.admin_explain import explain_view
from proxy.models import CacheExclusion, GatewaySettings, Route, Target

PURGE: dict[str, Any] = {
    "title": "Purge the cache?",
    "description": "Every cached answer becomes unreachable, in all workers within a second. "
    "The next requests go to the vendors and cost money.",
    "form_class": None,
    "form_submit_text": "Purge the cache",
}


class PurgeAction:
    """The button that empties the cache, on each screen that is about caching."""

    @action(
        description="Purge cache",
        icon="delete_sweep",
        permissions=("purge",),
        variant=ActionVariant.DANGER,
        dialog=PURGE,
    )
    def purge_cache(self, request: HttpRequest, form: Any, object_id: str = "") -> HttpResponse:
        """Purge, say so and return to where the button was."""
        GatewaySettings.purge_cache()
        messages.success(request, "Cache purged: no answer from before now is served any more.")
        options = self.model._meta  # type: ignore[attr-defined]
        return goto(request, reverse(f"admin:{options.app_label}_{options.model_name}_changelist"))

    def has_purge_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Whoever may change the gateway's settings may purge."""
        return request.user.has_perm("proxy.change_gatewaysettings")


class TargetRows(Rows):
    """A route's targets, dragged into the order of tries."""

    model = Target
    fields = (
        "provider",
        "model",
        "role",
        "weight",
        "percent",
        "shadow_budget_nanousd_per_day",
        "context_window",
        "position",
    )
    ordering_field = "position"
    hide_ordering_field = True
    verbose_name_plural = "Targets, in the order of tries"

    def get_extra(self, request: HttpRequest, obj: Any = None, **_: Any) -> int:
        """Offer the first target of a new route."""
        return 0 if obj else 1

    def get_formset(self, request: HttpRequest, obj: Any = None, **options: Any) -> Any:
        """Leave the room of the provider's menu to the columns, and let no role or model be cut short."""
        formset = super().get_formset(request, obj, **options)
        fields = formset.form.base_fields
        for name, width in {"provider": 9, "model": 9.5, "role": 12}.items():
            if name in fields:
                widget = getattr(fields[name].widget, "widget", fields[name].widget)
                widget.attrs["style"] = f"min-width: {width}rem"
                fields[name].widget = widget
        return formset

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **options: Any) -> Any:
        """Read the providers once for all rows."""
        if db_field.name == "provider":
            options |= {
                "form_class": ChoicesOnce,
                "widget": UnfoldAdminSelectWidget(),
                "empty_label": "Provider",
            }
        return super().formfield_for_foreignkey(db_field, request, **options)


@admin.register(Route)
class RouteAdmin(OnOffActions, Screen):
    """Which requested models go where."""

    empty_hint = (
        "A route says who answers a model: a provider, then the next if it fails. Without one, "
        "provider/model works, and well-known names go to their vendors."
    )
    list_display = ("match", "kind", "priority", "goes_to", "strategy", "enabled", "note")
    list_filter = (
        "enabled",
        ("kind", ChoicesDropdownFilter),
        ("strategy", ChoicesDropdownFilter),
        ("targets__provider", RelatedDropdownFilter),
    )
    search_fields = ("match", "note", "targets__model", "targets__provider__name")
    search_help_text = "Pattern, note, or a target's provider or model"
    ordering = ("-priority", "match")
    actions = ("enable_selected", "disable_selected")
    actions_list = ("explain_any",)
    actions_detail = ("explain_this",)
    inlines = (TargetRows,)
    fieldsets = (
        (None, {"fields": (("match", "kind"), ("priority", "enabled"), "note")}),
        ("Balancing", {"fields": ("strategy", ("sticky", "sticky_header"))}),
        ("When it fails", {"fields": (("hedge", "continue_streams"),), "classes": ("collapse",)}),
        (
            "Timeouts",
            {
                "fields": (
                    ("connect_timeout_s", "first_content_timeout_s"),
                    ("idle_timeout_s", "total_timeout_s"),
                ),
                "classes": ("collapse",),
            },
        ),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Route]:
        """Read the targets of a page's routes at once."""
        found: QuerySet[Route] = super().get_queryset(request)
        return found.prefetch_related("targets__provider")

    def get_urls(self) -> list[Any]:
        """Add the page that explains a request."""
        view = self.admin_site.admin_view(self.explain)
        return [path("explain/", view, name="proxy_route_explain"), *super().get_urls()]

    def explain(self, request: HttpRequest) -> HttpResponse:
        """Show where a request would go, and why."""
        return explain_view(request, self.admin_site.each_context(request))

    @action(description="Explain a request", icon="help", permissions=("view",))
    def explain_any(self, request: HttpRequest) -> HttpResponse:
        """Open the page."""
        return HttpResponseRedirect(reverse("admin:proxy_route_explain"))

    @action(description="Explain a request", icon="help", permissions=("view",))
    def explain_this(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Open the page with a request for this route."""
        return HttpResponseRedirect(f"{reverse('admin:proxy_route_explain')}?route={object_id}")

    @display(description="Goes to")
    def goes_to(self, obj: Route) -> str:
        """Name the targets in the order of tries, and after them those for some cases alone."""
        weighted = obj.strategy == Route.Strategy.WEIGHTED
        targets = obj.targets.all()
        asked = [
            _in_words(target, weighted=weighted) for target in targets if target.role in Target.ASKED_ROLES
        ]
        asides = [
            f"{target.get_role_display().lower()}: {target}"
            for target in targets
            if target.role not in Target.ASKED_ROLES
        ]
        return "; ".join([" → ".join(asked) or "nowhere: it has no target", *asides])


def _in_words(target: Target, *, weighted: bool) -> str:
    if target.role == Target.Role.CANARY:
        return f"{target} (canary, {target.percent or 0:g} %)"
    return f"{target} (weight {target.weight})" if weighted else str(target)


@admin.register(CacheExclusion)
class CacheExclusionAdmin(PurgeAction, Screen):
    """Models never cached."""

    empty_hint = "Models whose answers are never kept, by name or by pattern."
    list_display = ("pattern", "kind", "note")
    list_filter = (("kind", ChoicesDropdownFilter),)
    search_fields = ("pattern", "note")
    search_help_text = "Pattern or note"
    actions_list = ("purge_cache",)
    fieldsets = ((None, {"fields": (("kind", "pattern"), "note")}),)


@admin.register(GatewaySettings)
class GatewaySettingsAdmin(PurgeAction, Screen):
    """The one row of settings."""

    actions_detail = ("purge_cache",)
    autocomplete_fields = ("default_provider",)
    fieldsets = (
        ("Models", {"fields": (("default_provider", "default_model"),)}),
        ("Cache", {"fields": ("cache_ttl_s",)}),
    )

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **options: Any) -> Any:  # noqa: FBT001, FBT002 - Django's signature
        """Show in each empty field what the environment says."""
        form = super().get_form(request, obj, change, **options)
        environment = settings.GATEWAY
        defaults = {"default_model": environment.default_model, "cache_ttl_s": f"{environment.cache_ttl_s:g}"}
        for name, value in defaults.items():
            if name in form.base_fields:
                form.base_fields[name].widget.attrs["placeholder"] = value
        if environment.default_provider and "default_provider" in form.base_fields:
            form.base_fields["default_provider"].help_text += f" Now: {environment.default_provider}."
        return form

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """Open the one row."""
        if not self.has_view_permission(request):
            response: HttpResponse = super().changelist_view(request, extra_context)
            return response
        return HttpResponseRedirect(
            reverse("admin:proxy_gatewaysettings_change", args=[GatewaySettings.load().pk])
        )

    def get_object(self, request: HttpRequest, object_id: str, from_field: Any = None) -> Any:
        """Make the row on its first visit."""
        GatewaySettings.load()
        return super().get_object(request, object_id, from_field)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """There is one row."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """There is one row, always."""
        return False
