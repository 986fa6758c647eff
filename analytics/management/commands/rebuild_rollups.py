"""`manage.py rebuild_rollups`: add up hours and days anew from the log and the ledger."""

from datetime import datetime, timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from analytics.rollup_check import rebuild
from config.moments import moment


class Command(BaseCommand):
    help = (
        "Make the sums that dashboards read what the log and the ledger say. Needed after a tenant's time "
        "zone was changed to one that is off by a part of an hour; the rest is checked every hour."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--since", required=True, help="2026-01-01 or a time (UTC): where it begins.")
        parser.add_argument("--until", default="", help="The last day, all of it; or a time (UTC). Now.")
        parser.add_argument("--dry-run", action="store_true", help="Say what is different, change nothing.")

    def handle(self, *args: Any, **options: Any) -> None:
        since, until = _moment(options, "since"), _moment(options, "until")
        if since >= until:
            raise CommandError("--until must be after --since")
        different = rebuild(since, until, dry_run=options["dry_run"], tell=self._tell)
        self.stdout.write(f"{different:,} sums {'are different' if options['dry_run'] else 'mended'}.")

    def _tell(self, day: datetime, count: int) -> None:
        if count:
            self.stdout.write(f"{day:%Y-%m-%d}: {count:,}")


def _moment(options: dict[str, Any], name: str) -> datetime:
    text = options[name]
    if not text:
        return timezone.now()
    try:
        found = moment(text)
    except ValueError as problem:
        raise CommandError(f"--{name} {problem}") from None
    whole_day = name == "until" and "T" not in text and " " not in text
    return found + timedelta(days=1) if whole_day else found
