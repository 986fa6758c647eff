"""The append-only file that records are written to first, so that no `kill -9` loses one.

Protocol (the shipper in `analytics` reads it; docs/records.md tells it in full):
- A segment `{boot}-{worker}-{seq}.open` is held by flock while it is written. It closes one second
  after its first line or at 1 MiB: the next segment is made first and gets the `open` lines of all
  calls still in flight once more (so each segment is self-contained), then the old one is renamed
  to `.seg`.
- `append` copies a line into the page cache (segment.py), on the event loop: it survives the
  process. A thread does what may block: fsync every 50 ms, rotation, the reserve.
- Full disk: a pre-allocated reserve is released for calls already running, `full` turns true so
  that new ones are refused, and the reserve is rebuilt when there is room again. It is a file without
  a name: a process and its successor, which share a worker's number for a while, have one each, and
  none outlives its process.
"""

import contextlib
import os
import tempfile
import threading
import time
from pathlib import Path
from typing import IO

import structlog

from proxy.segment import CLOSED, OPEN, Position, Segment

log = structlog.get_logger()

SEGMENT_SECONDS = 1.0
SEGMENT_BYTES = 1 << 20
# Allocated beyond that: for what is carried over, and for what comes until the thread has turned.
SLACK_BYTES = 1 << 20
SYNC_SECONDS = 0.05
RESERVE_BYTES = 16 << 20
RESERVE_RETRY_SECONDS = 5.0


class Spool:
    """One process's writer. `append` is for the event loop; all else runs in its own thread."""

    def __init__(
        self, directory: Path, *, boot: str, worker: int, reserve_bytes: int = RESERVE_BYTES
    ) -> None:
        """Open the first segment in `directory` and start the thread."""
        directory.mkdir(parents=True, exist_ok=True)
        self.full = False
        self._directory = directory
        self.name = f"{boot}-{worker}"
        self._sequence = 0
        self._in_flight: dict[str, bytes] = {}
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closing = False
        self._reserve: IO[bytes] | None = None
        self._reserve_bytes = reserve_bytes
        self._reserve_tried_at = 0.0
        self.full = not self._allocate_reserve()
        self._segment: Segment | None = self._next_segment()
        self._fresh = 0  # bytes since the segment began, without what was carried over
        self._first_line_at = 0.0
        self._unsynced = False
        self._thread = threading.Thread(target=self._run, name="spool", daemon=True)
        self._thread.start()

    @property
    def in_flight(self) -> int:
        """Calls whose `done` line has not been written."""
        return len(self._in_flight)

    @property
    def position(self) -> Position:
        """How far has this writer come?"""
        with self._lock:
            segment = self._segment
            if segment is None:
                return Position(self._sequence + 1, 0)
            return Position(int(segment.path.stem.rpartition("-")[2]), segment.size)

    def append_open(self, completion_id: str, line: bytes) -> None:
        """Record that an upstream call has started."""
        with self._lock:
            self._in_flight[completion_id] = line
            self._append(line)

    def append_done(self, completion_id: str, line: bytes) -> None:
        """Record a finished Completion; its `open` line is carried over no more."""
        with self._lock:
            self._append(line)
            self._in_flight.pop(completion_id, None)

    def append(self, line: bytes) -> None:
        """Record a line of any other kind, from any thread."""
        with self._lock:
            self._append(line)

    def close(self) -> None:
        """Close the last segment so that the shipper can take it; the thread ends.

        With calls still in flight it stays `.open`, unlocked, as if its writer had died: only so
        are they booked as interrupted.
        """
        self._closing = True
        self._wake.set()
        self._thread.join(timeout=5)
        with self._lock:
            if self._segment is not None:
                self._segment.close(final=not self._in_flight)
                self._segment = None
        self._release_reserve()

    def _append(self, line: bytes) -> None:
        segment = self._segment
        if segment is None:  # closed: a straggler gets a segment of its own
            segment = self._next_segment()
            self._put(segment, line)
            segment.close(final=True)
            return
        self._put(segment, line)
        self._fresh += len(line)
        if not self._first_line_at:
            self._first_line_at = time.monotonic()
        self._unsynced = True
        if self._fresh >= SEGMENT_BYTES:
            self._wake.set()

    def _put(self, segment: Segment, line: bytes) -> None:
        try:
            segment.append(line)
        except OSError as problem:
            self._make_room(segment, line, problem)

    def _make_room(self, segment: Segment, line: bytes, problem: OSError) -> None:
        self.full = True
        log.error("spool_full", error=str(problem))
        self._release_reserve()
        try:
            segment.append(line)
        except OSError as second:
            log.error("spool_line_lost", error=str(second), line=line.decode("utf-8", "replace"))

    def _run(self) -> None:
        while not self._closing:
            self._wake.wait(SYNC_SECONDS)
            self._wake.clear()
            try:
                self._tick(time.monotonic())
            except OSError as problem:
                log.error("spool_thread", error=str(problem))
                time.sleep(SYNC_SECONDS)

    def _tick(self, now: float) -> None:
        if self._unsynced and self._segment is not None:
            self._unsynced = False
            self._segment.sync()
        aged = self._first_line_at and now - self._first_line_at >= SEGMENT_SECONDS
        if aged or self._fresh >= SEGMENT_BYTES:
            self._rotate()
        if self.full and now - self._reserve_tried_at >= RESERVE_RETRY_SECONDS:
            self._reserve_tried_at = now
            self.full = not self._allocate_reserve()

    def _rotate(self) -> None:
        segment = self._next_segment()
        with self._lock:
            old, self._segment = self._segment, segment
            self._fresh, self._first_line_at = 0, 0.0
            if self._in_flight:
                self._put(segment, b"".join(self._in_flight.values()))
        # Renamed only after the carried lines are in the next segment: a crash in between leaves
        # both as `.open`, and the shipper reads them together.
        if old is not None:
            old.close(final=True)

    def _next_segment(self) -> Segment:
        self._sequence += 1
        path = self._directory / f"{self.name}-{self._sequence:08d}{OPEN}"
        return Segment(path, room=SEGMENT_BYTES + SLACK_BYTES)

    def _allocate_reserve(self) -> bool:
        if not self._reserve_bytes:
            return True
        self._release_reserve()
        try:
            reserve = tempfile.TemporaryFile(dir=self._directory, buffering=0)  # noqa: SIM115 - it is held
        except OSError:
            return False
        try:
            os.posix_fallocate(reserve.fileno(), 0, self._reserve_bytes)
        except OSError:
            reserve.close()
            return False
        self._reserve = reserve
        return True

    def _release_reserve(self) -> None:
        """Give its room back: it has no name, so closing it is enough."""
        if self._reserve is not None:
            self._reserve.close()
            self._reserve = None


def backlog(directory: Path) -> dict[str, int]:
    """Return how many segments and bytes wait for the shipper."""
    sizes = []
    for entry in os.scandir(directory):
        if entry.name.endswith(CLOSED):
            with contextlib.suppress(FileNotFoundError):  # shipped in this very moment
                sizes.append(entry.stat().st_size)
    return {"segments": len(sizes), "bytes": sum(sizes)}
