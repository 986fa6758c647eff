"""The parent's own process: what `manage.py serve` turns into when all that needs Django is done.

The command replaces itself (exec) and keeps its process id and the listening socket. What remains for
the parent takes a third of the memory, for as long as the gateway serves.
"""

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import NoReturn

from gatewaysite.logs import configure_logging
from gatewaysite.serve import MANAGE, Plan, Supervisor

COMMAND = "serve_parent"
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def become_parent(plan: Plan, listener: socket.socket) -> NoReturn:
    """Turn this process into the parent. A signal on the way is delivered when there is a handler."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    listener.set_inheritable(True)
    sys.stdout.flush()
    sys.stderr.flush()
    told = [json.dumps(asdict(plan)), str(listener.fileno())]
    os.execv(sys.executable, [sys.executable, str(MANAGE), COMMAND, *told])  # noqa: S606 - ourselves


def main(arguments: Sequence[str]) -> int:
    """Run the plan that `become_parent` hands over, and return the exit status."""
    plan = Plan(**json.loads(arguments[0]))
    listener = socket.socket(fileno=int(arguments[1]))
    listener.set_inheritable(False)
    configure_logging(plan.log_level, plan.log_format)
    return asyncio.run(_supervise(plan, listener))


async def _supervise(plan: Plan, listener: socket.socket) -> int:
    supervisor = Supervisor(plan, listener)
    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        loop.add_signal_handler(number, supervisor.stop)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    if await supervisor.run():
        return 0
    sys.stderr.write("The web processes ended before they served; the log above says why.\n")
    return 1
