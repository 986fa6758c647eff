"""A RabbitMQ server for tests, as those in `tests.servers`."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import Child, free_port


class RabbitServer:
    """A RabbitMQ node with a name server of its own, so that it meets no other node."""

    def __init__(self, script: Path, home: Path) -> None:
        """Choose ports; `start` starts it."""
        self.port = free_port()
        self._script = script
        self._epmd: Child | None = None
        self._process: Child | None = None
        (home / "rabbitmq.conf").write_text(f"listeners.tcp.local = 127.0.0.1:{self.port}\n")
        (home / "plugins").write_text("[].\n")
        self._env = {
            **os.environ,
            "HOME": str(home),
            "ERL_EPMD_PORT": str(free_port()),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_FLAGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq.conf"),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "plugins"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_MNESIA_BASE": str(home / "mnesia"),
            "RABBITMQ_NODENAME": f"gateway-{self.port}@localhost",
        }

    def start(self) -> None:
        """Start it, or start it again with what it kept, and wait until it answers."""
        if self._epmd is None:
            self._epmd = Child("epmd", ["epmd"], env=self._env, cwd="/")
        self._process = Child("rabbitmq", [str(self._script)], env=self._env, cwd="/")
        self._process.wait_for("Server startup complete", within_s=60)

    def stop(self) -> None:
        """Kill it: connections are cut."""
        if self._process is not None:
            self._process.discard()
            self._process = None

    def close(self) -> None:
        """Kill it and its name server."""
        self.stop()
        if self._epmd is not None:
            self._epmd.discard()

    def url(self) -> str:
        """Return its URL, as CELERY_BROKER_URL takes it."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"


@contextlib.contextmanager
def rabbitmq() -> Iterator[RabbitServer]:
    """Run a RabbitMQ server (some seconds to start)."""
    # The wrapper in PATH becomes another user and insists on the machine's own directories.
    scripts = sorted(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin/rabbitmq-server"))
    if not scripts:
        pytest.skip("RabbitMQ is not installed (Debian package rabbitmq-server)")
    with tempfile.TemporaryDirectory(prefix="gateway-rabbit-", ignore_cleanup_errors=True) as home:
        server = RabbitServer(scripts[-1], Path(home))
        try:
            server.start()
            yield server
        finally:
            server.close()
