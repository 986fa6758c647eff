"""Makes the request log on PostgreSQL a table of partitions by day; see `analytics.partitions`.

For Django nothing changes. A key of a partitioned table holds the column that it is divided by: rows are unique
by (completion_id, at), which is the same, since a record's `at` is no different when it is delivered again.
"""

from datetime import UTC, datetime, time, timedelta

from django.db import migrations

TABLE = "analytics_requestlog"
DAYS_AHEAD = 7
INDEXES = (
    f'CREATE INDEX requestlog_newest ON {TABLE} (at DESC, id DESC)',
    f'CREATE INDEX requestlog_tenant ON {TABLE} (tenant_ref, at DESC)',
    f'CREATE INDEX requestlog_key ON {TABLE} (key_ref, at DESC)',
    f'CREATE INDEX requestlog_request ON {TABLE} (request_id)',
)


def partition(apps, schema_editor):
    """Move rows into partitions of their days."""
    if schema_editor.connection.vendor != "postgresql":
        return
    _run(
        schema_editor,
        f"ALTER TABLE {TABLE} RENAME TO {TABLE}_whole",
        f"CREATE TABLE {TABLE} (LIKE {TABLE}_whole INCLUDING CONSTRAINTS) PARTITION BY RANGE (at)",
        f"CREATE TABLE {TABLE}_default PARTITION OF {TABLE} DEFAULT",
    )
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(f"SELECT DISTINCT (at AT TIME ZONE 'UTC')::date FROM {TABLE}_whole")
        days = {day for (day,) in cursor.fetchall()}
    today = datetime.now(UTC).date()
    days |= {today + timedelta(days=ahead) for ahead in range(DAYS_AHEAD + 1)}
    for day in sorted(days):
        since, until = (datetime.combine(each, time(), UTC) for each in (day, day + timedelta(days=1)))
        _run(
            schema_editor,
            f"CREATE TABLE {TABLE}_p{day:%Y%m%d} PARTITION OF {TABLE} FOR VALUES FROM ('{since}') TO ('{until}')",
        )
    _replace(schema_editor, keys=("id, at", "completion_id, at"))


def join(apps, schema_editor):
    """Undo it: one table again."""
    if schema_editor.connection.vendor != "postgresql":
        return
    _run(
        schema_editor,
        f"ALTER TABLE {TABLE} RENAME TO {TABLE}_whole",
        f"CREATE TABLE {TABLE} (LIKE {TABLE}_whole INCLUDING CONSTRAINTS)",
    )
    _replace(schema_editor, keys=("id", "completion_id"))


def _replace(schema_editor, *, keys):
    """Take the rows over, then keys and indexes, whose names are free when the former table is gone."""
    primary, once = keys
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(f"SELECT pg_get_serial_sequence('{TABLE}_whole', 'id')")
        (numbers,) = cursor.fetchone()
        cursor.execute(f"SELECT last_value + is_called::int FROM {numbers}")
        (following,) = cursor.fetchone()
    _run(
        schema_editor,
        f"INSERT INTO {TABLE} SELECT * FROM {TABLE}_whole",
        # With the former table goes the sequence that it owns.
        f"DROP TABLE {TABLE}_whole",
        f"CREATE SEQUENCE {TABLE}_id_seq START {following} OWNED BY {TABLE}.id",
        f"ALTER TABLE {TABLE} ALTER id SET DEFAULT nextval('{TABLE}_id_seq')",
        f"ALTER TABLE {TABLE} ADD CONSTRAINT {TABLE}_pkey PRIMARY KEY ({primary})",
        f"ALTER TABLE {TABLE} ADD CONSTRAINT requestlog_once UNIQUE ({once})",
        *INDEXES,
        f"ANALYZE {TABLE}",
    )


def _run(schema_editor, *statements):
    for statement in statements:
        schema_editor.execute(statement)


def leave_room(apps, schema_editor):
    """Leave room in the pages of sums: a row that is added to every second stays in its page."""
    if schema_editor.connection.vendor == "postgresql":
        _run(schema_editor, "ALTER TABLE analytics_usagerollup SET (fillfactor = 60)")


class Migration(migrations.Migration):
    dependencies = [
        ("analytics", "0003_rollups_and_payloads"),
    ]

    operations = [
        migrations.RunPython(partition, join),
        migrations.RunPython(leave_room, migrations.RunPython.noop),
    ]
