"""Lets one process at a time bootstrap or apply a file."""

from django.db import connection

# Any number no other program of this database uses; these are the letters "gateway".
_LOCK = 0x67617465776179


def one_at_a_time() -> None:
    """Wait until no other process holds this lock, and hold it until the current transaction ends.

    SQLite needs none: its transactions begin IMMEDIATE, so there is one writer anyway.
    """
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
