"""The parts of a run by their names, in the order that they are measured in."""

from collections.abc import Callable, Iterator, Mapping

from bench import measures
from bench.analytics import analytics
from bench.balancing import balancing
from bench.measures import Bench
from bench.open_rows import open_streams
from bench.table import Row

ALL: Mapping[str, Callable[[Bench], Iterator[Row]]] = {
    "limits": measures.limits,
    "client": measures.client,
    "throughput": measures.throughput,
    "translated": measures.translated,
    "balancing": balancing,
    "redis": measures.redis,
    "admission": measures.admission,
    "shipper": measures.shipper,
    "memory": measures.memory,
    "streams": measures.idle_streams,
    "open": open_streams,
    "analytics": analytics,
}
QUICK = ("limits", "throughput", "translated", "balancing", "redis", "admission", "memory", "streams", "open")
