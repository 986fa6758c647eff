"""Where the processes of one gateway share their counters (prometheus_client's multiprocess mode)."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path


class MetricsDirectory:
    """A fresh directory for the mapped files of prometheus_client, held by a lock.

    It lies in memory where the machine has such a file system: the files are mapped, and a write to
    a mapped page on a full disk would kill the process instead of raising an error.
    """

    _PREFIX = "gateway-metrics-"

    def __init__(self, data_dir: Path) -> None:
        """Make a fresh, locked directory and sweep away those of dead gateways."""
        memory = Path("/dev/shm")  # noqa: S108 - mkdtemp below makes the name private
        parent = memory if os.access(memory, os.W_OK) else data_dir
        for leftover in parent.glob(f"{self._PREFIX}*"):
            self._sweep(leftover)
        self._path = Path(tempfile.mkdtemp(prefix=self._PREFIX, dir=parent))
        self._lock = os.open(self._path / "lock", os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    @property
    def environment(self) -> dict[str, str]:
        """Tell prometheus_client, which reads this when it is imported."""
        return {"PROMETHEUS_MULTIPROC_DIR": str(self._path)}

    def forget(self, pid: int) -> None:
        """Drop the gauges that speak for a process only while it lives."""
        for path in self._path.glob(f"gauge_live*_{pid}.db"):
            path.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove the directory; every process has ended."""
        os.close(self._lock)
        shutil.rmtree(self._path, ignore_errors=True)

    @staticmethod
    def _sweep(path: Path) -> None:
        with contextlib.suppress(OSError):
            lock = os.open(path / "lock", os.O_RDWR)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(lock)
