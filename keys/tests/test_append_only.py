import sqlite3
from datetime import timedelta
from importlib import import_module

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import Error, connection, transaction
from django.utils import timezone

from keys.append_only import AppendOnly
from keys.models import LedgerEntry, LedgerRetention
from tests.servers import gateway_env, manage

migration = import_module("keys.migrations.0005_append_only_ledger")

pytestmark = pytest.mark.django_db

TRIGGERS = "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'keys_ledgerentry'"


@pytest.fixture
def protected():
    """The database's triggers, as they are after `migrate`: tests on SQLite do without (conftest.py)."""
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            for statement in migration.SQLITE:
                cursor.execute(statement)  # goes with the test's transaction


def entry(name="a", *, days=0, **fields):
    return LedgerEntry.objects.create(
        completion_id=name, at=timezone.now() - timedelta(days=days), provider="p", model="m", **fields
    )


def ids():
    return set(LedgerEntry.objects.values_list("completion_id", flat=True))


def _all(row):
    return LedgerEntry.objects.filter(pk=row.pk)


@pytest.mark.parametrize(
    "change",
    [
        lambda row: row.save(),
        lambda row: row.save(update_fields=["cost_nanousd"]),
        lambda row: row.delete(),
        lambda row: _all(row).update(cost_nanousd=0),
        lambda row: _all(row).delete(),
        lambda row: _all(row).bulk_update([row], ["cost_nanousd"]),
        lambda row: _all(row).update_or_create(completion_id="a", defaults={"cost_nanousd": 0}),
        lambda row: _all(row).bulk_create(
            [row], update_conflicts=True, unique_fields=["id"], update_fields=["cost_nanousd"]
        ),
    ],
)
def test_the_orm_refuses_to_change_or_delete_an_entry(change):
    row = entry(cost_nanousd=5)
    row.cost_nanousd = 0
    with pytest.raises(AppendOnly, match="ledger entries are append-only"):
        change(row)
    assert LedgerEntry.objects.get().cost_nanousd == 5


def test_a_new_row_with_the_number_of_another_replaces_nothing():
    row = entry(cost_nanousd=5)
    with pytest.raises(Error), transaction.atomic():
        LedgerEntry(pk=row.pk, completion_id="b", at=row.at, provider="p", model="m").save()
    assert ids() == {"a"}


@pytest.mark.parametrize(
    "statement", ["UPDATE keys_ledgerentry SET cost_nanousd = 0", "DELETE FROM keys_ledgerentry"]
)
def test_the_database_refuses_too(protected, statement):
    entry(cost_nanousd=5)
    with (
        pytest.raises(Error, match="ledger entries are append-only"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(statement)
    assert LedgerEntry.objects.get().cost_nanousd == 5


def test_old_entries_may_be_purged_and_no_others(protected):
    for days in (0, 61, 63, 400):
        entry(f"{days} days", days=days)
    with pytest.raises(CommandError, match="--before the last 62 days are kept"):
        call_command("purge_ledger", before=f"{timezone.now() - timedelta(days=61):%Y-%m-%d}")
    assert len(ids()) == 4
    call_command("purge_ledger", before=f"{timezone.now() - timedelta(days=100):%Y-%m-%d}")
    assert ids() == {"0 days", "61 days", "63 days"}
    with pytest.raises(Error), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("DELETE FROM keys_ledgerentry")
    kept = LedgerRetention.objects.get().keeps_from
    call_command("purge_ledger", before=f"{timezone.now() - timedelta(days=300):%Y-%m-%d}")
    assert LedgerRetention.objects.get().keeps_from == kept


def test_after_all_migrations_the_triggers_are_there(tmp_path):
    """SQLite drops a table's triggers when a migration rebuilds it: that one must make them again."""
    manage("migrate", "--verbosity", "0", env=gateway_env(tmp_path, DATABASE_URL=""))
    with sqlite3.connect(tmp_path / "gateway.sqlite3") as database:
        found = database.execute(TRIGGERS).fetchall()
    database.close()
    assert {name for (name,) in found} == {"keys_ledgerentry_no_update", "keys_ledgerentry_no_delete"}
    manage("migrate", "keys", "0004", "--verbosity", "0", env=gateway_env(tmp_path, DATABASE_URL=""))
    with sqlite3.connect(tmp_path / "gateway.sqlite3") as database:
        left = database.execute(TRIGGERS).fetchall()
    database.close()
    assert left == []
