"""Rows of keys to plain values: nearly all of them have nothing but the columns of `_COLUMNS`.

Read past the ORM: of 100,000 keys it would spend half of the second that a change may take on converting
columns that nearly all hold the same values.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import orjson
from django.db.models import QuerySet

from keys.models import ApiKey
from proxy.limit_rows import fetched, limits_of_keys, moment

Row = Mapping[str, Any]
CHUNK = 2500
MORE_CHUNK = 25_000  # ids among which to look at once for what few keys have
# Between chunks the reading thread steps aside, so that requests wait for no long GIL hold.
PAUSE_S = 0.001

_COLUMNS = ("id", "tenant_id", "name", "prefix", "digest", "enabled", "expires_at", "allowed_models")
# What few keys have besides, and how it is with all others.
_USUAL: Mapping[str, Any] = {
    "denied_models": [],
    "allowed_networks": [],
    "tags": {},
    "max_tokens": None,
    "forced_route": "",
    "payload_days": None,
    "previous_digest": None,
}
_PREVIOUS = ("previous_digest", "previous_prefix", "previous_until")


def read_all() -> Iterator[Row]:
    """Yield every key, stepping aside between chunks."""
    last, known_to, whole = 0, 0, True
    more: Mapping[int, Row] = {}
    while whole:
        keys = ApiKey.objects.filter(pk__gt=last).order_by("pk")
        rows = fetched(keys.values_list(*_COLUMNS)[:CHUNK])
        for row in rows:
            last = row[0]
            if last > known_to:
                first, known_to = last, last + MORE_CHUNK
                some = ApiKey.objects.filter(pk__gte=first, pk__lte=known_to)
                more = _more(some, key__gte=first, key__lte=known_to)
            yield _key(row, more)
        whole = len(rows) == CHUNK
        if whole:
            time.sleep(PAUSE_S)


def read_some(refs: Sequence[str]) -> list[Row]:
    """Return the keys among `refs` that still exist."""
    keys = ApiKey.objects.filter(pk__in=refs)
    more = _more(keys, key__in=refs)
    return [_key(row, more) for row in fetched(keys.values_list(*_COLUMNS))]


def _key(row: Sequence[Any], more: Mapping[int, Row]) -> Row:
    pk, tenant_id, name, prefix, digest, enabled, expires_at, allowed = row
    read = {
        "id": pk,
        "tenant_id": tenant_id,
        "name": name,
        "prefix": prefix,
        "digest": digest,
        "enabled": bool(enabled),
        "expires_at": expires_at and moment(expires_at),
        "allowed_models": _parsed(allowed),
    }
    return {**read, **more[pk]} if pk in more else read


@lru_cache(maxsize=1024)
def _parsed(column: str) -> Any:
    return orjson.loads(column)


def _more(keys: QuerySet[ApiKey], **owners: Any) -> Mapping[int, Row]:
    """Return what few of `keys` have, by the key: terms, a secret from before a rotation, limits."""
    more = {row["pk"]: _unusual(row) for row in keys.exclude(**_USUAL).values("pk", *_USUAL, *_PREVIOUS)}
    for pk, limits in limits_of_keys(**owners).items():
        more.setdefault(pk, {})["limits"] = limits
    return more


def _unusual(row: dict[str, Any]) -> dict[str, Any]:
    digest, prefix, until = (row.pop(name) for name in _PREVIOUS)
    terms = {name: row[name] for name in _USUAL if name in row}
    read: dict[str, Any] = {"terms": terms} if any(value or value == 0 for value in terms.values()) else {}
    if digest and until:
        read["previous"] = {"digest": digest, "prefix": prefix, "until": moment(until)}
    return read
