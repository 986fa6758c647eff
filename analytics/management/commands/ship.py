"""`manage.py ship`: the shipper process; `manage.py serve` runs one."""

import logging
import os
import signal
import threading
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from analytics import tasks
from analytics.receipts import arrived
from analytics.shipper import RECEIPT_TIMEOUT_S, Shipper, alone
from analytics.ticker import Ticker

# Records can wait on disk; requests cannot. On a busy machine traffic gets about three times the share.
NICENESS = 5


class Command(BaseCommand):
    help = (
        "Carry the spool's records into the database until SIGTERM. One per data directory works; more wait."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--receipt-timeout",
            type=float,
            default=RECEIPT_TIMEOUT_S,
            metavar="SECONDS",
            help="Publish a segment again when its receipt is not in the database by then. Default 60.",
        )
        parser.add_argument(
            "--once", action="store_true", help="Ship what is there and end, instead of waiting for more."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        os.nice(NICENESS)
        if tasks.runs_inline():
            # Celery says a line per task, and an error of one is the shipper's to tell, once.
            logging.getLogger("celery.app.trace").setLevel(logging.CRITICAL)
        directory = settings.GATEWAY.data_dir / "spool"
        directory.mkdir(parents=True, exist_ok=True)
        stop = _stopped_by_signals()
        shipper = Shipper(
            directory,
            publish=tasks.publish,
            receipts=arrived,
            receipt_timeout_s=options["receipt_timeout"],
        )
        with alone(directory, stop) as at_work:
            if not at_work:
                return
            if options["once"]:
                stop.set()
            elif tasks.runs_inline():
                Ticker(tasks.scheduled()).start(stop)
            shipper.run(stop)


def _stopped_by_signals() -> threading.Event:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop
