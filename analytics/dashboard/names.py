"""What rows call by number, or by a moment of UTC, as people call it."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from zoneinfo import ZoneInfo

from keys.models import ApiKey, Tenant

NO_KEY = "without a key"


def key_names(tenant: Tenant, refs: Iterable[int | None]) -> Mapping[int | None, str]:
    """Return what keys of a tenant are called; one that it has no longer keeps its number. One query."""
    wanted = {ref for ref in refs if ref}
    names: dict[int | None, str] = {ref: f"former key {ref}" for ref in wanted}
    names.update(ApiKey.objects.filter(tenant=tenant, pk__in=wanted).values_list("pk", "name"))
    return {**names, None: NO_KEY, 0: NO_KEY}


def is_id(text: str) -> bool:
    """May this be a row's number?"""
    return text.isascii() and text.isdigit() and len(text) <= 18


def clock(at: datetime | None, zone: ZoneInfo, *, seconds: bool = False) -> str:
    """Return a moment as the clocks of a zone show it; "" for none."""
    if at is None:
        return ""
    return f"{at.astimezone(zone):{'%Y-%m-%d %H:%M:%S' if seconds else '%Y-%m-%d %H:%M'}}"
