"""The configuration's rows as last read, kept so that only what changed is read again.

One key is one Caller; any other part is small and read whole. What was read stays read even when it
does not compile: the rows that mend it are patched into it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from keys.caller import Caller
from proxy import rows
from proxy.compiling import compile_parts
from proxy.snapshot import Snapshot, compile_caller

# More changed keys than this are read as one sweep over all of them.
MAX_CHANGES = 5000
Change = tuple[int, str, str]


class ReadRows:
    """Plain rows by part, and the callers by digest. `version` is the one they were read at."""

    def __init__(self) -> None:
        """Start with nothing read."""
        self.version = -1
        self.parts: dict[str, list[Mapping[str, Any]]] = {}
        self.callers: Mapping[bytes, Caller] = {}
        self.swept = False  # did the last `follow` read all keys?
        self._digests: dict[int, bytes] = {}  # by key id: a changed key is found without a search

    def follow(self, version: int) -> bool:
        """Read what changed up to `version`; return whether anything but keys did."""
        changes = rows.changes_since(self.version, MAX_CHANGES) if self.parts else None
        self.swept = False
        if changes is None:
            # `version` was read before the rows: a change in between is only seen once more.
            self.parts = {part: rows.read_part(part) for part in rows.SMALL_PARTS}
            self.callers = self._all_callers()
            self.version = version
            return True
        small = {part for _, part, _ in changes} & set(rows.SMALL_PARTS)
        if "providers" in small:
            small.update(rows.SMALL_PARTS)  # their names are in every other part
        self.parts = {**self.parts, **{part: rows.read_part(part) for part in small}}
        self._patch_callers([ref for _, part, ref in changes if part == "keys"])
        self.version = changes[-1][0]
        return bool(small)

    def compile(self) -> Snapshot:
        """Return the snapshot of what was read. Raises ConfigurationError."""
        return compile_parts(self.version, self.parts, self.callers)

    def _patch_callers(self, refs: Sequence[str]) -> None:
        if not refs:
            return
        if "" in refs:
            self.callers = self._all_callers()
            return
        found = rows.read_keys(sorted(set(refs)))
        callers = dict(self.callers)
        for ref in refs:
            digest = self._digests.pop(int(ref), None)
            if digest is not None:
                callers.pop(digest, None)
        for row in found:
            digest, caller = compile_caller(row)
            callers[digest] = caller
            self._digests[row["id"]] = digest
        self.callers = callers

    def _all_callers(self) -> dict[bytes, Caller]:
        self.swept = True
        callers, digests = {}, {}
        for row in rows.read_all_keys():
            digest, caller = compile_caller(row)
            callers[digest] = caller
            digests[row["id"]] = digest
        self._digests = digests
        return callers
