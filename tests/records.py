"""What a served gateway has written to its database, read past Django."""

import contextlib
import sqlite3
from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg.rows import dict_row

from tests.gateway import Gateway
from tests.servers import eventually


def rows(gateway: Gateway, sql: str, *values: object) -> list[dict[str, Any]]:
    """Return the rows of a query; `?` stands for a value. A statement that changes rows is committed."""
    url = gateway.env.get("DATABASE_URL", "")
    if url.startswith("postgres"):
        with psycopg.connect(url, autocommit=True, row_factory=dict_row) as connection:
            cursor = connection.execute(sql.replace("?", "%s").encode(), values)
            return cursor.fetchall() if cursor.description else []
    with contextlib.closing(sqlite3.connect(gateway.data_dir / "gateway.sqlite3", timeout=10)) as database:
        database.row_factory = sqlite3.Row
        with database:
            return [dict(row) for row in database.execute(sql, values)]


def logged(gateway: Gateway, request_id: str, *, within_s: float = 20) -> dict[str, Any]:
    """Return the request's row of the log, waiting for the shipper; there must be only one."""
    sql = "SELECT * FROM analytics_requestlog WHERE request_id = ?"
    found = eventually(
        lambda: rows(gateway, sql, request_id), within_s=within_s, what=f"the row {request_id}"
    )
    assert len(found) == 1
    return found[0]


def ledger(gateway: Gateway, completion_id: str) -> list[dict[str, Any]]:
    """Return what was spent on a completion."""
    return rows(gateway, "SELECT * FROM keys_ledgerentry WHERE completion_id = ?", completion_id)


def bump(gateway: Gateway, part: str) -> None:
    """Announce a change that was written past Django, as a saved row would."""
    rows(gateway, "UPDATE config_configversion SET version = version + 1 WHERE id = 1")
    (row,) = rows(gateway, "SELECT version FROM config_configversion WHERE id = 1")
    rows(
        gateway,
        "INSERT INTO config_configchange (version, part, ref, at) VALUES (?, ?, '', CURRENT_TIMESTAMP)",
        row["version"],
        part,
    )


def by_name(found: list[dict[str, Any]], column: str) -> Mapping[str, dict[str, Any]]:
    """Return rows by one of their columns."""
    return {row[column]: row for row in found}
