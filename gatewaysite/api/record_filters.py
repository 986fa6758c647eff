"""By what the request log, the ledger and the audit log can be narrowed: whole values, as indexes go."""

from typing import Any

import django_filters as filters
from auditlog import get_logentry_model
from django import forms
from django.db.models import Q, QuerySet
from django.db.models.fields.json import KeyTransform

from analytics.models import RequestLog
from config import money
from config.moments import moment
from gatewaysite.api.filters import choice, flag, text
from gatewaysite.api.owners import key_ids, tenant_ids
from keys.models import LedgerEntry

LogEntry = get_logentry_model()


class _MomentField(forms.CharField):
    """ISO 8601, in UTC unless it says otherwise."""

    def clean(self, value: Any) -> Any:
        """Return the moment."""
        written = super().clean(value)
        if not written:
            return None
        try:
            return moment(written)
        except ValueError as problem:
            raise forms.ValidationError(str(problem)) from None


class MomentFilter(filters.Filter):  # type: ignore[misc]  # django-filter ships no types
    """From, or up to, a moment."""

    field_class = _MomentField


class _DollarsField(forms.CharField):
    """Dollars as a decimal text."""

    def clean(self, value: Any) -> Any:
        """Return nano-dollars."""
        written = super().clean(value)
        if not written:
            return None
        try:
            return money.nanousd(written)
        except ValueError as problem:
            raise forms.ValidationError(str(problem)) from None


class DollarsFilter(filters.Filter):  # type: ignore[misc]  # django-filter ships no types
    """At least, or at most, so many dollars."""

    field_class = _DollarsField


def _since(column: str) -> MomentFilter:
    return MomentFilter(
        field_name=column, lookup_expr="gte", help_text="From this moment on: 2026-01-31T12:00:00Z."
    )


def _until(column: str) -> MomentFilter:
    return MomentFilter(field_name=column, lookup_expr="lt", help_text="Up to this moment.")


class _Owned(filters.FilterSet):  # type: ignore[misc]  # django-filter ships no types
    """By the names of tenant and key, and by a tag."""

    tenant = filters.CharFilter(method="of_tenant", help_text="A tenant's name.")
    key = filters.CharFilter(method="of_key", help_text="A key's name.")
    tag = filters.CharFilter(method="of_tag", help_text="team=search: with that tag; team: with any such.")

    def of_tenant(self, rows: QuerySet[Any], _: str, value: str) -> QuerySet[Any]:
        """Return its rows."""
        return rows.filter(tenant_ref__in=tenant_ids(value))

    def of_key(self, rows: QuerySet[Any], _: str, value: str) -> QuerySet[Any]:
        """Return its rows."""
        return rows.filter(key_ref__in=key_ids(value))

    def of_tag(self, rows: QuerySet[Any], _: str, value: str) -> QuerySet[Any]:
        """Return the rows with a tag."""
        name, equals, word = value.partition("=")
        found: QuerySet[Any] = rows.annotate(_tag=KeyTransform(name.strip(), "tags"))
        return found.filter(_tag=word.strip()) if equals else found.filter(_tag__isnull=False)


def _whole(column: str, lookup: str, help_text: str) -> filters.NumberFilter:
    return filters.NumberFilter(
        field_name=column, lookup_expr=lookup, help_text=help_text, min_value=0, max_value=10**12
    )


class LogFilters(_Owned):
    """Of the request log."""

    since = _since("at")
    until = _until("at")
    provider = text("provider", "Who answered.")
    model = filters.CharFilter(method="of_model", help_text="As it was asked for, or as the vendor calls it.")
    status = filters.NumberFilter(
        field_name="status", min_value=100, max_value=599, help_text="What the client got."
    )
    outcome = choice("outcome", RequestLog.Outcome.choices, "How it ended.")
    cache = choice("cache", (("hit", "hit"), ("miss", "miss"), ("bypass", "bypass")), "What the cache did.")
    stream = flag("stream")
    cost_min_usd = DollarsFilter(
        field_name="cost_nanousd", lookup_expr="gte", help_text="It cost so much or more."
    )
    cost_max_usd = DollarsFilter(
        field_name="cost_nanousd", lookup_expr="lte", help_text="It cost so much or less."
    )
    latency_min_ms = _whole("latency_ms", "gte", "It took so long or longer.")
    latency_max_ms = _whole("latency_ms", "lte", "It took so long or less.")
    request_id = text("request_id", "x-request-id.")
    completion_id = text("completion_id", "The answer's id.")

    class Meta:
        """Nothing else."""

        model = RequestLog
        fields: tuple[str, ...] = ()

    def of_model(self, rows: QuerySet[Any], _: str, value: str) -> QuerySet[Any]:
        """Return the rows of a model."""
        return rows.filter(Q(requested_model=value) | Q(model=value))


class LedgerFilters(_Owned):
    """Of the ledger."""

    since = _since("at")
    until = _until("at")
    provider = text("provider", "Who was paid.")
    model = text("model", "As the vendor calls it.")
    kind = choice("kind", LedgerEntry.Kind.choices, "How the row came to be.")
    completion_id = text("completion_id", "The answer's id.")

    class Meta:
        """Nothing else."""

        model = LedgerEntry
        fields: tuple[str, ...] = ()


_ACTIONS = {"create": 0, "update": 1, "delete": 2, "access": 3}


class AuditFilters(filters.FilterSet):  # type: ignore[misc]  # django-filter ships no types
    """Of the audit log."""

    since = _since("timestamp")
    until = _until("timestamp")
    actor = text("actor__username", "Who did it.")
    action = filters.ChoiceFilter(
        choices=[(name, name) for name in _ACTIONS], method="of_action", help_text="What was done."
    )
    kind = text("content_type__model", "What it was done to: provider, apikey, budget, ...")
    name = text("object_repr", "Its name, as it was then.")

    class Meta:
        """Nothing else."""

        model = LogEntry
        fields: tuple[str, ...] = ()

    def of_action(self, rows: QuerySet[Any], _: str, value: str) -> QuerySet[Any]:
        """Return the rows of an action."""
        return rows.filter(action=_ACTIONS[value])
