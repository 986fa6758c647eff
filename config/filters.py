"""Filters that more than one screen of the admin uses."""

from collections.abc import Mapping
from datetime import UTC, datetime, time
from math import isfinite
from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.dateparse import parse_date, parse_time
from unfold.contrib.filters.admin import RangeDateTimeFilter, RangeNumericFilter

from config.money import nanousd


class MomentFilter(RangeDateTimeFilter):  # type: ignore[misc]  # unfold ships no types
    """From a moment to a moment (UTC); a date without a time is the whole day."""

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:  # noqa: ARG002 - Django's contract
        """Return the rows in between; what is no date bounds nothing."""
        return between(queryset, self.field_path, self.used_parameters)


def between(rows: QuerySet[Any], column: str, parameters: Mapping[str, Any]) -> QuerySet[Any]:
    """Return the rows between the moments that a MomentFilter's parameters say."""
    since = _moment(parameters, f"{column}_from", time.min)
    until = _moment(parameters, f"{column}_to", time.max)
    if since:
        rows = rows.filter(**{f"{column}__gte": since})
    if until:
        rows = rows.filter(**{f"{column}__lte": until})
    return rows


def _moment(parameters: Mapping[str, Any], name: str, default: time) -> datetime | None:
    day, clock = (parameters.get(f"{name}_{part}") or "" for part in (0, 1))
    try:
        date, at = parse_date(day), parse_time(clock)
    except ValueError:  # the 31st of February
        return None
    return datetime.combine(date, at or default, tzinfo=UTC) if date else None


class AmountFilter(RangeNumericFilter):  # type: ignore[misc]  # unfold ships no types
    """From a number to a number; what is no number bounds nothing."""

    title_in_words = ""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Say what it is about in words, with the unit."""
        super().__init__(*arguments, **options)
        if self.title_in_words:
            self.title = self.title_in_words

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:  # noqa: ARG002 - Django's contract
        """Return the rows in between."""
        for end, lookup in (("from", "gte"), ("to", "lte")):
            try:
                bound = self.stored(self.used_parameters.get(f"{self.field_path}_{end}") or "")
            except (ValueError, OverflowError):
                continue
            queryset = queryset.filter(**{f"{self.field_path}__{lookup}": bound})
        return queryset

    def stored(self, text: str) -> float:
        """Return a number as the column has it. Raises ValueError for what is none."""
        number = float(text)
        if not isfinite(number):
            raise ValueError("must be finite")
        return number


class CostFilter(AmountFilter):
    """From so many dollars to so many."""

    title_in_words = "cost in dollars"

    def stored(self, text: str) -> int:
        """Return nano-dollars."""
        return nanousd(text)


class LatencyFilter(AmountFilter):
    """From so many milliseconds to so many."""

    title_in_words = "latency in milliseconds"
