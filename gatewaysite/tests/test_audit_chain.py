"""The audit log: nobody changes it, and its chain tells if somebody did."""

import io
import sqlite3
from importlib import import_module

import pytest
from auditlog.models import LogEntry
from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import Error, connection, transaction
from django.test import Client
from django.urls import reverse

from config.tests.admin_kit import messages_in, operator, page
from gatewaysite.audit_chain import BEGINNING, entries, seal_new, verify
from gatewaysite.audit_events import EVENTS
from gatewaysite.models import AuditSeal
from gatewaysite.tasks import seal_audit_log
from keys.append_only import AppendOnly
from keys.models import Member, Tenant
from tests.servers import gateway_env, manage

migration = import_module("gatewaysite.migrations.0003_append_only_audit_log")

pytestmark = pytest.mark.django_db


@pytest.fixture
def log():
    """Three sealed entries."""
    for name in ("a", "b", "c"):
        Tenant.objects.create(name=name)
    assert seal_new() == 3
    return list(LogEntry.objects.order_by("pk"))


@pytest.fixture
def protected():
    """The database's triggers, as they are after `migrate`: tests on SQLite do without (conftest.py)."""
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            for statement in migration.SQLITE:
                cursor.execute(statement)  # goes with the test's transaction


def sql(statement, *values):
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET LOCAL session_replication_role = replica")  # as one does who is up to no good
        cursor.execute(statement, values)


def told(**options):
    out, err = io.StringIO(), io.StringIO()
    try:
        call_command("verify_audit_log", stdout=out, stderr=err, **options)
    except CommandError as problem:
        return f"{err.getvalue()}{problem}"
    return out.getvalue()


def test_it_holds_when_nobody_touched_it(log):
    head = AuditSeal.objects.latest("pk").digest
    assert told() == f"The audit log holds: 3 entries, head {head}\n"
    assert AuditSeal.objects.earliest("pk").previous == BEGINNING
    assert told(last=2).startswith("The audit log holds: 2 entries")


def test_an_entry_is_sealed_when_its_transaction_is_committed(django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        Tenant.objects.create(name="a")
        Tenant.objects.create(name="b")
        assert not AuditSeal.objects.exists()
    assert list(AuditSeal.objects.values_list("entry_ref", flat=True)) == list(
        LogEntry.objects.order_by("pk").values_list("pk", flat=True)
    )
    assert seal_new() == 0


def test_what_a_crash_left_unsealed_is_sealed_by_the_task(log):
    Tenant.objects.create(name="d")
    assert "is not sealed" in told()
    assert seal_audit_log() == "1 entry sealed"
    assert "holds: 4 entries" in told()


@pytest.mark.parametrize(
    "column",
    [
        "object_repr = 'x'",
        "changes = '{}'",
        "action = 2",
        "remote_addr = '10.0.0.1'",
        "actor_email = 'x@y.test'",
    ],
)
def test_it_says_which_entry_was_changed(log, column):
    sql(f"UPDATE auditlog_logentry SET {column} WHERE id = %s", log[1].pk)
    assert told() == (
        f"entry {log[1].pk} is changed: it is not what was sealed\nThe audit log does not hold: 1 problems."
    )


def test_it_says_which_entry_is_missing(log):
    sql("DELETE FROM auditlog_logentry WHERE id = %s", log[1].pk)
    assert f"entry {log[1].pk} is missing" in told()


def test_it_says_where_a_seal_is_missing(log):
    sql("DELETE FROM auditlog_logentry WHERE id = %s", log[1].pk)
    sql("DELETE FROM gatewaysite_auditseal WHERE entry_ref = %s", log[1].pk)
    assert f"of entry {log[2].pk} does not follow the seal before: one is missing" in told()


def test_a_head_that_was_noted_shows_whether_the_end_was_cut_off(log):
    head = verify().head
    assert "holds" in told(expect=head)
    sql("DELETE FROM auditlog_logentry WHERE id = %s", log[2].pk)
    sql("DELETE FROM gatewaysite_auditseal WHERE entry_ref = %s", log[2].pk)
    assert "holds" in told()
    assert "its end was cut off or made anew" in told(expect=head)


def test_another_actor_is_noticed_and_a_deleted_one_is_not_a_change():
    client = operator()
    client.post("/admin/proxy/cacheexclusion/add/", {"kind": "exact", "pattern": "m"})
    entry = LogEntry.objects.get(content_type__model="cacheexclusion")
    actor, other = entry.actor, User.objects.create(username="eve")
    seal_new()
    sql("UPDATE auditlog_logentry SET actor_id = %s WHERE id = %s", other.pk, entry.pk)
    assert f"entry {entry.pk} is changed: it names another user" in told()
    sql("UPDATE auditlog_logentry SET actor_id = %s WHERE id = %s", actor.pk, entry.pk)
    actor.delete()
    seal_new()
    assert "holds" in told()
    assert "user-0" in messages_in(page(operator(), "/admin/auditlog/logentry/"))


# ---------------------------------------------------------------- append-only


def test_the_orm_refuses_to_change_or_delete(log):
    for change in (log[0].save, log[0].delete, LogEntry.objects.all().delete, AuditSeal.objects.all().delete):
        with pytest.raises(AppendOnly, match="append-only"), transaction.atomic():
            change()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE auditlog_logentry SET object_repr = 'x'",
        "UPDATE auditlog_logentry SET actor_id = 1",
        "DELETE FROM auditlog_logentry",
        "UPDATE gatewaysite_auditseal SET digest = 'x'",
        "DELETE FROM gatewaysite_auditseal",
    ],
)
def test_the_database_refuses_too(log, protected, statement):
    with (
        pytest.raises(Error, match="audit log is append-only"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(statement)
    assert "holds" in told()


def test_a_user_can_be_deleted_all_the_same(protected):
    operator().post("/admin/proxy/cacheexclusion/add/", {"kind": "exact", "pattern": "m"})
    entry = LogEntry.objects.get(content_type__model="cacheexclusion")
    entry.actor.delete()
    entry.refresh_from_db()
    assert (entry.actor, entry.actor_email) == (None, "user-0")


def test_after_all_migrations_the_triggers_are_there(tmp_path):
    """SQLite drops a table's triggers when a migration rebuilds it: one of ours must make them again."""
    manage("migrate", "--verbosity", "0", env=gateway_env(tmp_path, DATABASE_URL=""))
    with sqlite3.connect(tmp_path / "gateway.sqlite3") as database:
        found = {
            name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")
        }
    database.close()
    assert found >= {statement.split()[2] for statement in migration.SQLITE}


# ---------------------------------------------------------------- the admin, and what people do


def test_the_admin_shows_seals_and_verifies_them(log):
    client = operator()
    seal_new()
    assert log[0].pk in {each.pk for each in entries() if each.seal}
    url = reverse("admin:auditlog_logentry_change", args=[log[0].pk])
    assert "The entry is as it was sealed." in messages_in(page(client, url))
    verified = client.get("/admin/auditlog/logentry/verify/", follow=True)
    assert "The chain holds: 4 entries" in messages_in(verified.content.decode())
    sql("UPDATE auditlog_logentry SET object_repr = 'x' WHERE id = %s", log[0].pk)
    assert "The entry is NOT what was sealed." in messages_in(page(client, url))
    verified = client.get("/admin/auditlog/logentry/verify/", follow=True)
    assert f"entry {log[0].pk} is changed" in messages_in(verified.content.decode())


def test_sign_ins_failed_ones_and_sign_outs_are_in_it():
    User.objects.create_user("eve", password="pass-for-tests")
    client = Client()
    for name, password in (("eve", "wrong"), ("my-password-typed-here", "x"), ("eve", "pass-for-tests")):
        client.post("/accounts/login/", {"username": name, "password": password})
    client.post("/accounts/logout/")
    rows = [
        (entry.additional_data["event"], entry.object_repr, str(entry.actor), entry.remote_addr)
        for entry in LogEntry.objects.filter(action=LogEntry.Action.ACCESS).order_by("pk")
    ]
    assert rows == [
        ("failed to sign in", "eve", "None", "127.0.0.1"),
        ("failed to sign in", "(no such user)", "None", "127.0.0.1"),
        ("signed in", "eve", "eve", "127.0.0.1"),
        ("signed out", "eve", "eve", "127.0.0.1"),
    ]
    assert {event for event, *_ in rows} <= set(EVENTS)
    assert "failed to sign in" in messages_in(page(operator(), "/admin/auditlog/logentry/"))


def test_members_are_in_it():
    Member.objects.create(
        tenant=Tenant.objects.create(name="acme"), user=User.objects.create(username="eve"), role="owner"
    )
    entry = LogEntry.objects.get(content_type__model="member")
    assert entry.changes_dict["tenant"] == ["None", "acme"]
    assert entry.changes_dict["role"] == ["None", "owner"]
