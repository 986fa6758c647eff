from django.db import migrations

# An entry of the audit log and its seal are inserted and stay. The one change that is allowed is Django's own
# when a user is deleted: the actor becomes empty (actor_email keeps the name).
# A later migration that makes SQLite rebuild one of the tables (most that alter it do, auditlog's among them)
# drops the triggers with it: one here must run `protect` again, and a test tells if it does not.
COLUMNS = (
    "id, content_type_id, object_pk, object_id, object_repr, serialized_data, action, changes_text, changes, "
    "cid, remote_addr, remote_port, timestamp, additional_data, actor_email"
)
REFUSAL = "the audit log is append-only"
SQLITE = (
    f"""
    CREATE TRIGGER auditlog_logentry_no_update BEFORE UPDATE OF {COLUMNS} ON auditlog_logentry
    BEGIN SELECT RAISE(ABORT, '{REFUSAL}'); END
    """,
    f"""
    CREATE TRIGGER auditlog_logentry_no_other_actor BEFORE UPDATE OF actor_id ON auditlog_logentry
    WHEN NEW.actor_id IS NOT NULL
    BEGIN SELECT RAISE(ABORT, '{REFUSAL}'); END
    """,
    f"""
    CREATE TRIGGER auditlog_logentry_no_delete BEFORE DELETE ON auditlog_logentry
    BEGIN SELECT RAISE(ABORT, '{REFUSAL}'); END
    """,
    f"""
    CREATE TRIGGER gatewaysite_auditseal_no_update BEFORE UPDATE ON gatewaysite_auditseal
    BEGIN SELECT RAISE(ABORT, '{REFUSAL}'); END
    """,
    f"""
    CREATE TRIGGER gatewaysite_auditseal_no_delete BEFORE DELETE ON gatewaysite_auditseal
    BEGIN SELECT RAISE(ABORT, '{REFUSAL}'); END
    """,
)
SQLITE_UNDO = (
    "DROP TRIGGER auditlog_logentry_no_update",
    "DROP TRIGGER auditlog_logentry_no_other_actor",
    "DROP TRIGGER auditlog_logentry_no_delete",
    "DROP TRIGGER gatewaysite_auditseal_no_update",
    "DROP TRIGGER gatewaysite_auditseal_no_delete",
)
POSTGRESQL = (
    f"""
    CREATE FUNCTION gatewaysite_audit_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'UPDATE' AND TG_TABLE_NAME = 'auditlog_logentry' THEN
            IF NEW.actor_id IS NULL THEN
                OLD.actor_id := NULL;
                IF OLD IS NOT DISTINCT FROM NEW THEN RETURN NEW; END IF;
            END IF;
        END IF;
        RAISE EXCEPTION '{REFUSAL}' USING ERRCODE = 'integrity_constraint_violation';
    END $$
    """,
    """
    CREATE TRIGGER auditlog_logentry_append_only BEFORE UPDATE OR DELETE ON auditlog_logentry
    FOR EACH ROW EXECUTE FUNCTION gatewaysite_audit_append_only()
    """,
    """
    CREATE TRIGGER gatewaysite_auditseal_append_only BEFORE UPDATE OR DELETE ON gatewaysite_auditseal
    FOR EACH ROW EXECUTE FUNCTION gatewaysite_audit_append_only()
    """,
)
POSTGRESQL_UNDO = (
    "DROP TRIGGER auditlog_logentry_append_only ON auditlog_logentry",
    "DROP TRIGGER gatewaysite_auditseal_append_only ON gatewaysite_auditseal",
    "DROP FUNCTION gatewaysite_audit_append_only()",
)


def protect(apps, schema_editor):
    """Have the database refuse to change or delete entries of the audit log and their seals."""
    for statement in {"sqlite": SQLITE, "postgresql": POSTGRESQL}.get(schema_editor.connection.vendor, ()):
        schema_editor.execute(statement)


def unprotect(apps, schema_editor):
    """Undo `protect`."""
    undo = {"sqlite": SQLITE_UNDO, "postgresql": POSTGRESQL_UNDO}
    for statement in undo.get(schema_editor.connection.vendor, ()):
        schema_editor.execute(statement)


class Migration(migrations.Migration):

    dependencies = [
        ('gatewaysite', '0002_tokens_and_seals'),
        ('auditlog', '0017_add_actor_email'),
    ]

    operations = [
        migrations.RunPython(protect, unprotect),
    ]
