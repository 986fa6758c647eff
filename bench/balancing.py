"""What it costs to choose among targets: the same requests by a route that does, and by a plain one."""

from collections.abc import Iterator

from bench.load import Shape
from bench.measures import Bench, compared
from bench.rows import BALANCED, STICKY
from bench.table import Row


def balancing(bench: Bench) -> Iterator[Row]:
    """Measure three limited providers by weight, and kept together by user, against an ordered route."""
    with bench.full("balancing") as full:
        for what, model in (("by weight", BALANCED), ("sticky by user", STICKY)):
            plain, balanced = Shape(connections=64), Shape(connections=64, model=model)
            samples = bench.in_turns({"bare": (full, plain), "full": (full, balanced)})
            yield compared(f"3 limited targets {what} (ref.: plain)", samples, at_least=None)
