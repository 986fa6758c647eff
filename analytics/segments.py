"""Reads the spool that `proxy/spool.py` writes: which segments are final, and what is in one.

A segment is `{boot}-{worker}-{sequence}.open` while its writer holds its flock, and `.seg` once closed.
An `.open` file whose lock is free belongs to a writer that died: it is final as well, and its calls
that never ended are *interrupted*.

A line that was cut short by a crash is *torn*: skipped and counted. One that is whole but makes no sense
is *rejected*: kept aside for a person, and the rest goes on.
"""

import fcntl
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from proxy.segment import CLOSED, OPEN
from proxy.spool_lines import Lines

REJECTED_FOLDER = "rejected"
EMPTY_KEPT_S = 3600.0  # an unlocked empty segment this old was left by a writer that died idle


@dataclass(frozen=True, slots=True)
class Segment:
    """A final segment on disk. `name` has no suffix; `abandoned`: its writer died with it open."""

    name: str
    path: Path
    abandoned: bool
    written_ns: int

    @property
    def writer(self) -> str:
        """Boot and worker."""
        return self.name.rpartition("-")[0]


@dataclass(frozen=True, slots=True)
class Shipment:
    """What goes to the database from one segment: whole JSON lines, joined by newlines.

    `lines` counts all the segment's lines, also those that need no row. `interrupted` are the
    `open` lines of calls whose process died, `payloads` what was said, encrypted.
    """

    segment: str
    lines: int
    done: str
    interrupted: str = ""
    payloads: str = ""
    rejected: Sequence[bytes] = ()
    torn: int = 0


def final_segments(directory: Path) -> list[Segment]:
    """Return all segments that nobody will write to any more, oldest first."""
    found = []
    with os.scandir(directory) as listing:
        entries = list(listing)
    for entry in entries:
        name, dot, suffix = entry.name.rpartition(".")
        suffix = dot + suffix
        if suffix == CLOSED or (suffix == OPEN and _is_abandoned(Path(entry.path))):
            try:
                written_ns = entry.stat().st_mtime_ns
            except FileNotFoundError:
                continue  # its writer is just closing it: seen as closed next time
            found.append(
                Segment(name=name, path=Path(entry.path), abandoned=suffix == OPEN, written_ns=written_ns)
            )
    return sorted(found, key=lambda segment: (segment.written_ns, segment.name))


def load(segment: Segment) -> Shipment | None:
    """Read a segment; None when its writer has just renamed it."""
    try:
        content = segment.path.read_bytes()
    except FileNotFoundError:
        return None
    lines = Lines(content)
    open_calls = dict(lines.of_kind("open")) if segment.abandoned else {}
    if open_calls:
        ended = {completion_id for later in _later(segment) for completion_id in later}
        open_calls = {key: line for key, line in open_calls.items() if key not in ended}
    return Shipment(
        segment=segment.name,
        lines=lines.count,
        done=_joined(line for _, line in lines.of_kind("done")),
        interrupted=_joined(open_calls.values()),
        payloads=_joined(line for _, line in lines.of_kind("payload")),
        rejected=lines.rejected,
        torn=lines.torn,
    )


def discard(directory: Path, name: str) -> None:
    """Delete a segment that is in the database, whatever it is called by now."""
    for suffix in (OPEN, CLOSED):
        (directory / (name + suffix)).unlink(missing_ok=True)


def keep_rejected(directory: Path, shipment: Shipment) -> Path:
    """Write a shipment's rejected lines beside the spool and return where. Same result if repeated."""
    folder = directory / REJECTED_FOLDER
    folder.mkdir(exist_ok=True)
    path = folder / f"{shipment.segment}.lines"
    path.write_bytes(b"\n".join(shipment.rejected) + b"\n")
    return path


def _is_abandoned(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # A writer makes the file a moment before it locks it, and lets go of the lock a moment
        # after it has renamed it: an empty or a renamed file has a writer that lives.
        status = os.fstat(descriptor)
        if not status.st_size:
            if time.time() - status.st_mtime > EMPTY_KEPT_S:
                path.unlink(missing_ok=True)
            return False
        if os.pread(descriptor, 1, 0) == b"\0":  # allocated, and its writer died before the first line
            path.unlink(missing_ok=True)
            return False
        return path.exists()
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)


def _later(segment: Segment) -> Iterator[set[str]]:
    """Yield the ids that ended in this and each later segment of the same writer.

    Calls in flight are carried over under the writer's lock, so none ended in an earlier one.
    """
    for path in segment.path.parent.glob(f"{segment.writer}-*"):
        if path.stem >= segment.name and path.suffix in {OPEN, CLOSED}:
            try:
                lines = Lines(path.read_bytes())
            except FileNotFoundError:
                continue  # shipped meanwhile: what ended there is in the database already
            yield {completion_id for completion_id, _ in lines.of_kind("done")}


def _joined(lines: Iterable[bytes]) -> str:
    return b"\n".join(lines).decode()
