"""Wide sums for tests that write sums of callers themselves."""

from datetime import UTC, datetime

from analytics import rollup_rows
from analytics.models import UsageRollup
from analytics.rollups import wide

CALLERS = (UsageRollup.Grain.HOUR, UsageRollup.Grain.DAY)
EVER = (datetime(1990, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))


def widen() -> None:
    """Make the wide sums what the stored sums of callers come to."""
    UsageRollup.objects.exclude(grain__in=CALLERS).delete()
    since, until = (int(at.timestamp()) for at in EVER)
    rollup_rows.add(wide(rollup_rows.read(CALLERS, since, until)))
