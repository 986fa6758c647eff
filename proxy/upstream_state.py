"""Rows about upstreams' health: what the workers have seen, and what operators ask of them.

The workers write, operators look. Only `held_open` and `reset_at` are the operators', and only they
are configuration: a report bumps no version.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from django.db import models

from config.models import TrackedModel

# How late a worker's report may be. The admin says so; whoever writes the reports keeps to it.
REPORT_EVERY_S = 5.0
# An upstream that nobody has used, and nothing has been said of, for so long is listed no more.
QUIET_FOR = timedelta(days=1)


class UpstreamState(TrackedModel):
    """One upstream's circuit breaker, as last reported, and what an operator has asked for."""

    snapshot_part = "upstreams"
    snapshot_ignores = frozenset(
        {"state", "failures", "reason", "open_until", "cooling_until", "worker", "reported_at"}
    )

    class State(models.TextChoices):
        """What the breaker does with calls."""

        CLOSED = "closed", "Closed: calls go through"
        HALF_OPEN = "half_open", "Half open: one call is let through to see"
        OPEN = "open", "Open: passed over"

    upstream = models.CharField(max_length=300, unique=True, help_text='Provider and model: "openai/gpt-4o".')
    state = models.CharField(
        max_length=10,
        choices=State,
        default=State.CLOSED,
        help_text="Of its circuit breaker. Default closed.",
    )
    failures = models.PositiveIntegerField(
        default=0, help_text="In a row or within CB_TIME_WINDOW, as the breaker counts them."
    )
    reason = models.CharField(max_length=300, blank=True, help_text="The last failure. Empty: none.")
    open_until = models.DateTimeField(
        null=True, blank=True, help_text="When a call is let through to see (UTC). Empty: it is not open."
    )
    cooling_until = models.DateTimeField(
        null=True, blank=True, help_text="Until when the vendor asked us to wait (UTC). Empty: it did not."
    )
    worker = models.CharField(max_length=100, blank=True, help_text="Who reported it.")
    reported_at = models.DateTimeField(null=True, blank=True, help_text="When (UTC).")
    held_open = models.BooleanField(
        default=False, help_text="Every worker passes it over until an operator lets it go. Default no."
    )
    reset_at = models.DateTimeField(
        null=True,
        blank=True,
        help_text="Failures and waits from before this moment (UTC) do not count. Empty: all count.",
    )

    class Meta:
        """By name."""

        verbose_name = "upstream"
        ordering = ("upstream",)

    def __str__(self) -> str:
        """Show its name."""
        return self.upstream

    @classmethod
    def report(cls, seen: Sequence["UpstreamState"]) -> None:
        """Write what a worker has seen, in one statement; the operators' columns stay as they are.

        `seen` are unsaved rows, one per upstream. No snapshot holds what is written, so nothing is bumped.
        """
        plain: models.QuerySet[UpstreamState] = models.QuerySet(cls)
        plain.bulk_create(
            seen,
            update_conflicts=True,
            unique_fields=["upstream"],
            update_fields=sorted(cls.snapshot_ignores),
        )

    @classmethod
    def confirm(cls, upstreams: Sequence[str], *, worker: str, at: datetime) -> None:
        """List upstreams that are well, and say of those that are listed so that they still are."""
        plain: models.QuerySet[UpstreamState] = models.QuerySet(cls)
        rows = [cls(upstream=name, worker=worker, reported_at=at) for name in upstreams]
        plain.bulk_create(rows, ignore_conflicts=True)
        plain.filter(upstream__in=upstreams, state=cls.State.CLOSED).update(worker=worker, reported_at=at)

    @classmethod
    def retire(cls, now: datetime, *, unconfirmed_s: float) -> None:
        """Take for closed what nobody has confirmed lately; delete what has been quiet for a day.

        What an operator holds open stays.
        """
        plain: models.QuerySet[UpstreamState] = models.QuerySet(cls)
        orphans = plain.filter(reported_at__lt=now - timedelta(seconds=unconfirmed_s)).exclude(
            state=cls.State.CLOSED, failures=0
        )
        if orphans.exists():
            orphans.update(state=cls.State.CLOSED, failures=0, open_until=None, cooling_until=None)
        quiet = plain.filter(held_open=False, state=cls.State.CLOSED, reported_at__lt=now - QUIET_FOR)
        if quiet.exists():
            # No signals: the audit log and the version are for what people do.
            quiet._raw_delete(quiet.db)  # noqa: SLF001 - see above
