"""Which rows the audit log follows, and what it may hold of a secret."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from auditlog import get_logentry_model
from auditlog.registry import auditlog
from django.db import models

from config.vault import reference


def audited(model: type[models.Model], *, hidden: Sequence[str] = (), skipped: Collection[str] = ()) -> None:
    """Record every change of `model`: `hidden` columns without their values, `skipped` ones not at all."""
    columns = [field.name for field in model._meta.concrete_fields]
    auditlog.register(
        model,
        include_fields=[name for name in columns if name not in {"id", *skipped}],
        mask_fields=list(hidden),
        mask_callable="config.audit.hide",
    )


def noted(row: models.Model, changes: Mapping[str, tuple[Any, Any]]) -> None:
    """Record what was done to `row` by other means than saving it: column -> (before, after)."""
    log = get_logentry_model()
    told = {name: [str(before), str(after)] for name, (before, after) in changes.items()}
    log.objects.log_create(row, action=log.Action.UPDATE, changes=told)


def hide(value: str) -> str:
    """Return what the audit log may hold of a secret value."""
    if value in {"", "None", "{}"}:
        return "(none)"
    return value if reference(value) else "(hidden)"
