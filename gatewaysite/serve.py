r"""The parent of a serving gateway: binds the socket, keeps its processes alive, ends them in order.

    serve (this) --- web process 0..N-1   uvicorn, all accepting from the one listening socket
                 \-- shipper              spool -> database

The listening socket is bound once, here, so a web process that dies refuses nobody: the others,
or its successor, accept what waits. The end is the start in reverse: web processes drain their
streams first, then the shipper ships what they wrote.

A replacement (SIGHUP) puts a fresh process into the place of each web process, one after another: the
successor serves before its predecessor is told to drain. For that long there are two of one number.
"""

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog

from gatewaysite.children import Child, Children
from gatewaysite.metrics_directory import MetricsDirectory

GATEWAY_APP = "gatewaysite.asgi:application"
FIRST_STARTS = 3  # a web process that dies so often before it ever served is not started again
SHIPPER_GRACE_S = 30.0
CLOSING_S = 10.0  # beyond the grace period, for a web process to write down what it cut off
SUCCESSION_S = 60.0  # how long a successor may take until it serves
IMPATIENT_S = 1.0  # `timeout` and terminals may deliver one wish to stop twice within milliseconds

log = structlog.get_logger("gatewaysite.serve")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What one `manage.py serve` runs."""

    workers: int
    plane: str
    shipper: bool
    prepare: bool  # the database was down: migrate and bootstrap when it is back
    written: Mapping[str, str]  # for the shipper's environment: what bootstrap has done already
    grace_s: float
    data_dir: str
    log_level: str
    log_format: str
    app: str = GATEWAY_APP


class Supervisor:
    """Runs a Plan until a signal, or until its web processes cannot be brought up."""

    def __init__(self, plan: Plan, listener: socket.socket) -> None:
        """Take the bound socket and lay the pipes; start nothing yet."""
        self._plan = plan
        self._listener = listener
        self._stopping = asyncio.Event()
        self._stopped_at = 0.0
        self._hasty = False
        self._failed = False
        self._announced = False
        self._replacing = asyncio.Event()
        self._ready_pipe = os.pipe()
        self._web_lifeline = os.pipe()
        # Web processes hold the shipper's line too: it ends after the last of them.
        self._shipper_lifeline = os.pipe()
        self._metrics = MetricsDirectory(Path(plan.data_dir))
        # One process alone counts in its own memory, which is faster than the shared files.
        shared = self._metrics.environment if plan.workers > 1 else {}
        self._environment = {"GATEWAY_PLANE": plan.plane, **shared}
        self._children = Children(ended=self._metrics.forget)
        self._web = [self._web_child(index) for index in range(plan.workers)]
        self._shipper = self._shipper_child() if plan.shipper else None
        self._preparation = self._preparation_child() if plan.prepare else None

    @property
    def url(self) -> str:
        """Where this gateway answers."""
        host, port = self._listener.getsockname()[:2]
        return f"http://{f'[{host}]' if ':' in host else host}:{port}"

    async def run(self) -> bool:
        """Serve until `stop`. False: the web processes never came up."""
        asyncio.get_running_loop().add_reader(self._ready_pipe[0], self._on_ready)
        for child in (self._shipper, self._preparation):
            if child is not None:
                self._children.begin(child)
        for child in self._web:
            self._children.begin(child).add_done_callback(self._on_web_ended)
        replacing = asyncio.create_task(self._replace_when_asked())
        try:
            await self._stopping.wait()
            replacing.cancel()
            self._listener.close()  # or the kernel would still queue connections that nobody accepts
            serving = self._children.all_but(self._shipper)
            if self._hasty:
                for child in self._web:
                    child.send(signal.SIGINT)
            await self._children.end(serving, within_s=self._plan.grace_s + CLOSING_S)
            if self._shipper is not None:
                await self._children.end([self._shipper], within_s=SHIPPER_GRACE_S)
        finally:
            asyncio.get_running_loop().remove_reader(self._ready_pipe[0])
            self._metrics.remove()
        return not self._failed

    def stop(self, *, hasty: bool = False) -> None:
        """Stop in order; asked again later, cut the drain of the web processes short.

        `hasty`: a person waits, so idle connections are closed at once.
        """
        if not self._stopping.is_set():
            self._stopped_at = time.monotonic()
            self._hasty = hasty
            self._stopping.set()
        elif time.monotonic() - self._stopped_at > IMPATIENT_S:
            for child in self._children.all_but(self._shipper):
                child.send(signal.SIGKILL)

    def replace(self) -> None:
        """Replace every process by a fresh one; asked again meanwhile, begin again afterwards."""
        self._replacing.set()

    async def _replace_when_asked(self) -> None:
        while True:
            await self._replacing.wait()
            self._replacing.clear()
            log.info("serve.replacing")
            if not await self._replace_web():
                continue
            if self._shipper is not None:
                self._children.renew(self._shipper)
            log.info("serve.all_replaced")

    async def _replace_web(self) -> bool:
        """Replace the web processes one after another. False: a successor did not come up."""
        for index, old in enumerate(self._web):
            new = self._web_child(index, successor=True)
            life = self._children.begin(new)
            serving = asyncio.create_task(new.ready.wait())
            await asyncio.wait([life, serving], timeout=SUCCESSION_S, return_when=asyncio.FIRST_COMPLETED)
            serving.cancel()
            if not new.ready.is_set():
                log.error("serve.not_replaced", process=old.name, hint="it goes on as it was")
                await self._children.end([new], within_s=CLOSING_S)
                return False
            self._web[index] = new
            log.info("serve.replaced", process=old.name)
            await self._children.end([old], within_s=self._plan.grace_s + CLOSING_S)
        return True

    def _on_web_ended(self, _: object) -> None:
        """Stop for want of a web process that never came up; replaced ones end too."""
        if any(child.hopeless for child in self._web) and not self._stopping.is_set():
            self._failed = True
            self._stopping.set()

    def _on_ready(self) -> None:
        for pid in os.read(self._ready_pipe[0], 4096).split():
            self._children.said_ready(int(pid))
        if not self._announced and all(child.ready.is_set() for child in self._web):
            self._announced = True
            sys.stdout.write(f"The gateway serves on {self.url} (Ctrl+C stops it).\n")
            sys.stdout.flush()

    def _web_child(self, index: int, *, successor: bool = False) -> Child:
        plan = self._plan
        listener, lifeline, ready = self._listener.fileno(), self._web_lifeline[0], self._ready_pipe[1]
        fds = {"--socket": listener, "--lifeline": lifeline, "--ready": ready}
        options = [text for name, fd in fds.items() for text in (name, str(fd))]
        if successor:
            options.append("--successor")
        return Child(
            name=f"web {index}",
            arguments=("serve_process", "web", *options, "--app", plan.app),
            fds=(*fds.values(), self._shipper_lifeline[1]),
            environment={**self._environment, "GATEWAY_WORKER": str(index)},
            starts=1 if successor else FIRST_STARTS,
        )

    def _shipper_child(self) -> Child:
        lifeline = self._shipper_lifeline[0]
        return Child(
            name="shipper",
            arguments=("serve_process", "ship", "--lifeline", str(lifeline)),
            fds=(lifeline,),
            environment={**self._environment, **self._plan.written},
        )

    def _preparation_child(self) -> Child:
        lifeline = self._web_lifeline[0]
        return Child(
            name="preparation",
            arguments=("serve_process", "prepare", "--lifeline", str(lifeline)),
            fds=(lifeline,),
            environment=self._environment,
            once=True,
        )
