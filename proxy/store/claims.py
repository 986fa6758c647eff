"""Keys under which one request alone is answered: who holds each, and the answers of those who have.

A claim is held while its request is answered, and gives way to the answer, or to nobody. The requests of one
process wait for each other (proxy.idempotency.turns): what is here is for other processes, and for later.
"""

from collections import OrderedDict
from typing import NamedTuple, Protocol

_OVERHEAD_BYTES = 256


class Claim(NamedTuple):
    """What a request lays claim to. `fingerprint`: 32 bytes that tell it from others; `owner` is its own."""

    key: bytes
    fingerprint: bytes
    owner: bytes


class Held(NamedTuple):
    """What there is under a key: whose it is, and the answer. None: it is being made."""

    fingerprint: bytes
    answer: bytes | None


class Claims(Protocol):
    """Those of a store. `renew_s`: how often a claim must be renewed, 0: never."""

    renew_s: float

    async def claim(self, claim: Claim, now: float) -> Held | None:
        """Take the key. None: it is this request's from now on."""

    async def renew(self, claim: Claim) -> bool:
        """Hold it a little longer; return whether another process waits for its answer."""

    def keep(self, claim: Claim, answer: bytes, *, ttl_s: float, now: float) -> None:
        """Put the answer in the claim's place, soon. Never raises, never waits."""

    def free(self, claim: Claim) -> None:
        """Give the key back, soon, if it is this request's. Never raises, never waits."""


class LocalClaims:
    """One process's: answers of at most `max_bytes` altogether, of which the oldest make room."""

    renew_s = 0.0

    def __init__(self, *, max_bytes: int) -> None:
        """Keep nothing yet."""
        self._max_bytes = max_bytes
        self._bytes = 0
        self._kept: OrderedDict[bytes, tuple[float, Held]] = OrderedDict()

    def find(self, key: bytes, now: float) -> Held | None:
        """Return what is kept under a key."""
        found = self._kept.get(key)
        if found is None:
            return None
        expires_at, held = found
        if now >= expires_at:
            self._drop(key)
            return None
        return held

    async def claim(self, claim: Claim, now: float) -> Held | None:
        """Return what is kept; whatever is not, is the request's."""
        return self.find(claim.key, now)

    async def renew(self, claim: Claim) -> bool:  # noqa: ARG002 - the contract
        """Nobody else can take it, or wait for it."""
        return False

    def keep(self, claim: Claim, answer: bytes, *, ttl_s: float, now: float) -> None:
        """Keep an answer until its time is up, or its place is needed."""
        self._drop(claim.key)
        self._kept[claim.key] = (now + ttl_s, Held(claim.fingerprint, answer))
        self._bytes += len(answer) + _OVERHEAD_BYTES
        while self._bytes > self._max_bytes:
            self._drop(next(iter(self._kept)))

    def free(self, claim: Claim) -> None:
        """Nothing is here of a request that has no answer."""

    @property
    def kept_bytes(self) -> int:
        """Bytes that the answers take."""
        return self._bytes

    def _drop(self, key: bytes) -> None:
        found = self._kept.pop(key, None)
        if found is not None:
            self._bytes -= len(found[1].answer or b"") + _OVERHEAD_BYTES
