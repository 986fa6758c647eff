"""Who and what is in the demo data: tenants with their keys, limits and members, and vendors' models.

All of it has a name that begins with "demo-".
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from django.contrib.auth import get_user_model

from analytics.models import RequestLog
from keys.limits import RateRule
from keys.models import ApiKey, Budget, Member, RateLimit, Tenant
from providers.builtin_prices import write_builtin_prices
from providers.models import Provider

PREFIX = "demo-"
# What a budget holds until it is known what was spent of it.
UNKNOWN_AMOUNT = 1


class Model(NamedTuple):
    """A vendor's model: how often it is asked for, and how it answers."""

    provider: str
    name: str
    share: float
    prompt: int
    completion: int
    tokens_per_s: float
    first_ms: float


class Team(NamedTuple):
    """A tenant and its keys; `share`: of all requests. `payload_days`: as a tenant's."""

    name: str
    zone: str
    share: float
    keys: tuple[tuple[str, dict[str, str]], ...]
    payload_days: int = 0


VENDORS = (
    ("demo-openai", "openai", "https://api.openai.com/v1"),
    ("demo-anthropic", "anthropic", "https://api.anthropic.com"),
    ("demo-gemini", "gemini", "https://generativelanguage.googleapis.com"),
    ("demo-mistral", "mistral", "https://api.mistral.ai/v1"),
)
MODELS = (
    Model("demo-openai", "gpt-4o-mini", 0.34, 900, 180, 95, 420),
    Model("demo-openai", "gpt-4o", 0.18, 1_400, 320, 70, 520),
    Model("demo-anthropic", "claude-sonnet-4-5", 0.16, 2_600, 480, 62, 780),
    Model("demo-anthropic", "claude-haiku-4-5", 0.12, 1_100, 220, 130, 380),
    Model("demo-gemini", "gemini-2.5-flash", 0.13, 1_700, 260, 160, 340),
    Model("demo-mistral", "mistral-small-latest", 0.07, 800, 200, 110, 300),
)
TEAMS = (
    Team(
        "demo-acme",
        "Europe/Berlin",
        0.38,
        (
            ("demo-acme-search", {"team": "search", "env": "live"}),
            ("demo-acme-support", {"team": "support", "env": "live"}),
            ("demo-acme-ci", {"team": "search", "env": "test"}),
        ),
        payload_days=14,
    ),
    Team(
        "demo-globex",
        "America/New_York",
        0.29,
        (("demo-globex-app", {"team": "app"}), ("demo-globex-batch", {"team": "data"})),
    ),
    Team("demo-initech", "Asia/Kolkata", 0.2, (("demo-initech-chat", {"team": "chat"}),)),
    Team("demo-umbrella", "Australia/Sydney", 0.13, (("demo-umbrella-lab", {}),)),
)


@dataclass(slots=True)
class Caller:
    """A key, with its tenant's zone; `share`: of all requests. `limits` measure them."""

    key: ApiKey
    zone: str
    share: float
    limits: Sequence[RateRule] = ()


@dataclass(slots=True)
class Cast:
    """What was made. `passwords`: of people, by their names, which are nowhere else."""

    callers: list[Caller] = field(default_factory=list)
    budgets: list[Budget] = field(default_factory=list)
    passwords: dict[str, str] = field(default_factory=dict)


def is_there() -> bool:
    """Is there any demo data?"""
    return Tenant.objects.filter(name__startswith=PREFIX).exists()


def has_real_traffic() -> bool:
    """Has anybody else than demo tenants asked for anything?"""
    own = Tenant.objects.filter(name__startswith=PREFIX).values_list("pk", flat=True)
    found = RequestLog.objects.order_by("-at", "-id").values_list("tenant_ref", flat=True)[:1_000]
    return any(tenant not in set(own) for tenant in found)


def make() -> Cast:
    """Make the rows."""
    cast = Cast()
    for name, dialect, url in VENDORS:
        # Disabled: it has no credential, and nobody is to be sent there.
        provider, _ = Provider.objects.get_or_create(
            name=name, defaults={"dialect": dialect, "base_url": url, "enabled": False}
        )
        write_builtin_prices(provider)
    for team in TEAMS:
        tenant = Tenant.objects.create(name=team.name, timezone=team.zone, payload_days=team.payload_days)
        at_once = RateLimit.objects.create(tenant=tenant, kind="concurrent", amount=40)
        for number, (name, tags) in enumerate(team.keys):
            key, _ = ApiKey.issue(tenant=tenant, name=name, tags=tags)
            key.save()
            per_minute = RateLimit.objects.create(key=key, kind="requests", amount=600, per="minute")
            limits = (_rule(at_once, f"tenant {tenant}"), _rule(per_minute, f"key {key}"))
            # The first key of a team is the busiest.
            cast.callers.append(Caller(key, team.zone, team.share * 2.0**-number, limits))
        for window in ("day", "month"):
            cast.budgets.append(
                Budget.objects.create(tenant=tenant, amount_nanousd=UNKNOWN_AMOUNT, window=window)
            )
        _invite(cast, tenant)
    first = cast.callers[0].key
    cast.budgets.append(Budget.objects.create(key=first, amount_nanousd=UNKNOWN_AMOUNT, window="week"))
    return cast


def remove() -> list[int]:
    """Remove them, with what depends on them; return the numbers that the tenants had."""
    tenants = Tenant.objects.filter(name__startswith=PREFIX)
    numbers = list(tenants.values_list("pk", flat=True))
    get_user_model().objects.filter(username__startswith=PREFIX, memberships__tenant__in=numbers).delete()
    for rows in (tenants, Provider.objects.filter(name__in=[name for name, _, _ in VENDORS])):
        for row in rows:
            row.delete()
    return numbers


def _rule(limit: RateLimit, holds_for: str) -> RateRule:
    return RateRule(f"rate:{limit.pk}", limit.kind, limit.amount, per=limit.per, holds_for=holds_for)


def _invite(cast: Cast, tenant: Tenant) -> None:
    for role in Member.Role:
        name, password = f"{tenant.name}-{role.value}", secrets.token_urlsafe(12)
        user = get_user_model().objects.create_user(name, f"{name}@example.com", password)
        Member.objects.create(tenant=tenant, user=user, role=role)
        cast.passwords[name] = password
