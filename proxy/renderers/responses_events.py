"""The events of a Responses stream: named, numbered, in the order in which they are written."""

from typing import Any

import orjson


class EventWriter:
    """Collects the bytes of events; a silent one lets everything pass unwritten."""

    __slots__ = ("_pieces", "_silent", "number")

    def __init__(self, *, silent: bool = False) -> None:
        """Begin before the first event."""
        self.number = 0
        self._silent = silent
        self._pieces: list[bytes] = []

    def write(self, kind: str, **fields: Any) -> None:
        """Write one event."""
        if self._silent:
            return
        payload = orjson.dumps({"type": kind, "sequence_number": self.number, **fields})
        self._pieces.append(b"event: %b\ndata: %b\n\n" % (kind.encode(), payload))
        self.number += 1

    def write_text(self, frame: bytes, text: str) -> None:
        """Write one event whose `frame` has been made once (`text_frame`): most of a stream."""
        if self._silent:
            return
        self._pieces.append(frame % (self.number, orjson.dumps(text)))
        self.number += 1

    def add(self, raw: bytes) -> None:
        """Add bytes that are events already."""
        self._pieces.append(raw)

    def taken(self) -> bytes:
        """Return what was written since this was asked the last time."""
        pieces, self._pieces = self._pieces, []
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def text_frame(kind: str, **fields: Any) -> bytes:
    """Return the bytes of an event but for its number and its `delta`, for `EventWriter.write_text`."""
    rest = orjson.dumps(fields)[1:-1].replace(b"%", b"%%")
    return b'event: %b\ndata: {"type":"%b","sequence_number":%%d,"delta":%%b,%b}\n\n' % (
        kind.encode(),
        kind.encode(),
        rest,
    )
