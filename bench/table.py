"""The table of results: one Row per figure, printed as it comes and saved as JSON."""

import json
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("results")
_WIDTHS = (44, 26, 26, 9, 9, 11, 5)
_HEADINGS = ("what", "reference", "measured", "ratio", "by CPU", "target", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line. `ratio` and `by_cpu` are texts, `met` None where nothing is promised."""

    what: str
    reference: str = ""
    measured: str = ""
    ratio: str = ""
    by_cpu: str = ""
    target: str = ""
    met: bool | None = None
    figures: Mapping[str, Any] = field(default_factory=dict)

    def cells(self) -> tuple[str, ...]:
        """Return the printed cells."""
        verdict = "" if self.met is None else "ok" if self.met else "MISS"
        return (self.what, self.reference, self.measured, self.ratio, self.by_cpu, self.target, verdict)


def print_head() -> None:
    """Print the headings."""
    _print(_HEADINGS)
    _print(tuple("-" * width for width in _WIDTHS))


def print_row(row: Row) -> None:
    """Print one line."""
    _print(row.cells())


def markdown(rows: list[Row]) -> str:
    """Return the table as Markdown."""
    lines = ["| " + " | ".join(_HEADINGS) + " |", "|" + "---|" * len(_HEADINGS)]
    lines += ["| " + " | ".join(row.cells()) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def save(rows: list[Row], *, kind: str) -> Path:
    """Write the figures to bench/results/ and return the file."""
    RESULTS.mkdir(exist_ok=True)
    now = datetime.now(tz=UTC)
    path = RESULTS / f"{now:%Y-%m-%dT%H%M%S}-{kind}.json"
    content = {
        "at": now.isoformat(timespec="seconds"),
        "kind": kind,
        "python": platform.python_version(),
        "rows": [
            {
                "what": row.what,
                "ratio": row.ratio,
                "by_cpu": row.by_cpu,
                "target": row.target,
                "met": row.met,
                **row.figures,
            }
            for row in rows
        ],
    }
    path.write_text(json.dumps(content, indent=1) + "\n")
    path.with_suffix(".md").write_text(markdown(rows))
    return path


def _print(cells: tuple[str, ...]) -> None:
    line = "  ".join(cell.ljust(width) for cell, width in zip(cells, _WIDTHS, strict=True))
    sys.stdout.write(line.rstrip() + "\n")
    sys.stdout.flush()
