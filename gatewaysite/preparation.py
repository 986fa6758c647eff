"""What must be done to a database before a gateway serves from it: migrations, first start, `config.yaml`."""

import time

import structlog
from django.core.management import call_command
from django.db import connections
from django.db.utils import OperationalError

LONGEST_PAUSE_S = 15.0

log = structlog.get_logger("gatewaysite.serve")


def prepare() -> None:
    """Migrate and bootstrap. Raises OperationalError when the database does not answer."""
    try:
        call_command("migrate", interactive=False, verbosity=0)
        call_command("bootstrap")
    finally:
        connections.close_all()


def prepare_when_possible() -> None:
    """Prepare as soon as the database answers again."""
    pause_s = 0.5
    while True:
        try:
            prepare()
        except OperationalError:
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        else:
            log.info("serve.prepared")
            return
