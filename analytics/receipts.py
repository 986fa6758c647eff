"""Which segments of the spool are in the database."""

from collections.abc import Collection

from django.db import close_old_connections

from analytics.models import SpoolReceipt


def arrived(segments: Collection[str]) -> set[str]:
    """Return those of some segments that have a receipt."""
    # A connection that an outage has cut is closed here, and opened anew by the query.
    close_old_connections()
    return set(SpoolReceipt.objects.filter(segment__in=segments).values_list("segment", flat=True))
