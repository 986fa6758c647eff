"""The in-process store: exact for one worker. No locks: it lives on the event loop."""

from collections import OrderedDict
from collections.abc import Sequence

from proxy.cache import Entry
from proxy.store.base import ADMITTED, Admission, Limit
from proxy.store.gcra import decide

MAX_COUNTERS = 100_000


class MemoryStore:
    """An LRU bounded by bytes, and one arrival time per limited key."""

    name = "memory"

    def __init__(self, *, max_bytes: int) -> None:
        """Hold at most `max_bytes` of cached answers."""
        self._max_bytes = max_bytes
        self._bytes = 0
        self._entries: OrderedDict[bytes, tuple[float, Entry]] = OrderedDict()
        self._arrivals: dict[str, float] = {}

    async def admit(self, *, cache_key: bytes, limits: Sequence[Limit], now: float) -> Admission:
        """Take from all limits or none, then look up."""
        if limits:
            refusal = self._take(limits, now)
            if refusal is not None:
                return refusal
        if not cache_key:
            return ADMITTED
        entry = self._get(cache_key, now)
        return ADMITTED if entry is None else Admission(entry=entry)

    def put(self, cache_key: bytes, entry: Entry, *, ttl_s: float) -> None:
        """Keep an entry; one that fills more than a quarter of the store is not kept."""
        if entry.size > self._max_bytes // 4:
            return
        self._drop(cache_key)
        self._entries[cache_key] = (entry.stored_at + ttl_s, entry)
        self._bytes += entry.size
        while self._bytes > self._max_bytes:
            self._drop(next(iter(self._entries)))

    async def settle(self, completion_id: str) -> bool:  # noqa: ARG002 - nothing is held here yet
        """Nothing outlives this process, so there is nothing to note."""
        return False

    def state(self) -> str:
        """Always up."""
        return "up"

    async def close(self) -> None:
        """Nothing is open."""

    @property
    def cached_bytes(self) -> int:
        """Bytes the cache holds."""
        return self._bytes

    def _take(self, limits: Sequence[Limit], now: float) -> Admission | None:
        arrivals = []
        for limit in limits:
            tat, wait_s = decide(
                self._arrivals.get(limit.key, 0.0), now=now, amount=limit.amount, window_s=limit.window_s
            )
            if wait_s:
                return Admission(refused_by=limit, retry_after_s=wait_s)
            arrivals.append((limit.key, tat))
        if len(self._arrivals) > MAX_COUNTERS:
            self._arrivals = {key: tat for key, tat in self._arrivals.items() if tat > now}
        self._arrivals.update(arrivals)
        return None

    def _get(self, cache_key: bytes, now: float) -> Entry | None:
        found = self._entries.get(cache_key)
        if found is None:
            return None
        expires_at, entry = found
        if now >= expires_at:
            self._drop(cache_key)
            return None
        self._entries.move_to_end(cache_key)
        return entry

    def _drop(self, cache_key: bytes) -> None:
        found = self._entries.pop(cache_key, None)
        if found is not None:
            self._bytes -= found[1].size
