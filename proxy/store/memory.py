"""The in-process store: exact for one worker. No locks: it lives on the event loop."""

from collections import OrderedDict
from collections.abc import Sequence

from proxy.cache import Entry
from proxy.store.base import ADMITTED, Admission, Limit
from proxy.store.claims import Claims, LocalClaims
from proxy.store.gcra import EMPTY, Bucket, decide

MAX_COUNTERS = 100_000


class MemoryStore:
    """An LRU bounded by bytes, and one bucket per limited key."""

    name = "memory"

    def __init__(self, *, max_bytes: int) -> None:
        """Hold at most `max_bytes` of cached answers, and a quarter of it for answers under keys."""
        self.claims: Claims = LocalClaims(max_bytes=max_bytes // 4)
        self._max_bytes = max_bytes
        self._bytes = 0
        self._entries: OrderedDict[bytes, tuple[float, Entry]] = OrderedDict()
        self._buckets: dict[str, Bucket] = {}

    async def admit(self, *, cache_key: bytes, limits: Sequence[Limit], now: float) -> Admission:
        """Take from all limits or none, then look up."""
        return self.admit_now(cache_key=cache_key, limits=limits, now=now)

    def admit_now(self, *, cache_key: bytes, limits: Sequence[Limit], now: float) -> Admission:
        """Do it at once: everything is here."""
        if limits:
            refusal = self._take(limits, now)
            if refusal is not None:
                return refusal
        if not cache_key:
            return ADMITTED
        entry = self._get(cache_key, now)
        return ADMITTED if entry is None else Admission(entry=entry)

    def peek(self, cache_key: bytes, now: float) -> Entry | None:
        """Look up alone."""
        return self._get(cache_key, now)

    def put(self, cache_key: bytes, entry: Entry, *, ttl_s: float) -> None:
        """Keep an entry; one that fills more than a quarter of the store is not kept."""
        self._drop(cache_key)
        if entry.size > self._max_bytes // 4:
            return
        self._entries[cache_key] = (entry.stored_at + ttl_s, entry)
        self._bytes += entry.size
        while self._bytes > self._max_bytes:
            self._drop(next(iter(self._entries)))

    async def settle(self, completion_id: str) -> bool:  # noqa: ARG002 - nothing is held here yet
        """Nothing outlives this process, so there is nothing to note."""
        return False

    async def look(self) -> None:
        """There is nothing to find out."""

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
        now_us = int(now * 1e6)
        taken: dict[str, Bucket] = {}
        for limit in limits:
            bucket, wait_us = decide(
                self._buckets.get(limit.state_key, EMPTY),
                now_us=now_us,
                amount=limit.amount,
                window_us=limit.window_us,
            )
            if wait_us:
                return Admission(refused_by=limit, retry_after_s=wait_us / 1e6)
            taken[limit.state_key] = bucket
        if len(self._buckets) > MAX_COUNTERS:
            self._buckets = {
                key: each for key, each in self._buckets.items() if not _at_rest(key, each, now_us)
            }
        self._buckets.update(taken)
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


def _at_rest(state_key: str, bucket: Bucket, now_us: int) -> bool:
    """Has all leaked out by now? The key ends in the amount: see Limit.state_key."""
    return bucket.at_us + bucket.held // int(state_key.rpartition("/")[2]) <= now_us
