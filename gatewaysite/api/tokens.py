"""Tokens of the management API: `sk-mgmt-`, in the form of API keys; only their SHA-256 is stored."""

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.utils import timezone

from gatewaysite.models import ApiToken
from keys import secret as secrets

PREFIX = "sk-mgmt-"
SCOPES: Mapping[str, str] = {
    "config:read": "read providers, prices, routes, exclusions, settings and jobs; export; explain",
    "config:write": "change and delete them; apply a file; purge the cache",
    "keys:read": "read tenants, members, keys, limits and budgets",
    "keys:write": "create, change, rotate and delete them",
    "usage:read": "read usage, the request log, the ledger and what budgets have left",
    "audit:read": "read the audit log",
}
# `last_used_at` is written once in so long a time.
USED_EVERY = timedelta(minutes=1)


def issue(*, name: str, user: Any, scopes: Collection[str], expires_at: datetime | None = None) -> str:
    """Save a new token and return its secret, which is nowhere else. Raises ValidationError by field."""
    token = ApiToken(name=name, user=user, scopes=sorted(set(scopes)), expires_at=expires_at)
    check_scopes(token.scopes)
    token.full_clean(exclude=["digest", "prefix"])
    secret = give_secret(token)
    token.save(force_insert=True)
    return secret


def give_secret(token: ApiToken) -> str:
    """Give an unsaved token a new secret and return it."""
    secret = secrets.issue(PREFIX)
    token.digest = secrets.digest(secret).hex()
    token.prefix = secrets.display_prefix(secret, PREFIX)
    return secret


def check_scopes(scopes: Collection[Any]) -> None:
    """Refuse what is no scope. Raises ValidationError on the field."""
    unknown = [str(scope) for scope in scopes if scope not in SCOPES]
    if unknown:
        raise ValidationError({"scopes": f"{unknown[0]!r} is no scope; there are: {', '.join(SCOPES)}"})


def found(secret: str) -> ApiToken | None:
    """Return the token with this secret, and its user; None for an unknown or mistyped one."""
    if not secrets.well_formed(secret, PREFIX):
        return None
    digest = secrets.digest(secret).hex()
    return ApiToken.objects.select_related("user").filter(digest=digest).first()


def note_use(token: ApiToken, now: datetime) -> None:
    """Write down that it was used, unless that was written lately."""
    if token.last_used_at is None or now - token.last_used_at >= USED_EVERY:
        ApiToken.objects.filter(pk=token.pk).update(last_used_at=now)


def state(token: ApiToken) -> str:
    """Say whether it is accepted now: active, disabled or expired."""
    if not token.enabled or not token.user.is_active:
        return "disabled"
    return "expired" if token.expires_at and token.expires_at <= timezone.now() else "active"
