"""What was asked and answered: spool lines to rows, and rows to what a person may read.

The texts come encrypted from the process that served the request, and are opened only where somebody looks.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import orjson
from auditlog import get_logentry_model
from django.conf import settings
from django.utils import timezone

from analytics.fields import count
from analytics.models import StoredPayload
from config.vault import SecretUnreadable, Vault
from keys.models import MAX_PAYLOAD_DAYS

Row = dict[str, Any]
UNREADABLE = "[no key in GATEWAY_SECRET_KEYS opens this text]"
PURGED_AT_ONCE = 500


class Payload(NamedTuple):
    """One exchange's texts, as they were stored: redacted and cut. Sizes are what they had been, in bytes."""

    request: str
    answer: str
    request_bytes: int
    answer_bytes: int
    redactions: int
    expires_at: datetime


def payload_of(completion_id: str) -> Payload | None:
    """Return an exchange's payload, and have the audit log say that it was looked at.

    None where none is stored, or its time is over. Whoever calls this has asked whether the person may.
    """
    found = StoredPayload.objects.filter(completion_id=completion_id, expires_at__gt=timezone.now()).first()
    if found is None:
        return None
    log = get_logentry_model()
    log.objects.log_create(found, force_log=True, action=log.Action.ACCESS)
    return Payload(
        _opened(found.request),
        _opened(found.answer),
        found.request_bytes,
        found.answer_bytes,
        found.redactions,
        found.expires_at,
    )


def has_payload(completion_id: str) -> bool:
    """Is one stored? Nothing of it is looked at."""
    return StoredPayload.objects.filter(completion_id=completion_id, expires_at__gt=timezone.now()).exists()


def new_rows(lines: str) -> list[Row]:
    """Return the rows of newline-joined `payload` lines, but for those that are stored already."""
    found = {row["completion_id"]: row for row in _rows(lines)}
    if not found:
        return []
    known = StoredPayload.objects.filter(completion_id__in=found).values_list("completion_id", flat=True)
    for completion_id in known:
        del found[completion_id]
    return list(found.values())


def purge(now: datetime) -> int:
    """Delete those whose time is over, some at a time; return how many."""
    purged = 0
    old = StoredPayload.objects.filter(expires_at__lte=now).order_by("expires_at")
    while chunk := list(old.values_list("pk", flat=True)[:PURGED_AT_ONCE]):
        StoredPayload.objects.filter(pk__in=chunk).delete()
        purged += len(chunk)
    return purged


def _rows(lines: str) -> Iterator[Row]:
    for line in filter(None, lines.split("\n")):
        record = orjson.loads(line)
        days = min(count(record.get("days")) or 0, MAX_PAYLOAD_DAYS)
        at = datetime.fromtimestamp(record["at"], UTC)
        if days:
            yield {
                "completion_id": record["id"],
                "at": at,
                "expires_at": at + timedelta(days=days),
                "tenant_ref": count(record.get("tenant_id")),
                "key_ref": count(record.get("key_id")),
                "request": _token(record.get("request")),
                "answer": _token(record.get("answer")),
                "request_bytes": count(record.get("request_bytes")) or 0,
                "answer_bytes": count(record.get("answer_bytes")) or 0,
                "redactions": min(count(record.get("redactions")) or 0, 2**31 - 1),
            }


def _token(sealed: Any) -> str:
    """Return what a line has of a text; nothing that is no token is ever stored."""
    return sealed if isinstance(sealed, str) and sealed.isascii() and "\0" not in sealed else ""


def _opened(token: str) -> str:
    if not token:
        return ""
    try:
        return Vault(settings.SECRET_KEYS).open_bytes(token.encode()).decode("utf-8", "replace")
    except SecretUnreadable:
        return UNREADABLE
