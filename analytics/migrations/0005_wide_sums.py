"""Adds wide sums to what `analytics.rollup_models` has: those of callers, added up by tenant and by model.

They are new rows of the table as it is, for all that it holds. Who books waits until they are there; what a worker of the
version before books afterwards, the hourly check of sums adds.
"""

from django.db import migrations, models

TABLE = "analytics_usagerollup"
NAMES = ("grain", "starts_at", "tenant_ref", "key_ref", "provider", "model", "tags")
LOCK = 7_262_405_031  # of analytics.rollup_lock
# Grain -> the one that it is made of, and which names its rows keep.
WIDE = {
    61: (60, ("tenant_ref",)),
    62: (60, ("provider", "model")),
    1441: (1440, ("tenant_ref",)),
    1442: (1440, ("provider", "model")),
}
NOTHING = {"tenant_ref": "0", "key_ref": "0", "provider": "''", "model": "''", "tags": "''"}


def add_up(apps, schema_editor):
    """Make them."""
    connection = schema_editor.connection
    columns = _columns(connection)
    sums = ", ".join(_sum(connection.vendor, name, most) for name, most in columns.items())
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
        for grain, (made_of, kept) in WIDE.items():
            named = ", ".join(name if name in kept else zero for name, zero in NOTHING.items())
            cursor.execute(
                f"INSERT INTO {TABLE} ({', '.join((*NAMES, *columns))}) "
                f"SELECT {grain}, starts_at, {named}, {sums} FROM {TABLE} WHERE grain = {made_of} "
                f"GROUP BY starts_at, {', '.join(kept)}"
            )


def forget(apps, schema_editor):
    """Let them go."""
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(f"DELETE FROM {TABLE} WHERE grain IN ({', '.join(map(str, WIDE))})")


def _columns(connection):
    """Return the columns that are added up, and the most that each can hold."""
    with connection.cursor() as cursor:
        found = [each.name for each in connection.introspection.get_table_description(cursor, TABLE)]
    return {
        name: 2**31 - 1 if name.startswith(("latency_", "ttft_")) else 2**63 - 1
        for name in found
        if name not in {"id", *NAMES}
    }


def _sum(vendor, name, most):
    """Return a sum that fits its column; a number that no vendor can have meant stops no upgrade."""
    if vendor == "postgresql":
        return f"GREATEST(LEAST(SUM({name}), {most}), {-most})"
    # SQLite's SUM fails where PostgreSQL's goes on: the numbers are cut off before it.
    return f"SUM(MAX(MIN({name}, {2**53}), {-(2**53)}))"


class Migration(migrations.Migration):
    dependencies = [
        ("analytics", "0004_partitioned_log"),
    ]

    operations = [
        migrations.AlterField(
            model_name="usagerollup",
            name="grain",
            field=models.PositiveSmallIntegerField(
                choices=[
                    (60, "Hour"),
                    (61, "Hour of a tenant"),
                    (62, "Hour of a model"),
                    (1440, "Day (UTC)"),
                    (1441, "Day (UTC) of a tenant"),
                    (1442, "Day (UTC) of a model"),
                ]
            ),
        ),
        migrations.RunPython(add_up, forget),
    ]
