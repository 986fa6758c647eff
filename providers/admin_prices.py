"""Operators' screens for what vendors serve and what it costs: ProviderModel, Price."""

from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils.html import format_html_join
from unfold.contrib.filters.admin import ChoicesDropdownFilter, RelatedDropdownFilter

from config.money import usd
from config.screens import ReadOnlyScreen, Screen, action, display, replaced
from config.words import dollars
from providers import tier_text
from providers.admin_forms import PriceForm
from providers.models import Price, ProviderModel
from providers.pricing import RATE_COLUMNS


@admin.register(ProviderModel)
class ProviderModelAdmin(ReadOnlyScreen):
    """What the vendors say they serve."""

    empty_hint = "The models that vendors say they serve, asked for every now and then."
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

    form = PriceForm
    empty_hint = (
        "What models cost, in US dollars per million tokens. Those of well-known models come with "
        "their providers."
    )
    list_display = (
        "model",
        "provider",
        "input",
        "output",
        "cached_input",
        "cache_write",
        "long_prompts",
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
        (
            None,
            {
                "fields": (
                    ("provider", "model"),
                    ("effective_from",),
                    ("context_window", "max_output_tokens"),
                )
            },
        ),
        (
            "US dollars per million tokens",
            {
                "fields": (
                    ("input_nanousd_per_mtok", "output_nanousd_per_mtok"),
                    ("cached_input_nanousd_per_mtok", "reasoning_nanousd_per_mtok"),
                    ("cache_write_nanousd_per_mtok", "cache_write_1h_nanousd_per_mtok"),
                    ("tiers",),
                )
            },
        ),
        (
            "Sound and pictures, US dollars per million tokens",
            {
                "fields": (
                    ("audio_input_nanousd_per_mtok", "audio_output_nanousd_per_mtok"),
                    ("image_input_nanousd_per_mtok", "image_output_nanousd_per_mtok"),
                    ("cached_audio_input_nanousd_per_mtok", "cached_image_input_nanousd_per_mtok"),
                )
            },
        ),
    )

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Where a form is only looked at, Django would print the tiers as JSON."""
        sections = super().get_fieldsets(request, obj)
        if obj is None or self.has_change_permission(request, obj):
            return sections
        return [
            (title, {**options, "fields": replaced(options["fields"], {"tiers": "long_prompts"})})
            for title, options in sections
        ]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Add what stands in for the tiers."""
        fields = super().get_readonly_fields(request, obj)
        looked_at = obj is not None and not self.has_change_permission(request, obj)
        return (*fields, "long_prompts") if looked_at else fields

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

    @display(description="Long prompts")
    def long_prompts(self, obj: Price) -> str:
        """Show the tiers, a line each."""
        return format_html_join("", "<div>{}</div>", ((line,) for line in _lines(obj))) or "-"

    @display(description="Source", ordering="source", label={"builtin": "info", "operator": "success"})
    def origin(self, obj: Price) -> tuple[str, str]:
        """Say who wrote it."""
        return obj.source, "built in" if obj.source == Price.Source.BUILTIN else "operator"

    @action(description="Copy to an own price", icon="content_copy", permissions=("copy",))
    def copy_price(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Open the form of a new operator's price with this one's rates."""
        price = get_object_or_404(Price, pk=object_id)
        columns = RATE_COLUMNS.values()
        rates = {column: usd(rate) for column in columns if (rate := getattr(price, column)) is not None}
        limits = {name: limit for name in _LIMITS if (limit := getattr(price, name))}
        tiers = {"tiers": tier_text.written(price.tiers)} if price.tiers else {}
        query = urlencode({"provider": price.provider_id, "model": price.model, **limits, **rates, **tiers})
        return redirect(f"{reverse('admin:providers_price_add')}?{query}")


_LIMITS = ("context_window", "max_output_tokens")


def _lines(price: Price) -> list[str]:
    return tier_text.written(price.tiers).splitlines()


def _is_builtin(obj: Any) -> bool:
    return isinstance(obj, Price) and obj.source == Price.Source.BUILTIN
