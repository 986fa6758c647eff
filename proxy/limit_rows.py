"""Rows of rate limits and budgets to plain values: those of everyone and of tenants, and those of keys.

Read past the ORM, for there may be as many as keys. Only what is enabled is read.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from django.core.exceptions import EmptyResultSet
from django.db import connection
from django.db.models import QuerySet

from keys.models import Budget, RateLimit
from proxy.ruling import BUDGET, RATE

Row = Mapping[str, Any]

_RATE = ("id", "kind", "amount", "per", "model", "each")
_BUDGET = (
    "id",
    "amount_nanousd",
    "window",
    "mode",
    "model",
    "raised_nanousd",
    "raised_until",
    "refuse_unpriced",
)
_OWNER = ("tenant_id", "tenant__name")


def read_limits() -> list[Row]:
    """Return the limits of everyone and of tenants. A key's are read with the key."""
    rates = RateLimit.objects.filter(key=None, enabled=True).order_by("pk")
    budgets = Budget.objects.filter(key=None, enabled=True).order_by("pk")
    return [
        *({**_owner(row), **_rate(row[2:])} for row in fetched(rates.values_list(*_OWNER, *_RATE))),
        *(
            {**_owner(row), **_budget(row[2:])}
            for row in fetched(budgets.values_list(*_OWNER, "tenant__timezone", *_BUDGET))
        ),
    ]


def limits_of_keys(**which: Any) -> Mapping[int, list[Row]]:
    """Return the limits of the keys that `which` filters, by the keys that have any."""
    limits: dict[int, list[Row]] = {}
    rates = RateLimit.objects.filter(enabled=True, **which).order_by("pk")
    for row in fetched(rates.values_list("key_id", *_RATE)):
        limits.setdefault(row[0], []).append(_rate(row[1:]))
    budgets = Budget.objects.filter(enabled=True, **which).order_by("pk")
    for row in fetched(budgets.values_list("key_id", "key__tenant__timezone", *_BUDGET)):
        limits.setdefault(row[0], []).append(_budget(row[1:]))
    return limits


def budgeted_keys(tenants: Collection[int]) -> list[str]:
    """Return the keys of these tenants that have budgets: those are in their tenants' time zones."""
    found = Budget.objects.filter(key__tenant_id__in=tenants).values_list("key_id", flat=True)
    return [str(ref) for ref in found.distinct()]


def fetched(rows: QuerySet[Any, Any]) -> list[tuple[Any, ...]]:
    """Return the rows of a `values_list` as the database's driver reads them."""
    try:
        sql, params = rows.query.sql_with_params()
    except EmptyResultSet:  # one of nobody
        return []
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return list(cursor.fetchall())


def moment(value: datetime | str) -> float:
    """Return epoch seconds of what a driver has read. SQLite keeps times as text, in UTC."""
    if isinstance(value, str):
        value = datetime.fromisoformat(value).replace(tzinfo=UTC)
    return value.timestamp()


def _owner(row: Sequence[Any]) -> Row:
    return dict(zip(_OWNER, row[: len(_OWNER)], strict=True))


def _rate(row: Sequence[Any]) -> Row:
    return {"type": RATE, **dict(zip(_RATE, row, strict=True))}


def _budget(row: Sequence[Any]) -> Row:
    """Return a budget's row; before its columns stands the time zone of its tenant, None: everyone's."""
    read = dict(zip(_BUDGET, row[1:], strict=True))
    until, refuses = read["raised_until"], bool(read["refuse_unpriced"])
    told = {"raised_until": until and moment(until), "refuse_unpriced": refuses}
    return {"type": BUDGET, **read, **told, "timezone": row[0] or "UTC"}
