"""Limits, budgets and holds in Redis: one script for each admission and one for each settlement.

A settlement is kept until Redis has answered it, and sent again where the answer was lost. While Redis is
away a worker lets through its share of what was left (proxy.store.outage).
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import orjson

from keys.limits import Counted, Purse
from proxy.cache import Entry
from proxy.store.base import ADMITTED, Admission, Demand, Hold, Ledgered, Left, Refusal, Used
from proxy.store.counts import SLOT_WAIT_S
from proxy.store.holdings import Ended, Holdings, Running
from proxy.store.line import CONNECTION_ERRORS, NoScriptError
from proxy.store.plans import NO_ARGUMENT, Plan, Plans, argument, purse_name, rate_key, slot_key
from proxy.store.presence import Presence
from proxy.store.scripts import USED
from proxy.store.server import Server

_REFUSED, _HIT, _CLOSED = 1, 2, 3
_USED, _BACK, _HIT_BACK = 0, 1, 2  # ways to end a hold: see settle.lua
_TRIES = 4  # unknown script, closed, still closed: then it is open
Clock = Callable[[], int]


class RedisCounts:
    """Those of one worker, `owner`. `clock` (microseconds) takes the place of Redis's own, in tests."""

    def __init__(self, server: Server, *, owner: str, outage: str, clock: Clock | None = None) -> None:
        """Hold nothing yet."""
        self._server = server
        self._given: Clock = clock or _redis_clock
        records = f"gw:holds:{owner}"
        self._plans = Plans(records, expires=clock is None)
        self.holdings = Holdings(server, self._plans, owner=owner, records=records)
        self.presence = Presence(
            server, self._plans, self.holdings, owner=owner, outage=outage, given=self._given
        )
        self.presence.resend, self.presence.give_back = self._send, self.give_back
        self.presence.release = self._release
        self._answers = 0

    async def admit(self, demand: Demand, *, now: float, entry: Entry | None = None) -> Admission:
        """Take all of it or nothing. With an entry the request is answered already: nothing is held."""
        if demand.takes and self._server.usable():
            found = await self._asked(demand, "-" if entry is not None else demand.id, b"")
            if found is not None:
                return self._read(found[0], demand, now, entry)
        return self._without(demand, now, entry)

    async def find(self, demand: Demand, cache_name: bytes, *, now: float) -> tuple[Admission, bytes | None]:
        """Take all or nothing; if the cache has `cache_name`, what a hit takes, and return its value."""
        found = await self._asked(demand, demand.id, cache_name) if self._server.usable() else None
        if found is None:
            return self._without(demand, now, None), None
        answer, value = found
        return self._read(answer, demand, now, None), value

    def take_back(self, demand: Demand, admission: Admission) -> None:
        """Give back what a hit took whose value cannot be used."""
        steps = () if admission.hold is None else admission.hold.steps
        command = self._ending(self._plans.of(demand), "-", _HIT_BACK, (0, *steps))
        self._server.send(command).add_done_callback(_heard)

    async def raise_hold(self, hold: Hold, *, worst: int, expected: int, now: float) -> Refusal | None:
        """Compare and take."""
        if hold.settled or not hold.demand.purses:
            return None
        answer = await self._raised(hold, worst, expected) if self._server.usable() else None
        if answer is None:
            return self.presence.share.raise_hold(hold, worst, expected, now=now)
        if answer[0] == _REFUSED:
            purse = hold.demand.purses[answer[1] - 1]
            needs = worst if purse.ceiling.strict else expected
            return Refusal(purse, answer[2], needs, max(purse.span.end - now, 0.0))
        hold.worst += worst
        hold.expected += expected
        return None

    def settle(self, hold: Hold, *, tokens: int, costs: Sequence[int], now: float) -> None:
        """Put what was used in the place of what was held, soon."""
        if hold.settled:
            return
        demand = hold.demand
        if self.presence.away:
            self.presence.share.settle(hold, tokens=tokens, costs=costs, now=now)
        costs = costs or [0] * len(demand.purses)
        self._end(hold, _USED, tokens - demand.tokens, costs)

    def give_back(self, hold: Hold, *, now: float) -> None:
        """Take everything out again, soon."""
        if hold.settled:
            return
        if self.presence.away:
            self.presence.share.give_back(hold, now=now)
        self._end(hold, _BACK, -hold.demand.tokens, [0] * len(hold.demand.purses))

    def adopt(self, holds: Sequence[Hold]) -> None:
        """Take without a look at the limits, soon."""
        for hold in holds:
            hold.local = True  # until Redis has answered
            self.holdings.running[hold.demand.id] = Running(hold, self._plans.of(hold.demand))
        self.presence.soon(partial(self.holdings.adopt, holds))

    def raise_spent(self, sums: Mapping[str, Ledgered]) -> None:
        """Lift each sum to the ledger's, soon."""
        self.presence.raise_spent(sums)

    async def used(self, counted: Sequence[Counted], purses: Sequence[Purse]) -> Sequence[Used]:
        """Look them up; while Redis is away, as they were last known."""
        asked = (
            [
                (rate_key(each) if each.rule.window_s else slot_key(each), each.rule.step_us)
                for each in counted
            ],
            [purse_name(each.key) for each in purses],
        )
        answer = await self._server.ask(("EVAL", USED.text, 0, self._given(), orjson.dumps(asked)))
        return self._last_known(counted, purses) if answer is None else _used(answer[0], counted)

    def last_used(self) -> Mapping[str, int]:
        """Return how much of each rate limit was used when Redis last said so. For any thread."""
        return self._plans.last_used()

    async def close(self) -> None:
        """Say good-bye."""
        await self.presence.close()

    # ------------------------------------------------------------ admission

    async def _asked(self, demand: Demand, identity: str, cache_name: bytes) -> tuple[Any, Any] | None:
        """Return the script's answer, and the cache's where it is a hit. None: Redis is away."""
        server, presence = self._server, self.presence
        plan = self._plans.of(demand)
        begin = b"%b %d %d %d " % ((identity or "-").encode(), demand.tokens, demand.worst, demand.expected)
        cached = argument(cache_name) if cache_name else NO_ARGUMENT
        closed = 0
        try:
            if not presence.begun:
                await presence.begin()
            for _ in range(_TRIES):
                request = begin + b"%d %d" % (closed > 1, self._given())
                asked = server.send(plan.admit + argument(request) + cached)
                value = _get(server, cache_name) if cache_name else None
                try:
                    answer = await asked
                except NoScriptError:
                    await presence.load()
                    continue
                if answer[0] != _CLOSED:
                    return answer, await value if value is not None and answer[0] == _HIT else None
                closed += 1
                await presence.epoch.opened()
        except CONNECTION_ERRORS as problem:
            server.failed(problem)
            presence.unheard(identity, plan)
        except asyncio.CancelledError:
            if not presence.begun:
                raise  # nothing was sent
            if server.usable():
                self._release(identity, plan)
            else:
                presence.unheard(identity, plan)
            raise
        return None

    def _read(self, answer: Sequence[int], demand: Demand, now: float, entry: Entry | None) -> Admission:
        verdict = answer[0]
        if verdict == _REFUSED:
            return Admission(refusal=_refusal(answer, demand, now))
        rates = demand.on_hit if verdict == _HIT else demand.rates
        end = 2 * len(rates)
        requests = tokens = None
        for (rule, _, by_tokens), left in zip(rates, answer[2 : end + 1 : 2], strict=True):
            if by_tokens:
                if tokens is None or left < tokens.remaining:
                    tokens = Left(rule, left)
            elif requests is None or left < requests.remaining:
                requests = Left(rule, left)
        hold = None
        if entry is None:
            hold = Hold(demand, answer[1 : end + 1 : 2])
            if verdict != _HIT:
                plan = self._plans.of(demand)
                self._answers += 1
                plan.answer, plan.answered = answer, self._answers
                self.holdings.running[demand.id] = Running(hold, plan)
        return Admission(entry, hold, None, requests, tokens)

    def _without(self, demand: Demand, now: float, entry: Entry | None) -> Admission:
        """Answer without Redis."""
        if not demand.takes:
            return ADMITTED if entry is None else Admission(entry)
        admission = self.presence.share.admit(demand, now, entry)
        if admission.hold is not None:
            self.holdings.running[demand.id] = Running(admission.hold, self._plans.of(demand))
        return admission

    async def _raised(self, hold: Hold, worst: int, expected: int) -> Any:
        plan, closed = self._plans.of(hold.demand), 0
        held = argument(b"%d %d" % (hold.worst, hold.expected))
        try:
            for _ in range(_TRIES):
                request = b"%b %d %d %d" % (hold.demand.id.encode(), worst, expected, closed > 1)
                try:
                    answer = await self._server.send(plan.raising + argument(request) + held)
                except NoScriptError:
                    await self.presence.load()
                    continue
                if answer[0] != _CLOSED:
                    return answer
                closed += 1
                await self.presence.epoch.opened()
        except CONNECTION_ERRORS as problem:
            self._server.failed(problem)
        return None

    # ------------------------------------------------------------ the end of a hold

    def _end(self, hold: Hold, way: int, tokens: int, costs: Sequence[int]) -> None:
        hold.settled = True
        identity = hold.demand.id
        running = self.holdings.running.pop(identity, None)
        plan = self._plans.of(hold.demand) if running is None else running.plan
        self.holdings.ended[identity] = Ended(hold, plan, way, tokens, costs)
        if self._server.usable():
            self._send(identity)

    def _ending(self, plan: Plan, identity: str, way: int, numbers: Sequence[int]) -> bytes:
        """Return the command that ends a hold. `numbers`: the tokens, costs and steps (settle.lua)."""
        words = " ".join(map(str, (identity, self._given(), way, *numbers)))
        return plan.settle + argument(words.encode())

    def _send(self, identity: str) -> "asyncio.Future[Any]":
        hold, plan, way, tokens, costs = self.holdings.ended[identity]
        sent = self._server.send(self._ending(plan, identity, way, (tokens, *costs, *hold.steps)))
        sent.add_done_callback(partial(self._answered, identity))
        return sent

    def _answered(self, identity: str, sent: "asyncio.Future[Any]") -> None:
        """Redis has answered a settlement: 1 done, 0 it held nothing, -1 it has lost all."""
        ended = self.holdings.ended.get(identity)
        if ended is None or sent.cancelled():
            return
        problem = sent.exception()
        if isinstance(problem, NoScriptError):
            self.presence.soon(self.presence.settle_again)
        elif problem is not None:
            self._server.failed(problem)
        elif sent.result() < 0:
            self.presence.soon(self.presence.settle_when_open)
        else:
            del self.holdings.ended[identity]
            if sent.result():
                self.holdings.spent(ended.hold, ended.costs)
            else:
                self.holdings.doubt(ended.hold, ended.costs)

    def _release(self, identity: str, plan: Plan) -> None:
        """Let go of a hold that nobody has: whoever asked for it has left, or was told otherwise."""
        if identity and identity != "-" and identity not in self.holdings.ended:
            costs = [0] * len(plan.demand.purses)
            hold = Hold(plan.demand._replace(id=identity))
            self.holdings.ended[identity] = Ended(hold, plan, _USED, 0, costs)
            self._send(identity)

    def _last_known(self, counted: Sequence[Counted], purses: Sequence[Purse]) -> Sequence[Used]:
        left = self._plans.last_left()
        return [
            *(Used(each.rule.amount - left.get(each.key, each.rule.amount)) for each in counted),
            *(Used(each.limit - left.get(each.key, each.limit)) for each in purses),
        ]


def _redis_clock() -> int:
    return 0


def _get(server: Server, cache_name: bytes) -> "asyncio.Future[Any]":
    value = server.send("GET", cache_name)
    value.add_done_callback(_heard)
    return value


def _heard(answer: "asyncio.Future[Any]") -> None:
    """Whatever it says: whoever needs it asks again."""
    if not answer.cancelled():
        answer.exception()


def _refusal(answer: Sequence[int], demand: Demand, now: float) -> Refusal:
    which = answer[1] - 1
    if which < len(demand.rates):
        counted = demand.rates[which]
        _, _, total, fits, now_us = answer
        rule = counted.rule
        wait_s = None if fits < 0 else max(fits * rule.step_us / 1e6 - now_us / 1e6, 0.001)
        return Refusal(
            counted, max(rule.amount - total, 0), demand.tokens if counted.by_tokens else 1, wait_s
        )
    which -= len(demand.rates)
    if which < len(demand.slots):
        return Refusal(demand.slots[which], 0, 1, SLOT_WAIT_S)
    purse = demand.purses[which - len(demand.slots)]
    needs = demand.worst if purse.ceiling.strict else demand.expected
    return Refusal(purse, answer[2], needs, max(purse.span.end - now, 0.0))


def _used(answer: Sequence[int], counted: Sequence[Counted]) -> Sequence[Used]:
    now_us, pairs = answer[0], list(zip(answer[1::2], answer[2::2], strict=True))
    limits = [
        Used(total)
        if fits < 0
        else Used(total, frees_after_s=max(fits * each.rule.step_us / 1e6 - now_us / 1e6, 0.0))
        for each, (total, fits) in zip(counted, pairs[: len(counted)], strict=True)
    ]
    return [*limits, *(Used(spent, held) for spent, held in pairs[len(counted) :])]
