"""Keeps a process's snapshot current: a thread that polls the configuration's version.

The version is read twice a second, and at once when this process saves a row or Redis announces a
change. Only what changed is read again: one key is one Caller; any other part is small and read
whole. A configuration that does not compile changes nothing and is reported. A database that is
down changes nothing either; at start the kept snapshot is served then.
"""

import gc
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import structlog
from django.db import DatabaseError, InterfaceError, close_old_connections, connection

from config.vault import Vault
from keys.caller import Caller
from proxy import kept, rows
from proxy.snapshot import (
    ConfigurationError,
    Snapshot,
    caller_row,
    compile_caller,
    compile_parts,
    with_callers,
)

log = structlog.get_logger()

POLL_S = 0.5
KEEP_EVERY_S = 10.0
# More changed keys than this are read as one sweep over all of them.
MAX_PATCH = 5000
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
        self._publish = publish
        self._kept_at = kept_at
        self._vault = vault
        self._snapshot: Snapshot | None = None
        self._parts: dict[str, list[Mapping[str, Any]]] = {}
        self._digests: dict[int, bytes] = {}  # by key id: a changed key is found without a search
        self._seen = -1
        self._unkept_since: float | None = None
        self._kept_last = 0.0
        self._wake = threading.Event()
        self._closing = False
        self._polled = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="snapshot-watcher", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def poke(self) -> None:
        """Look for changes now."""
        self._wake.set()

    def close(self) -> None:
        """End the thread, keeping what is not yet kept."""
        self._closing = True
        self._wake.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        try:
            while not self._closing:
                self._poll_guarded()
                self._wake.wait(POLL_S)
                self._wake.clear()
        finally:
            connection.close()

    def _poll_guarded(self) -> None:
        try:
            self._poll()
            self._report_database(up=True)
        except _DATABASE_DOWN as problem:
            self._report_database(up=False, problem=str(problem))
            connection.close()
            if self._snapshot is None:
                self._recall()
        except ConfigurationError as problem:
            self._refuse(str(problem))
        except Exception:  # the thread must live: without it no change is ever seen
            log.exception("snapshot_watcher")
        self.polled_at = time.monotonic()

    def _poll(self) -> None:
        close_old_connections()
        version = rows.version()
        if version != self._seen or self._snapshot is None:
            self._follow(version)
        self._keep_when_due()

    def _follow(self, version: int) -> None:
        changes = None
        if self._snapshot is not None and self._parts:
            changes = rows.changes_since(self._seen, MAX_PATCH)
        if changes is None:
            self._build(version)
        else:
            self._patch(changes)

    def _build(self, version: int) -> None:
        """Read everything. `version` was read first: a change in between is only seen once more."""
        parts = {part: rows.read_part(part) for part in rows.SMALL_PARTS}
        callers = self._all_callers()
        self._seen = version
        self._swap(compile_parts(version, parts, callers), parts)
        # The callers live long: take them out of the collector's sight, or each full
        # collection would stop all requests for as long as it takes to walk them.
        gc.freeze()

    def _patch(self, changes: list[tuple[int, str, str]]) -> None:
        assert self._snapshot is not None
        version = changes[-1][0]
        touched = {part for _, part, _ in changes}
        small = touched & set(rows.SMALL_PARTS)
        if "providers" in small:
            small.update(rows.SMALL_PARTS)  # their names are in every other part
        parts = {**self._parts, **{part: rows.read_part(part) for part in small}}
        callers = self._patched_callers(changes) if "keys" in touched or "tenants" in touched else None
        self._seen = version
        if small:
            current = self._snapshot.callers if callers is None else callers
            self._swap(compile_parts(version, parts, current), parts)
        else:
            current = self._snapshot.callers if callers is None else callers
            self._swap(with_callers(self._snapshot, version, current), parts)

    def _patched_callers(self, changes: list[tuple[int, str, str]]) -> Mapping[bytes, Caller]:
        assert self._snapshot is not None
        refs = {ref for _, part, ref in changes if part == "keys"}
        if "" in refs:
            return self._all_callers()
        if not refs:
            return self._snapshot.callers
        callers = dict(self._snapshot.callers)
        for ref in refs:
            digest = self._digests.pop(int(ref), None)
            if digest is not None:
                callers.pop(digest, None)
        for row in rows.read_keys(sorted(refs)):
            digest, caller = compile_caller(row)
            callers[digest] = caller
            self._digests[row["id"]] = digest
        return callers

    def _all_callers(self) -> dict[bytes, Caller]:
        callers, digests = {}, {}
        for row in rows.read_all_keys():
            digest, caller = compile_caller(row)
            callers[digest] = caller
            digests[row["id"]] = digest
        self._digests = digests
        return callers

    def _swap(self, snapshot: Snapshot, parts: dict[str, list[Mapping[str, Any]]]) -> None:
        self._snapshot, self._parts = snapshot, parts
        self.problem = ""
        for warning in snapshot.warnings:
            log.warning("configuration", warning=warning)
        self._publish(snapshot)
        self.ready.set()
        if self._unkept_since is None:
            self._unkept_since = time.monotonic()
        log.info("configuration_in_force", version=snapshot.version, keys=len(snapshot.callers))

    def _refuse(self, problem: str) -> None:
        if problem != self.problem:
            log.error("configuration_refused", problem=problem)
        self.problem = problem

    def _report_database(self, *, up: bool, problem: str = "") -> None:
        if up != self.database_up:
            log.warning("database", up=up, problem=problem)
        self.database_up = up

    def _keep_when_due(self) -> None:
        now = time.monotonic()
        if self._unkept_since is None or self._snapshot is None or now - self._kept_last < KEEP_EVERY_S:
            return
        self._unkept_since, self._kept_last = None, now
        snapshot = self._snapshot
        callers = (caller_row(digest, caller) for digest, caller in snapshot.callers.items())
        try:
            kept.keep(self._kept_at, self._vault, version=snapshot.version, parts=self._parts, keys=callers)
        except OSError as problem:
            self._unkept_since = now
            log.error("snapshot_not_kept", error=str(problem))

    def _recall(self) -> None:
        recalled = kept.recall(self._kept_at, self._vault)
        if recalled is None:
            return
        version, parts = recalled
        callers = dict(compile_caller(row) for row in parts.pop("keys"))
        snapshot = compile_parts(version, parts, callers)
        log.warning("serving_kept_configuration", version=version)
        self._snapshot = snapshot
        # `_parts` stays empty: once the database is back, everything is read anew.
        self._publish(snapshot)
        self.ready.set()
