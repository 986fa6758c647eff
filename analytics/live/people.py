"""Who may watch the live feed, and what keys and tenants are called."""

from collections.abc import Iterable, Mapping
from typing import Any

from channels.db import database_sync_to_async
from django.conf import settings
from django.contrib.auth import get_user_model
from django.utils.module_loading import import_string

from analytics.live.events import NOBODY
from keys.models import ApiKey, Member, Tenant

PERMISSION = "analytics.view_requestlog"


class Refused(Exception):
    """May not watch. `code` closes the connection: 4401 sign in first, 4403 no right to it."""

    def __init__(self, code: int) -> None:
        """Take the code."""
        super().__init__(code)
        self.code = code


@database_sync_to_async  # type: ignore[untyped-decorator]  # channels has no types
def may_see(user_id: int | None) -> frozenset[int] | None:
    """Return the tenants whose requests a user may see; None: all. Raises Refused.

    It asks the database, however long the connection has been open.
    """
    user = get_user_model().objects.filter(pk=user_id, is_active=True).first() if user_id else None
    if user is None:
        raise Refused(4401)
    if import_string(settings.SECOND_FACTOR_IS_MISSING)(user):
        raise Refused(4403)
    if user.is_staff and user.has_perm(PERMISSION):
        return None
    tenants = frozenset(Member.objects.filter(user=user).values_list("tenant_id", flat=True))
    if not tenants:
        raise Refused(4403)
    return tenants


class Names:
    """Of keys and tenants, as they were when first asked for; one viewer's."""

    def __init__(self) -> None:
        """Know none."""
        self._keys: dict[int, str] = {NOBODY: ""}
        self._tenants: dict[int, str] = {NOBODY: ""}

    async def learn(self, events: Iterable[Mapping[str, Any]]) -> None:
        """Ask for the names that are missing, in two queries at most."""
        keys = {event["key_id"] for event in events} - self._keys.keys()
        tenants = {event["tenant_id"] for event in events} - self._tenants.keys()
        if keys or tenants:
            await self._ask(keys, tenants)

    def named(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """Return the event with both names; "" for those that are gone, and of nobody."""
        return {
            **event,
            "key_name": self._keys.get(event["key_id"], ""),
            "tenant_name": self._tenants.get(event["tenant_id"], ""),
        }

    @database_sync_to_async  # type: ignore[untyped-decorator]  # channels has no types
    def _ask(self, keys: set[int], tenants: set[int]) -> None:
        for known, ids, rows in ((self._keys, keys, ApiKey), (self._tenants, tenants, Tenant)):
            if ids:
                known.update(dict.fromkeys(ids, ""))
                known.update(rows.objects.filter(pk__in=ids).values_list("pk", "name"))
