"""`manage.py purge_ledger`: delete ledger entries from before a date."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from config.moments import moment, moment_text
from keys.retention import purge


class Command(BaseCommand):
    help = "Delete ledger entries from before a date. Nothing else deletes any."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--before", required=True, help="2026-01-01: the first day (UTC) that is kept.")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            before = moment(options["before"])
            deleted = purge(before)
        except ValueError as problem:
            raise CommandError(f"--before {problem}") from None
        self.stdout.write(f"{deleted:,} entries from before {moment_text(before)} deleted.")
