"""Live counters and the cache: in-process or Redis, chosen once at start."""

from typing import Any

from proxy.store.base import Store
from proxy.store.beside import Beside
from proxy.store.memory import MemoryStore
from proxy.store.redis import RedisStore
from proxy.store.side_by_side import SideBySideStore


def make_store(env: Any, *, owner: str = "") -> Store:
    """Return the store: counters in Redis when there is one, the cache as CACHE_MODE says.

    `owner`: the worker's name, of no other worker ever; "": it shares its budgets with no other.
    """
    if not env.redis_url:
        if not owner:
            return MemoryStore(max_bytes=env.cache_max_bytes)
        return SideBySideStore(Beside(env.data_dir / "beside", owner), max_bytes=env.cache_max_bytes)
    return RedisStore(
        env.redis_url,
        local=None if env.cache_mode == "redis" else MemoryStore(max_bytes=env.cache_max_bytes),
        max_claim_bytes=env.cache_max_bytes // 4,
        owner=owner,
        outage=env.store_outage,
    )
