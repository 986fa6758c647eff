"""The story of one request with an Idempotency-Key.

claim -> replay what another has got, or be answered as always, and keep what went out
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from django.http import HttpResponseBase

from keys.caller import Caller
from proxy.admission import admitted_again
from proxy.clients import client_ip
from proxy.demand import Who
from proxy.errors import GatewayError
from proxy.exchange import Exchange
from proxy.http import JsonReply, LaneRequest, StreamReply
from proxy.idempotency.naming import claim_of
from proxy.idempotency.stored import Stored
from proxy.idempotency.turns import Turn, Turns
from proxy.services import Services
from proxy.snapshot import Snapshot

WAIT_S = 600.0  # for another's end: as long as an answer may take unless its provider says otherwise
IN_USE_RETRY_AFTER_S = 5

Make = Callable[[], Awaitable[HttpResponseBase]]


@dataclass(slots=True, kw_only=True)
class Keyed:
    """One request of a known caller; a replay counts as a request, too."""

    services: Services
    turns: Turns
    request: LaneRequest
    exchange: Exchange
    caller: Caller
    snapshot: Snapshot

    async def answer(self, make: Make) -> HttpResponseBase:
        """Answer it: by `make`, if nobody has been answered under the key. Raises GatewayError."""
        completion = self.exchange.completion
        claim = await claim_of(
            self.request, self.services, caller=self.caller, owner=completion.id, own=self.exchange.own
        )
        try:
            async with asyncio.timeout(WAIT_S):
                turn = await self.turns.take(claim)
        except TimeoutError:
            raise _in_use() from None
        return await (self._made(turn, make) if isinstance(turn, Turn) else self._replayed(turn))

    async def _replayed(self, packed: bytes) -> HttpResponseBase:
        services, exchange = self.services, self.exchange
        try:
            stored = Stored.unpack(packed)
        except ValueError:
            raise _not_kept() from None
        who = Who(self.caller, partial(client_ip, self.request, services.env.trusted_proxies))
        await admitted_again(services.store, snapshot=self.snapshot, who=who, completion=exchange.completion)
        return stored.replay(exchange)

    async def _made(self, turn: Turn, make: Make) -> HttpResponseBase:
        self.request.detain_by(self._detaining(turn))
        try:
            reply = await make()
        except BaseException:
            turn.free()
            raise
        if isinstance(reply, StreamReply):
            self._record(reply, turn)
        elif isinstance(reply, JsonReply):
            reply.went_out = None  # whoever comes with a key comes here
            self._keep(turn, reply, reply.content)
        else:
            turn.free()
        return reply

    def _detaining(self, turn: Turn) -> Callable[[Callable[[], object]], bool]:
        def detain(give_up: Callable[[], object]) -> bool:
            detained = turn.detain(give_up)
            self.exchange.abandoned = self.exchange.abandoned or detained
            return detained

        return detain

    def _record(self, reply: StreamReply, turn: Turn) -> None:
        leave = reply.abandon

        def abandon() -> None:
            """The client left before the first piece could be asked for."""
            leave()
            turn.free()

        reply.pieces, reply.abandon = self._recorded(reply, reply.pieces, turn), abandon

    async def _recorded(
        self, reply: StreamReply, pieces: AsyncIterator[bytes], turn: Turn
    ) -> AsyncIterator[bytes]:
        """Pass a stream on, and keep it if it ends whole: before its last piece goes out."""
        passed: list[bytes] = []
        room = self._limit
        try:
            async for piece in pieces:
                if self.exchange.ended:  # nobody need be waited for: what is left is at hand
                    piece = b"".join([piece, *[each async for each in pieces]])  # noqa: PLW2901 - all the rest
                room -= len(piece)
                if room >= 0:
                    passed.append(piece)
                else:
                    passed.clear()
                if self.exchange.ended:
                    self._keep(turn, reply, b"".join(passed) if room >= 0 else None)
                yield piece
            if not turn.over:
                self._keep(turn, reply, b"".join(passed) if room >= 0 else None)
        finally:
            turn.free()
            await pieces.aclose()  # type: ignore[attr-defined]  # a generator; its exit paths never wait

    def _keep(self, turn: Turn, reply: JsonReply | StreamReply, body: bytes | None) -> None:
        """Keep a whole answer; None, or one that is too large: only that there was one."""
        completion = self.exchange.completion
        if not 200 <= reply.status_code < 300 or completion.outcome == "error":
            turn.free()
        elif body is None or len(body) > self._limit:
            turn.keep(b"")
        else:
            turn.keep(Stored.of(reply, body, completion).pack())

    @property
    def _limit(self) -> int:
        return int(self.services.env.cache_max_bytes // 4)


def _in_use() -> GatewayError:
    return GatewayError(
        "The first request with this Idempotency-Key is still being answered.",
        status=409,
        type="invalid_request_error",
        code="idempotency_key_in_use",
        param="Idempotency-Key",
        retry_after_s=IN_USE_RETRY_AFTER_S,
    )


def _not_kept() -> GatewayError:
    return GatewayError(
        "The request with this Idempotency-Key has been answered, and its answer was too large to be kept. "
        "A new key asks, and pays, for another one.",
        status=409,
        type="invalid_request_error",
        code="idempotency_answer_not_kept",
        param="Idempotency-Key",
        headers={"x-should-retry": "false"},
    )
