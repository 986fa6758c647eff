"""Pages by cursor: each begins after the last row of the one before, so that nothing is counted or skipped.

A cursor holds the values of the ordering columns of that row. Rows that come in between shift no page.
"""

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q, QuerySet
from rest_framework.request import Request

from proxy.errors import BadRequest

DEFAULT_LIMIT, MAX_LIMIT = 50, 200
PARAMETERS = frozenset({"limit", "cursor"})


def page(request: Request, rows: QuerySet[Any], ordering: Sequence[str]) -> tuple[list[Any], str | None]:
    """Return a page's rows, and the cursor of the next page; None after the last.

    `ordering` are columns ("-at", "-id", or through a relation) that tell all rows apart. Raises BadRequest.
    """
    limit = _limit(request.query_params.get("limit"))
    cursor = request.query_params.get("cursor")
    if cursor:
        rows = _after(rows, ordering, _read(cursor, rows.model, ordering))
    found = list(rows.order_by(*ordering)[: limit + 1])
    more = len(found) > limit
    return found[:limit], _written(found[limit - 1], ordering) if more else None


def _limit(text: str | None) -> int:
    if not text:
        return DEFAULT_LIMIT
    if not (text.isascii() and text.isdigit() and len(text) < 6 and 1 <= int(text) <= MAX_LIMIT):
        raise BadRequest(
            f"'limit': must be a whole number from 1 to {MAX_LIMIT}.", param="limit", code="invalid"
        )
    return int(text)


def _after(rows: QuerySet[Any], ordering: Sequence[str], values: Sequence[Any]) -> QuerySet[Any]:
    """Return the rows that follow: a > x, or a = x and b > y, ... (< where descending)."""
    later = Q(pk__in=())
    for index, column in enumerate(ordering):
        same = {name.lstrip("-"): value for name, value in zip(ordering[:index], values[:index], strict=True)}
        later |= Q(**same) & Q(**{_beyond(column): values[index]})
    # Said once more of the first column alone, which is what an index can begin with.
    first = f"{ordering[0].lstrip('-')}__{'lte' if ordering[0].startswith('-') else 'gte'}"
    return rows.filter(**{first: values[0]}).filter(later)


def _beyond(column: str) -> str:
    return f"{column.lstrip('-')}__{'lt' if column.startswith('-') else 'gt'}"


def _written(row: Any, ordering: Sequence[str]) -> str:
    values = [_value(row, column.lstrip("-")) for column in ordering]
    plain = [value.isoformat() if isinstance(value, datetime) else value for value in values]
    text = json.dumps(plain, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _value(row: Any, path: str) -> Any:
    for name in path.split("__"):
        row = row[name] if isinstance(row, Mapping) else getattr(row, name)
    return row


def _read(cursor: str, model: type[models.Model], ordering: Sequence[str]) -> list[Any]:
    try:
        text = base64.urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4))
        return [
            _column(model, name.lstrip("-")).clean(value, None)
            for name, value in zip(ordering, list(json.loads(text)), strict=True)
        ]
    except (ValueError, TypeError, binascii.Error, ValidationError, RecursionError, OverflowError):
        raise BadRequest(
            "'cursor': is not one that this list has given.", param="cursor", code="invalid"
        ) from None


class _Anything:
    """Takes the place of a column whose values need no reading."""

    @staticmethod
    def clean(value: Any, _: Any) -> Any:
        """Return plain texts and numbers as they are."""
        if isinstance(value, str) and "\0" not in value:
            value.encode()
            return value
        if isinstance(value, int) and abs(value) < 2**63:
            return value
        raise ValueError


def _column(model: type[models.Model], path: str) -> Any:
    """Return what reads a cursor's value of a column: moments come as text."""
    found: Any = model
    for name in path.split("__"):
        field = found._meta.get_field(name) if name != "pk" else found._meta.pk
        found = field.related_model or field
    return found if isinstance(found, models.DateTimeField) else _Anything
