"""A real served gateway for tests: `manage.py serve` on a free port with its own data directory.

    with running_gateway({"CACHE_MODE": "none"}) as gateway:
        httpx.get(f"{gateway.url}/v1/models", headers=gateway.headers)
        gateway.stop()
        gateway.start()          # the same port and data directory again

It runs in its data directory, so no `.env` or `config.yaml` of the checkout reaches it. Its database is a
copy of one that is migrated and has the administrator and the demo key: half of a start would be spent on
making one. `fresh=True` begins with nothing, as a user does.
"""

import atexit
import contextlib
import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.servers import CHECKOUT, Child, child, eventually, free_port, gateway_env, is_running

SERVES = "The gateway serves on "
DATABASE = "gateway.sqlite3"
# Migrates and bootstraps, in one process.
_PREPARE = "import django; django.setup(); from gatewaysite.preparation import prepare; prepare()"
# Runs what it reads, a JSON text a line.
_SHELL = """
import json, sys
for line in sys.stdin:
    exec(json.loads(line), {})
    print("done", flush=True)
"""
_KEY = re.compile(r"Demo key: (sk-gw-\S+)")
_PASSWORD = re.compile(r"user admin, password (\S+)")


class Gateway:
    """`manage.py serve`, startable again after a stop or a kill."""

    def __init__(
        self,
        data_dir: Path,
        env: Mapping[str, str],
        *,
        workers: int,
        arguments: Sequence[str],
        manage: Path = CHECKOUT / "manage.py",
    ) -> None:
        """Choose a port; `start` starts it."""
        self.data_dir = data_dir
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.env = {
            **os.environ,
            "GATEWAY_DATA_DIR": str(data_dir),
            "PORT": str(self.port),
            "WORKERS": str(workers),
            "PYTHONUNBUFFERED": "1",
            **env,
        }
        self.key = ""
        self.admin_password = ""
        self._arguments = arguments
        self._manage = (sys.executable, str(manage))
        self._process: Child | None = None
        self._shell: subprocess.Popen[str] | None = None
        self._earlier_output = ""

    @property
    def process(self) -> Child:
        """The parent process."""
        assert self._process is not None, "the gateway is not running"
        return self._process

    @property
    def headers(self) -> dict[str, str]:
        """The demo key as a header."""
        return {"Authorization": f"Bearer {self.key}"}

    def start(self, *, ready: bool = True) -> None:
        """Start it and wait until it serves; take note of what the first start prints."""
        self._forget()
        self._process = Child(
            "gateway", [*self._manage, "serve", *self._arguments], env=self.env, cwd=self.data_dir
        )
        if not ready:
            return
        self._process.wait_for(SERVES, within_s=100)
        self.take_note_of(self.process.output)

    def take_note_of(self, output: str) -> None:
        """Keep the secrets that a first start prints."""
        if not self.key and (found := _KEY.search(output)):
            self.key = found[1]
        if not self.admin_password and (found := _PASSWORD.search(output)):
            self.admin_password = found[1]

    def stop(self, *, with_signal: int = signal.SIGTERM, within_s: float = 60) -> int:
        """Ask it to end and return its exit status."""
        status = self.process.stop(with_signal=with_signal, within_s=within_s)
        self._forget()
        return status

    def kill(self) -> None:
        """SIGKILL the parent and every process below it: no handler runs anywhere."""
        pids = [self.process.pid, *self.children()]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.popen.wait()
        eventually(lambda: not any(map(is_running, pids)), what="the death of all processes")
        self._forget()

    def children(self, role: str = "") -> list[int]:
        """Return the ids of its processes, or those of one role: "web" or "ship"."""
        pid = self.process.pid
        found = Path(f"/proc/{pid}/task/{pid}/children")
        pids = [int(text) for text in found.read_text().split()] if found.exists() else []
        return [child for child in pids if f"serve_process\0{role}" in _command_line(child)]

    def log(self) -> str:
        """Every whole line that it has printed, over all its starts: the last one may be half there."""
        printed = self._earlier_output + (self._process.output if self._process else "")
        return printed[: printed.rfind("\n") + 1]

    def bash(self, code: str) -> str:
        """Run a document's commands in the checkout, against this gateway, and return what they print."""
        return self.run(["bash", "-eu", "-o", "pipefail", "-s"], code=code)

    def run(self, command: Sequence[str], *, code: str = "") -> str:
        """Run a program in the checkout with what a reader's shell would have, and return what it prints.

        `code` is a document's, for its standard input, with this gateway's address and key for those in it.
        """
        done = subprocess.run(
            list(command),
            input=code.replace("http://127.0.0.1:8080", self.url).replace("sk-gw-...", self.key),
            cwd=CHECKOUT,
            env=self.env,
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
        assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def manage(self, *arguments: str) -> str:
        """Run a management command on this gateway's data and return what it printed."""
        with contextlib.closing(_Command([*self._manage, *arguments], self)) as command:
            return command.output

    def shell(self, code: str) -> None:
        """Run code in a process of the control plane: the same `manage.py shell` for all of it."""
        if self._shell is None:
            self._shell = subprocess.Popen(
                [*self._manage, "shell", "-v", "0", "-c", _SHELL],
                env=self.env,
                cwd=self.data_dir,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        self._shell.stdin.write(f"{json.dumps(code)}\n")
        self._shell.stdin.flush()
        assert self._shell.stdout.readline() == "done\n", f"the shell ended at:\n{code}"

    def discard(self) -> None:
        """End it for good."""
        if self._shell is not None:
            self._shell.kill()
            self._shell.communicate()
        if self._process is not None and self._process.alive:
            with contextlib.suppress(ProcessLookupError):
                self.kill()
        self._forget()

    def _forget(self) -> None:
        if self._process is not None:
            self._earlier_output += self._process.output
            self._process.discard()
            self._process = None


class _Command:
    """One management command, run to its end; a failure carries its output."""

    def __init__(self, command: Sequence[str], gateway: Gateway) -> None:
        self._child = Child("manage", command, env=gateway.env, cwd=gateway.data_dir)
        status = self._child.popen.wait(timeout=120)
        self.output = self._child.output
        assert status == 0, f"{' '.join(command)} ended with {status}:\n{self.output}"

    def close(self) -> None:
        self._child.discard()


@functools.cache
def _prepared() -> tuple[Path, str]:
    """Return a prepared database and what its first start printed: made once in a process of tests."""
    home = Path(tempfile.mkdtemp(prefix="gateway-prepared-"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    env = gateway_env(home, DJANGO_SETTINGS_MODULE="gatewaysite.settings", PYTHONPATH=str(CHECKOUT))
    with child("prepare", [sys.executable, "-c", _PREPARE], env=env) as process:
        status = process.popen.wait(timeout=120)
        assert status == 0, f"No database could be prepared:\n{process.output}"
        return home / DATABASE, process.output


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


@contextlib.contextmanager
def running_gateway(
    env: Mapping[str, str] | None = None,
    *,
    workers: int = 1,
    arguments: Sequence[str] = (),
    files: Mapping[str, str] | None = None,
    ready: bool = True,
    checkout: Path = CHECKOUT,
    fresh: bool = False,
) -> Iterator[Gateway]:
    """Serve a gateway for the length of the block.

    `env` overrides the defaults of every variable; `files` are written to its working directory first.
    `checkout`: whose code it runs. `fresh`: it starts for the first time, before an empty disk.
    """
    with tempfile.TemporaryDirectory(prefix="gateway-served-", ignore_cleanup_errors=True) as directory:
        for name, content in (files or {}).items():
            (Path(directory) / name).write_text(content)
        gateway = Gateway(
            Path(directory), env or {}, workers=workers, arguments=arguments, manage=checkout / "manage.py"
        )
        if not (fresh or gateway.env["DATABASE_URL"] or checkout != CHECKOUT):
            database, output = _prepared()
            shutil.copy(database, gateway.data_dir)
            gateway.take_note_of(output)
        try:
            gateway.start(ready=ready)
            yield gateway
        except BaseException:
            sys.stderr.write(f"\n--- the gateway's output\n{gateway.log()}\n")
            raise
        finally:
            gateway.discard()
