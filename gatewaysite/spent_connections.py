"""Closes a request's database connections when it ends: Django serves each from a thread of its own.

That thread ends with the request. CONN_MAX_AGE would leave its connection open, for nobody to use again and,
as workers collect garbage rarely, for nobody to close: PostgreSQL soon has no more to give.
"""

from typing import Any

from django.core.signals import request_finished
from django.db import connections


def close_spent_connections(**_: Any) -> None:
    """Close this thread's connections, but not inside a transaction: that is a test's."""
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close()


def install() -> None:
    """Do so after each request from now on."""
    request_finished.connect(close_spent_connections, dispatch_uid="spent-connections")
