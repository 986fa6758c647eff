"""One file of the spool: bytes that survive this process from the moment `append` returns.

The file is allocated ahead and mapped into memory: a line is a copy into the page cache, which
costs a tenth of a write() and never waits behind an fsync of the same file. Where that is not to be
had (a full disk, no room ahead), it is written with pwrite(). What is allocated and not written reads
as zeros, which no line contains: they are cut off when the segment closes, and ignored by its readers
when its writer died.
"""

import errno
import fcntl
import mmap
import os
from pathlib import Path
from typing import NamedTuple

OPEN, CLOSED = ".open", ".seg"
# A file system that copies on write may need new blocks even for what is allocated, and a mapped page
# that finds none kills the process: near a full disk lines are written, not mapped.
MAPPED_ABOVE_BYTES = 64 << 20


class Position(NamedTuple):
    """How far a writer has come: the number of its segment, and the bytes in that."""

    sequence: int
    size: int


class Segment:
    """Held by flock while it is open. `size` is what has been appended, in bytes."""

    __slots__ = ("_descriptor", "_map", "_mapped", "path", "size")

    def __init__(self, path: Path, *, room: int) -> None:
        """Make the file, with `room` bytes allocated ahead if there are as many. Raises OSError."""
        self.path = path
        self.size = 0
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        self._map: mmap.mmap | None = None
        self._mapped = 0
        try:
            self._allocate(room)
        except OSError:
            os.ftruncate(self._descriptor, 0)

    def append(self, line: bytes) -> None:
        """Append the whole line. Raises OSError when there is no room, and nothing of it is there then."""
        end = self.size + len(line)
        if end <= self._mapped:
            self._map[self.size : end] = line  # type: ignore[index]  # there is one where it is mapped
        else:
            self._write(line)
        self.size = end

    def sync(self) -> None:
        """Make what was appended survive the machine. Blocks."""
        os.fsync(self._descriptor)

    def close(self, *, final: bool) -> None:
        """Cut off what was not written and let go; a `final` segment gets its closed name. Blocks."""
        self._mapped = 0
        try:
            os.ftruncate(self._descriptor, self.size)
            os.fsync(self._descriptor)
        finally:  # a disk in trouble must not hide what it has from the shipper
            if final and self.size:
                self.path.rename(self.path.with_suffix(CLOSED))
            elif final:
                self.path.unlink(missing_ok=True)
            if self._map is not None:
                self._map.close()
                self._map = None
            os.close(self._descriptor)

    def _allocate(self, room: int) -> None:
        status = os.fstatvfs(self._descriptor)
        if status.f_bavail * status.f_frsize < MAPPED_ABOVE_BYTES + room:
            return
        os.posix_fallocate(self._descriptor, 0, room)
        self._map = mmap.mmap(self._descriptor, room)
        self._mapped = room

    def _write(self, line: bytes) -> None:
        self._mapped = 0  # from here on: a file that is cut back must not be mapped
        written = 0
        try:
            while written < len(line):
                written += _put(self._descriptor, line[written:], self.size + written)
        except OSError:
            os.ftruncate(self._descriptor, self.size)
            raise


def _put(descriptor: int, text: bytes, offset: int) -> int:
    written = os.pwrite(descriptor, text, offset)
    if not written:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return written
