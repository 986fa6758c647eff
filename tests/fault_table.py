"""The fault matrix as the table of docs/reliability.md."""

import re
from collections.abc import Mapping
from pathlib import Path

from tests.fault_matrix import FAULTS, Outcome
from tests.servers import CHECKOUT

PAGE: Path = CHECKOUT / "docs" / "reliability.md"
BEGIN, END = "<!-- fault matrix: written by `make reliability` -->\n", "<!-- end of the fault matrix -->\n"
_TABLE = re.compile(f"(?<={re.escape(BEGIN)}).*(?={re.escape(END)})", re.DOTALL)
COLUMNS: Mapping[str, tuple[bool, int]] = {
    "JSON, one target": (False, 1),
    "JSON, two targets": (False, 2),
    "stream, one target": (True, 1),
    "stream, two targets": (True, 2),
}

Table = Mapping[tuple[str, bool, int], Outcome]  # by fault, stream, targets


def rendered(table: Table) -> str:
    """Return the table as Markdown."""
    lines = [f"| the vendor | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 1) + "|"]
    for fault in FAULTS:
        cells = [_words(table[fault.name, stream, targets]) for stream, targets in COLUMNS.values()]
        lines.append(f"| {fault.name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def written() -> str:
    """Return the table that the page has."""
    found = _TABLE.search(PAGE.read_text())
    assert found is not None, f"{PAGE.name} has no place for the table"
    return found[0]


def write(table: Table) -> None:
    """Put a table into the page."""
    PAGE.write_text(_TABLE.sub(lambda _: rendered(table), PAGE.read_text()))


def _words(outcome: Outcome) -> str:
    told = f"{outcome.status} `{outcome.code}`" if outcome.code else str(outcome.status)
    if outcome.begun:
        told = f"200, then {told}"
    if outcome.retry_after:
        told += f", Retry-After {outcome.retry_after}"
    attempts = f"{outcome.attempts} attempt{'s' if outcome.attempts > 1 else ''}"
    return " · ".join(filter(None, (told, attempts, outcome.breaker)))
