r"""The parent of a serving gateway: binds the socket, keeps its processes alive, ends them in order.

    serve (this) --- web process 0..N-1   uvicorn, all accepting from the one listening socket
                 \-- shipper              spool -> database

The listening socket is bound once, here, so a web process that dies refuses nobody: the others,
or its successor, accept what waits. The end is the start in reverse: web processes drain their
streams first, then the shipper ships what they wrote.
"""

import asyncio
import contextlib
import errno
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
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
BIND_PATIENCE_S = 3.0  # a killed predecessor's processes let go of the port within a second

log = structlog.get_logger("gatewaysite.serve")


class CannotServe(Exception):
    """The gateway cannot start; the message tells the operator why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What one `manage.py serve` runs."""

    host: str
    port: int
    workers: int
    plane: str
    shipper: bool
    grace_s: float
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


def bind(host: str, port: int) -> socket.socket:
    """Return the bound socket. Raises CannotServe with a sentence when the address cannot be had."""
    family, kind, _, _, address = _resolve(host, port)
    listener = socket.socket(family, kind)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    deadline = time.monotonic() + BIND_PATIENCE_S
    while True:
        try:
            listener.bind(address)
        except OSError as problem:
            if problem.errno == errno.EADDRINUSE and time.monotonic() < deadline:
                time.sleep(0.1)
                continue
            listener.close()
            raise CannotServe(_why_not(host, port, problem)) from None
        else:
            listener.listen(2048)
            return listener


def _resolve(host: str, port: int) -> tuple[int, int, int, str, tuple[str, int]]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as problem:
        raise CannotServe(f"HOST={host} is no address of this machine: {problem.strerror}.") from None
    return found[0]  # type: ignore[return-value]  # an IPv6 address has two more fields


def _why_not(host: str, port: int, problem: OSError) -> str:
    if problem.errno == errno.EADDRINUSE:
        return (
            f"Port {port} on {host} is taken by another process. Stop it, or choose another: PORT={port + 1}."
        )
    if problem.errno in {errno.EACCES, errno.EPERM}:
        return f"Port {port} needs root. Choose one above 1023: PORT=8080."
    return f"Cannot listen on {host}:{port}: {problem.strerror}."


class Supervisor:
    """Runs a Plan until a signal, or until its web processes cannot be brought up."""

    def __init__(self, plan: Plan, *, data_dir: Path, announce: Callable[[str], None]) -> None:
        """Bind the socket and lay the pipes; start nothing yet. Raises CannotServe."""
        self._plan = plan
        self._announce = announce
        self._listener = bind(plan.host, plan.port)
        self._stopping = asyncio.Event()
        self._stopped_at = 0.0
        self._failed = False
        self._ready = 0
        self._ready_pipe = os.pipe()
        self._web_lifeline = os.pipe()
        # Web processes hold the shipper's line too: it ends after the last of them.
        self._shipper_lifeline = os.pipe()
        self._metrics = MetricsDirectory(data_dir)
        self._environment = {"GATEWAY_PLANE": plan.plane, **self._metrics.environment}
        self._web = [self._web_child(index) for index in range(plan.workers)]
        self._shipper = self._shipper_child() if plan.shipper else None

    @property
    def url(self) -> str:
        """Where this gateway answers."""
        host, port = self._listener.getsockname()[:2]
        return f"http://{f'[{host}]' if ':' in host else host}:{port}"

    async def run(self) -> int:
        """Serve. Returns the exit code: 0 after a signal, 1 if the web processes never came up."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self._on_signal)
        loop.add_reader(self._ready_pipe[0], self._on_ready)
        shipping = [asyncio.create_task(self._keep(self._shipper))] if self._shipper else []
        serving = [asyncio.create_task(self._keep(child)) for child in self._web]
        try:
            await self._stopping.wait()
            self._listener.close()  # or the kernel would still queue connections that nobody accepts
            await self._end(self._web, serving, within_s=self._plan.grace_s + 5)
            if self._shipper:
                await self._end([self._shipper], shipping, within_s=SHIPPER_GRACE_S)
        finally:
            loop.remove_reader(self._ready_pipe[0])
            self._metrics.remove()
        return 1 if self._failed else 0

    async def _keep(self, child: Child) -> None:
        """Start `child`, and again after every death, until the gateway stops."""
        while not self._stopping.is_set():
            process = await child.start()
            status = await process.wait()
            self._metrics.forget(process.pid)
            if self._stopping.is_set():
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

    async def _end(self, children: list[Child], tasks: list[asyncio.Task[None]], *, within_s: float) -> None:
        for child in children:
            child.send(signal.SIGTERM)
        _, unfinished = await asyncio.wait(tasks, timeout=within_s)
        if unfinished:
            for child in children:
                child.send(signal.SIGKILL)
            log.error("serve.killed", processes=[child.name for child in children], after_s=within_s)
            await asyncio.wait(unfinished)

    def _on_signal(self) -> None:
        """Stop in order; a signal that comes later again cuts the drain of the web processes short."""
        if not self._stopping.is_set():
            self._stopped_at = time.monotonic()
            self._stopping.set()
        elif time.monotonic() - self._stopped_at > IMPATIENT_S:
            for child in self._web:
                child.send(signal.SIGKILL)

    def _on_ready(self) -> None:
        was_complete = self._ready >= len(self._web)
        self._ready += len(os.read(self._ready_pipe[0], 4096))
        if not was_complete and self._ready >= len(self._web):
            self._announce(self.url)

    def _web_child(self, index: int) -> Child:
        plan = self._plan
        listener, lifeline, ready = self._listener.fileno(), self._web_lifeline[0], self._ready_pipe[1]
        fds = {"--socket": listener, "--lifeline": lifeline, "--ready": ready}
        options = [text for name, fd in fds.items() for text in (name, str(fd))]
        return Child(
            name=f"web {index}",
            arguments=("serve_process", "web", *options, "--app", plan.app),
            fds=(*fds.values(), self._shipper_lifeline[1]),
            environment={
                "GATEWAY_WORKER": str(index),
                "GATEWAY_PLANE": plan.plane,
                **self._metrics.environment,
            },
        )

    def _shipper_child(self) -> Child:
        lifeline = self._shipper_lifeline[0]
        return Child(
            name="shipper",
            arguments=("serve_process", "ship", "--lifeline", str(lifeline)),
            fds=(lifeline,),
            environment=self._environment,
        )
