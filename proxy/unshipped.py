"""What the spool says was spent and the ledger may not know yet: the sums of budgets by segment.

A segment's receipt is written with its rows, and its file deleted after that: so what was spent is the
ledger's sum and that of every segment on disk that has no receipt. Calls under way count for nothing here,
but for those whose writer has died: they are booked at an estimate.
"""

import fcntl
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from proxy.segment import CLOSED, OPEN, Position
from proxy.spool_lines import parsed

NOWHERE: Mapping[str, Position] = {}


class Counting(Protocol):
    """Knows which budgets count a line (proxy.charges)."""

    def counted(self, record: Mapping[str, Any]) -> Iterable[tuple[str, int]]:
        """Yield the key of each window's sums, and nano-dollars."""


def unshipped(
    directory: Path, budgets: Counting, *, beyond: Mapping[str, Position] = NOWHERE
) -> dict[str, dict[str, int]]:
    """Return what each segment on disk adds to budgets' windows: by segment, then by the key of their sums.

    `beyond`: only what writers have written after these positions.
    """
    ended: dict[str, set[str]] = {}
    found = {}
    # Backwards: a call that is open in one segment may have ended in a later one.
    for segment in sorted(_segments(directory), reverse=True):
        content = segment.read()
        if content is None:
            continue
        done = ended.setdefault(segment.writer, set())
        found[segment.name] = _added(segment, content, budgets, done=done, beyond=beyond)
    return found


def _added(
    segment: "_Found", content: bytes, budgets: Counting, *, done: set[str], beyond: Mapping[str, Position]
) -> dict[str, int]:
    reached, added = beyond.get(segment.writer), dict[str, int]()
    opened: dict[str, Mapping[str, Any]] = {}
    for end, record in _records(content):
        if record["kind"] == "open":
            opened[record["id"]] = record
        elif record["kind"] == "done":
            done.add(record["id"])
            if reached is None or (segment.sequence, end) > reached:
                _add(added, budgets.counted(record))
    if opened and segment.abandoned:
        for identity, record in opened.items():
            if identity not in done:
                _add(added, budgets.counted(record))
                done.add(identity)
    return added


def _add(added: dict[str, int], counted: Iterable[tuple[str, int]]) -> None:
    for key, cost in counted:
        added[key] = added.get(key, 0) + cost


def _records(content: bytes) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield each line that makes sense, and where it ends."""
    start = 0
    while start < len(content):
        end = content.find(b"\n", start) + 1 or len(content)
        record = parsed(content[start:end].rstrip(b"\0\n"))
        if record is not None:
            yield end, record
        start = end


class _Found(NamedTuple):
    """A segment on disk, in the order of its writer."""

    writer: str
    sequence: int
    path: Path

    @property
    def name(self) -> str:
        return self.path.stem

    def read(self) -> bytes | None:
        """Return its content; None when it was shipped meanwhile."""
        for path in (self.path, self.path.with_suffix(CLOSED)):
            try:
                return path.read_bytes().rstrip(b"\0")
            except FileNotFoundError:
                continue  # its writer has just closed it
        return None

    @property
    def abandoned(self) -> bool:
        """Has its writer died with it open?"""
        if self.path.suffix != OPEN:
            return False
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return self.path.exists()
        except BlockingIOError:
            return False
        finally:
            os.close(descriptor)


def _segments(directory: Path) -> Iterator[_Found]:
    for entry in os.scandir(directory):
        name, dot, suffix = entry.name.rpartition(".")
        writer, _, number = name.rpartition("-")
        if dot + suffix in (OPEN, CLOSED) and writer and number.isdecimal():
            yield _Found(writer, int(number), Path(entry.path))
