"""The audit log's chain: each entry's digest covers its content and the digest of the entry sealed before.

    digest = SHA-256(previous digest + canonical JSON of the entry)

Entries are sealed in a transaction of their own, right after the one that wrote them: a lock over the
chain's end that were held as long as the longest change of an operator would make all others wait, and
two that touch the same rows in another order would lock each other out. What a crash leaves in between,
`seal_new` finds (a scheduled task). Only the end of the chain can be cut off without a trace in it, so
`manage.py verify_audit_log` prints its digest, to be kept elsewhere and given to a later run.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson
from auditlog import get_logentry_model
from django.db import connection, transaction
from django.db.models import Exists, Max, OuterRef, QuerySet

from gatewaysite.models import AuditSeal

# What the first seal has in the place of a digest before it.
BEGINNING = "0" * 64
# Entries that a transaction, still open when later ones were sealed, may lie behind the chain's end.
LOOK_BACK = 10_000
_CHUNK = 500
_LOCK = 0x6175646974  # the letters "audit"
_SEALED_FIELDS = (
    "id",
    "action",
    "content_type_id",
    "object_pk",
    "object_id",
    "object_repr",
    "serialized_data",
    "changes",
    "remote_addr",
    "timestamp",
    "additional_data",
    "actor_email",
)


@dataclass(slots=True)
class Verdict:
    """What a verification found. `problems` are sentences; empty: the chain holds."""

    entries: int = 0
    head: str = BEGINNING
    problems: list[str] = field(default_factory=list)


def entries() -> QuerySet[Any]:
    """Return the audit log, newest first; `seal` on each is a digest, or None. For screens and the API."""
    seals = AuditSeal.objects.filter(entry_ref=OuterRef("pk")).values("digest")[:1]
    rows: QuerySet[Any] = _log().objects.select_related("actor", "content_type")
    sealed: QuerySet[Any] = rows.annotate(seal=seals).order_by("-timestamp", "-id")
    return sealed


def digest(entry: Any, previous: str) -> str:
    """Return the seal of `entry` after the seal `previous` (hex)."""
    content = {name: getattr(entry, name) for name in _SEALED_FIELDS}
    content["timestamp"] = entry.timestamp.isoformat()
    canonical = orjson.dumps(content, option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(previous.encode() + canonical).hexdigest()


def seal_when_committed(instance: Any, created: bool, **_: Any) -> None:  # noqa: FBT001 - a signal's argument
    """Seal a new entry as soon as its transaction is committed (receiver of post_save)."""
    if created:
        # robust: the change is done; an entry without its seal is found by the scheduled task.
        transaction.on_commit(lambda: _seal_from(instance.pk), robust=True)


def seal_new() -> int:
    """Seal what was left unsealed lately, and everything when nothing is sealed yet; return how many."""
    last = AuditSeal.objects.aggregate(last=Max("entry_ref"))["last"]
    return _seal(_unsealed().filter(pk__gt=last - LOOK_BACK) if last else _unsealed())


def _seal_from(pk: int) -> None:
    """Seal this entry and those written after it: the first call after a long transaction seals all of it."""
    if not AuditSeal.objects.filter(entry_ref=pk).exists():
        _seal(_unsealed().filter(pk__gte=pk))


def _seal(unsealed: QuerySet[Any]) -> int:
    """Put these entries at the end of the chain, a few hundred in a transaction; return how many."""
    count = 0
    while made := _seal_some(unsealed):
        count += made
    return count


def _seal_some(unsealed: QuerySet[Any]) -> int:
    with transaction.atomic():
        _take_turns()
        previous = AuditSeal.objects.order_by("-pk").values_list("digest", flat=True).first() or BEGINNING
        seals = []
        # Read back from the database, so that the digest covers what is stored.
        for entry in unsealed.order_by("pk")[:_CHUNK]:
            seals.append(AuditSeal(entry_ref=entry.pk, digest=digest(entry, previous), previous=previous))
            previous = seals[-1].digest
        AuditSeal.objects.bulk_create(seals)
    return len(seals)


def holds(entry: Any) -> bool | None:
    """Is `entry` as it was sealed? None: it has no seal yet."""
    found = AuditSeal.objects.filter(entry_ref=entry.pk).first()
    if found is None:
        return None
    return digest(_log().objects.get(pk=entry.pk), found.previous) == found.digest and not _foisted(entry)


def verify(*, last: int = 0, expected: str = "") -> Verdict:
    """Recompute the chain, or its `last` seals. `expected`: a head that was noted earlier must be in it."""
    verdict = Verdict()
    seen_expected = expected in {"", BEGINNING}
    for number, (seals, found) in enumerate(_in_chunks(last)):
        if number == 0 and not last:
            verdict.head = BEGINNING
        elif number == 0:
            verdict.head = seals[0].previous
        for each in seals:
            verdict.entries += 1
            verdict.problems += _problems(each, found.get(each.entry_ref), verdict.head)
            verdict.head = each.digest
            seen_expected = seen_expected or each.digest == expected
    if not seen_expected:
        verdict.problems.append(f"the head {expected} is not in the chain: its end was cut off or made anew")
    unsealed = _unsealed() if not last else _unsealed().filter(pk__gt=_first_of(last))
    verdict.problems += [
        f"entry {pk} is not sealed: it was written past the gateway, or its seal is yet to come"
        for pk in unsealed.order_by("pk").values_list("pk", flat=True).iterator()
    ]
    return verdict


def _problems(seal_: AuditSeal, entry: Any, before: str) -> Iterator[str]:
    if seal_.previous != before:
        yield f"seal {seal_.pk} of entry {seal_.entry_ref} does not follow the seal before: one is missing"
    if entry is None:
        yield f"entry {seal_.entry_ref} is missing: it was sealed at {seal_.sealed_at:%Y-%m-%d %H:%M:%S} UTC"
    elif digest(entry, seal_.previous) != seal_.digest:
        yield f"entry {seal_.entry_ref} is changed: it is not what was sealed"
    elif _foisted(entry):
        yield f"entry {seal_.entry_ref} is changed: it names another user than the one who acted"


def _foisted(entry: Any) -> bool:
    """Does it name another actor than the one it was sealed with? That of a deleted user is empty."""
    return entry.actor_id is not None and entry.actor_id != (entry.additional_data or {}).get("actor")


def _in_chunks(last: int) -> Iterator[tuple[list[AuditSeal], dict[int, Any]]]:
    """Yield seals in order with their entries by id."""
    after = _start_of(last)
    while seals := list(AuditSeal.objects.filter(pk__gt=after).order_by("pk")[:_CHUNK]):
        yield seals, _log().objects.in_bulk([each.entry_ref for each in seals])
        after = seals[-1].pk


def _start_of(last: int) -> int:
    """Return the seal after which the `last` ones begin."""
    found = AuditSeal.objects.order_by("-pk").values_list("pk", flat=True)[last : last + 1] if last else ()
    return next(iter(found), 0)


def _first_of(last: int) -> int:
    found = AuditSeal.objects.filter(pk__gt=_start_of(last)).order_by("pk")
    return found.values_list("entry_ref", flat=True).first() or 0


def _unsealed() -> QuerySet[Any]:
    sealed = AuditSeal.objects.filter(entry_ref=OuterRef("pk"))
    found: QuerySet[Any] = _log().objects.filter(~Exists(sealed))
    return found


def _take_turns() -> None:
    """Wait for others that seal. SQLite has one writer anyway: its transactions begin IMMEDIATE."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])


def _log() -> Any:
    return get_logentry_model()
