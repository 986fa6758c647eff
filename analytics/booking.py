"""Writes one spool segment to the database: everything of it, once, in one transaction.

Idempotent on two levels. A segment's receipt is unique, so a second delivery finds it, or waits for
the first to commit, and does nothing. A completion's rows are unique too, and looked for before they
are written; if another worker writes the same ones in that moment, the transaction fails as a whole
and is done again with a fresh look. So a window's sum never counts an entry twice.

An `interrupted` never replaces a `done`; before a `done` that comes late, the estimate is taken back.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from django.db import IntegrityError, transaction
from django.db.models import QuerySet

from analytics import ledger_rows, records, rollup_lock
from analytics import payloads as stored
from analytics.insert import insert
from analytics.ledger_rows import Row
from analytics.models import RequestLog, SpoolReceipt, StoredPayload
from analytics.rollup_sources import logs as rolled_up_logs
from analytics.rollups import Sums
from keys import ledger, spending
from keys.models import ApiKey, LedgerEntry

LOOKS = 3
# How far `last_used_at` may lag behind: it is for people, and each write of it costs a row version.
LAST_USED_LAG = timedelta(seconds=10)


def book(segment: str, lines: int, *, done: str, interrupted: str, payloads: str = "") -> bool:
    """Write a segment's rows; False when they were there already. Arguments as in `Shipment`."""
    if SpoolReceipt.objects.filter(segment=segment).exists():
        return False
    for look in range(1, LOOKS + 1):
        logs, entries = records.rows(done=done, interrupted=interrupted)
        try:
            written = _write(segment, lines, logs, entries, payloads=payloads)
        except IntegrityError:
            if look == LOOKS:
                raise
        else:
            if written:
                _touch_keys(logs.values())
            return written
    return False


def _write(
    segment: str,
    lines: int,
    logs: Mapping[str, Row],
    entries: Mapping[str, Sequence[Row]],
    *,
    payloads: str,
) -> bool:
    expected = _spends(row for rows in entries.values() for row in rows)
    ceilings = spending.Ceilings(expected)
    added = ceilings.sums(expected)
    ceilings.ensure(added)
    with transaction.atomic():
        _, first = SpoolReceipt.objects.get_or_create(segment=segment, defaults={"lines": lines})
        if not first:
            return False
        rollup_lock.share()
        known = _known(logs)
        retractions, gone = _retract({key: row for key, row in logs.items() if key in known})
        known -= {row["completion_id"] for row in retractions}
        logged = [row for completion_id, row in logs.items() if completion_id not in known]
        insert(RequestLog, logged)
        booked = [row for key, rows in entries.items() if key not in known for row in rows]
        insert(LedgerEntry, [*retractions, *booked])
        insert(StoredPayload, stored.new_rows(payloads))
        sums = Sums.of(logged, [*retractions, *booked])
        for row in gone:
            sums.log(row, sign=-1)
        sums.write()
        if known or retractions:
            spends = _spends([*retractions, *booked])
            added = (spending.Ceilings(spends) if retractions else ceilings).sums(spends)
        # Last, because everybody waits for everyone's windows until this transaction ends.
        spending.add(added)
    return True


def _spends(rows: Iterable[Row]) -> list[spending.Spend]:
    return [spend for spend in map(spending.Spend.of, rows) if spend is not None]


def _known(logs: Mapping[str, Row]) -> set[str]:
    """Return those that the log or the ledger has. The ledger outlives the log's retention."""
    found: set[str] = set()
    for rows in (_of_the_time_of(logs), LedgerEntry.objects.all()):
        found.update(rows.filter(completion_id__among=list(logs)).values_list("completion_id", flat=True))
    return found


def _of_the_time_of(logs: Mapping[str, Row]) -> QuerySet[RequestLog]:
    """Return the log's rows between the first and the last of these: of a few partitions, not of all.

    A record says the same moment each time it is delivered.
    """
    moments = [row["at"] for row in logs.values()]
    return (
        RequestLog.objects.filter(at__gte=min(moments), at__lte=max(moments))
        if moments
        else RequestLog.objects.none()
    )


def _retract(logs: Mapping[str, Row]) -> tuple[list[Row], list[Row]]:
    """Return the rows that take back the estimates of calls that did end, and the log rows that go for them.

    A process that is shut down leaves its last calls as if it had died; one may still end then.
    """
    ended = {key for key, row in logs.items() if row["outcome"] != RequestLog.Outcome.INTERRUPTED}
    if not ended:
        return [], []
    # Locked, so that nobody corrects an estimate while it is taken back.
    estimates = list(
        LedgerEntry.objects.select_for_update()
        .filter(completion_id__among=sorted(ended), kind=LedgerEntry.Kind.INTERRUPTED)
        .order_by("pk")
    )
    standing = [found for found in ledger.booked(estimates) if not found.retracted]
    interrupted = _of_the_time_of(logs).filter(
        completion_id__in=[found.entry.completion_id for found in standing],
        outcome=RequestLog.Outcome.INTERRUPTED,
    )
    gone = [dict(row) for row in rolled_up_logs(interrupted)] if standing else []
    interrupted.delete()
    return [ledger_rows.retracting(found) for found in standing], gone


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
