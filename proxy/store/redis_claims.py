"""Claims in Redis: leases that end by themselves when their process dies, and answers with a time to live.

One string per key: a state, the fingerprint, then the owner of a claim or the answer. While Redis is away
each process counts for itself, and what it keeps then is found by it alone.
"""

from proxy.store.claims import Claim, Held, LocalClaims
from proxy.store.scripts import Script
from proxy.store.server import Server

LEASE_S = 30.0
_LEASE_MS = int(LEASE_S * 1000)
_WANTED_MS = 15_000  # so long somebody who has asked for an answer counts as waiting for it
_RUNNING, _KEPT = b"r", b"k"
_FINGERPRINT_BYTES = 32


# Whoever has lost a claim must not touch what has taken its place; one that is simply gone is still its own.
_REPLACE = Script.of("""
local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[1] then return 0 end
if ARGV[2] == '' then redis.call('DEL', KEYS[1])
else redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
return 1
""")


class RedisClaims:
    """Shared by all processes of one Redis."""

    renew_s = LEASE_S / 3

    def __init__(self, server: Server, *, local: LocalClaims) -> None:
        """`local` is for the time without Redis."""
        self._server = server
        self._local = local

    async def claim(self, claim: Claim, now: float) -> Held | None:
        """Take the key, or find out who has it, in one round trip."""
        kept = self._local.find(claim.key, now)
        if kept is not None:
            return kept
        name = _name(claim.key)
        while True:
            answers = await self._server.ask(
                ("SET", name, _running(claim), "NX", "PX", _LEASE_MS), ("GET", name)
            )
            if answers is None or answers[0]:
                return None
            if answers[1] is not None:  # otherwise it has ended between the two
                break
        held = _read(answers[1])
        if held.answer is None:
            await self._server.ask(("SET", _wanted(claim.key), 1, "PX", _WANTED_MS))
        return held

    async def renew(self, claim: Claim) -> bool:
        """Begin the lease anew."""
        mine = _running(claim)
        await self._server.run(_REPLACE, [_name(claim.key)], [mine, mine, _LEASE_MS])
        answers = await self._server.ask(("EXISTS", _wanted(claim.key)))
        return bool(answers and answers[0])

    def keep(self, claim: Claim, answer: bytes, *, ttl_s: float, now: float) -> None:
        """Let the answer take the claim's place."""
        self._server.spawn(self._keep(claim, answer, ttl_s=ttl_s, now=now))

    def free(self, claim: Claim) -> None:
        """Let nothing take its place."""
        self._server.spawn(self._server.run(_REPLACE, [_name(claim.key)], [_running(claim), b"", 0]))

    async def _keep(self, claim: Claim, answer: bytes, *, ttl_s: float, now: float) -> None:
        kept = b"".join((_KEPT, claim.fingerprint, answer))
        arguments = [_running(claim), kept, max(int(ttl_s * 1000), 1)]
        if await self._server.run(_REPLACE, [_name(claim.key)], arguments) is None:
            self._local.keep(claim, answer, ttl_s=ttl_s, now=now)


def _name(key: bytes) -> bytes:
    return b"gw:once:" + key


def _wanted(key: bytes) -> bytes:
    return b"gw:once-wanted:" + key


def _running(claim: Claim) -> bytes:
    return b"".join((_RUNNING, claim.fingerprint, claim.owner))


def _read(value: bytes) -> Held:
    fingerprint, rest = value[1 : 1 + _FINGERPRINT_BYTES], value[1 + _FINGERPRINT_BYTES :]
    return Held(fingerprint, rest if value[:1] == _KEPT else None)
