"""`manage.py verify_audit_log`: is the audit log as it was written?"""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from gatewaysite.audit_chain import verify

SHOWN_PROBLEMS = 100


class Command(BaseCommand):
    help = (
        "Recompute the chain of the audit log. Says what was changed, is missing or was never sealed, and "
        "exits with 1 then. Keep the head that it prints elsewhere: with --expect it tells whether the end "
        "of the log was cut off since."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--last", type=int, default=0, help="only so many of the latest entries")
        parser.add_argument("--expect", default="", help="a head that an earlier run printed")

    def handle(self, *args: Any, last: int, expect: str, **options: Any) -> None:
        verdict = verify(last=last, expected=expect.strip().lower())
        for problem in verdict.problems[:SHOWN_PROBLEMS]:
            self.stderr.write(self.style.ERROR(problem))
        if verdict.problems:
            raise CommandError(f"The audit log does not hold: {len(verdict.problems)} problems.")
        self.stdout.write(f"The audit log holds: {verdict.entries} entries, head {verdict.head}")
