"""Writes one spool segment to the database: everything of it, once, in one transaction.

Idempotent on two levels. A segment's receipt is unique, so a second delivery finds it, or waits for
the first to commit, and does nothing. A completion's rows are unique too, and looked for before they
are written; if another worker writes the same ones in that moment, the transaction fails as a whole
and is done again with a fresh look. So a window's sum never counts an entry twice.

An `interrupted` never replaces a `done`; a `done` that comes late takes the estimate's place.
"""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta

from django.db import IntegrityError, transaction

from analytics import records
from analytics.insert import insert
from analytics.models import RequestLog, SpoolReceipt
from analytics.records import Row
from keys import spending
from keys.models import ApiKey, LedgerEntry

LOOKS = 3
# How far `last_used_at` may lag behind: it is for people, and each write of it costs a row version.
LAST_USED_LAG = timedelta(seconds=10)


def book(segment: str, lines: int, *, done: str, interrupted: str) -> bool:
    """Write a segment's rows; False when they were there already. Arguments as in `Shipment`."""
    if SpoolReceipt.objects.filter(segment=segment).exists():
        return False
    for look in range(1, LOOKS + 1):
        logs, entries = records.rows(done=done, interrupted=interrupted)
        try:
            written = _write(segment, lines, logs, entries)
        except IntegrityError:
            if look == LOOKS:
                raise
        else:
            if written:
                _touch_keys(logs.values())
            return written
    return False


def _write(segment: str, lines: int, logs: Mapping[str, Row], entries: Mapping[str, Row]) -> bool:
    spends = {
        completion_id: _spend(entry, logs[completion_id])
        for completion_id, entry in entries.items()
        if entry["cost_nanousd"] and not records.is_shadow(logs[completion_id])
    }
    ceilings = spending.Ceilings(list(spends.values()))
    ceilings.ensure(ceilings.sums(spends.values()))
    with transaction.atomic():
        _, first = SpoolReceipt.objects.get_or_create(segment=segment, defaults={"lines": lines})
        if not first:
            return False
        known = _known(logs)
        retracted = _retract({key: row for key, row in logs.items() if key in known})
        known -= retracted.keys()
        insert(RequestLog, [row for completion_id, row in logs.items() if completion_id not in known])
        insert(LedgerEntry, [row for completion_id, row in entries.items() if completion_id not in known])
        # Last, because everybody waits for everyone's windows until this transaction ends.
        added = ceilings.sums(spend for completion_id, spend in spends.items() if completion_id not in known)
        for window, estimated in spending.Ceilings(list(retracted.values())).sums(retracted.values()).items():
            added[window] = added.get(window, 0) - estimated
        spending.add(added)
    return True


def _spend(entry: Row, logged: Row) -> spending.Spend:
    return spending.Spend(
        key_id=entry["key_ref"],
        tenant_id=entry["tenant_ref"],
        at=entry["at"],
        names=(logged["requested_model"], f"{entry['provider']}/{entry['model']}"),
        cost_nanousd=entry["cost_nanousd"],
    )


def _known(completion_ids: Collection[str]) -> set[str]:
    """Return those that the log or the ledger has. The ledger outlives the log's retention."""
    found: set[str] = set()
    for model in (RequestLog, LedgerEntry):
        found.update(
            model.objects.filter(completion_id__in=completion_ids).values_list("completion_id", flat=True)
        )
    return found


def _retract(logs: Mapping[str, Row]) -> dict[str, spending.Spend]:
    """Delete the estimates of calls that did end, and return what they had added to budgets.

    A process that is shut down leaves its last calls as if it had died; one may still end then.
    """
    ended = {key: row for key, row in logs.items() if row["outcome"] != RequestLog.Outcome.INTERRUPTED}
    entries = list(
        LedgerEntry.objects.select_for_update()
        .filter(completion_id__in=ended, kind=LedgerEntry.Kind.INTERRUPTED)
        .order_by("pk")
    )
    if not entries:
        return {}
    LedgerEntry.objects.filter(pk__in=[entry.pk for entry in entries]).delete()
    RequestLog.objects.filter(
        completion_id__in=[entry.completion_id for entry in entries], outcome=RequestLog.Outcome.INTERRUPTED
    ).delete()
    return {
        entry.completion_id: spending.Spend(
            key_id=entry.key_ref,
            tenant_id=entry.tenant_ref,
            at=entry.at,
            names=(ended[entry.completion_id]["requested_model"], f"{entry.provider}/{entry.model}"),
            cost_nanousd=0 if records.is_shadow(ended[entry.completion_id]) else entry.cost_nanousd or 0,
        )
        for entry in entries
    }


def _touch_keys(logs: Iterable[Row]) -> None:
    """Say when each key was last used. Only the ignored column: no new configuration version."""
    latest: dict[int, datetime] = {}
    for row in logs:
        if row["key_ref"] is not None:
            latest[row["key_ref"]] = max(row["at"], latest.get(row["key_ref"], row["at"]))
    with transaction.atomic():
        # Keys that somebody else is just writing are passed over: the next segment will do.
        keys = ApiKey.objects.select_for_update(skip_locked=True).filter(pk__in=latest).only("last_used_at")
        stale = [
            key
            for key in keys
            if key.last_used_at is None or latest[key.pk] - key.last_used_at >= LAST_USED_LAG
        ]
        for key in stale:
            key.last_used_at = latest[key.pk]
        ApiKey.objects.bulk_update(stale, ["last_used_at"], batch_size=200)
