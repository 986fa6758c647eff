"""Keeps those who add to rollups and those who put rollups right out of each other's way.

Who adds holds the lock together with others of their kind; who compares rollups with the log and the ledger,
and mends them, holds it alone. Both until their transaction ends. On SQLite one transaction writes at a time,
and begins by saying so: nothing is needed.
"""

from django.db import connection

_NUMBER = 7_262_405_031  # of nothing else in this database


def share() -> None:
    """Wait until nobody mends rollups; nobody will until this transaction ends."""
    _take("pg_advisory_xact_lock_shared")


def alone() -> None:
    """Wait until all who add to rollups have committed; nobody will add until this transaction ends."""
    _take("pg_advisory_xact_lock")


def _take(function: str) -> None:
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT {function}(%s)", [_NUMBER])
