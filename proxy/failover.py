"""The only retry loop: which upstream is tried next, and when it is given up.

One attempt has a closed list of outcomes: an answer (or a stream's first content), an UpstreamError
whose attributes decide, a vendor that cannot be asked this (Inexpressible: not an attempt), or the
client's departure (CancelledError), which is nobody's failure.

A round tries each target once, in the order that it is given. Those whose breaker is open, or whose vendor
has told us to wait, are passed over; those that are full come after those that are not. A credential that was
refused or limited gives way to the provider's next one before the next target is tried. After the last target
the round begins again, after a backoff with full jitter and not before a vendor's Retry-After, with those
that may do better a second time: not the silent (a timeout fired), nor those that refused our credential.
Those whose breaker was open are looked at again.
Whoever waits does so inside the deadline or not at all, and nobody waits for a breaker. What no model of this
size takes goes on to the route's targets for that, and what was filtered to those for that.
Nothing here knows a vendor.
"""

import asyncio
import math
import random
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from providers.errors import CONTENT_FILTERED, CONTEXT_EXCEEDED, Owner, UpstreamError
from providers.upstream import Upstream
from proxy.errors import GatewayError, Inexpressible, RateLimited, Unavailable
from proxy.fleet.gate import Gate, QueueFull, QueueTimeout
from proxy.fleet.registry import Fleet
from proxy.fleet.visit import Visit
from proxy.hedging import Hedged, Race

Result = TypeVar("Result")
Attempt = Callable[[Visit], Coroutine[Any, Any, Result]]
BACKOFF_BASE_S = 0.25
BACKOFF_CAP_S = 8.0
BUSY_S = 1.0  # after a wait in vain, until it is worth a try
HELD_S = 60.0  # until an operator may have let go of what is held open
# A loop's timers may fire so much too early; what the deadline has ended was not to be tried elsewhere.
EARLY_S = 0.002
# Calls that wait for the same moment go out over a while after it, this share of the wait.
SPREAD = 0.1


def _unheard(_seconds: float) -> None:
    """Nobody wants to know."""


class Terms(NamedTuple):
    """What bounds a request's way. `deadline` is loop time; `tokens`: about those of the prompt.

    `tenant` and `weight` are its place in a line; `queued` hears for how many seconds it stood there.
    `chains`: who is tried after a failure of that code.
    """

    max_attempts: int
    deadline: float
    tokens: int = 0
    tenant: int | None = None
    weight: int = 1
    queued: Callable[[float], object] = _unheard
    on_context_overflow: Sequence[Upstream] = ()
    on_content_filter: Sequence[Upstream] = ()

    def chain(self, code: str | None) -> Sequence[Upstream]:
        """Return the targets for a request that has failed with `code`."""
        if code == CONTEXT_EXCEEDED:
            return self.on_context_overflow
        return self.on_content_filter if code == CONTENT_FILTERED else ()


async def first_success(
    upstreams: Sequence[Upstream],
    attempt: Attempt[Result],
    *,
    fleet: Fleet,
    tokens: int,
    course: Callable[[], "Course[Result]"],
) -> Result:
    """Do as `course().run()` does. It is made when the first upstream cannot be asked at once, or has failed.

    Hardly any request comes to that, and a way that needs no turn costs a third.
    """
    visit = fleet.begin_now(upstreams[0], tokens=tokens)
    if visit is None:
        return await course().run()
    try:
        return await attempt(visit)
    except (Inexpressible, UpstreamError) as failure:
        problem = failure
    except BaseException:
        visit.left()
        raise
    return await course().run_on(visit, problem)


class Course(Generic[Result]):
    """One request's way along its upstreams. `attempt` ends its visit when it succeeds."""

    __slots__ = (
        "_attempt",
        "_fleet",
        "_full",
        "_inexpressible",
        "_last",
        "_later",
        "_not_before",
        "_out",
        "_postponed",
        "_problem",
        "_race",
        "_refusal",
        "_rounds",
        "_taken",
        "_terms",
        "_waiting",
        "attempts",
    )

    def __init__(
        self,
        upstreams: Sequence[Upstream],
        attempt: Attempt[Result],
        *,
        fleet: Fleet,
        terms: Terms,
        race: Race[Result] | None = None,
    ) -> None:
        """Stand before the first round. `race`: slow attempts are hedged."""
        self.attempts = 0
        self._attempt, self._fleet, self._terms, self._race = attempt, fleet, terms, race
        self._last: Visit | None = None  # whose attempt was the last to end
        self._waiting = deque(upstreams)  # of this round
        self._full: deque[Upstream] = deque()  # of this round, with others before us
        self._later: list[Upstream] = []  # of the next round
        self._out: set[str] = set()  # upstreams that are asked no more
        self._not_before: dict[str, float] = {}  # loop time, by upstream; of those that have failed
        self._postponed: set[str] = set()
        self._rounds = 0
        self._taken: set[str | None] = set()  # chains, by their codes
        self._problem: UpstreamError | None = None
        self._inexpressible: Inexpressible | None = None
        self._refusal: GatewayError | None = None  # of the line that we could not stand in

    async def run(self) -> Result:
        """Return the first success. Raises the last failure.

        Where there was none: Unavailable or RateLimited if somebody might have been asked at another time,
        else the first Inexpressible.
        """
        while True:
            visit = self._last = self._next_visit() or await self._turn()
            try:
                return await (self._visited(visit) if self._race is None else self._hedged(visit, self._race))
            except Inexpressible as refusal:
                self._not_asked(refusal)
            except UpstreamError as error:
                self._failed(self._last.target, error)

    async def run_on(self, visit: Visit, problem: UpstreamError | Inexpressible) -> Result:
        """Return the first success after the first upstream has been asked, and has failed with `problem`."""
        self._waiting.popleft()
        self._last, self.attempts = visit, 1
        if isinstance(problem, Inexpressible):
            visit.left()
            self._not_asked(problem)
        else:
            visit.failed(problem)
            self._failed(visit.target, problem)
        return await self.run()

    async def _visited(self, visit: Visit) -> Result:
        """Return the result of one attempt; whatever else comes of it ends its visit."""
        try:
            return await self._attempt(visit)
        except UpstreamError as error:
            visit.failed(error)
            raise
        except BaseException:
            visit.left()
            raise

    async def _hedged(self, visit: Visit, race: Race[Result]) -> Result:
        hedged = Hedged(race, visited=self._visited, second=self._second_visit, failed=self._one_failed)
        try:
            return await hedged.run(visit)
        finally:
            self._last = hedged.last

    def _second_visit(self) -> Visit | None:
        terms = self._terms
        may = self.attempts < terms.max_attempts and self._fleet.loop.time() < terms.deadline
        return self._next_visit() if may else None

    def _one_failed(self, visit: Visit, problem: UpstreamError | GatewayError) -> None:
        """Of two attempts at a time one has failed, or was not made, and the other has not ended."""
        if isinstance(problem, UpstreamError):
            self._put_back(visit.target, problem)
        elif isinstance(problem, Inexpressible):
            self._not_asked(problem)
        else:  # a budget has no room for both
            self.attempts -= 1

    def _next_visit(self) -> Visit | None:
        """Start an attempt at the next upstream that can be asked at once; None: in this round none can."""
        fleet, waiting = self._fleet, self._waiting
        while waiting:
            target = waiting.popleft()
            standing = fleet.standing(target)
            pick = standing.pick(target, fleet.loop.time(), tokens=self._terms.tokens)
            if pick.upstream is None:
                self._later.append(target)
            elif pick.last_resort and waiting and target.id not in self._postponed:
                self._postponed.add(target.id)
                waiting.append(target)
            elif target.account.max_concurrency is None:
                return self._begin(target, pick.upstream)
            else:
                gate = fleet.gate(target.account)
                if gate is None or gate.enter_now():
                    return self._begin(target, pick.upstream, gate)
                self._full.append(target)
        return None

    def _not_asked(self, refusal: Inexpressible) -> None:
        self._inexpressible = self._inexpressible or refusal
        self.attempts -= 1

    def _put_back(self, target: Upstream, error: UpstreamError) -> None:
        """Have a target tried again by another credential, or in the next round if it may do better then."""
        self._problem = error
        if error.owner in (Owner.CREDENTIAL, Owner.CAPACITY) and self._has_spare(target):
            self._waiting.appendleft(target)
            return
        if _silent(error) or error.owner is Owner.CREDENTIAL:
            self._out.add(target.id)
            return
        now = self._fleet.loop.time()
        told_s = error.retry_after_s
        self._not_before[target.id] = now + (_jitter_s(self._rounds + 1) if told_s is None else told_s)
        self._later.append(target)

    def _begin(self, target: Upstream, upstream: Upstream, gate: Gate | None = None) -> Visit:
        self.attempts += 1
        return self._fleet.begin(target, upstream, gate=gate, tokens=self._terms.tokens)

    def _failed(self, target: Upstream, error: UpstreamError) -> None:
        """Take an attempt's failure. Raises it where another try makes no sense."""
        self._problem = error
        over = self._fleet.loop.time() >= self._terms.deadline - EARLY_S
        if over or self.attempts >= self._terms.max_attempts:
            raise error
        if error.retryable:
            self._put_back(target, error)
        else:
            self._out.add(target.id)
            self._take_chain(error)

    def _take_chain(self, error: UpstreamError) -> None:
        chain = [each for each in self._terms.chain(error.code) if each.id not in self._out]
        if not chain or error.code in self._taken:
            raise error
        self._taken.add(error.code)
        now, not_before = self._fleet.loop.time(), self._not_before
        self._waiting = deque(each for each in chain if not_before.get(each.id, now) <= now)
        self._later = [each for each in chain if not_before.get(each.id, now) > now]
        self._full.clear()

    def _has_spare(self, target: Upstream) -> bool:
        """Is there a credential that is neither refused nor limited?"""
        if not target.spares:
            return False
        pick = self._fleet.standing(target).pick(target, self._fleet.loop.time(), tokens=self._terms.tokens)
        return pick.upstream is not None and not pick.last_resort

    # ------------------------------------------------------------ waiting

    async def _turn(self) -> Visit:
        """Wait until somebody can be asked, and start there. Raises when nobody can in time."""
        while True:
            while self._full and self._fleet.loop.time() < self._terms.deadline:
                visit = await self._in_line(self._full.popleft())
                if visit is not None:
                    return visit
            at = self._next_round()
            now = self._fleet.loop.time()
            if at > now:
                await asyncio.sleep(at - now)
            visit = self._next_visit()
            if visit is not None:
                return visit

    async def _in_line(self, target: Upstream) -> Visit | None:
        """Stand in the line of a provider that is full; None if that is in vain."""
        fleet, terms, account = self._fleet, self._terms, target.account
        gate = fleet.gate(account)
        if gate is None:  # a new configuration has taken it down
            self._waiting.append(target)
            return self._next_visit()
        began = fleet.loop.time()
        deadline = min(terms.deadline, began + account.queue_timeout_s)
        try:
            await gate.enter(tenant=terms.tenant, weight=terms.weight, deadline=deadline)
        except (QueueFull, QueueTimeout) as problem:
            terms.queued(fleet.loop.time() - began)
            fleet.turned_away(account.name)
            self._refusal = _busy(account.name, problem)
            return None
        waited_s = fleet.loop.time() - began
        fleet.queued(account.name, waited_s)
        terms.queued(waited_s)
        pick = fleet.standing(target).pick(target, fleet.loop.time(), tokens=terms.tokens)
        if pick.upstream is None:
            gate.leave()
            self._later.append(target)
            return None
        return self._begin(target, pick.upstream, gate)

    def _next_round(self) -> float:
        """Return when the next round begins (loop time), with whom is then ready. Raises if there is none."""
        fleet, terms, now = self._fleet, self._terms, self._fleet.loop.time()
        self._rounds += 1
        later, opens_at, ready = self._later, list[float](), list[tuple[float, Upstream]]()
        limited_s = list[float]()
        for target in later:
            pick = fleet.standing(target).pick(target, now, tokens=terms.tokens)
            if pick.open:
                opens_at.append(pick.at - now)
                continue
            if target.id not in self._not_before and pick.at - now > target.account.queue_timeout_s:
                limited_s.append(pick.at - now)  # a wait as long as no line's; its own limit was told it
                continue
            told = pick.at + random.uniform(0, SPREAD) * (pick.at - now)  # noqa: S311 - jitter
            ready.append((max(told, self._not_before.get(target.id, now)), target))
        if not ready and limited_s:
            raise self._problem or self._refusal or _limited(min(limited_s))
        if not ready:
            raise self._problem or self._refusal or self._nobody(opens_at)
        at = min(at for at, _ in ready)
        if at >= terms.deadline:
            raise self._problem or self._refusal or _limited(at - now)
        first = {target.id for ready_at, target in ready if ready_at <= at}
        self._waiting = deque(target for target in later if target.id in first)
        self._later = [target for target in later if target.id not in first]
        return at

    def _nobody(self, open_for_s: Sequence[float]) -> GatewayError:
        """Return why nobody was asked, nor failed to take us in."""
        if open_for_s or self._inexpressible is None:
            return _all_open(min(open_for_s, default=0.0))
        return self._inexpressible


def _silent(error: UpstreamError) -> bool:
    return bool(error.timeout) or error.status == 408


def _jitter_s(rounds: int) -> float:
    return random.uniform(0, min(BACKOFF_CAP_S, BACKOFF_BASE_S * 2.0**rounds))  # noqa: S311 - jitter


def _busy(provider: str, problem: QueueFull | QueueTimeout) -> Unavailable:
    why = "too many calls wait for it" if isinstance(problem, QueueFull) else "the wait was too long"
    return Unavailable(
        f"Provider {provider!r} is busy: {why}.",
        code="provider_busy",
        retry_after_s=problem.retry_after_s if isinstance(problem, QueueFull) else BUSY_S,
    )


def _all_open(retry_after_s: float) -> Unavailable:
    if math.isinf(retry_after_s):
        message = "Every provider for this model is held back by the gateway's operator."
        return Unavailable(message, code="circuit_open", retry_after_s=HELD_S)
    return Unavailable(
        "Every provider for this model has failed too often lately and is left alone for a while.",
        code="circuit_open",
        retry_after_s=retry_after_s,
    )


def _limited(retry_after_s: float) -> RateLimited:
    return RateLimited(
        "Every provider for this model has told us to wait.",
        code="upstream_rate_limited",
        retry_after_s=retry_after_s,
    )
