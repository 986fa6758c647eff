"""The ready-made roles: groups with permissions, made once and the administrators' from then on.

A role gets a model's permissions at the first start that knows both (one BootstrapStep for each pair), so a
later release gives what it adds, and what an administrator took away or deleted stays so.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from django.apps import apps
from django.contrib.auth.models import Group, Permission, User
from django.db import models, transaction

from gatewaysite.models import BootstrapStep

OPERATOR, BILLING, READ_ONLY = "operator", "billing", "read-only"
VERBS = ("view", "add", "change", "delete")
VIEW = ("view",)
# Whose tables operators work with; users, roles and tokens are the administrators'.
_OURS = ("config", "providers", "keys", "proxy", "analytics")
# Prompts and answers of people: whoever may look at everything else need not see them.
_SECRET = frozenset({"analytics.storedpayload"})
_MONEY: Mapping[str, Sequence[str]] = {
    "keys.tenant": VIEW,
    "keys.apikey": VIEW,
    "keys.ratelimit": VIEW,
    "keys.budget": VERBS,
    "keys.budgetwindow": VIEW,
    "keys.budgetalert": VIEW,
    "keys.alertdelivery": VIEW,
    "keys.ledgerentry": VIEW,
    "providers.provider": VIEW,
    "providers.providermodel": VIEW,
    "providers.price": VERBS,
    "analytics.requestlog": VIEW,
    "analytics.usagerollup": VIEW,
    "analytics.rerating": VERBS,
    "analytics.vendorimport": VERBS,
    "analytics.vendorcost": VERBS,
}


def make_roles() -> None:
    """Make the roles, and give them what they did not know yet. Runs at every start."""
    done = set(BootstrapStep.objects.filter(name__startswith="role ").values_list("name", flat=True))
    for role in (OPERATOR, BILLING, READ_ONLY):
        with transaction.atomic():
            if f"role {role}" not in done:
                Group.objects.get_or_create(name=role)
            group = Group.objects.filter(name=role).first()
            new = {f"role {role}": ()} | {
                f"role {role} {label}": verbs for label, verbs in _permissions_of(role)
            }
            new = {step: verbs for step, verbs in new.items() if step not in done}
            if group is not None:
                group.permissions.add(*_found(new))
            BootstrapStep.objects.bulk_create([BootstrapStep(name=step) for step in new])


def _permissions_of(role: str) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield ("app.model", verbs)."""
    if role == BILLING:
        yield from _MONEY.items()
        return
    verbs = VERBS if role == OPERATOR else VIEW
    for model in _models():
        label = model._meta.label_lower
        if role == OPERATOR or label not in _SECRET:
            yield label, verbs
    # Operators choose people as members of tenants; the list of people is nothing for others to read.
    if role == OPERATOR:
        yield "auth.user", VIEW
    yield "auditlog.logentry", VIEW


def _models() -> Iterator[type[models.Model]]:
    for app in _OURS:
        yield from apps.get_app_config(app).get_models()


def _found(steps: Mapping[str, Sequence[str]]) -> list[Permission]:
    wanted = {
        (label.partition(".")[0], f"{verb}_{label.partition('.')[2]}")
        for step, verbs in steps.items()
        for label in [step.rpartition(" ")[2]]
        for verb in verbs
    }
    apps_ = {app for app, _ in wanted}
    return [
        permission
        for permission in Permission.objects.filter(content_type__app_label__in=apps_).select_related(
            "content_type"
        )
        if (permission.content_type.app_label, permission.codename) in wanted
    ]


def staff_by_role(instance: Any, action: str, pk_set: set[int] | None, **_: Any) -> None:
    """Let who gets a role into the admin, and who loses the last one out (receiver of m2m_changed)."""
    if not action.startswith("post_"):
        return
    if isinstance(instance, User):
        users = [instance]
    elif pk_set:  # from the role's side; a role that is emptied at once does not say of whom
        users = list(User.objects.filter(pk__in=pk_set))
    else:
        return
    for user in users:
        _let_in_or_out(user, given=action == "post_add")


def _let_in_or_out(user: User, *, given: bool) -> None:
    may = given or user.is_superuser or user.groups.exists() or user.user_permissions.exists()
    if user.is_staff is not may and (given or not may):
        user.is_staff = may
        user.save(update_fields=["is_staff"])
