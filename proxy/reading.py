"""The configuration's rows as last read, kept so that only what changed is read again.

One key is one Caller; any other part is small and read whole. What was read stays read even when it
does not compile: the rows that mend it are patched into it.
"""

from collections.abc import Collection, Mapping
from typing import Any

from keys.caller import Caller
from proxy import key_rows, rows
from proxy.callers import compile_callers
from proxy.compiling import compile_parts
from proxy.limit_rows import budgeted_keys
from proxy.snapshot import ConfigurationError, Snapshot

# More changed keys than this are read as one sweep over all of them.
MAX_CHANGES = 5000
Change = tuple[int, str, str]


class ReadRows:
    """Plain rows by part, and the callers by digest. `version` is the one they were read at.

    A key whose row says what cannot be is unknown until it is mended; `problem` says which and why.
    """

    def __init__(self) -> None:
        """Start with nothing read."""
        self.version = -1
        self.parts: dict[str, list[Mapping[str, Any]]] = {}
        self.callers: Mapping[bytes, Caller] = {}
        self.swept = False  # did the last `follow` read all keys?
        self._digests: dict[int, tuple[bytes, ...]] = {}  # by key id: a changed key is found without a search
        self._problems: dict[int, str] = {}  # by key id, too

    @property
    def problem(self) -> str:
        """Say what is wrong with keys, or ""."""
        first = next(iter(self._problems.values()), "")
        more = len(self._problems) - 1
        return f"{first} (and {more} more)" if more > 0 else first

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
        if "tenants" in small:
            small.add("limits")  # their names and time zones are in it
        zones = _zones(self.parts)
        self.parts = {**self.parts, **{part: rows.read_part(part) for part in small}}
        refs = {ref for _, part, ref in changes if part == "keys"}
        moved = {tenant for tenant, _ in zones ^ _zones(self.parts)}
        self._patch_callers(refs.union(budgeted_keys(moved) if moved else ()))
        self.version = changes[-1][0]
        return bool(small)

    def compile(self) -> Snapshot:
        """Return the snapshot of what was read. Raises ConfigurationError."""
        return compile_parts(self.version, self.parts, self.callers)

    def _patch_callers(self, refs: Collection[str]) -> None:
        if not refs:
            return
        if "" in refs or len(refs) > MAX_CHANGES:
            self.callers = self._all_callers()
            return
        found = key_rows.read_some(sorted(refs))
        callers = dict(self.callers)
        for ref in refs:
            self._problems.pop(int(ref), None)
            for digest in self._digests.pop(int(ref), ()):
                callers.pop(digest, None)
        for row in found:
            self._put(row, callers)
        self.callers = callers

    def _all_callers(self) -> dict[bytes, Caller]:
        self.swept = True
        callers: dict[bytes, Caller] = {}
        self._digests, self._problems = {}, {}
        for row in key_rows.read_all():
            self._put(row, callers)
        return callers

    def _put(self, row: Mapping[str, Any], callers: dict[bytes, Caller]) -> None:
        try:
            found = compile_callers(row)
        except ConfigurationError as problem:
            self._problems[row["id"]] = str(problem)
        else:
            callers.update(found)
            self._digests[row["id"]] = tuple(found)


def _zones(parts: Mapping[str, list[Mapping[str, Any]]]) -> set[tuple[int, str]]:
    """Return the tenants that are not in UTC, and where they are."""
    return {(row["id"], row["timezone"]) for row in parts["tenants"] if row["timezone"] != "UTC"}
