"""Operators' screen for what was spent, and what it shares with the request log."""

from collections.abc import Mapping
from typing import Any

from django.contrib import admin
from django.db.models import OuterRef, QuerySet, Subquery
from django.db.models.fields.json import KeyTransform
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from unfold.contrib.filters.admin import ChoicesDropdownFilter, TextFilter

from config.filters import MomentFilter
from config.screens import EndlessScreen, display
from config.words import dollars, moment, signed_dollars, table
from keys.models import ApiKey, LedgerEntry, Tenant


class TenantNameFilter(TextFilter):  # type: ignore[misc]  # unfold ships no types
    """By a tenant's name: the ledger holds plain numbers, which outlive the rows."""

    title = "tenant"
    parameter_name = "tenant"

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Return the rows of tenants of that name."""
        return of_named(queryset, "tenant_ref", Tenant, self.value())


class KeyNameFilter(TextFilter):  # type: ignore[misc]  # unfold ships no types
    """By a key's name."""

    title = "API key"
    parameter_name = "key"

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Return the rows of keys of that name."""
        return of_named(queryset, "key_ref", ApiKey, self.value())


def of_named(
    rows: QuerySet[Any], column: str, model: type[Tenant | ApiKey], name: str | None
) -> QuerySet[Any]:
    """Return the rows of the tenant or key of that name; all, if none is given.

    Its number is looked up first: only for one that it knows does a database read rows in the index's order.
    """
    if not name:
        return rows
    pk = model._default_manager.filter(name=name).values_list("pk", flat=True).first()  # noqa: SLF001 - Django's public name for it
    return rows.none() if pk is None else rows.filter(**{column: pk})


class TagFilter(TextFilter):  # type: ignore[misc]  # unfold ships no types
    """By a tag that the key had then."""

    title = "tag (name=value)"
    parameter_name = "tag"

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Return the rows with that tag; with any value, if none is given."""
        name, equals, value = (self.value() or "").partition("=")
        name = name.strip()
        if not name:
            return queryset
        found: QuerySet[Any] = queryset.annotate(_tag=KeyTransform(name, "tags"))
        return found.filter(_tag=value.strip()) if equals else found.filter(_tag__isnull=False)


_KINDS = {
    "spent": "success",
    "interrupted": "warning",
    "shadow": "info",
    "retracted": "warning",
    "adjusted": "info",
}
_RARER = {
    "cache_write_1h_tokens": "written to the cache for an hour",
    "audio_prompt_tokens": "of sound in",
    "audio_cached_tokens": "of cached sound",
    "audio_completion_tokens": "of sound out",
    "image_prompt_tokens": "of images in",
    "image_cached_tokens": "of cached images",
    "image_completion_tokens": "of images out",
}


@admin.register(LedgerEntry)
class LedgerEntryAdmin(EndlessScreen):
    """What was spent: written by the gateway, never by hand."""

    empty_hint = (
        "Each attempt that cost something is a row here, a few seconds after its answer. What a model costs "
        "is known from its price: see Prices."
    )
    list_display = ("when", "kind_label", "caller", "upstream", "tokens", "cost", "completion")
    list_display_links = ("when",)
    list_filter = (
        ("at", MomentFilter),
        ("kind", ChoicesDropdownFilter),
        "estimated",
        TenantNameFilter,
        KeyNameFilter,
        TagFilter,
    )
    search_fields = ("completion_id",)
    search_help_text = "A whole completion id"
    ordering = ("-at", "-id")
    fieldsets = (
        (
            None,
            {
                "fields": (
                    ("logged_as", "attempt_number"),
                    ("when", "kind"),
                    ("owner", "tagged"),
                    ("upstream", "requested_model"),
                )
            },
        ),
        (
            "Tokens",
            {
                "fields": (
                    ("prompt_tokens", "completion_tokens"),
                    ("cached_tokens", "cache_write_tokens", "reasoning_tokens"),
                    "rarer_tokens",
                    "estimated",
                )
            },
        ),
        ("Cost", {"fields": (("cost", "price"), ("in_budgets", "revision", "rerating"), "all_rows")}),
    )
    readonly_fields = (
        *(
            "logged_as",
            "attempt_number",
            "when",
            "owner",
            "tagged",
            "upstream",
            "rarer_tokens",
            "cost",
            "price",
            "in_budgets",
            "rerating",
        ),
        "all_rows",
    )
    searched_ids = ("completion_id",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[LedgerEntry]:
        """Read the names of keys and tenants that still exist along."""
        found: QuerySet[LedgerEntry] = super().get_queryset(request)
        return with_owner_names(found)

    @display(description="Completion id")
    def logged_as(self, obj: LedgerEntry) -> str:
        """Link to what the request log says of it."""
        url = f"{reverse('admin:analytics_requestlog_changelist')}?q={obj.completion_id}"
        return format_html('<a class="gw-link" href="{}">{}</a>', url, obj.completion_id)

    @display(description="Attempt")
    def attempt_number(self, obj: LedgerEntry) -> int:
        """Count from one, as the table of all rows does."""
        return obj.attempt + 1

    @display(description="At (UTC)")
    def when(self, obj: LedgerEntry) -> str:
        """Show when it was spent."""
        return moment(obj.at)

    @display(description="Kind", label=_KINDS)
    def kind_label(self, obj: LedgerEntry) -> tuple[str, str]:
        """Say how the row came to be."""
        return obj.kind, obj.get_kind_display()

    @display(description="Key")
    def owner(self, obj: Any) -> str:
        """Name key and tenant."""
        return owner_name(obj)

    @display(description="Key", header=True)
    def caller(self, obj: Any) -> list[str]:
        """Show the key over its tenant."""
        return owner_lines(obj)

    @display(description="Upstream")
    def upstream(self, obj: LedgerEntry) -> str:
        """Name provider and model."""
        return f"{obj.provider}/{obj.model}"

    @display(description="Tokens in → out")
    def tokens(self, obj: LedgerEntry) -> str:
        """Show both counts."""
        about = "≈ " if obj.estimated else ""
        return f"{about}{obj.prompt_tokens:,} → {obj.completion_tokens:,}"

    @display(description="Cost")
    def cost(self, obj: LedgerEntry) -> str:
        """Show dollars; of a correction with their sign."""
        return _cost(obj)

    @display(description="Completion")
    def completion(self, obj: LedgerEntry) -> str:
        """Show its id, and the attempt if it is not the first."""
        return f"{obj.completion_id}, attempt {obj.attempt + 1}" if obj.attempt else obj.completion_id

    @display(description="Tags")
    def tagged(self, obj: LedgerEntry) -> str:
        """Show the tags that the key had then."""
        return tags_in_words(obj.tags)

    @display(description="Parts of these")
    def rarer_tokens(self, obj: LedgerEntry) -> str:
        """Show the rarer counts, where there are any."""
        shown = [
            f"{getattr(obj, column):,} {words}" for column, words in _RARER.items() if getattr(obj, column)
        ]
        return ", ".join(shown) or "-"

    @display(description="Price")
    def price(self, obj: LedgerEntry) -> str:
        """Link to the price row while there may be one."""
        if obj.price_ref is None:
            return "none known"
        return _link("admin:providers_price_change", obj.price_ref, f"price {obj.price_ref}")

    @display(description="Counts for budgets")
    def in_budgets(self, obj: LedgerEntry) -> str:
        """Say whether, and if not why."""
        if obj.shadow:
            return "no: it was mirrored, nobody sent it"
        return "no: the caller's own credential paid" if obj.own_credential else "yes"

    @display(description="Re-rating")
    def rerating(self, obj: LedgerEntry) -> str:
        """Link to the re-rating that wrote the row."""
        if obj.rerating_ref is None:
            return "-"
        return _link("admin:analytics_rerating_change", obj.rerating_ref, f"re-rating {obj.rerating_ref}")

    @display(description="All rows of this request")
    def all_rows(self, obj: LedgerEntry) -> str:
        """Show its other attempts and the corrections, with their sum."""
        rows = list(LedgerEntry.objects.filter(completion_id=obj.completion_id).order_by("pk"))
        shown = [
            (
                row.attempt + 1,
                _link("admin:keys_ledgerentry_change", row.pk, row.get_kind_display()),
                f"{row.provider}/{row.model}",
                f"{row.prompt_tokens:,} → {row.completion_tokens:,}",
                _cost(row),
            )
            for row in rows
        ]
        known = [row.cost_nanousd for row in rows if row.cost_nanousd is not None]
        total = ("", "Together", "", "", dollars(sum(known)) if known else "no price known")
        return table(("Attempt", "Row", "Upstream", "Tokens in → out", "Cost"), [*shown, total])


def _cost(row: LedgerEntry) -> str:
    if row.kind in LedgerEntry.CORRECTIONS and row.cost_nanousd is not None:
        return signed_dollars(row.cost_nanousd)
    return dollars(row.cost_nanousd, unknown="no price known")


def _link(view: str, pk: int, text: str) -> str:
    return format_html('<a class="gw-link" href="{}">{}</a>', reverse(view, args=[pk]), text)


def tags_in_words(tags: Mapping[str, str] | None) -> str:
    """Show tags as the filter takes them."""
    return ", ".join(f"{name}={value}" for name, value in sorted((tags or {}).items())) or "-"


def with_owner_names(rows: QuerySet[Any]) -> QuerySet[Any]:
    """Add `key_name` and `tenant_name` to rows that hold `key_ref` and `tenant_ref`."""
    named: QuerySet[Any] = rows.annotate(
        key_name=Subquery(ApiKey.objects.filter(pk=OuterRef("key_ref")).values("name")),
        tenant_name=Subquery(Tenant.objects.filter(pk=OuterRef("tenant_ref")).values("name")),
    )
    return named


def owner_lines(row: Any) -> list[str]:
    """Say whose a row is, [key, tenant]: names while they exist, numbers afterwards."""
    if row.key_ref is None:
        return ["anonymous", ""]
    return [row.key_name or f"deleted key {row.key_ref}", row.tenant_name or ""]


def owner_name(row: Any) -> str:
    """Say whose a row is in one line."""
    key, tenant = owner_lines(row)
    return f"{key} ({tenant})" if tenant else key
