"""The contract of a store: live counters and the cache, asked once per request.

`admit` answers with what the request may do: the cached entry, if any, and the limit that refuses
it, if one does. Later limits, budgets and holds join the same round trip.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from proxy.cache import Entry
from proxy.store.claims import Claims


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `amount` per `window_s` seconds under `key`; `name` is what a refusal calls it.

    `state_key` is where its bucket is kept: one for each amount, which is the bucket's unit.
    """

    key: str
    name: str
    amount: int
    window_s: float
    state_key: str = field(init=False)
    window_us: int = field(init=False)

    def __post_init__(self) -> None:
        """Derive what is asked for with every request."""
        object.__setattr__(self, "state_key", f"{self.key}/{self.amount}")
        object.__setattr__(self, "window_us", int(self.window_s * 1e6))


class Admission(NamedTuple):
    """The store's answer. `refused_by` with `retry_after_s`, or admitted with a cache `entry` or None."""

    entry: Entry | None = None
    refused_by: Limit | None = None
    retry_after_s: float = 0.0


ADMITTED = Admission()


class Store(Protocol):
    """In-process or Redis. `claims`: the keys under which one request alone is answered."""

    name: str
    claims: Claims

    def admit_now(self, *, cache_key: bytes, limits: Sequence[Limit], now: float) -> Admission | None:
        """Do what `admit` does if that needs no waiting, else nothing: None."""

    def peek(self, cache_key: bytes, now: float) -> Entry | None:
        """Return the entry that `admit_now` would find. Nothing is taken, nobody waits."""

    async def admit(self, *, cache_key: bytes, limits: Sequence[Limit], now: float) -> Admission:
        """Take one request from all `limits` or from none, and look `cache_key` up (empty: do not)."""

    def put(self, cache_key: bytes, entry: Entry, *, ttl_s: float) -> None:
        """Keep an entry for `ttl_s` seconds, soon. Never raises, never waits."""

    async def settle(self, completion_id: str) -> bool:
        """Settle what `admit` held for a completion; True when the spool should note it as settled."""

    async def look(self) -> None:
        """Find out how it is, for whoever asks for its `state`: a quiet process has no news of it."""

    def state(self) -> str:
        """Return "up" or what is wrong, for /health."""

    async def close(self) -> None:
        """Let go of connections."""
