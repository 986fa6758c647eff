r"""Splits a byte stream into server-sent events.

Strategy: an event ends at a blank line; lines end in \n, \r\n or \r (the SSE standard, WHATWG HTML
9.2.6). `feed` returns complete events *with* their blank line, so that a relay may send them on
untouched. Invariant: the same events for every split of the input. That is why a buffer ending in
\r waits: the \n of the same line end may still come. Bytes without any line end are set aside
unjoined, so a huge event costs O(n), not O(n^2).
"""

import re

# Two line ends in a row; a \r is one only when no \n follows.
_BLANK_LINE = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r(?!\n))")
_BOM = b"\xef\xbb\xbf"


class EventSplitter:
    """Bytes in, complete events out."""

    __slots__ = ("_pending", "_started", "_tail")

    def __init__(self) -> None:
        """Start with an empty buffer."""
        self._tail = b""
        self._pending: list[bytes] = []
        self._started = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the events that `chunk` completes."""
        if b"\n" not in chunk and b"\r" not in chunk and not self._ends_in_cr():
            self._pending.append(chunk)
            return []
        if self._pending:
            chunk = b"".join((self._tail, *self._pending, chunk))
            self._pending = []
        elif self._tail:
            chunk = self._tail + chunk
        if not self._started:
            if _BOM.startswith(chunk[:3]) and len(chunk) < len(_BOM):
                self._tail = chunk
                return []
            chunk = chunk.removeprefix(_BOM)
            self._started = True
        return self._split_crlf(chunk) if b"\r" in chunk else self._split_lf(chunk)

    def feed_block(self, chunk: bytes) -> bytes | None:
        """Return all that `chunk` completes in one piece, where all its lines end in LF.

        None: it is not as simple as that, and nothing was taken; use `feed`.
        """
        if self._pending or b"\r" in chunk:
            return None
        if not self._started:
            if self._tail or not chunk or chunk[:1] == _BOM[:1]:
                return None
            self._started = True
        tail = self._tail
        if tail:
            if tail[-1:] in b"\r\n" or b"\r" in tail:
                return None
            chunk = tail + chunk
        end = chunk.rfind(b"\n\n") + 2
        if end < 2 or chunk[end - 3 : end - 2] == b"\n":  # three: which two are the empty line?
            return None
        self._tail = chunk[end:]
        return chunk if not self._tail else chunk[:end]

    def rest(self) -> bytes:
        """Return what came after the last complete event."""
        return b"".join((self._tail, *self._pending))

    def _ends_in_cr(self) -> bool:
        return (self._pending[-1] if self._pending else self._tail).endswith(b"\r")

    def _split_lf(self, text: bytes) -> list[bytes]:
        *events, self._tail = text.split(b"\n\n")
        return [event + b"\n\n" for event in events]

    def _split_crlf(self, text: bytes) -> list[bytes]:
        events, start = [], 0
        for blank in _BLANK_LINE.finditer(text):
            end = blank.end()
            if end == len(text) and text.endswith(b"\r"):
                break  # its \n may be in the next chunk
            events.append(text[start:end])
            start = end
        self._tail = text[start:]
        return events


def data_of(event: bytes) -> bytes | None:
    """Return an event's data, its `data:` lines joined; None when it has none (a comment)."""
    one_line = event.endswith(b"\n\n") and event.find(b"\n") == len(event) - 2 and b"\r" not in event
    if one_line and event.startswith(b"data: "):
        return event[6:-2]
    lines = [
        line[6:] if line.startswith(b"data: ") else line[5:]
        for line in event.splitlines()
        if line.startswith(b"data:")
    ]
    return b"\n".join(lines) if lines else None
