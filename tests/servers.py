"""Real servers for tests: each context manager starts its own, on a free port, and ends it.

    with postgres() as database, redis() as broker:
        env = gateway_env(tmp_path, DATABASE_URL=database.create("gateway"), CELERY_BROKER_URL=broker.url())
        manage("migrate", env=env)
        with celery_worker(env), child("shipper", [*MANAGE, "ship"], env=env) as shipper:
            ...

A program that is not installed skips the test and names the package; GATEWAY_REQUIRE_ALL=1
(conftest.py) turns that into a failure.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import psycopg
import pytest
from redis import Redis as RedisClient
from redis.exceptions import RedisError

CHECKOUT = Path(__file__).resolve().parent.parent
MANAGE = (sys.executable, str(CHECKOUT / "manage.py"))
POSTGRES_BINARIES = Path("/usr/lib/postgresql")

Found = TypeVar("Found")


def free_port() -> int:
    """Return a port that nothing listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def eventually(condition: Callable[[], Found], *, within_s: float = 20, what: str = "it") -> Found:
    """Return the first truthy value of `condition`; fail the test when there is none in time."""
    deadline = time.monotonic() + within_s
    while not (value := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"{what} did not happen within {within_s} s")
        time.sleep(0.02)
    return value


def is_running(pid: int) -> bool:
    """Does a process with this id run? A zombie does not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def gateway_env(data_dir: Path, **variables: str) -> dict[str, str]:
    """Return the environment of a gateway process with a data directory of its own."""
    return {**os.environ, "GATEWAY_DATA_DIR": str(data_dir), "PYTHONUNBUFFERED": "1", **variables}


def manage(*arguments: str, env: Mapping[str, str]) -> str:
    """Run one management command to its end and return what it printed; fail when it fails."""
    done = subprocess.run(
        [*MANAGE, *arguments], cwd=CHECKOUT, env=dict(env), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"manage.py {' '.join(arguments)}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


class Child:
    """A process whose output is kept in a file."""

    def __init__(
        self, name: str, command: Sequence[str], *, env: Mapping[str, str] | None = None, **options: Any
    ) -> None:
        """Start it in a session of its own, so that a signal reaches exactly what is meant."""
        self.name = name
        with tempfile.NamedTemporaryFile(prefix=f"{name}-", suffix=".log", delete=False) as output:
            self._log = Path(output.name)
            self.popen = subprocess.Popen(
                list(command),
                env=None if env is None else dict(env),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **{"cwd": CHECKOUT, **options},
            )

    @property
    def pid(self) -> int:
        """Its process id, which is its process group's too."""
        return self.popen.pid

    @property
    def output(self) -> str:
        """What it has printed so far."""
        return self._log.read_text(errors="replace")

    @property
    def alive(self) -> bool:
        """Is it still running?"""
        return self.popen.poll() is None

    def wait_for(self, text: str, *, within_s: float = 20) -> None:
        """Wait until it has printed `text`; fail the test when it does not, or ends first."""
        deadline = time.monotonic() + within_s
        while text not in self.output:
            if not self.alive or time.monotonic() > deadline:
                pytest.fail(f"{self.name} never said {text!r}:\n{self.output}")
            time.sleep(0.02)

    def kill(self) -> None:
        """SIGKILL it and its children: no handler runs."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.popen.wait()

    def stop(self, *, with_signal: int = signal.SIGTERM, within_s: float = 30) -> int:
        """Ask it to end and return its exit status; fail the test when it does not end."""
        if self.alive:
            self.popen.send_signal(with_signal)
        try:
            return self.popen.wait(timeout=within_s)
        except subprocess.TimeoutExpired:
            self.kill()
            pytest.fail(f"{self.name} did not end within {within_s} s:\n{self.output}")

    def discard(self) -> None:
        """End it for good, however it is, and forget its output."""
        self.kill()
        self._log.unlink(missing_ok=True)


@contextlib.contextmanager
def child(name: str, command: Sequence[str], *, env: Mapping[str, str] | None = None) -> Iterator[Child]:
    """Run a process for the length of the block; killed at its end if it still runs."""
    process = Child(name, command, env=env)
    try:
        yield process
    finally:
        process.discard()


class Postgres:
    """A throwaway cluster that can be stopped and started again."""

    def __init__(self, binaries: Path, home: Path, options: Sequence[str]) -> None:
        """Make the cluster's files. PostgreSQL refuses to run as root, so root becomes `postgres`."""
        self._binaries = binaries
        self._home = home
        self._options = options
        self._as: dict[str, Any] = {"cwd": "/"}
        if os.getuid() == 0:
            shutil.chown(home, "postgres", "postgres")
            self._as |= {"user": "postgres", "group": "postgres", "extra_groups": []}
        self.port = free_port()
        self._process: Child | None = None
        subprocess.run(
            [
                *(str(binaries / "initdb"), "-D", str(home / "cluster"), "-U", "gateway"),
                *("--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync"),
            ],
            check=True,
            capture_output=True,
            **self._as,
        )

    def start(self) -> None:
        """Start it, or start it again on the same port and data, and wait until it answers."""
        options = [f"port={self.port}", "listen_addresses=127.0.0.1", f"unix_socket_directories={self._home}"]
        flags = [part for option in [*options, *self._options] for part in ("-c", option)]
        self._process = Child(
            "postgres",
            [str(self._binaries / "postgres"), "-D", str(self._home / "cluster"), *flags],
            **self._as,
        )
        eventually(self._answers, what="PostgreSQL")

    def stop(self) -> None:
        """Shut it down at once: sessions are cut off."""
        if self._process is not None:
            self._process.stop(with_signal=signal.SIGINT)
            self._process.discard()
            self._process = None

    def kill(self) -> None:
        """SIGKILL all its processes: the next start recovers what was committed."""
        if self._process is not None:
            self._process.popen.send_signal(signal.SIGSTOP)  # it makes no more of them meanwhile
            pids = self._signal_all(signal.SIGKILL)
            self._process.discard()
            self._process = None
            # Its backends are nobody's children now; while one lives, no other server may start.
            eventually(lambda: not any(map(is_running, pids)), what="the death of PostgreSQL")

    def freeze(self) -> None:
        """Stop all its processes where they are: connections stay open, or open, and nothing answers."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let them go on."""
        self._signal_all(signal.SIGCONT)

    def _signal_all(self, number: signal.Signals) -> list[int]:
        if self._process is None:
            return []
        postmaster = self._process.pid
        children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
        pids = [postmaster, *map(int, children)]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        return pids

    def url(self, database: str = "postgres") -> str:
        """Return a database's URL, as DATABASE_URL takes it."""
        return f"postgres://gateway@127.0.0.1:{self.port}/{database}"

    def create(self, database: str) -> str:
        """Make an empty database and return its URL."""
        self.sql(f'CREATE DATABASE "{database}"')
        return self.url(database)

    def sql(self, statement: str, *, database: str = "postgres") -> list[Any]:
        """Run one statement in autocommit and return its rows."""
        with psycopg.connect(self.url(database), autocommit=True, connect_timeout=5) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def _answers(self) -> bool:
        try:
            return bool(self.sql("SELECT 1"))
        except psycopg.OperationalError:
            return False


@contextlib.contextmanager
def postgres(*options: str) -> Iterator[Postgres]:
    """Run a PostgreSQL cluster. `options` are settings such as "fsync=on"; off by default, for speed."""
    versions = sorted(POSTGRES_BINARIES.glob("*/bin"), key=lambda path: float(path.parent.name))
    if not versions:
        pytest.skip("PostgreSQL is not installed (Debian package postgresql)")
    with tempfile.TemporaryDirectory(prefix="gateway-pg-", ignore_cleanup_errors=True) as home:
        server = Postgres(versions[-1], Path(home), options or ("fsync=off",))
        try:
            server.start()
            yield server
        finally:
            server.stop()


class RedisServer:
    """A Redis without persistence: stopped or flushed, it has forgotten everything."""

    def __init__(self, binary: str) -> None:
        """Choose a port; `start` starts it."""
        self._binary = binary
        self._process: Child | None = None
        self.port = free_port()

    def start(self) -> None:
        """Start it, empty, and wait until it answers."""
        self._process = Child(
            "redis",
            [
                *(self._binary, "--port", str(self.port), "--bind", "127.0.0.1"),
                *("--save", "", "--appendonly", "no"),
            ],
            cwd=tempfile.gettempdir(),
        )
        eventually(self._answers, what="Redis")

    def stop(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.discard()
            self._process = None

    def url(self, database: int = 0) -> str:
        """Return the URL of one of its 16 databases."""
        return f"redis://127.0.0.1:{self.port}/{database}"

    @contextlib.contextmanager
    def client(self, database: int = 0) -> Iterator["RedisClient"]:
        """Connect to it."""
        connection = RedisClient.from_url(self.url(database))
        try:
            yield connection
        finally:
            connection.close()

    def freeze(self) -> None:
        """Stop it where it is: connections stay open, or open, and nothing answers."""
        if self._process is not None:
            self._process.popen.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        if self._process is not None:
            self._process.popen.send_signal(signal.SIGCONT)

    def forget(self) -> None:
        """Drop all its data."""
        with self.client() as connection:
            connection.flushall()

    def _answers(self) -> bool:
        with self.client() as connection:
            try:
                return bool(connection.ping())
            except RedisError:
                return False


@contextlib.contextmanager
def redis() -> Iterator[RedisServer]:
    """Run a Redis server."""
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.skip("redis-server is not installed (Debian package redis-server)")
    server = RedisServer(binary)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def celery_worker(env: Mapping[str, str], *arguments: str, ready: bool = True) -> Iterator[Child]:
    """Run a Celery worker with one task at a time, in one process: a SIGKILL leaves nothing behind."""
    command = [
        *(sys.executable, "-m", "celery", "-A", "gatewaysite", "worker"),
        *("--loglevel", "INFO", "--pool", "solo", "--without-mingle", "--without-gossip", *arguments),
    ]
    with child("celery", command, env=env) as worker:
        if ready:
            worker.wait_for(" ready.")
        yield worker
