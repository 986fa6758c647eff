"""Names of tenants and keys for rows that hold their plain ids, and the other way round."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django.db.models import QuerySet

from gatewaysite.api.access import Seen
from keys.models import ApiKey, Tenant


class Names:
    """Names by id, read once for a page."""

    def __init__(self, rows: Iterable[Any]) -> None:
        """Read those that the rows refer to."""
        pairs = [(row.tenant_ref, row.key_ref) for row in rows]
        self._tenants = named(Tenant, {tenant for tenant, _ in pairs})
        self._keys = named(ApiKey, {key for _, key in pairs})

    def of(self, row: Any) -> dict[str, str | None]:
        """Return the names of a row's tenant and key; null for none, and for one that is gone."""
        return {"tenant": self._tenants.get(row.tenant_ref), "key": self._keys.get(row.key_ref)}


def named(model: type[Tenant | ApiKey], ids: Iterable[int | None]) -> Mapping[int | None, str]:
    """Return the names of these rows by id."""
    wanted = [each for each in ids if each]
    return dict(model.objects.filter(pk__in=wanted).values_list("pk", "name")) if wanted else {}


def of_seen(rows: QuerySet[Any], seen: Seen) -> QuerySet[Any]:
    """Return the rows that may be seen, of those with a `tenant_ref`."""
    return rows if seen.everything else rows.filter(tenant_ref__in=seen.tenant_ids)


def tenant_ids(name: str) -> Sequence[int]:
    """Return the id of a tenant of this name, if there is one."""
    return list(Tenant.objects.filter(name=name).values_list("pk", flat=True)) if "\0" not in name else []


def key_ids(name: str) -> Sequence[int]:
    """Return the id of a key of this name, if there is one."""
    return list(ApiKey.objects.filter(name=name).values_list("pk", flat=True)) if "\0" not in name else []
