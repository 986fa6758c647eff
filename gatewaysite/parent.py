"""The parent's own process: what `manage.py serve` turns into when all that needs Django is done.

The command replaces itself (exec) and keeps its process id and the listening socket. What remains for
the parent takes a third of the memory, for as long as the gateway serves. It has the environment that the
command was started with, without what `.env` added: each process that it starts reads that anew.
"""

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import NoReturn

from gatewaysite.children import MANAGE
from gatewaysite.logs import configure_logging
from gatewaysite.serve import Plan, Supervisor

COMMAND = "serve_parent"
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def become_parent(plan: Plan, listener: socket.socket, environment: Mapping[str, str]) -> NoReturn:
    """Turn this process into the parent. A signal on the way is delivered when there is a handler."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    listener.set_inheritable(True)
    sys.stdout.flush()
    sys.stderr.flush()
    told = [json.dumps(asdict(plan)), str(listener.fileno())]
    command = [sys.executable, str(MANAGE), COMMAND, *told]
    os.execve(sys.executable, command, environment)  # noqa: S606 - ourselves


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
    had_terminal = _has_terminal()

    def hung_up() -> None:
        """Replace all processes; but a terminal that closes says with the same signal that it goes."""
        if had_terminal and not _has_terminal():
            supervisor.stop()
        else:
            supervisor.replace()

    loop.add_signal_handler(signal.SIGTERM, supervisor.stop)
    loop.add_signal_handler(signal.SIGINT, partial(supervisor.stop, hasty=True))
    loop.add_signal_handler(signal.SIGHUP, hung_up)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    if await supervisor.run():
        return 0
    sys.stderr.write("The web processes ended before they served; the log above says why.\n")
    return 1


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
