"""Mirrors a share of a route's requests to its shadow targets; nobody gets their answers.

A shadow goes out when the request itself has been sent to somebody, in a task of its own: it delays nothing,
and outlives the client. It has one attempt, stands in no line, and is recorded as nobody's completion of the
route "shadow:<route>": its cost is in the log and the ledger, and in no budget of a key or a tenant. It is
bounded by the target's own budget (proxy.shadow_budgets).
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog

from providers.call import Call
from providers.errors import UpstreamError
from providers.events import Answer, Event
from providers.pricing import cost_nanousd
from providers.upstream import Upstream
from providers.usage import BYTES_PER_TOKEN, Usage
from providers.wires import COUNT_TOKENS
from proxy.attempt import Attempting, OpenStream
from proxy.completion import SHADOW_ROUTE, Completion
from proxy.errors import GatewayError, upstream_failed
from proxy.exchange import CLIENT_LEFT, Exchange
from proxy.fleet.visit import Visit
from proxy.metrics import Meter
from proxy.relay import relay
from proxy.routing import Resolved, Shadow
from proxy.services import Services
from proxy.shadow_budgets import Purse

log = structlog.get_logger()

Result = TypeVar("Result")
Attempt = Callable[[Visit], Coroutine[Any, Any, Result]]

# Why one was not asked, beside the reasons of proxy.shadow_budgets.
OPEN, FULL, NO_ROOM = "open", "full", "spool_full"


class ShadowExchange(Exchange):
    """The record of a shadow. It has no client who could leave."""

    __slots__ = ()

    def end_cancelled(self) -> None:
        """The process ends."""
        self._end(CLIENT_LEFT, "cancelled", "shutdown")


class ShadowMeter:
    """Counts a shadow's attempts, which its upstream has had, but not as a request, which nobody has made."""

    def __init__(self, meter: Meter) -> None:
        """Count in `meter`."""
        self.in_flight = 0
        self._meter = meter

    def finished(self, completion: Completion) -> None:
        """It has ended."""
        self._meter.attempted(completion.attempts)
        self._meter.shadow(completion.provider, completion.outcome)

    def truncated(self, provider: str) -> None:
        """Its stream has broken off."""
        self._meter.truncated(provider)


class Unread:
    """A renderer for nobody."""

    def answer(self, answer: Answer) -> bytes:  # noqa: ARG002 - the contract
        """Write nothing."""
        return b""

    def events(self, events: Sequence[Event]) -> bytes:  # noqa: ARG002 - the contract
        """Write nothing."""
        return b""

    def error(self, error: GatewayError) -> bytes:  # noqa: ARG002 - the contract
        """Write nothing."""
        return b""


def mirrored(
    attempt: Attempt[Result], services: Services, exchange: Exchange, *, call: Call, to: Resolved
) -> Attempt[Result]:
    """Return an attempt that sends the shadows out, once, when it has gone out itself."""
    mirror = Mirror(services, exchange, call, to)

    async def attempted(visit: Visit) -> Result:
        mirror.soon()
        return await attempt(visit)

    return attempted


@dataclass(slots=True)
class Mirror:
    """One request's shadows."""

    services: Services
    exchange: Exchange
    call: Call
    resolved: Resolved
    _sent: bool = False

    def soon(self) -> None:
        """Send them when the attempt that begins now waits for its answer."""
        if not self._sent:
            self.services.fleet.loop.call_soon(self._send)

    def _send(self) -> None:
        # Without an attempt nobody has been asked yet: the vendor could not express the call.
        if self._sent or not self.exchange.completion.attempts or self.call.wire == COUNT_TOKENS:
            return
        self._sent = True
        budgets = self.services.shadows
        for shadow in self.resolved.shadows:
            if budgets.rng.uniform(0, 100) < shadow.percent:
                self._consider(shadow)

    def _consider(self, shadow: Shadow) -> None:
        services, budgets, now = self.services, self.services.shadows, time.time()
        upstream, tokens = shadow.upstream, self.exchange.prompt_tokens()
        purse = Purse(self.resolved.route, upstream.id)
        estimate = prompt_cost(upstream, tokens, now)
        refusal = budgets.refusal(purse, shadow.budget_nanousd, estimate=estimate, now=now)
        if not refusal and services.spool.full:
            refusal = NO_ROOM
        visit = None
        if not refusal:
            visit, refusal = self._visit(upstream, tokens)
        if visit is None:
            services.meter.shadow(upstream.account.name, refusal)
            return
        held = estimate or 0
        budgets.hold(purse, held)
        run = ShadowRun(services, self._record(tokens), self.call, visit)
        task = services.spawn(run.run())
        budgets.running.add(task)
        task.add_done_callback(lambda ended: self._ended(ended, run, purse, held=held))

    def _visit(self, target: Upstream, tokens: int) -> tuple[Visit | None, str]:
        """Start an attempt if the upstream takes one at once, else say why it does not."""
        fleet = self.services.fleet
        pick = fleet.standing(target).pick(target, fleet.loop.time(), tokens=tokens)
        if pick.upstream is None or pick.last_resort:
            return None, OPEN
        gate = fleet.gate(target.account)
        if gate is not None and not gate.enter_now():
            return None, FULL
        return fleet.begin(target, pick.upstream, gate=gate, tokens=tokens), ""

    def _record(self, tokens: int) -> ShadowExchange:
        services = self.services
        exchange = services.begin_beside(self.exchange, ShadowExchange, ShadowMeter(services.meter))
        exchange.take(self.call)
        exchange.weigh(tokens * BYTES_PER_TOKEN)
        exchange.completion.route = SHADOW_ROUTE + self.resolved.route
        exchange.completion.cache = "bypass"
        exchange.recorded = True
        return exchange

    def _ended(self, task: "asyncio.Task[None]", run: "ShadowRun", purse: Purse, *, held: int) -> None:
        services, completion = self.services, run.exchange.completion
        services.shadows.running.discard(task)
        if not run.exchange.ended:  # cancelled before its first step
            run.visit.left()
            run.exchange.end_cancelled()
        cost = completion.cost_nanousd or 0
        services.shadows.settle(purse, held=held, cost=cost, now=time.time())


@dataclass(slots=True)
class ShadowRun:
    """One shadow under way."""

    services: Services
    exchange: ShadowExchange
    call: Call
    visit: Visit

    async def run(self) -> None:
        """Make the one attempt, read all of it, and record how it ends. Raises CancelledError alone."""
        exchange, visit = self.exchange, self.visit
        try:
            if self.call.stream:
                await self._stream()
            else:
                exchange.take_answer(await self._attempting().answer(visit))
                exchange.end_ok()
        except UpstreamError as error:
            visit.failed(error)
            exchange.end_error(upstream_failed(error, provider=visit.upstream.account.name))
        except GatewayError as refusal:  # its vendor cannot say the call
            visit.left()
            exchange.target(visit.upstream)
            exchange.end_error(refusal)
        except asyncio.CancelledError:
            visit.left()
            exchange.end_cancelled()
            raise
        except Exception:  # a fault of ours: the caller has nothing to do with it
            log.exception("shadow", request_id=exchange.completion.request_id)
            visit.left()
            exchange.end_error(GatewayError("The shadow failed.", code="internal_error"))

    async def _stream(self) -> None:
        stream = await self._attempting().stream(self.visit)
        self.exchange.completion.ttft_ms = self.exchange.elapsed_ms()
        async for _ in relay(stream, renderer=Unread(), exchange=self.exchange, whole=self._whole):
            pass

    def _whole(self, stream: OpenStream) -> None:
        stream.visit.ended()
        self.services.spawn(stream.response.finish())

    def _attempting(self) -> Attempting:
        services = self.services
        return Attempting(
            call=self.call,
            exchange=self.exchange,
            transport=services.transport,
            deadlines=services.deadlines,
            deadline=services.deadlines.loop.time() + self.visit.upstream.timeouts.total_s,
        )


def prompt_cost(upstream: Upstream, tokens: int, now: float) -> int | None:
    """Return what a prompt of `tokens` costs in nano-dollars; None where the price is not known."""
    rates = upstream.prices.at(now)
    return None if rates is None else cost_nanousd(Usage(prompt=tokens), rates)
