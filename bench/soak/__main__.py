"""`python -m bench.soak` (= `make soak`): the full-size runs; the exit code is 1 when a target is missed."""

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from bench import processes, table
from bench.processes import CannotMeasure
from bench.soak import keys
from bench.table import Row

Run = Callable[[Path, str, Callable[[Row], None], argparse.Namespace], None]

# Each run gets a directory of its own, the fake vendor's base URL, a listener for its rows, the options.
RUNS: Mapping[str, Run] = {
    "keys": lambda home, url, tell, options: keys.run(
        home, url, tell, keys=options.keys, repeats=options.repeats
    ),
}


def main() -> int:
    """Run all, or those that were asked for."""
    options = _options()
    rows: list[Row] = []
    table.print_head()
    try:
        for name in options.only or RUNS:
            rows += _run(RUNS[name], options)
    except CannotMeasure as problem:
        sys.stderr.write(f"{problem}\n")
        return 1
    path = table.save(rows, kind="soak")
    missed = sum(row.met is False for row in rows)
    print(f"\n{missed} of {sum(row.met is not None for row in rows)} targets missed. Saved: {path}")
    return 1 if missed else 0


def _run(run: Run, options: argparse.Namespace) -> list[Row]:
    rows: list[Row] = []

    def tell(row: Row) -> None:
        rows.append(row)
        table.print_row(row)

    with tempfile.TemporaryDirectory(prefix="gateway-soak-", ignore_cleanup_errors=True) as directory:
        home = Path(directory)
        with processes.upstream(home) as upstream_url:
            run(home, upstream_url, tell, options)
    return rows


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--keys", type=int, default=100_000, help="keys in the database (100,000)")
    parser.add_argument("--repeats", type=int, default=3, help="how often each change is made and unmade (3)")
    parser.add_argument("--only", nargs="+", choices=RUNS, default=[], help="these runs alone")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
