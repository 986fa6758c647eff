"""The contract of a store: live counters and the cache, asked once per request.

`admit` answers with what the request may do: the cached entry, if any, and the limit that refuses
it, if one does. Later limits, budgets and holds join the same round trip.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from proxy.cache import Entry


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `amount` per `window_s` seconds under `key`; `name` is what a refusal calls it."""

    key: str
    name: str
    amount: int
    window_s: float

    @property
    def state_key(self) -> str:
        """Return where its bucket is kept: one for each amount, which is the bucket's unit."""
        return f"{self.key}/{self.amount}"

    @property
    def window_us(self) -> int:
        """Return the window in microseconds."""
        return int(self.window_s * 1e6)


@dataclass(frozen=True, slots=True)
class Admission:
    """The store's answer. `refused_by` with `retry_after_s`, or admitted with a cache `entry` or None."""

    entry: Entry | None = None
    refused_by: Limit | None = None
    retry_after_s: float = 0.0


ADMITTED = Admission()


class Store(Protocol):
    """In-process or Redis."""

    name: str

    async def admit(self, *, cache_key: bytes, limits: Sequence[Limit], now: float) -> Admission:
        """Take one request from all `limits` or from none, and look `cache_key` up (empty: do not)."""

    def put(self, cache_key: bytes, entry: Entry, *, ttl_s: float) -> None:
        """Keep an entry for `ttl_s` seconds, soon. Never raises, never waits."""

    async def settle(self, completion_id: str) -> bool:
        """Settle what `admit` held for a completion; True when the spool should note it as settled."""

    def state(self) -> str:
        """Return "up" or what is wrong, for /health."""

    async def close(self) -> None:
        """Let go of connections."""
