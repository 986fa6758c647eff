"""Operators' screens for what vendors serve and what it costs: ProviderModel, Price."""

from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from unfold.contrib.filters.admin import ChoicesDropdownFilter, RelatedDropdownFilter

from config.audit import audited
from config.money import usd
from config.screens import ReadOnlyScreen, Screen, action, display
from config.words import dollars
from providers.models import Price, ProviderModel

audited(Price)


@admin.register(ProviderModel)
class ProviderModelAdmin(ReadOnlyScreen):
    """What the vendors say they serve."""

    list_display = ("name", "provider", "owned_by")
    list_filter = (("provider", RelatedDropdownFilter),)
    list_select_related = ("provider",)
    search_fields = ("name",)
    search_help_text = "Part of a model's name"
    list_per_page = 100
    fields = ("provider", "name", "owned_by")


@admin.register(Price)
class PriceAdmin(Screen):
    """Rates. Built-in rows come with the gateway; an operator's row for the same model wins."""

    list_display = (
        "model",
        "provider",
        "input",
        "output",
        "cached_input",
        "cache_write",
        "effective_from",
        "origin",
    )
    list_filter = (("provider", RelatedDropdownFilter), ("source", ChoicesDropdownFilter))
    list_select_related = ("provider",)
    search_fields = ("model", "provider__name")
    search_help_text = "Model or provider"
    list_per_page = 100
    actions_detail = ("copy_price",)
    fieldsets = (
        (None, {"fields": (("provider", "model"), ("effective_from", "context_window"))}),
        (
            "US dollars per million tokens",
            {
                "fields": (
                    ("input_nanousd_per_mtok", "output_nanousd_per_mtok"),
                    ("cached_input_nanousd_per_mtok", "cache_write_nanousd_per_mtok"),
                )
            },
        ),
    )

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Built-in rows are replaced at each upgrade: an edit would be lost."""
        return not _is_builtin(obj) and bool(super().has_change_permission(request, obj))

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """The same; but they go along with their provider."""
        if _is_builtin(obj) and self.is_own_page(request):
            return False
        return bool(super().has_delete_permission(request, obj))

    def has_copy_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Copying is looking at one and adding another."""
        return bool(self.has_view_permission(request) and self.has_add_permission(request))

    @display(description="Input / M", ordering="input_nanousd_per_mtok")
    def input(self, obj: Price) -> str:
        """Show the rate."""
        return dollars(obj.input_nanousd_per_mtok)

    @display(description="Output / M", ordering="output_nanousd_per_mtok")
    def output(self, obj: Price) -> str:
        """Show the rate."""
        return dollars(obj.output_nanousd_per_mtok)

    @display(description="Cached input / M", ordering="cached_input_nanousd_per_mtok")
    def cached_input(self, obj: Price) -> str:
        """Show the rate."""
        return dollars(obj.cached_input_nanousd_per_mtok, unknown="as input")

    @display(description="Cache write / M", ordering="cache_write_nanousd_per_mtok")
    def cache_write(self, obj: Price) -> str:
        """Show the rate."""
        return dollars(obj.cache_write_nanousd_per_mtok, unknown="as input")

    @display(description="Source", ordering="source", label={"builtin": "info", "operator": "success"})
    def origin(self, obj: Price) -> tuple[str, str]:
        """Say who wrote it."""
        return obj.source, "built in" if obj.source == Price.Source.BUILTIN else "operator"

    @action(description="Copy to an own price", icon="content_copy", permissions=("copy",))
    def copy_price(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Open the form of a new operator's price with this one's rates."""
        price = get_object_or_404(Price, pk=object_id)
        rates = {
            field: usd(value)
            for field in (
                "input_nanousd_per_mtok",
                "output_nanousd_per_mtok",
                "cached_input_nanousd_per_mtok",
                "cache_write_nanousd_per_mtok",
            )
            if (value := getattr(price, field)) is not None
        }
        window = {"context_window": price.context_window} if price.context_window else {}
        query = urlencode({"provider": price.provider_id, "model": price.model, **window, **rates})
        return redirect(f"{reverse('admin:providers_price_add')}?{query}")


def _is_builtin(obj: Any) -> bool:
    return isinstance(obj, Price) and obj.source == Price.Source.BUILTIN
