"""`manage.py serve_process`: one process of a serving gateway, started by `manage.py serve` alone."""

import socket
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandParser

from gatewaysite.lifeline import end_with
from gatewaysite.preparation import prepare_when_possible
from gatewaysite.serve import GATEWAY_APP
from gatewaysite.worker import WARM_UP_S, run_worker


class Command(BaseCommand):
    help = "Internal: one of the processes that `manage.py serve` starts."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("role", choices=["web", "ship", "prepare"])
        parser.add_argument("--lifeline", type=int, required=True, help="Pipe that closes with the parent.")
        parser.add_argument("--socket", type=int, help="The listening socket.")
        parser.add_argument("--ready", type=int, help="Pipe to tell that connections are accepted.")
        parser.add_argument(
            "--successor",
            action="store_true",
            help="Another serves: take its place once there is a configuration.",
        )
        parser.add_argument("--app", default=GATEWAY_APP)

    def handle(self, *args: Any, **options: Any) -> None:
        end_with(options["lifeline"])
        if options["role"] == "prepare":
            prepare_when_possible()
            return
        if options["role"] == "ship":
            call_command("ship")
            return
        run_worker(
            listener=socket.socket(fileno=options["socket"]),
            app=options["app"],
            grace_s=settings.GATEWAY.grace_s,
            ready_fd=options["ready"],
            warm_up_s=None if options["successor"] else WARM_UP_S,
        )
