"""Lets old rows of the request log and of rollups go. The ledger's never go by themselves.

The log goes by whole days of UTC: on PostgreSQL a day is a partition, which is dropped; on SQLite its rows
are deleted, a few thousand a transaction.
"""

from datetime import UTC, datetime, time, timedelta

from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from analytics import partitions
from analytics.models import RequestLog, UsageRollup

# Hours are for charts of days and for calendars other than UTC's; who looks further back looks at days.
HOURS_KEPT = timedelta(days=400)
DELETED_AT_ONCE = 5_000


def apply_log_retention(now: datetime | None = None) -> str:
    """Make partitions for the days to come, and let go what LOG_RETENTION does not keep; say it."""
    now = now or timezone.now()
    kept_from = log_kept_from(now)
    if connection.vendor == "postgresql":
        made = partitions.make_ahead(now, kept_from=kept_from)
        dropped = partitions.drop_before(kept_from) if kept_from else 0
        done = [f"{made} partitions made", f"{dropped} dropped"]
    else:
        done = []
    # What came late for a day that is gone already is in the default partition.
    deleted = _delete_logs(kept_from) if kept_from else 0
    return ", ".join([*done, f"{deleted:,} rows deleted"]) + "."


def apply_rollup_retention(now: datetime | None = None) -> str:
    """Let go sums of hours and days that are kept no longer; say how many."""
    now = now or timezone.now()
    deleted = 0
    for grain in UsageRollup.Grain:
        kept_from = rollups_kept_from(grain, now)
        if kept_from is not None:
            deleted += _delete_rollups(grain, kept_from)
    return f"{deleted:,} sums deleted."


def log_kept_from(now: datetime) -> datetime | None:
    """Return the moment from which on rows of the log are kept: a midnight; None: all are."""
    kept_s = settings.GATEWAY.log_retention_s
    return _midnight(now - timedelta(seconds=kept_s)) if kept_s else None


def rollups_kept_from(grain: int, now: datetime) -> datetime | None:
    """Return the moment from which on sums of that grain are kept; None: all are."""
    kept_s = settings.GATEWAY.rollup_retention_s
    kept = timedelta(seconds=kept_s) if kept_s else None
    if grain < UsageRollup.Grain.DAY:
        kept = min(HOURS_KEPT, kept) if kept else HOURS_KEPT
    return _midnight(now - kept) if kept else None


def log_begins(now: datetime) -> datetime | None:
    """Return the midnight from which on the log is whole; None: it is empty."""
    first = RequestLog.objects.order_by("at", "id").values_list("at", flat=True).first()
    if first is None:
        return None
    whole = _midnight(first)
    kept_from = log_kept_from(now)
    # What came late for a day that is gone makes no whole day.
    return max(whole, kept_from) if kept_from else whole


def _delete_logs(before: datetime) -> int:
    """Delete rows of the log from before that moment, a few thousand a transaction."""
    deleted = 0
    old = RequestLog.objects.filter(at__lt=before).order_by("at", "id")
    while chunk := list(old.values_list("pk", "at")[:DELETED_AT_ONCE]):
        with transaction.atomic():
            between = RequestLog.objects.filter(at__gte=chunk[0][1], at__lte=chunk[-1][1])
            rows = between.filter(pk__in=[pk for pk, _ in chunk])
            deleted += rows._raw_delete(rows.db)  # noqa: SLF001 - no signals, no copies
    return deleted


def _delete_rollups(grain: int, before: datetime) -> int:
    deleted = 0
    old = UsageRollup.objects.filter(grain=grain, starts_at__lt=before).order_by("starts_at", "pk")
    while chunk := list(old.values_list("pk", flat=True)[:DELETED_AT_ONCE]):
        with transaction.atomic():
            rows = UsageRollup.objects.filter(pk__in=chunk)
            deleted += rows._raw_delete(rows.db)  # noqa: SLF001 - likewise
    return deleted


def _midnight(moment: datetime) -> datetime:
    return datetime.combine(moment.astimezone(UTC).date(), time(), UTC)
