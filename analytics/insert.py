"""Inserts many rows in the fastest way the database has."""

from collections.abc import Sequence
from datetime import datetime
from operator import itemgetter
from typing import Any

import structlog
from django.db import DataError, connection, models, transaction

Row = dict[str, Any]
log = structlog.get_logger()


def insert(model: type[models.Model], rows: Sequence[Row]) -> None:
    """Insert rows (column to value, the same columns in each) in the current transaction.

    A row that the database cannot hold is logged whole and the others go on: a record must not
    block those behind it. Other errors are raised, as Django's.
    """
    if not rows:
        return
    table = model._meta.db_table
    try:
        with transaction.atomic():
            _insert(table, rows)
    except DataError as problem:
        if len(rows) == 1:
            log.error("row_refused", table=table, error=str(problem), row=rows[0])
            return
        for row in rows:
            insert(model, [row])


def _insert(table: str, rows: Sequence[Row]) -> None:
    columns = tuple(rows[0])
    names = ", ".join(connection.ops.quote_name(column) for column in columns)
    values = map(itemgetter(*columns), rows)
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            with connection.wrap_database_errors, cursor.copy(f"COPY {table} ({names}) FROM STDIN") as copy:
                for row in values:
                    copy.write_row(row)
        else:
            marks = ", ".join(["%s"] * len(columns))
            cursor.executemany(
                f"INSERT INTO {table} ({names}) VALUES ({marks})",  # noqa: S608 - names of our own columns
                [[_adapted(value) for value in row] for row in values],
            )


def _adapted(value: Any) -> Any:
    return connection.ops.adapt_datetimefield_value(value) if isinstance(value, datetime) else value
