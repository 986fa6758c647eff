"""What the tests of the dashboard need: tenants with people, keys, budgets and a past."""

from datetime import UTC, datetime
from typing import Any

from django.contrib.auth.models import Permission, User
from django.test import Client
from django.utils import timezone

from analytics.models import RequestLog, UsageRollup
from analytics.tests.wide_sums import widen
from keys.models import ApiKey, Member, Tenant

ROLES = ("owner", "member", "viewer")


def person(name: str, tenant: Tenant | None = None, role: str = "owner") -> User:
    """Return a user, a member of `tenant` if there is one."""
    user = User.objects.create_user(name, f"{name}@example.com")
    if tenant is not None:
        Member.objects.create(tenant=tenant, user=user, role=role)
    return user


def browser(user: User) -> Client:
    """Return a signed-in browser."""
    client = Client()
    client.force_login(user)
    return client


def operator() -> User:
    """Return somebody of the staff who may view tenants."""
    user = User.objects.create_user("operator", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_tenant"))
    return user


def key_of(tenant: Tenant, name: str, **fields: Any) -> ApiKey:
    """Return a saved key."""
    key, _ = ApiKey.issue(tenant=tenant, name=name, **fields)
    key.save()
    return key


def logged(tenant: Tenant, number: int = 1, **fields: Any) -> RequestLog:
    """Return a request of the past."""
    usual: dict[str, Any] = {
        "completion_id": f"completion-{tenant.pk}-{number}",
        "request_id": f"request-{tenant.pk}-{number}",
        "at": timezone.now(),
        "endpoint": "chat.completions",
        "requested_model": "demo/echo",
        "provider": "demo",
        "model": "echo",
        "status": 200,
        "outcome": "ok",
        "cost_nanousd": 1,
    }
    return RequestLog.objects.create(tenant_ref=tenant.pk, **{**usual, **fields})


def summed(tenant: Tenant, at: datetime, **figures: Any) -> None:
    """Write sums of an hour, and of its day."""
    at = at.astimezone(UTC)
    hour, day = (
        at.replace(minute=0, second=0, microsecond=0),
        at.replace(hour=0, minute=0, second=0, microsecond=0),
    )
    for grain, starts_at in ((UsageRollup.Grain.HOUR, hour), (UsageRollup.Grain.DAY, day)):
        UsageRollup.objects.create(grain=grain, starts_at=starts_at, tenant_ref=tenant.pk, **figures)
    widen()
