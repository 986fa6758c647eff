"""`manage.py serve`: migrate, bootstrap, then run web processes and the shipper until told to stop."""

import argparse
import signal
import sys
from typing import Any

import structlog
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.utils import OperationalError

from gatewaysite.environment import INHERITED, Environment
from gatewaysite.listening import CannotListen, listen
from gatewaysite.logs import OUTPUT
from gatewaysite.parent import become_parent
from gatewaysite.preparation import prepare
from gatewaysite.serve import GATEWAY_APP, Plan
from providers.builtin_prices import WRITTEN, mark

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
        environment: Environment = settings.GATEWAY
        if environment.workers > 1 and not environment.redis_url:
            raise CommandError(
                f"WORKERS={environment.workers} needs REDIS_URL: without Redis each worker counts limits and "
                "budgets alone, and they would be overspent. Set REDIS_URL, or WORKERS=1."
            )
        # As process 1 of a container we would not even get a signal that nobody handles.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        try:
            # The socket comes first: a taken port is told before anything is written.
            listener = listen(environment.host, environment.port)
        except CannotListen as problem:
            raise CommandError(str(problem)) from None
        prepared = not options["no_migrate"] and self._prepare(environment)
        plan = Plan(
            workers=environment.workers,
            plane=options["plane"],
            shipper=not options["no_shipper"],
            prepare=not options["no_migrate"] and not prepared,
            written={WRITTEN: mark()} if prepared else {},
            grace_s=environment.grace_s,
            data_dir=str(environment.data_dir),
            log_level=environment.log_level,
            log_format=environment.log_format,
            app=options["app"],
        )
        OUTPUT.close()
        become_parent(plan, listener, INHERITED)

    def _prepare(self, environment: Environment) -> bool:
        """Migrate and bootstrap. False: the database is down, and a kept configuration can be served."""
        try:
            prepare()
        except OperationalError as problem:
            if not any(environment.data_dir.glob("snapshot-*.kept")):
                raise CommandError(
                    f"The database does not answer, and there is no kept configuration to serve: {problem}"
                ) from None
            log.error("serve.database_unreachable", error=str(problem).strip())
            return False
        return True
