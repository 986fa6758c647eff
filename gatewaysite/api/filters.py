"""By what the lists of resources can be narrowed."""

from typing import Any

import django_filters as filters
from django.db.models import Q, QuerySet

from keys.models import ApiKey, Budget, RateLimit, Tenant
from providers.models import Price, Provider
from proxy.models import CacheExclusion, Route


def text(column: str, help_text: str = "") -> filters.CharFilter:
    """Return a filter by a whole text."""
    return filters.CharFilter(field_name=column, help_text=help_text)


def begins(column: str, help_text: str) -> filters.CharFilter:
    """Return a filter by how a text begins."""
    return filters.CharFilter(field_name=column, lookup_expr="startswith", help_text=help_text)


def choice(column: str, choices: Any, help_text: str = "") -> filters.ChoiceFilter:
    """Return a filter by one of a column's choices."""
    return filters.ChoiceFilter(field_name=column, choices=choices, help_text=help_text)


def flag(column: str = "enabled") -> filters.TypedChoiceFilter:
    """Return a filter by yes or no; other words are refused."""
    return filters.TypedChoiceFilter(
        field_name=column,
        choices=(("true", "yes"), ("false", "no")),
        coerce=lambda word: word == "true",
        help_text="true or false.",
    )


class ProviderFilters(filters.FilterSet):  # type: ignore[misc]  # django-filter ships no types
    """Of providers."""

    dialect = text("dialect", "The vendor's wire format.")
    enabled = flag()
    name_begins = begins("name", "How its name begins.")

    class Meta:
        """Nothing else."""

        model = Provider
        fields: tuple[str, ...] = ()


class PriceFilters(filters.FilterSet):  # type: ignore[misc]  # django-filter ships no types
    """Of prices."""

    provider = text("provider__name", "A provider's name.")
    model = text("model", "A whole model name or pattern, as in the price.")
    source = choice("source", Price.Source.choices, "Who wrote it.")

    class Meta:
        """Nothing else."""

        model = Price
        fields: tuple[str, ...] = ()


class RouteFilters(filters.FilterSet):  # type: ignore[misc]  # django-filter ships no types
    """Of routes."""

    kind = choice("kind", Route.Kind.choices, "How its match is read.")
    enabled = flag()
    provider = filters.CharFilter(method="of_provider", help_text="One of whose targets is this provider.")

    class Meta:
        """Nothing else."""

        model = Route
        fields: tuple[str, ...] = ()

    def of_provider(self, rows: QuerySet[Route], _: str, value: str) -> QuerySet[Route]:
        """Return the routes that go there, each once."""
        return rows.filter(pk__in=Route.objects.filter(targets__provider__name=value).values("pk"))


class TenantFilters(filters.FilterSet):  # type: ignore[misc]  # django-filter ships no types
    """Of tenants."""

    name_begins = begins("name", "How its name begins.")

    class Meta:
        """Nothing else."""

        model = Tenant
        fields: tuple[str, ...] = ()


class KeyFilters(filters.FilterSet):  # type: ignore[misc]  # django-filter ships no types
    """Of keys."""

    tenant = text("tenant__name", "A tenant's name.")
    enabled = flag()
    name_begins = begins("name", "How its name begins.")
    prefix = text("prefix", "How its secret begins, as shown.")

    class Meta:
        """Nothing else."""

        model = ApiKey
        fields: tuple[str, ...] = ()


class _OwnerFilters(filters.FilterSet):  # type: ignore[misc]  # django-filter ships no types
    """By whom a limit or budget holds for."""

    tenant = filters.CharFilter(method="of_tenant", help_text="A tenant's own, and those of its keys.")
    key = text("key__name", "A key's own.")
    enabled = flag()

    def of_tenant(self, rows: QuerySet[Any], _: str, value: str) -> QuerySet[Any]:
        """Return those of a tenant and its keys."""
        return rows.filter(Q(tenant__name=value) | Q(key__tenant__name=value))


class RateLimitFilters(_OwnerFilters):
    """Of rate limits."""

    kind = choice("kind", RateLimit.Kind.choices, "What is counted.")

    class Meta:
        """Nothing else."""

        model = RateLimit
        fields: tuple[str, ...] = ()


class BudgetFilters(_OwnerFilters):
    """Of budgets."""

    window = choice("window", Budget.Window.choices, "The window.")

    class Meta:
        """Nothing else."""

        model = Budget
        fields: tuple[str, ...] = ()


class ExclusionFilters(filters.FilterSet):  # type: ignore[misc]  # django-filter ships no types
    """Of cache exclusions."""

    kind = choice("kind", CacheExclusion.Kind.choices, "How its pattern is read.")

    class Meta:
        """Nothing else."""

        model = CacheExclusion
        fields: tuple[str, ...] = ()
