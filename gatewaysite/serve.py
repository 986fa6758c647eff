r"""The parent of a serving gateway: binds the socket, keeps its processes alive, ends them in order.

    serve (this) --- web process 0..N-1   uvicorn, all accepting from the one listening socket
                 \-- shipper              spool -> database

The listening socket is bound once, here, so a web process that dies refuses nobody: the others,
or its successor, accept what waits. The end is the start in reverse: web processes drain their
streams first, then the shipper ships what they wrote.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from gatewaysite.metrics_directory import MetricsDirectory

GATEWAY_APP = "gatewaysite.asgi:application"
MANAGE = Path(__file__).resolve().parent.parent / "manage.py"
FIRST_STARTS = 3  # a web process that dies so often before it ever served is not started again
BACKOFF_S = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
STEADY_S = 60.0  # after so long alive, a death is the first one again
SHIPPER_GRACE_S = 30.0
IMPATIENT_S = 1.0  # `timeout` and terminals may deliver one wish to stop twice within milliseconds

log = structlog.get_logger("gatewaysite.serve")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What one `manage.py serve` runs."""

    workers: int
    plane: str
    shipper: bool
    prepare: bool  # the database was down: migrate and bootstrap when it is back
    grace_s: float
    data_dir: str
    log_level: str
    log_format: str
    app: str = GATEWAY_APP


@dataclass(slots=True)
class Child:
    """A process to keep alive: how it is started, and what is known of its life."""

    name: str
    arguments: tuple[str, ...]
    fds: tuple[int, ...]
    environment: Mapping[str, str]
    process: asyncio.subprocess.Process | None = None
    deaths: int = 0
    started_at: float = field(default=0.0)

    async def start(self) -> asyncio.subprocess.Process:
        """Start the process in a session of its own, where the terminal's Ctrl+C does not reach it."""
        self.started_at = time.monotonic()
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(MANAGE),
            *self.arguments,
            env={**os.environ, **self.environment},
            pass_fds=self.fds,
            stdin=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        return self.process

    def send(self, number: signal.Signals) -> None:
        """Signal the process if it lives."""
        if self.process is not None and self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)


class Supervisor:
    """Runs a Plan until a signal, or until its web processes cannot be brought up."""

    def __init__(self, plan: Plan, listener: socket.socket) -> None:
        """Take the bound socket and lay the pipes; start nothing yet."""
        self._plan = plan
        self._listener = listener
        self._stopping = asyncio.Event()
        self._stopped_at = 0.0
        self._failed = False
        self._ready = 0
        self._ready_pipe = os.pipe()
        self._web_lifeline = os.pipe()
        # Web processes hold the shipper's line too: it ends after the last of them.
        self._shipper_lifeline = os.pipe()
        self._metrics = MetricsDirectory(Path(plan.data_dir))
        # One process alone counts in its own memory, which is faster than the shared files.
        shared = self._metrics.environment if plan.workers > 1 else {}
        self._environment = {"GATEWAY_PLANE": plan.plane, **shared}
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
        shipping = [asyncio.create_task(self._keep(self._shipper))] if self._shipper else []
        serving = [asyncio.create_task(self._keep(child)) for child in self._web]
        preparing = [asyncio.create_task(self._keep(self._preparation))] if self._preparation else []
        try:
            await self._stopping.wait()
            self._listener.close()  # or the kernel would still queue connections that nobody accepts
            await self._end(
                [*self._web, self._preparation], [*serving, *preparing], within_s=self._plan.grace_s + 5
            )
            await self._end([self._shipper], shipping, within_s=SHIPPER_GRACE_S)
        finally:
            asyncio.get_running_loop().remove_reader(self._ready_pipe[0])
            self._metrics.remove()
        return not self._failed

    def stop(self) -> None:
        """Stop in order; asked again later, cut the drain of the web processes short."""
        if not self._stopping.is_set():
            self._stopped_at = time.monotonic()
            self._stopping.set()
        elif time.monotonic() - self._stopped_at > IMPATIENT_S:
            for child in self._web:
                child.send(signal.SIGKILL)

    async def _keep(self, child: Child) -> None:
        """Start `child`, and again after every death, until it is done or the gateway stops."""
        while not self._stopping.is_set():
            status = await self._live(child)
            if self._stopping.is_set() or (child is self._preparation and status == 0):
                return
            child.deaths = 1 if time.monotonic() - child.started_at > STEADY_S else child.deaths + 1
            if child in self._web and self._ready < len(self._web) and child.deaths >= FIRST_STARTS:
                log.error("serve.gave_up", process=child.name, status=status)
                self._failed = True
                self._stopping.set()
                return
            pause_s = BACKOFF_S[min(child.deaths, len(BACKOFF_S)) - 1]
            log.error("serve.process_died", process=child.name, status=status, restart_in_s=pause_s)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause_s)

    async def _live(self, child: Child) -> int | str:
        """Run `child` once and return its exit status, or why it could not be started."""
        try:
            process = await child.start()
        except OSError as problem:  # no memory or no process left: later there may be
            return str(problem)
        if self._stopping.is_set():
            child.send(signal.SIGTERM)  # it was being started while the others were told
        status = await process.wait()
        self._metrics.forget(process.pid)
        return status

    async def _end(
        self, children: list[Child | None], tasks: list[asyncio.Task[None]], *, within_s: float
    ) -> None:
        ending = [child for child in children if child is not None]
        for child in ending:
            child.send(signal.SIGTERM)
        if not tasks:
            return
        _, unfinished = await asyncio.wait(tasks, timeout=within_s)
        if unfinished:
            for child in ending:
                child.send(signal.SIGKILL)
            log.error("serve.killed", processes=[child.name for child in ending], after_s=within_s)
            await asyncio.wait(unfinished)

    def _on_ready(self) -> None:
        was_complete = self._ready >= len(self._web)
        self._ready += len(os.read(self._ready_pipe[0], 4096))
        if not was_complete and self._ready >= len(self._web):
            sys.stdout.write(f"The gateway serves on {self.url} (Ctrl+C stops it).\n")
            sys.stdout.flush()

    def _web_child(self, index: int) -> Child:
        plan = self._plan
        listener, lifeline, ready = self._listener.fileno(), self._web_lifeline[0], self._ready_pipe[1]
        fds = {"--socket": listener, "--lifeline": lifeline, "--ready": ready}
        options = [text for name, fd in fds.items() for text in (name, str(fd))]
        return Child(
            name=f"web {index}",
            arguments=("serve_process", "web", *options, "--app", plan.app),
            fds=(*fds.values(), self._shipper_lifeline[1]),
            environment={**self._environment, "GATEWAY_WORKER": str(index)},
        )

    def _shipper_child(self) -> Child:
        lifeline = self._shipper_lifeline[0]
        return Child(
            name="shipper",
            arguments=("serve_process", "ship", "--lifeline", str(lifeline)),
            fds=(lifeline,),
            environment=self._environment,
        )

    def _preparation_child(self) -> Child:
        lifeline = self._web_lifeline[0]
        return Child(
            name="preparation",
            arguments=("serve_process", "prepare", "--lifeline", str(lifeline)),
            fds=(lifeline,),
            environment=self._environment,
        )
