"""Who listens to users and to the audit log. Imported once, when the apps are loaded."""

from typing import Any, NoReturn

from auditlog import get_logentry_model
from django.contrib.auth.models import User
from django.db.models.signals import m2m_changed, post_save, pre_delete, pre_save

from gatewaysite import audit_chain, audit_events, audit_middleware, roles
from keys.append_only import AppendOnly


def _refuse_change(sender: Any, instance: Any, **_: Any) -> None:
    """Refuse in the ORM what the database refuses too (migration gatewaysite/0003)."""
    if not instance._state.adding:  # noqa: SLF001 - Django's documented model API
        raise AppendOnly(sender)


def _refuse_deletion(sender: Any, **_: Any) -> NoReturn:
    raise AppendOnly(sender)


log = get_logentry_model()
pre_save.connect(_refuse_change, sender=log, dispatch_uid="audit.refuse_change")
pre_delete.connect(_refuse_deletion, sender=log, dispatch_uid="audit.refuse_deletion")
pre_save.connect(audit_middleware.name_actor, sender=log, dispatch_uid="audit.name_actor")
post_save.connect(audit_chain.seal_when_committed, sender=log, dispatch_uid="audit.seal")
audit_events.connect()
m2m_changed.connect(roles.staff_by_role, sender=User.groups.through, dispatch_uid="roles.staff")
