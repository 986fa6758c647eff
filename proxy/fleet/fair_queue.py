"""Who of those that wait is served next: tenants share by weight, each its own calls in their order.

Start-time fair queueing. Each tenant has a line, and the head of each line a start on one virtual clock. The
earliest start is served; it becomes the clock's time, and the tenant's next start is 1/weight later. A line
that begins anew starts at the clock's time: who floods the queue stands behind its own calls, not others'.
Only what is served moves a start: calls that leave unserved cost their tenant nothing.
When nobody waits all is forgotten. Between two tenants that wait all the time, the turns divided by the
weights never differ by more than one turn of each.
"""

from collections import OrderedDict
from collections.abc import Iterator
from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

Item = TypeVar("Item")
# Lines without calls are kept for their start; above so many they are sifted.
_KEPT_LINES = 256


class _Line(Generic[Item]):
    __slots__ = ("items", "listed", "start", "weight")

    def __init__(self, start: float) -> None:
        self.items: OrderedDict[Item, int] = OrderedDict()  # with the weight that each was put in with
        self.start = start
        self.weight = 1
        self.listed = False  # is it in the heap?


class FairQueue(Generic[Item]):
    """Items by tenant; None is a tenant like any other. Items are hashable, and each is in it once."""

    __slots__ = ("_heap", "_length", "_lines", "_now", "_order")

    def __init__(self) -> None:
        """Start empty."""
        self._lines: dict[int | None, _Line[Item]] = {}
        self._heap: list[tuple[float, int, _Line[Item]]] = []
        self._now = 0.0
        self._order = 0
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Item]:
        for line in self._lines.values():
            yield from line.items

    def put(self, item: Item, *, tenant: int | None, weight: int) -> None:
        """Put an item at the end of its tenant's line. A weight below 1 counts as 1."""
        line = self._lines.get(tenant)
        if line is None:
            self._sift()
            line = self._lines[tenant] = _Line(self._now)
        line.weight = line.items[item] = max(weight, 1)
        self._length += 1
        if not line.listed:
            line.start = max(line.start, self._now)
            self._list(line)

    def first(self) -> Item | None:
        """Return the item that is next, without taking it; None when nobody waits."""
        while self._heap:
            line = self._heap[0][2]
            if line.items:
                return next(iter(line.items))
            heappop(self._heap)
            line.listed = False
        return None

    def take(self) -> Item:
        """Take the item that is next. Raises IndexError when nobody waits."""
        if self.first() is None:
            raise IndexError("nobody waits")
        start, _, line = heappop(self._heap)
        item, weight = line.items.popitem(last=False)
        self._now = start
        line.start = start + 1 / weight
        line.listed = False
        if line.items:
            self._list(line)
        self._gone()
        return item

    def remove(self, item: Item, *, tenant: int | None) -> None:
        """Take an item out unserved; nothing happens if it is not there."""
        line = self._lines.get(tenant)
        if line is not None and line.items.pop(item, None) is not None:
            self._gone()

    def ahead_of(self, tenant: int | None, *, weight: int) -> int:
        """Return about how many would be served before an item that this tenant put in now."""
        own = self._lines.get(tenant)
        start, count = self._now, 0
        if own is not None:
            count = len(own.items)
            start = max(start, own.start) + count / max(weight, 1)
        for line in self._lines.values():
            if line is not own and line.items and line.start <= start:
                count += min(len(line.items), int((start - line.start) * line.weight) + 1)
        return count

    def _list(self, line: _Line[Item]) -> None:
        self._order += 1
        heappush(self._heap, (line.start, self._order, line))
        line.listed = True

    def _gone(self) -> None:
        self._length -= 1
        if not self._length:
            self._lines.clear()
            self._heap.clear()
            self._now = 0.0

    def _sift(self) -> None:
        """Forget the lines that are empty and would start at the clock's time anyway."""
        if len(self._lines) < _KEPT_LINES + 2 * self._length:
            return
        self._lines = {
            tenant: line for tenant, line in self._lines.items() if line.items or line.start > self._now
        }
        self._heap = [entry for entry in self._heap if entry[2].items]
        heapify(self._heap)
        for line in self._lines.values():
            line.listed = bool(line.items)
