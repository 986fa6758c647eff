"""`python -m bench` (= `make bench`): measures, prints the table, saves it to bench/results/."""

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from bench import measures, parts, processes, table
from bench.load import require_wrk
from bench.measures import Bench, Sizes
from bench.processes import CannotMeasure
from bench.table import Row

FULL = Sizes(round_s=4, rounds=3, settled_requests=50_000, all_requests=200_000, streams=2_000, held_s=20)
QUICK = Sizes(round_s=2, rounds=1, settled_requests=4_000, all_requests=8_000, streams=300, held_s=8)
TINY = Sizes(round_s=1, rounds=1, settled_requests=100, all_requests=200, streams=20, held_s=4)
_SIZES = {"full": FULL, "quick": QUICK, "tiny": TINY}
_FILES = 20_000


def main() -> int:
    """Measure; the exit code is 1 when nothing could be measured, and 0 whatever the figures say."""
    options = _options()
    _allow_files(_FILES)
    try:
        require_wrk()
        chosen = options.only or (parts.ALL if options.size == "full" else parts.QUICK)
        rows = measure(_SIZES[options.size], chosen)
    except CannotMeasure as problem:
        sys.stderr.write(f"{problem}\n")
        return 1
    path = table.save(rows, kind=options.size)
    missed = sum(row.met is False for row in rows)
    print(f"\n{missed} of {sum(row.met is not None for row in rows)} targets missed. Saved: {path}")
    return 0


def measure(sizes: Sizes, names: Iterable[str]) -> list[Row]:
    """Run the measures and print each row as it comes."""
    rows: list[Row] = []
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="gateway-bench-", ignore_cleanup_errors=True) as directory:
        home = Path(directory)
        with processes.upstream(home) as url, processes.bare(home, url) as bare:
            measures.warm_up(bare)
            prepared = processes.prepare(home, url)
            bench = Bench(home=home, prepared=prepared, upstream_url=url, bare=bare, sizes=sizes)
            table.print_head()
            for row in _rows(bench, names):
                rows.append(row)
                table.print_row(row)
    print(f"\nMeasured in {time.monotonic() - began:.0f} s. {_NOTE}")
    return rows


def _rows(bench: Bench, names: Iterable[str]) -> Iterator[Row]:
    """Yield every row; a measure that fails says so in its place and costs only itself."""
    for name in names:
        try:
            yield from parts.ALL[name](bench)
        except CannotMeasure as problem:
            sys.stderr.write(f"{name}: {problem}\n")
            yield Row(what=name, measured="could not be measured", met=False)


_NOTE = (
    "Reference is the bare lane (docs/performance.md). On a machine that does other work, or has fewer than "
    "four processors, the column 'by CPU' is steadier than 'ratio'."
)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.set_defaults(size="full")
    parser.add_argument("--quick", dest="size", action="store_const", const="quick", help="about a minute")
    parser.add_argument("--tiny", dest="size", action="store_const", const="tiny", help="does it work?")
    parser.add_argument("--only", nargs="+", choices=parts.ALL, default=[], help="these measures alone")
    return parser.parse_args()


def _allow_files(wanted: int) -> None:
    """Raise this process's limit of open files, which its children inherit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard)
        )


if __name__ == "__main__":
    sys.exit(main())
