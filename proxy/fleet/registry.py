"""The Fleet: the standings of all upstreams that this process has asked, and the order it asks them in."""

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence

from providers.upstream import Account, Upstream
from proxy.fleet import strategies
from proxy.fleet.breaker import Breaker
from proxy.fleet.cooling import Cooling
from proxy.fleet.gate import Gate
from proxy.fleet.standing import Standing
from proxy.fleet.strategies import SmoothWeighted
from proxy.fleet.visit import Visit
from proxy.routing import Resolved

# Clients may name any model of a provider: what is known of those without trouble is let go of beyond that.
MAX_STANDINGS = 5000
MAX_ROTATIONS = 5000


class Fleet:
    """One process's. Made inside the event loop."""

    def __init__(
        self, *, threshold: int, window_s: float, half_open_after_s: float, rng: random.Random | None = None
    ) -> None:
        """Know nobody. The breakers' settings are those of the design's section 7."""
        self.loop = asyncio.get_running_loop()
        self.changed: Callable[[Standing], None] = lambda _: None  # is told of each breaker's turn
        # ... and of what else speaks against an upstream.
        self.failed: Callable[[Standing], None] = lambda _: None
        self.queued: Callable[[str, float], None] = lambda *_: None  # a provider, and the wait for it (s)
        self.turned_away: Callable[[str], None] = lambda _: None
        self._rng = rng or random.Random()  # noqa: S311 - for balance, not for secrets
        self._breaker = {"threshold": threshold, "window_s": window_s, "half_open_after_s": half_open_after_s}
        self._standings: dict[str, Standing] = {}
        self._gates: dict[str, Gate] = {}
        # Of the configuration in force, once there has been a new one.
        self._accounts: Mapping[str, Account] = {}
        self._refused: dict[str, Cooling] = {}
        self._rotations: dict[str, SmoothWeighted] = {}

    def standing(self, upstream: Upstream) -> Standing:
        """Return what is known of an upstream."""
        found = self._standings.get(upstream.id)
        return found if found is not None else self.named(upstream.id, upstream.account.name)

    def named(self, id: str, account: str) -> Standing:  # noqa: A002 - the upstream's
        """Return what is known of the upstream `id` of a provider."""
        found = self._standings.get(id)
        if found is None:
            if len(self._standings) >= MAX_STANDINGS:
                self._forget_healthy()
            refused = self._refused.setdefault(account, Cooling())
            breaker = Breaker(**self._breaker, changed=lambda _: self.changed(found))  # type: ignore[arg-type]
            found = Standing(
                id,
                breaker=breaker,
                refused=refused,
                # Who switches breakers off wants each request to be asked, whatever became of the last.
                remembers=bool(self._breaker["threshold"]),
                failed=self._tell_failed,
            )
            self._standings[id] = found
        return found

    def found(self, id: str) -> Standing | None:  # noqa: A002 - the upstream's
        """Return what is known of an upstream, None if that is nothing."""
        return self._standings.get(id)

    def look_at_gate(self, account: str) -> Gate | None:
        """Return the gate of a provider whose calls have met one."""
        return self._gates.get(account)

    def known(self) -> Sequence[Standing]:
        """Return all of them. For any thread."""
        return list(self._standings.values())

    def gate(self, account: Account) -> Gate | None:
        """Return the gate of a provider that takes a limited number of calls at a time."""
        if account.max_concurrency is None:
            return None
        gate = self._gates.get(account.name)
        if gate is None:
            account = self._accounts.get(account.name, account)
            if account.max_concurrency is None:
                return None
            gate = self._gates[account.name] = Gate(
                limit=account.max_concurrency, max_waiting=account.max_queue, loop=self.loop
            )
        return gate

    def configure(self, accounts: Mapping[str, Account]) -> None:
        """Take over the bounds of a new configuration. Requests go by the one that they began with."""
        self._accounts = accounts
        for name, gate in list(self._gates.items()):
            account = accounts.get(name)
            limit = None if account is None else account.max_concurrency
            max_waiting = 0 if account is None else account.max_queue
            if limit is None:  # it is limited no more: whoever waits may go in
                del self._gates[name]
            if (limit, max_waiting) != gate.bounds:
                gate.configure(limit, max_waiting)

    def depths(self) -> Mapping[str, int]:
        """Return how many calls wait for each provider that has a gate. For any thread."""
        return {name: gate.waiting for name, gate in list(self._gates.items())}

    def begin(
        self, target: Upstream, upstream: Upstream, *, gate: Gate | None = None, tokens: int = 0
    ) -> Visit:
        """Start an attempt at a target by one of its credentials. The `gate`, if any, has been entered."""
        standing = self.standing(target)
        return Visit(target, upstream, standing=standing, gate=gate, tokens=tokens, loop=self.loop)

    def begin_now(self, target: Upstream, *, tokens: int) -> Visit | None:
        """Start an attempt at a target that nothing at all speaks against; None where something does."""
        standing, upstream, now = self.standing(target), target, self.loop.time()
        if not standing.is_clear(now):
            pick = standing.pick(target, now, tokens=tokens)
            if pick.upstream is None or pick.last_resort:
                return None
            upstream = pick.upstream
        gate = None if target.account.max_concurrency is None else self.gate(target.account)
        if gate is not None and not gate.enter_now():
            return None
        return Visit(target, upstream, standing=standing, gate=gate, tokens=tokens, loop=self.loop)

    def order(self, resolved: Resolved, affinity: bytes) -> Sequence[Upstream]:
        """Return a route's upstreams, the first choice first. `affinity`: what keeps a session together."""
        upstreams = resolved.upstreams
        if resolved.plain or len(upstreams) == 1:
            return upstreams
        now = self.loop.time()
        standings = [self.standing(each) for each in upstreams]
        usable = [each.ready(upstream, now) for each, upstream in zip(standings, upstreams, strict=True)]
        indices = self._order(resolved, standings, usable=usable, affinity=affinity)
        if any(resolved.canaries):
            draw = strategies.draw_of(affinity) if affinity else self._rng.uniform(0, 100)
            indices = strategies.with_canary(indices, resolved.canaries, draw)
        return [upstreams[index] for index in strategies.usable_first(indices, usable)]

    def _order(
        self, resolved: Resolved, standings: Sequence[Standing], *, usable: Sequence[bool], affinity: bytes
    ) -> Sequence[int]:
        now = self.loop.time()
        if affinity:
            names = [each.id for each in standings]
            return strategies.sticky(affinity, resolved.weights, names)
        if resolved.strategy == "weighted":
            return self._rotation(resolved.route).next(resolved.weights, usable)
        if resolved.strategy == "least_latency":
            return strategies.least_latency(
                lambda index: standings[index].cost.cost(now, standings[index].busy), usable, self._rng
            )
        if resolved.strategy == "least_busy":
            return strategies.least_busy(lambda index: standings[index].busy, usable, self._rng)
        return strategies.ordered(len(standings))

    def _rotation(self, route: str) -> SmoothWeighted:
        found = self._rotations.get(route)
        if found is None:
            if len(self._rotations) >= MAX_ROTATIONS:
                self._rotations.clear()
            found = self._rotations[route] = SmoothWeighted()
        return found

    def _tell_failed(self, standing: Standing) -> None:
        self.failed(standing)

    def _forget_healthy(self) -> None:
        now = self.loop.time()
        self._standings = {
            name: each for name, each in self._standings.items() if each.busy or each.troubled(now)
        }
