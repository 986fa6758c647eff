"""What a request turns out to be before anybody is asked, and the memory of those that come again.

A cache lives on identical requests. Reading, routing and naming one costs more than finding its answer,
so what a body was read as is remembered from its first hit on: for as long as the configuration that it
was read under, for callers who may use the same models.
"""

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
    """What is known of requests that have hit the cache. A newcomer takes the place of the oldest."""

    def __init__(self) -> None:
        """Know none."""
        self._snapshot: Snapshot | None = None
        self._known: dict[tuple[Any, ...], Known] = {}

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
        elif len(self._known) >= MAX_KNOWN and key not in self._known:
            del self._known[next(iter(self._known))]
        self._known[key] = known


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
    return (body, endpoint.parse, caller.tenant_id, caller.allowed, cache_control, *headers.items())
