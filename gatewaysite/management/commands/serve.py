"""`manage.py serve`: migrate, bootstrap, then run web processes and the shipper until told to stop."""

import argparse
import asyncio
import signal
import sys
from typing import Any

import structlog
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connections
from django.db.utils import OperationalError

from gatewaysite.serve import GATEWAY_APP, CannotServe, Plan, Supervisor

PLANES = ("all", "data", "control")
log = structlog.get_logger("gatewaysite.serve")


class Command(BaseCommand):
    help = "Serve the gateway: WORKERS web processes and one shipper under one parent."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--plane",
            choices=PLANES,
            default="all",
            help="data: the API alone; control: admin and dashboards alone. Default all.",
        )
        parser.add_argument("--no-shipper", action="store_true", help="`manage.py ship` runs elsewhere.")
        parser.add_argument(
            "--no-migrate", action="store_true", help="Neither migrate nor bootstrap: another process does."
        )
        parser.add_argument("--app", default=GATEWAY_APP, help=argparse.SUPPRESS)

    def handle(self, *args: Any, **options: Any) -> None:
        environment = settings.GATEWAY
        if environment.workers > 1 and not environment.redis_url:
            raise CommandError(
                f"WORKERS={environment.workers} needs REDIS_URL: without Redis each worker counts limits and "
                "budgets alone, and they would be overspent. Set REDIS_URL, or WORKERS=1."
            )
        plan = Plan(
            host=environment.host,
            port=environment.port,
            workers=environment.workers,
            plane=options["plane"],
            shipper=not options["no_shipper"],
            grace_s=environment.grace_s,
            app=options["app"],
        )
        # As process 1 of a container we would not even get a signal that nobody handles.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        try:
            # The socket comes first: a taken port is told before anything is written.
            supervisor = Supervisor(plan, data_dir=environment.data_dir, announce=self._announce)
        except CannotServe as problem:
            raise CommandError(str(problem)) from None
        if not options["no_migrate"]:
            self._prepare()
        if asyncio.run(supervisor.run()):
            raise CommandError("The web processes ended before they served; the log above says why.")

    def _prepare(self) -> None:
        """Migrate and bootstrap. A database that is down stops nobody who has a kept snapshot."""
        try:
            call_command("migrate", interactive=False, verbosity=0)
            call_command("bootstrap")
        except OperationalError as problem:
            log.error("serve.database_unreachable", error=str(problem).strip())
        finally:
            connections.close_all()

    def _announce(self, url: str) -> None:
        self.stdout.write(f"The gateway serves on {url} (Ctrl+C stops it).")
        sys.stdout.flush()
