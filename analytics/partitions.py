"""The request log's partitions on PostgreSQL: one for each day (UTC), and one for what is of no such day.

A day's partition is there before the day. If nobody has made it in time, its rows are in the default one, and
are moved when it is made; so are rows that come late for a day that was dropped, but they stay there, and are
deleted as old. Days are dropped whole: detached first, which locks the log for a moment alone.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, time, timedelta

from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper

from analytics.models import RequestLog

TABLE = RequestLog._meta.db_table
DEFAULT = f"{TABLE}_default"
DAYS_AHEAD = 7
# Whoever waits for the log's lock makes everybody wait behind him: not for long, there is another time.
LOCK_TIMEOUT = "5s"


def make_ahead(now: datetime, *, kept_from: datetime | None = None) -> int:
    """Make what is missing of today's and the next days', and of days whose rows are in the default one.

    Days before `kept_from` are left there. Returns how many partitions were made.
    """
    today = now.astimezone(UTC).date()
    wanted = {today + timedelta(days=ahead) for ahead in range(DAYS_AHEAD + 1)}
    strays = _days_of_strays(kept_from)
    missing = sorted((wanted | strays) - set(attached()))
    for day in missing:
        with _locking():
            _make(day)
    if missing:
        with connection.cursor() as cursor:
            # Autovacuum looks at partitions alone; the planner asks for the whole as well.
            cursor.execute(f"ANALYZE {TABLE}")
    return len(missing)


def make_days(since: datetime, until: datetime) -> None:
    """Make what is missing of the partitions of a past period."""
    first, last = (moment.astimezone(UTC).date() for moment in (since, until))
    there = set(attached())
    for day in (first + timedelta(days=after) for after in range((last - first).days + 1)):
        if day not in there:
            with _locking():
                _make(day)


def drop_before(moment: datetime) -> int:
    """Drop the partitions of days that end by that moment; return how many."""
    for day in attached():
        if day < moment.astimezone(UTC).date():
            with _locking() as cursor:
                cursor.execute(f"ALTER TABLE {TABLE} DETACH PARTITION {name_of(day)}")
    # Those that a run before this one has detached, and did not come to drop, are among them.
    detached = _detached()
    for name in detached:
        with connection.cursor() as cursor:
            cursor.execute(f"DROP TABLE {name}")
    return len(detached)


def attached() -> list[date]:
    """Return the days that have a partition, in order."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = %s::regclass", [TABLE]
        )
        return sorted(day for (name,) in cursor.fetchall() if (day := _day_of(name)))


def name_of(day: date) -> str:
    """Return the name of a day's partition."""
    return f"{TABLE}_p{day:%Y%m%d}"


def _make(day: date) -> None:
    name, bounds = name_of(day), (_midnight(day), _midnight(day + timedelta(days=1)))
    with connection.cursor() as cursor:
        # Nobody puts a row of that day into the default partition meanwhile.
        cursor.execute(f"LOCK TABLE {DEFAULT} IN ACCESS EXCLUSIVE MODE")
        cursor.execute(f"CREATE TABLE {name} (LIKE {TABLE} INCLUDING ALL)")
        cursor.execute(
            f"WITH moved AS (DELETE FROM {DEFAULT} WHERE at >= %s AND at < %s RETURNING *) "  # noqa: S608
            f"INSERT INTO {name} SELECT * FROM moved",
            bounds,
        )
        cursor.execute(
            f"ALTER TABLE {TABLE} ATTACH PARTITION {name} FOR VALUES FROM ('{bounds[0]}') TO ('{bounds[1]}')"
        )


def _days_of_strays(kept_from: datetime | None) -> set[date]:
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT DISTINCT (at AT TIME ZONE 'UTC')::date FROM {DEFAULT} "  # noqa: S608 - our own table
            "WHERE at >= coalesce(%s::timestamptz, '-infinity')",
            [kept_from],
        )
        return {day for (day,) in cursor.fetchall()}


def _detached() -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT oid::regclass::text FROM pg_class WHERE relkind = 'r' AND NOT relispartition "
            "AND relname LIKE %s "
            "AND relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = %s::regclass)",
            [rf"{TABLE}\_p%", TABLE],
        )
        return sorted(name for (name,) in cursor.fetchall() if _day_of(name))


@contextmanager
def _locking() -> Iterator[CursorWrapper]:
    """Run a transaction that does not wait long for a lock."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
        yield cursor


def _day_of(name: str) -> date | None:
    digits = name.strip('"').removeprefix(f"{TABLE}_p")
    return datetime.strptime(digits, "%Y%m%d").date() if len(digits) == 8 and digits.isdigit() else None  # noqa: DTZ007 - a date


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
