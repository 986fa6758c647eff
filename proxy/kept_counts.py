"""The counters of the in-process store on disk: what a restart goes on with.

Two files, each written whole and put into the place of the old one: the sums of budgets with how far the
spool had come by then, for when the database is down at start; and the rate limits of hours and days, which
nothing else knows. A file that is damaged, or of another form, is as good as none.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import structlog

from proxy.segment import Position
from proxy.store.base import Ledgered

log = structlog.get_logger()

FORMAT = 1
# Rates: step to what was let through in it, by the key of the count.
Rates = Mapping[str, Mapping[int, int]]


class KeptSums(NamedTuple):
    """Sums of budgets, and the position in the spool up to which they hold all that `writer` has written."""

    at: float
    writer: str
    position: Position
    sums: Mapping[str, Ledgered]


class KeptFile:
    """One of the files. Whoever has taken our place writes it: then we no longer do."""

    def __init__(self, path: Path) -> None:
        """Know the path."""
        self._path = path
        self._ours: tuple[int, int] | None = None

    def write(self, content: Mapping[str, Any]) -> None:
        """Put `content` into the place of what is there, unless that is a successor's. Raises OSError."""
        if self._ours is not None and self._identity() != self._ours:
            return
        scratch = self._path.with_suffix(f".{os.getpid()}.tmp")
        with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(orjson.dumps({"format": FORMAT, **content}))
        scratch.replace(self._path)
        self._ours = self._identity()

    def read(self) -> Mapping[str, Any] | None:
        """Return what is there; None where nothing is, or nothing that can be used."""
        try:
            found = orjson.loads(self._path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, orjson.JSONDecodeError) as problem:
            self.refuse(problem)
            return None
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            self.refuse(ValueError("of another form"))
            return None
        return found

    def refuse(self, problem: Exception) -> None:
        """Say that it is of no use."""
        log.error("kept_counts_unusable", file=self._path.name, error=f"{type(problem).__name__}: {problem}")

    def _identity(self) -> tuple[int, int] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns


def keep_sums(file: KeptFile, kept: KeptSums) -> None:
    """Write sums. Raises OSError."""
    sums = {key: list(each) for key, each in kept.sums.items()}
    file.write({"at": kept.at, "writer": kept.writer, "position": list(kept.position), "sums": sums})


def recall_sums(file: KeptFile) -> KeptSums | None:
    """Return the sums that were kept, or None."""
    found = file.read()
    if found is None:
        return None
    try:
        sums = {str(key): Ledgered(int(spent), int(more)) for key, (spent, more) in found["sums"].items()}
        sequence, size = found["position"]
        return KeptSums(float(found["at"]), str(found["writer"]), Position(int(sequence), int(size)), sums)
    except (AttributeError, KeyError, TypeError, ValueError) as problem:
        file.refuse(problem)
        return None


def keep_rates(file: KeptFile, rates: Rates, *, at: float) -> None:
    """Write rates. Raises OSError."""
    listed = {key: [[step, weight] for step, weight in steps.items()] for key, steps in rates.items()}
    file.write({"at": at, "rates": listed})


def recall_rates(file: KeptFile) -> Rates:
    """Return the rates that were kept; none where there are none."""
    found = file.read()
    if found is None:
        return {}
    try:
        return {
            str(key): {int(step): int(weight) for step, weight in steps}
            for key, steps in found["rates"].items()
        }
    except (AttributeError, KeyError, TypeError, ValueError) as problem:
        file.refuse(problem)
        return {}
