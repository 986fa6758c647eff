"""Keeps a process's snapshot current: a thread that polls the configuration's version.

The version is read four times a second, and at once when this process saves a row or Redis announces a
change. Rows that do not compile change nothing but the keys and are reported; a key that does not compile
is reported and unknown; a database that is down changes nothing at all. At start, when there is nothing yet
to go on with, either is answered by the snapshot kept on disk.
"""

import gc
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import structlog
from django.db import DatabaseError, InterfaceError, close_old_connections, connection

from config.vault import Vault
from keys.caller import Caller
from proxy import kept, rows
from proxy.callers import caller_row, compile_callers
from proxy.compiling import compile_parts
from proxy.reading import ReadRows
from proxy.snapshot import ConfigurationError, Snapshot, with_callers

log = structlog.get_logger()

POLL_S = 0.25
KEEP_EVERY_S = 10.0
_DATABASE_DOWN = (DatabaseError, InterfaceError, OSError)


class Watcher:
    """Builds and patches the snapshot in its own thread; `publish` receives each new one."""

    def __init__(self, publish: Callable[[Snapshot], None], *, kept_at: Path, vault: Vault) -> None:
        """`publish` is called from the watcher's thread."""
        self.problem = ""
        self.database_up = True
        self.polled_at = 0.0
        self.refreshed_at = 0.0  # last time an unknown key made us look
        self.ready = threading.Event()
        self.each_poll: Callable[[], None] = lambda: None
        self.before_publishing: Callable[[Snapshot], None] = lambda _: None
        self._publish = publish
        self._kept_at = kept_at
        self._vault = vault
        self._snapshot: Snapshot | None = None
        self._read = ReadRows()
        self._refused = (
            ""  # why the rows do not compile; a key that does not is no reason to keep the old ones
        )
        self._unkept = False
        self._kept_last = float("-inf")
        self._wake = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="snapshot-watcher", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def poke(self) -> None:
        """Look for changes now."""
        self._wake.set()

    def close(self) -> None:
        """End the thread. What is not yet kept is kept."""
        self._closing = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    def _run(self) -> None:
        try:
            while not self._closing:
                self._poll_guarded()
                self._wake.wait(POLL_S)
                self._wake.clear()
            self._keep()
        finally:
            connection.close()

    def _poll_guarded(self) -> None:
        try:
            self._poll()
        except _DATABASE_DOWN as problem:
            self._report_database(up=False, problem=str(problem))
            connection.close()
            if self._snapshot is None:
                self._recall(None)
        except Exception:  # the thread must live: without it no change is ever seen
            log.exception("snapshot_watcher")
        else:
            self._report_database(up=True)
        self.polled_at = time.monotonic()
        self.each_poll()

    def _poll(self) -> None:
        close_old_connections()
        version = rows.version()
        if version != self._read.version:
            more_than_keys = self._read.follow(version)
            if more_than_keys:
                self._compile()
            elif self._snapshot is not None:
                self._report()
                self._swap(with_callers(self._snapshot, version, self._read.callers))
            if self._read.swept:
                # Callers live long: out of the collector's sight, or each full collection would
                # stop all requests for as long as it takes to walk them.
                gc.freeze()
        if time.monotonic() - self._kept_last >= KEEP_EVERY_S:
            self._keep()

    def _compile(self) -> None:
        try:
            snapshot = self._read.compile()
        except ConfigurationError as problem:
            self._refuse(str(problem))
            return
        self._refused = ""
        self._report()
        for warning in snapshot.warnings:
            log.warning("configuration", warning=warning)
        self._swap(snapshot)

    def _refuse(self, problem: str) -> None:
        """Go on with the last good configuration, but with the keys as they are now."""
        self._refused = problem
        self._report()
        if self._snapshot is None:
            self._recall(self._read.callers)
        else:
            self._swap(with_callers(self._snapshot, self._snapshot.version, self._read.callers))

    def _report(self) -> None:
        """Say what is wrong with the rows, once."""
        problem = self._refused or self._read.problem
        if problem and problem != self.problem:
            log.error("configuration_refused", problem=problem)
        self.problem = problem

    def _swap(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._unkept = self._unkept or not self._refused
        self.before_publishing(snapshot)
        self._publish(snapshot)
        self.ready.set()
        log.info("configuration_in_force", version=snapshot.version, keys=len(snapshot.callers))

    def _report_database(self, *, up: bool, problem: str = "") -> None:
        if up != self.database_up:
            log.warning("database", up=up, problem=problem)
        self.database_up = up

    def _keep(self) -> None:
        """Write the snapshot to disk if it is good and not there yet."""
        snapshot = self._snapshot
        if not self._unkept or self._refused or snapshot is None:
            return
        self._unkept, self._kept_last = False, time.monotonic()
        callers = (caller_row(digest, caller) for digest, caller in snapshot.callers.items())
        try:
            kept.keep(
                self._kept_at, self._vault, version=snapshot.version, parts=self._read.parts, keys=callers
            )
        except OSError as problem:
            self._unkept = True
            log.error("snapshot_not_kept", error=str(problem))

    def _recall(self, callers: Mapping[bytes, Caller] | None) -> None:
        """Serve the kept snapshot, with `callers` where the database has told them."""
        recalled = kept.recall(self._kept_at, self._vault)
        if recalled is None:
            return
        version, parts = recalled
        try:
            known = _callers(parts["keys"]) if callers is None else callers
            snapshot = compile_parts(version, parts, known)
        except (ConfigurationError, KeyError, TypeError, ValueError) as problem:
            log.error("kept_configuration_unusable", problem=str(problem))
            return
        log.warning("serving_kept_configuration", version=version)
        self._snapshot = snapshot
        self.before_publishing(snapshot)
        self._publish(snapshot)
        self.ready.set()


def _callers(keys: Sequence[Mapping[str, Any]]) -> Mapping[bytes, Caller]:
    return {digest: caller for row in keys for digest, caller in compile_callers(row).items()}
