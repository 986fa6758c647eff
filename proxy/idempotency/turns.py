"""Who goes first under a key: one request at a time, the others wait for its end.

An end with an answer is everybody's. An end without one (an error, a stream that broke, a client that left)
is its own: the next one in the line goes, and fails or succeeds by itself. Between processes the store's
claims say the same; here one request of each process asks them, and the others wait for that one.

A request whose client leaves goes on for a while: an SDK that has lost its connection comes back with the
same key within seconds, and finds its answer being made instead of paying for another.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

from proxy.errors import GatewayError
from proxy.store.claims import Claim, Claims, Held

LINGER_S = 10.0  # SDKs wait up to 8 s before they try again
_FIRST_LOOK_S, _LAST_LOOK_S = 0.05, 1.0  # at a key that another process holds


class Turn:
    """One request's, from when it may go on to its end. `answer`: what it has ended with."""

    __slots__ = ("_ended", "_followers", "_of", "_tasks", "answer", "claim", "over")

    def __init__(self, claim: Claim, of: "Turns") -> None:
        """Begin."""
        self.claim = claim
        self.answer: bytes | None = None
        self.over = False
        self._of = of
        self._ended = asyncio.Event()
        self._followers = 0
        self._tasks: list[asyncio.Task[None]] = []

    def keep(self, answer: bytes) -> None:
        """End with an answer; empty: there was one that is not kept."""
        if not self.over:
            self._of.claims.keep(self.claim, answer, ttl_s=self._of.ttl_s, now=time.time())
            self.pass_on(answer)

    def free(self) -> None:
        """End without one, unless it has ended."""
        if not self.over:
            self._of.claims.free(self.claim)
            self.pass_on(None)

    def pass_on(self, answer: bytes | None) -> None:
        """End for those who wait here."""
        self.over, self.answer = True, answer
        self._of.drop(self)
        self._ended.set()
        for task in self._tasks:
            task.cancel()

    async def end(self) -> bytes | None:
        """Wait for it; return the answer, if there is one."""
        self._followers += 1
        try:
            await self._ended.wait()
        finally:
            self._followers -= 1
        return self.answer

    def detain(self, give_up: Callable[[], object]) -> bool:
        """The client has gone: must the request go on? `give_up` is called when nobody comes back in time."""
        if not self.over:
            self._spawn(self._linger(give_up))
        return not self.over

    def renewed(self) -> None:
        """Keep the claim alive from now on, where it ends by itself."""
        if self._of.claims.renew_s:
            self._spawn(self._renew())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.get_running_loop().create_task(work))

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._of.claims.renew_s)
            await self._of.claims.renew(self.claim)

    async def _linger(self, give_up: Callable[[], object]) -> None:
        wanted = True
        while wanted:
            await asyncio.sleep(self._of.linger_s)
            wanted = bool(self._followers) or await self._of.claims.renew(self.claim)
        give_up()


class Turns:
    """Those of one process. `ttl_s`: how long answers are kept."""

    def __init__(self, claims: Claims, *, ttl_s: float, linger_s: float = LINGER_S) -> None:
        """Nobody has come yet."""
        self.claims = claims
        self.ttl_s, self.linger_s = ttl_s, linger_s
        self._taken: dict[bytes, Turn] = {}

    async def take(self, claim: Claim) -> Turn | bytes:
        """Wait for one's turn, or for the answer that another request has got. Raises GatewayError (409)."""
        while (turn := self._taken.get(claim.key)) is not None:
            _require_same(claim, turn.claim.fingerprint)
            answer = await turn.end()
            if answer is not None:
                return answer
        turn = self._taken[claim.key] = Turn(claim, self)
        try:
            answer = await self._elsewhere(claim)
        except BaseException:
            turn.free()
            raise
        if answer is not None:
            turn.pass_on(answer)
            return answer
        turn.renewed()
        return turn

    def drop(self, turn: Turn) -> None:
        """It is over: the next one may come."""
        if self._taken.get(turn.claim.key) is turn:
            del self._taken[turn.claim.key]

    async def _elsewhere(self, claim: Claim) -> bytes | None:
        """Return the answer that is kept or that another process is making. None: the claim is ours."""
        pause_s = _FIRST_LOOK_S
        while (held := await self._look(claim)) is not None:
            if held.answer is not None:
                return held.answer
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, _LAST_LOOK_S)
        return None

    async def _look(self, claim: Claim) -> Held | None:
        held = await self.claims.claim(claim, time.time())
        if held is not None:
            _require_same(claim, held.fingerprint)
        return held


def _require_same(claim: Claim, fingerprint: bytes) -> None:
    if claim.fingerprint != fingerprint:
        raise GatewayError(
            "This Idempotency-Key was sent before with another request. Each request needs a key of its own.",
            status=409,
            type="invalid_request_error",
            code="idempotency_key_reused",
            param="Idempotency-Key",
            headers={"x-should-retry": "false"},  # SDKs try again after a 409
        )
