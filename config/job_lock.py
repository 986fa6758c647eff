"""A lock by which of all processes one at a time runs a job. It ends with its process, however that ends.

On PostgreSQL it is an advisory lock of the session, on SQLite (where all are on one machine) a file's.
"""

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings
from django.db import connection


@contextmanager
def alone(name: str) -> Iterator[bool]:
    """Hold the lock of a name for the block; False: somebody else does. Nobody waits."""
    locked = _by_session(name) if connection.vendor == "postgresql" else _by_file(name)
    with locked as mine:
        yield mine


@contextmanager
def _by_session(name: str) -> Iterator[bool]:
    digest = hashlib.sha256(f"gateway-job:{name}".encode()).digest()
    number = int.from_bytes(digest[:8], signed=True)
    # A session of its own: the job's may be closed in its middle, and may hold a lock more than once.
    session = connection.copy()
    try:
        with session.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_lock(%s)", [number])
            (mine,) = cursor.fetchone()
        yield bool(mine)
    finally:
        session.close()  # and the lock with it


@contextmanager
def _by_file(name: str) -> Iterator[bool]:
    folder = settings.GATEWAY.data_dir / "jobs"
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            mine = False
        else:
            mine = True
        yield mine
    finally:
        os.close(descriptor)
