"""Rows about the gateway's own processes: each writes now and then that it lives, and what it works by."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from django.db import DatabaseError, InterfaceError, models

log = structlog.get_logger()

REPORT_EVERY_S = 10.0
# One that has not been heard of for so long has ended, or cannot reach the database.
ALIVE_FOR = timedelta(seconds=35)
FORGOTTEN_AFTER = timedelta(hours=1)
_DATABASE_DOWN = (DatabaseError, InterfaceError, OSError)


class WorkerState(models.Model):
    """One process, from its start to its end. No configuration: nothing follows these rows."""

    name = models.CharField(max_length=60, primary_key=True, help_text="Unique to each start.")
    host = models.CharField(max_length=100)
    worker = models.PositiveIntegerField()
    plane = models.CharField(max_length=10)
    started_at = models.DateTimeField()
    reported_at = models.DateTimeField(db_index=True)
    version = models.BigIntegerField(null=True, help_text="Of the configuration in force. Empty: none yet.")
    problem = models.CharField(max_length=300, blank=True, help_text="Why it follows no newer one.")
    spool_segments = models.PositiveIntegerField(default=0, help_text="In its spool, not shipped yet.")
    spool_bytes = models.BigIntegerField(default=0)
    spool_full = models.BooleanField(default=False)
    near_limits = models.JSONField(
        default=list,
        db_default=models.Value([], models.JSONField()),
        help_text="The rate limits that had least left, as proxy.near_limits tells them.",
    )

    class Meta:
        """By host."""

        verbose_name = "worker"
        ordering = ("host", "worker", "started_at")

    def __str__(self) -> str:
        """Show which it is."""
        return f"{self.host}/{self.worker}"


class WorkerReporter:
    """Writes the row of one process, at the most every ten seconds and when what it works by changes."""

    def __init__(self, *, name: str, host: str, worker: int, plane: str, started_at: float) -> None:
        """Have written nothing."""
        self._who = {
            "name": name[:60],
            "host": host[:100],
            "worker": worker,
            "plane": plane,
            "started_at": datetime.fromtimestamp(started_at, UTC),
        }
        self._next = 0.0
        self._written: tuple[int | None, str, bool] | None = None

    def is_due(self, now: float, *, version: int | None, problem: str, full: bool) -> bool:
        """Is there something to write at an epoch second?"""
        return now >= self._next or (version, problem, full) != self._written

    def report(
        self,
        now: float,
        *,
        version: int | None,
        problem: str,
        full: bool,
        segments: int,
        size: int,
        near_limits: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """Write it. Never raises: the thread that calls must live."""
        self._next, self._written = now + REPORT_EVERY_S, (version, problem, full)
        at = datetime.fromtimestamp(now, UTC)
        row = WorkerState(
            **self._who,
            reported_at=at,
            version=version,
            problem=problem[:300],
            spool_segments=segments,
            spool_bytes=size,
            spool_full=full,
            near_limits=list(near_limits),
        )
        try:
            WorkerState.objects.bulk_create(
                [row],
                update_conflicts=True,
                unique_fields=["name"],
                update_fields=[
                    *("reported_at", "version", "problem"),
                    *("spool_segments", "spool_bytes", "spool_full", "near_limits"),
                ],
            )
            gone = WorkerState.objects.filter(reported_at__lt=at - FORGOTTEN_AFTER)
            if gone.exists():
                gone.delete()
        except _DATABASE_DOWN as unheard:
            log.debug("worker_not_reported", error=str(unheard))
        except Exception:  # see above
            log.exception("worker_report")
