"""Lets old ledger entries go: the one way in which rows leave the ledger.

The database refuses to delete entries but those from before LedgerRetention's moment, so that moment is moved
first. What budgets have spent stays: their windows' sums are rows of their own. A budget that is made later
counts from what is left.
"""

from datetime import datetime, timedelta

from django.db import connection, transaction
from django.utils import timezone

from keys.models import LedgerEntry, LedgerRetention

# The longest window is a month of some time zone; another one, because records may come late.
LEAST_KEPT = timedelta(days=62)
DELETED_AT_ONCE = 5_000


def purge(before: datetime) -> int:
    """Delete the entries from before that moment, a few thousand a transaction; return how many there were.

    Raises ValueError if budgets may still need them.
    """
    if before > timezone.now() - LEAST_KEPT:
        raise ValueError(f"the last {LEAST_KEPT.days} days are kept: budgets' windows are summed from them")
    _keep_from(before)
    deleted = 0
    while count := _delete_some(before):
        deleted += count
    return deleted


def _keep_from(moment: datetime) -> None:
    """Move the moment forward; it never goes back."""
    with transaction.atomic():
        row = LedgerRetention.objects.select_for_update().order_by("pk").first()
        if row is None:
            LedgerRetention.objects.create(pk=1, keeps_from=moment)
        elif row.keeps_from < moment:
            row.keeps_from = moment
            row.save(update_fields=["keeps_from"])


def _delete_some(before: datetime) -> int:
    table = connection.ops.quote_name(LedgerEntry._meta.db_table)
    found = LedgerEntry.objects.filter(at__lt=before).order_by("at").values_list("pk", flat=True)
    chunk = list(found[:DELETED_AT_ONCE])
    if not chunk:
        return 0
    marks = ", ".join(["%s"] * len(chunk))
    with transaction.atomic(), connection.cursor() as cursor:
        # Past the ORM, which refuses.
        cursor.execute(f"DELETE FROM {table} WHERE id IN ({marks})", chunk)  # noqa: S608 - our own table
    return len(chunk)
