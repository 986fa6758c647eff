"""What a request turns out to be before anybody is asked, and the memory of those that come again.

A cache lives on identical requests. Reading, routing and naming one costs more than finding its answer,
so what a body was read as is remembered from its first hit on: for as long as the configuration that it
was read under, for callers who may use the same models.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any, Generic, NamedTuple, TypeVar

from keys.caller import Caller
from providers.call import Call
from proxy.cache import Policy
from proxy.endpoints import Endpoint
from proxy.routing import Resolved
from proxy.snapshot import Snapshot

MAX_BODY_BYTES = 8192
MAX_KNOWN = 512
NO_HEADERS: Mapping[str, str] = {}

Known = TypeVar("Known")


class Prepared(NamedTuple):
    """A request read, routed and allowed, and what it may do with the cache."""

    call: Call
    resolved: Resolved
    policy: Policy


class Repeats(Generic[Known]):
    """What is known of requests that have hit the cache. A newcomer takes the place of the oldest.

    A key begins with the request's body.
    """

    def __init__(self) -> None:
        """Know none."""
        self._snapshot: Snapshot | None = None
        self._known: dict[tuple[Any, ...], Known] = {}
        self._bodies: Counter[bytes] = Counter()  # those of the keys

    def may_know(self, snapshot: Snapshot | None, body: bytes) -> bool:
        """Is anything known of a request with this body? Asked before a key is made: most bodies are new."""
        return snapshot is self._snapshot and body in self._bodies

    def get(self, snapshot: Snapshot | None, key: tuple[Any, ...]) -> Known | None:
        """Return what was remembered under this very configuration."""
        return self._known.get(key) if key and snapshot is self._snapshot else None

    def remember(self, snapshot: Snapshot, key: tuple[Any, ...], known: Known) -> None:
        """Remember a request that has hit the cache."""
        if not key:
            return
        if snapshot is not self._snapshot:
            self._snapshot = snapshot
            self._known = {}
            self._bodies.clear()
        if key not in self._known:
            if len(self._known) >= MAX_KNOWN:
                self._forget(next(iter(self._known)))
            self._bodies[key[0]] += 1
        self._known[key] = known

    def _forget(self, key: tuple[Any, ...]) -> None:
        del self._known[key]
        self._bodies[key[0]] -= 1
        if not self._bodies[key[0]]:
            del self._bodies[key[0]]


def repeat_key(
    endpoint: Endpoint,
    caller: Caller,
    body: bytes,
    *,
    cache_control: bytes = b"",
    headers: Mapping[str, str] = NO_HEADERS,
) -> tuple[Any, ...]:
    """Return everything but the configuration that decides what a body is prepared to.

    The parser stands for the endpoint: one that reads something else than the body is no other's equal.
    Empty for what is too large to be remembered.
    """
    if len(body) > MAX_BODY_BYTES or (headers and sum(map(len, headers.values())) > MAX_BODY_BYTES):
        return ()
    who = (caller.tenant_id, caller.allowed, caller.terms)
    return (body, endpoint.parse, *who, cache_control, *headers.items())
