"""Filters that more than one screen of the admin uses."""

from datetime import UTC, datetime, time
from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.dateparse import parse_date, parse_time
from unfold.contrib.filters.admin import RangeDateTimeFilter


class MomentFilter(RangeDateTimeFilter):  # type: ignore[misc]  # unfold ships no types
    """From a moment to a moment (UTC); a date without a time is the whole day."""

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:  # noqa: ARG002 - Django's contract
        """Return the rows in between; what is no date bounds nothing."""
        since, until = self._moment("from", time.min), self._moment("to", time.max)
        if since:
            queryset = queryset.filter(**{f"{self.field_path}__gte": since})
        if until:
            queryset = queryset.filter(**{f"{self.field_path}__lte": until})
        return queryset

    def _moment(self, end: str, default: time) -> datetime | None:
        day = self.used_parameters.get(f"{self.field_path}_{end}_0") or ""
        clock = self.used_parameters.get(f"{self.field_path}_{end}_1") or ""
        try:
            date, at = parse_date(day), parse_time(clock)
        except ValueError:  # the 31st of February
            return None
        return datetime.combine(date, at or default, tzinfo=UTC) if date else None
