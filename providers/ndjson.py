r"""Splits a byte stream into the lines of NDJSON: one JSON value a line, as Ollama streams.

Strategy: a line ends at \n; a \r before it, and blank lines, are white space around JSON and left out.
JSON text has no raw line end inside, so nothing else need be known. Invariant: the same lines for every
split of the input. Bytes without a line end are set aside unjoined, so a huge line costs O(n), not O(n^2).
"""


class LineSplitter:
    """Bytes in, complete lines out."""

    __slots__ = ("_pending",)

    def __init__(self) -> None:
        """Start with an empty buffer."""
        self._pending: list[bytes] = []

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the lines that `chunk` completes, without their line ends."""
        if b"\n" not in chunk:
            if chunk:
                self._pending.append(chunk)
            return []
        if self._pending:
            chunk = b"".join((*self._pending, chunk))
            self._pending.clear()
        *lines, tail = chunk.split(b"\n")
        if tail:
            self._pending.append(tail)
        return [stripped for line in lines if (stripped := line.strip())]

    def rest(self) -> bytes:
        """Return what came after the last complete line."""
        return b"".join(self._pending)
