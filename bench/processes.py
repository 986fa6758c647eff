"""The processes of a measurement: started on free ports, watched through /proc, ended for certain."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self

from bench.rows import SECRET
from gatewaysite.environment import ALIASES, Environment

CHECKOUT = Path(__file__).resolve().parent.parent
MANAGE = (sys.executable, str(CHECKOUT / "manage.py"))
START_S = 60.0
_SERVES = re.compile(r"The gateway serves on (http://\S+)")
_TICKS = os.sysconf("SC_CLK_TCK")


class CannotMeasure(Exception):
    """Something that the measurement needs is missing or failed; the message says what."""


@dataclass(frozen=True, slots=True)
class Cpu:
    """Seconds that processes computed, the most that one of them did, and their wait for a processor."""

    used_s: float
    busiest_s: float
    waited_s: float

    def __sub__(self, earlier: Self) -> "Cpu":
        """Return what happened since `earlier`."""
        return Cpu(
            self.used_s - earlier.used_s, self.busiest_s - earlier.busiest_s, self.waited_s - earlier.waited_s
        )


class Process:
    """A process whose output goes to a file, in a session of its own."""

    def __init__(
        self, name: str, command: Sequence[str], *, home: Path, env: Mapping[str, str] | None = None
    ) -> None:
        """Start it. Its standard input is a pipe that closes with this process."""
        self.name = name
        self._log = home / f"{name}.log"
        with self._log.open("wb") as output:
            self.popen = subprocess.Popen(
                list(command),
                cwd=CHECKOUT,
                env=dict(env or os.environ),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        """What it has printed so far."""
        return self._log.read_text(errors="replace")

    def wait_for(self, pattern: re.Pattern[str]) -> re.Match[str]:
        """Wait until it has printed `pattern`. Raises CannotMeasure."""
        deadline = time.monotonic() + START_S
        while not (found := pattern.search(self.output)):
            if self.popen.poll() is not None or time.monotonic() > deadline:
                raise CannotMeasure(f"{self.name} did not start:\n{self.output[-3000:]}")
            time.sleep(0.05)
        return found

    def stop(self) -> None:
        """End it, and everything it started."""
        if self.popen.poll() is None:
            self.popen.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.popen.wait(timeout=20)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait()
        if self.popen.stdin is not None:
            self.popen.stdin.close()


class Server:
    """A served application: the gateway or the bare lane."""

    def __init__(self, process: Process, data_dir: Path) -> None:
        """Wait until it serves."""
        found = process.wait_for(_SERVES)
        self.process = process
        self.data_dir = data_dir
        self.url = found[1]
        self.port = int(self.url.rpartition(":")[2])
        self.started_s = 0.0
        self._first_workers: list[int] = []

    @property
    def workers(self) -> list[int]:
        """Return the process ids of its web processes. Raises CannotMeasure when one has died."""
        pid = self.process.popen.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        workers = [int(child) for child in children if b"serve_process\0web" in _command_line(child)]
        self._first_workers = self._first_workers or workers
        if workers != self._first_workers or not workers:
            raise CannotMeasure(f"a process of {self.process.name} died:\n{self.process.output[-3000:]}")
        return workers

    def cpu(self) -> Cpu:
        """Return the workers' processor times since they started."""
        used = [cpu_s(pid) for pid in self.workers]
        return Cpu(sum(used), max(used), sum(_waited_s(pid) for pid in self.workers))

    def rss_mb(self) -> float:
        """Return the largest worker's resident memory."""
        return max(_rss_kb(pid) for pid in self.workers) / 1024

    def drop_records(self) -> None:
        """Remove closed spool segments: nobody ships them here, and they would fill the disk."""
        for segment in (self.data_dir / "spool").glob("*.seg"):
            segment.unlink(missing_ok=True)


@contextlib.contextmanager
def upstream(home: Path) -> Iterator[str]:
    """Run the fake vendor and yield its base URL. Raises CannotMeasure when it ended before its time."""
    port = free_port()
    process = Process("upstream", [sys.executable, "-m", "bench.upstream", "--port", str(port)], home=home)
    try:
        _wait_for_port(process, port)
        yield f"http://127.0.0.1:{port}/v1"
        if (status := process.popen.poll()) is not None:
            raise CannotMeasure(f"the fake vendor ended too early, with status {status}: {process.output}")
    finally:
        process.stop()


@contextlib.contextmanager
def redis(home: Path) -> Iterator[str]:
    """Run a Redis server that writes nothing to disk and yield its URL. Raises CannotMeasure."""
    binary = shutil.which("redis-server")
    if binary is None:
        raise CannotMeasure("redis-server is not installed (Debian package redis-server)")
    port = free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    process = Process("redis", [binary, *options], home=home)
    try:
        _wait_for_port(process, port)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.stop()


@contextlib.contextmanager
def bare(home: Path, upstream_url: str, *, own_client: bool = False) -> Iterator[Server]:
    """Serve the bare lane, by the same command as the gateway."""
    name, client = ("bare-own", "own") if own_client else ("bare", "aiohttp")
    app = "bench.bare:application"
    with _served(name, home, app=app, BENCH_UPSTREAM=upstream_url, BENCH_CLIENT=client) as server:
        yield server


@contextlib.contextmanager
def gateway(
    home: Path, prepared: Path, *, name: str, shipper: bool = False, env: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """Serve the gateway on a copy of a prepared data directory."""
    data_dir = home / name
    shutil.copytree(prepared, data_dir)
    with _served(name, home, shipper=shipper, **(env or {})) as server:
        yield server


def prepare(home: Path, upstream_url: str) -> Path:
    """Return a data directory with migrated database and the benchmark's rows."""
    data_dir = home / "prepared"
    data_dir.mkdir()
    env = environment(data_dir)
    run("rows", [sys.executable, "-m", "bench.rows", upstream_url], env=env)
    return data_dir


def run(name: str, command: Sequence[str], *, env: Mapping[str, str]) -> str:
    """Run a command to its end and return its output. Raises CannotMeasure."""
    done = subprocess.run(
        list(command), cwd=CHECKOUT, env=dict(env), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise CannotMeasure(f"{name} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def environment(data_dir: Path, **variables: str) -> dict[str, str]:
    """Return an environment in which neither the shell's variables nor `.env` reach the gateway."""
    known = [*(spec.metadata["name"] for spec in fields(Environment)), *ALIASES]
    return {
        **os.environ,
        **dict.fromkeys(known, ""),
        "GATEWAY_DATA_DIR": str(data_dir),
        "PYTHONUNBUFFERED": "1",
        "PORT": "0",
        **variables,
    }


def free_port() -> int:
    """Return a port that nothing listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def _served(
    name: str, home: Path, *, app: str = "", shipper: bool = False, **variables: str
) -> Iterator[Server]:
    data_dir = home / name
    data_dir.mkdir(exist_ok=True)
    options = ["--no-migrate", *(["--app", app] if app else []), *([] if shipper else ["--no-shipper"])]
    began = time.monotonic()
    process = Process(
        name, [*MANAGE, "serve", *options], home=home, env=environment(data_dir, **_settings(), **variables)
    )
    try:
        server = Server(process, data_dir)
        server.started_s = time.monotonic() - began
        yield server
    finally:
        process.stop()
        shutil.rmtree(data_dir, ignore_errors=True)


def _settings() -> dict[str, str]:
    """Everything a request can pass is on; no limit is ever reached."""
    return {"RPM_LIMIT": "60000000", "GRACE_PERIOD": "2s", "LOG_LEVEL": "info", "LOG_FORMAT": "json"}


def _wait_for_port(process: Process, port: int) -> None:
    deadline = time.monotonic() + START_S
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        if process.popen.poll() is not None or time.monotonic() > deadline:
            raise CannotMeasure(f"{process.name} did not start:\n{process.output[-3000:]}")
        time.sleep(0.02)


def _command_line(pid: str) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def cpu_s(pid: int) -> float:
    """Return the processor time that a process has used."""
    fields_after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields_after_name[11]) + int(fields_after_name[12])) / _TICKS


def family_cpu_s(pid: int) -> float:
    """Return the processor time that a process and its children have used."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return sum(cpu_s(each) for each in (pid, *map(int, children)))


def _waited_s(pid: int) -> float:
    """Return how long the event loop's thread was ready to run and no processor was free."""
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
    return 0.0


def _rss_kb(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    return int(found[1]) if found else 0


HEADERS = {"authorization": f"Bearer {SECRET}", "content-type": "application/json"}
