"""`manage.py seed_demo`: a believable history, so that screens can be judged."""

import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from analytics import demo, demo_cast

TOLD_EACH_S = 10.0


class Command(BaseCommand):
    help = (
        "Fill an installation with tenants, keys, people and a history of requests that never were: all "
        "named demo-... For an installation of its own: its ledger entries stay."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--days", type=int, default=30, help="How far back it goes (30).")
        parser.add_argument("--requests", type=int, default=200_000, help="How many (200,000).")
        parser.add_argument("--seed", type=int, default=1, help="Another number makes another history.")
        parser.add_argument("--force", action="store_true", help="Even where there is real traffic.")
        parser.add_argument("--remove", action="store_true", help="Remove what can be removed of it.")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["remove"]:
            self._remove()
            return
        for name in ("days", "requests"):
            if options[name] < 1:
                raise CommandError(f"--{name} must be 1 or more")
        if options["days"] > demo.MOST_DAYS:
            raise CommandError(f"--days must be {demo.MOST_DAYS} at most")
        if demo_cast.is_there():
            raise CommandError("There is demo data already: --remove it first.")
        if demo_cast.has_real_traffic() and not options["force"]:
            raise CommandError(
                "This installation has real traffic. Made-up entries would stay in its ledger for ever: "
                "--force, if they may."
            )
        began = self._told_at = time.monotonic()
        cast = demo.seed(
            now=timezone.now(),
            days=options["days"],
            requests=options["requests"],
            seed=options["seed"],
            tell=self._tell,
        )
        took = time.monotonic() - began
        self.stdout.write(f"{options['requests']:,} requests of {options['days']} days, in {took:.0f} s.")
        self.stdout.write("These people may sign in (their passwords are shown only now):")
        for name, password in cast.passwords.items():
            self.stdout.write(f"  {name:24} {password}")

    def _tell(self, done: int) -> None:
        if time.monotonic() - self._told_at >= TOLD_EACH_S:
            self._told_at = time.monotonic()
            self.stdout.write(f"{done:,} requests")
            self.stdout.flush()

    def _remove(self) -> None:
        deleted, stay = demo.remove()
        self.stdout.write(
            f"Tenants, keys, people and {deleted:,} requests removed. {stay:,} ledger entries stay, and so "
            "do the sums that dashboards read: they are never deleted by a command for demos."
        )
