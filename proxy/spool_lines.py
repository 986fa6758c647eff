"""A segment's lines, parsed and sorted by kind, for whoever reads what `proxy/spool.py` writes.

Nothing here trusts a line. One that was cut short by a crash is *torn*: skipped and counted. One that is
whole but makes no sense is *rejected*.
"""

from collections.abc import Sequence
from typing import Any

import orjson

MAX_ID = 60  # characters; as wide as the column
MAX_AT = 253_402_300_799  # the last second of the year 9999
_KINDS = frozenset(
    {"open", "done", "payload", "settled"}
)  # the last is written no more: what it said is in the ledger


class Lines:
    """The lines of one segment's content."""

    def __init__(self, content: bytes) -> None:
        """Parse them."""
        self.count = 0
        self.torn = 0
        self.rejected: list[bytes] = []
        self._by_kind: dict[str, list[tuple[str, bytes]]] = {kind: [] for kind in _KINDS}
        # A writer that died leaves room that it had allocated and not yet written: zeros.
        *whole, rest = content.rstrip(b"\0").split(b"\n")
        for line in whole:
            self._add(line)
        if rest:
            self._add_unfinished(rest)

    def of_kind(self, kind: str) -> Sequence[tuple[str, bytes]]:
        """Return the ids and lines of one kind, in their order."""
        return self._by_kind[kind]

    def _add(self, line: bytes) -> None:
        self.count += 1
        record = parsed(line)
        if record is None:
            self.rejected.append(line)
        else:
            self._by_kind[record["kind"]].append((record["id"], line))

    def _add_unfinished(self, line: bytes) -> None:
        # Only the newline may be missing: a JSON object is whole when it parses.
        if parsed(line) is None:
            self.torn += 1
        else:
            self._add(line)


def parsed(line: bytes) -> dict[str, Any] | None:
    """Return a line's record; None where it is none that the spool writes."""
    try:
        record: Any = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(record, dict):
        return None
    kind, completion_id, at = record.get("kind"), record.get("id"), record.get("at")
    if not isinstance(kind, str) or kind not in _KINDS or not isinstance(completion_id, str):
        return None
    if not 0 < len(completion_id) <= MAX_ID or "\0" in completion_id:
        return None
    if kind != "settled" and not (isinstance(at, int | float) and 0 <= at <= MAX_AT):
        return None
    return record
