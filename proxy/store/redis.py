"""The Redis store: limits, budgets and holds of all workers, and the cache, in one round trip a request.

Redis down is no error: the cache is off, limits let through a share of what was left (proxy.store.outage),
one log line says so, and Redis is tried again after a pause.
"""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any

import redis as redis_sync
import structlog

from keys.limits import Counted, Purse
from proxy.cache import Entry, Policy
from proxy.store.base import ADMITTED, Admission, Demand, Hold, Ledgered, Refusal, Used
from proxy.store.batch import Batcher, Command
from proxy.store.claims import Claims, LocalClaims
from proxy.store.line import CONNECTION_ERRORS, TIMEOUT_S, Line, NoScriptError
from proxy.store.memory import MemoryStore
from proxy.store.outage import SHARE
from proxy.store.redis_claims import RedisClaims
from proxy.store.redis_counts import RedisCounts
from proxy.store.scripts import Script

__all__ = ["CONNECTION_ERRORS", "TIMEOUT_S", "RedisStore", "sync_client"]

log = structlog.get_logger()

RETRY_S = 2.0


class RedisStore:
    """Counters and cache in Redis."""

    name = "redis"

    def __init__(
        self,
        url: str,
        *,
        local: MemoryStore | None = None,
        max_claim_bytes: int = 0,
        owner: str = "",
        outage: str = SHARE,
        clock: Callable[[], int] | None = None,
    ) -> None:
        """Use the server at `url`; with `local` the cache is there and only counters and claims are shared.

        `max_claim_bytes` is kept of answers under keys while the server is away. `owner`: the worker's name,
        of no other worker ever; `outage`: what it does without Redis; `clock`: see RedisCounts.
        """
        self._line = Line(url)
        self._local = local
        self._batch = Batcher(self._line.execute, under_way=1)
        self.counts = RedisCounts(self, owner=owner or secrets.token_hex(8), outage=outage, clock=clock)
        self.claims: Claims = RedisClaims(self, local=LocalClaims(max_bytes=max_claim_bytes))
        self._down_until = 0.0
        self._problem = ""
        self._looking = False  # one look at a time: each would say that Redis is up again
        self._tasks: set[asyncio.Task[Any]] = set()

    def ask_ledger(
        self,
        *,
        before_dropping: Callable[[Sequence[str]], Awaitable[bool]],
        reseed: Callable[[], Awaitable[Mapping[str, Ledgered]]],
    ) -> None:
        """Say how the ledger is asked.

        `before_dropping` is given keys of purses, raises them to what the ledger says now (`raise_spent`),
        and returns whether it could: what a dead worker held of them is given up then. `reseed` returns the
        sums of all budgets' current windows, for a Redis that has forgotten them.
        """
        self.counts.holdings.before_dropping = before_dropping
        self.counts.presence.epoch.reseed = reseed

    def admit_now(self, demand: Demand, policy: Policy, *, now: float) -> Admission | None:
        """Answer what asks for nothing that is in Redis."""
        if self._local is None:
            return None
        entry = self._found(policy, now)
        if entry is not None:
            return None if demand.on_hit else Admission(entry)
        return None if demand.takes else ADMITTED

    def peek(self, cache_key: bytes, now: float) -> Entry | None:
        """Look up here."""
        return None if self._local is None else self._local.peek(cache_key, now)

    async def admit(self, demand: Demand, policy: Policy, *, now: float) -> Admission:
        """Take all of it or nothing, and look up."""
        if self._local is not None:
            entry = self._found(policy, now)
            if entry is not None:
                return await self.counts.admit(_of_hit(demand), now=now, entry=entry)
            return await self.counts.admit(demand, now=now)
        if not policy.read:
            return await self.counts.admit(demand, now=now)
        if demand.takes or demand.on_hit:
            return await self._found_or_admitted(demand, policy, now)
        answers = await self.ask(("GET", _entry_key(policy.key)))
        entry = None if answers is None else _unpacked(answers[0])
        return ADMITTED if entry is None or not policy.accepts(entry, now) else Admission(entry)

    async def raise_hold(self, hold: Hold, *, worst: int, expected: int, now: float) -> Refusal | None:
        """Compare and take."""
        return await self.counts.raise_hold(hold, worst=worst, expected=expected, now=now)

    def settle(self, hold: Hold, *, tokens: int, costs: Sequence[int], now: float) -> None:
        """End a hold, soon."""
        self.counts.settle(hold, tokens=tokens, costs=costs, now=now)

    def give_back(self, hold: Hold, *, now: float) -> None:
        """End a hold, soon."""
        self.counts.give_back(hold, now=now)

    def adopt(self, holds: Sequence[Hold]) -> None:
        """Hold these too, soon."""
        self.counts.adopt(holds)

    def raise_spent(self, sums: Mapping[str, Ledgered]) -> None:
        """Lift sums, soon."""
        self.counts.raise_spent(sums)

    async def used(
        self,
        counted: Sequence[Counted],
        purses: Sequence[Purse],
        *,
        now: float,  # noqa: ARG002 - by Redis's clock
    ) -> Sequence[Used]:
        """Look them up."""
        return await self.counts.used(counted, purses)

    def put(self, cache_key: bytes, entry: Entry, *, ttl_s: float) -> None:
        """Keep an entry, soon."""
        if self._local is not None:
            self._local.put(cache_key, entry, ttl_s=ttl_s)
        elif self.usable():
            ttl_s -= time.time() - entry.stored_at  # an entry that is written again lives no longer
            ttl_ms = max(int(ttl_s * 1000), 1)
            stored = self._batch.send("SET", _entry_key(cache_key), entry.pack(), "PX", ttl_ms)
            stored.add_done_callback(self._stored)

    def last_used(self) -> Mapping[str, int]:
        """As Redis last said to this worker."""
        return self.counts.last_used()

    async def look(self) -> None:
        """Ask Redis for a sign of life."""
        await self.ask(("PING",))

    def state(self) -> str:
        """Return "up", or why Redis is not used."""
        return self._problem or "up"

    async def close(self) -> None:
        """Let go of what is held, and close the connection."""
        await self.counts.close()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=TIMEOUT_S)
        await self._batch.finish(within_s=TIMEOUT_S)
        await self._line.close()

    # ------------------------------------------------------------ the cache

    def _found(self, policy: Policy, now: float) -> Entry | None:
        if not policy.read or self._local is None:
            return None
        entry = self._local.peek(policy.key, now)
        return entry if entry is not None and policy.accepts(entry, now) else None

    async def _found_or_admitted(self, demand: Demand, policy: Policy, now: float) -> Admission:
        admission, value = await self.counts.find(demand, _entry_key(policy.key), now=now)
        if value is None or admission.refusal is not None:
            return admission
        entry = _unpacked(value)
        if entry is not None and policy.accepts(entry, now):
            return admission._replace(entry=entry, hold=None)
        self.counts.take_back(demand, admission)
        return await self.counts.admit(demand, now=now)

    def _stored(self, answer: "asyncio.Future[Any]") -> None:
        problem = None if answer.cancelled() else answer.exception()
        if isinstance(problem, CONNECTION_ERRORS):
            self.failed(problem)

    # ------------------------------------------------------------ the server (proxy.store.server)

    def send(self, *command: Any) -> "asyncio.Future[Any]":
        """Send a command behind those sent before; the answer raises CONNECTION_ERRORS."""
        return self._batch.send(*command)

    async def call(self, script: Script, *arguments: Any) -> Any:
        """Return a script's answer. Raises CONNECTION_ERRORS."""
        return await self._batch.send("EVAL", script.text, 0, *arguments)

    async def ask(self, *commands: Command) -> Sequence[Any] | None:
        """Return the answers to commands that go out together. None: Redis is away."""
        if not self.usable():
            return None
        try:
            return await asyncio.gather(*[self._batch.send(*command) for command in commands])
        except CONNECTION_ERRORS as problem:
            self.failed(problem)
            return None

    async def run(self, script: Script, keys: Sequence[bytes], arguments: Sequence[Any]) -> Any:
        """Return a script's answer. None: Redis is away."""
        if not self.usable():
            return None
        try:
            return await self._evaluated(script, keys, arguments)
        except CONNECTION_ERRORS as problem:
            self.failed(problem)
            return None

    async def _evaluated(self, script: Script, keys: Sequence[Any], arguments: Sequence[Any]) -> Any:
        try:
            return await self._batch.send("EVALSHA", script.sha, len(keys), *keys, *arguments)
        except NoScriptError:  # Redis was restarted: EVAL makes it known again
            return await self._batch.send("EVAL", script.text, len(keys), *keys, *arguments)

    def usable(self) -> bool:
        """Is it up? If it is not, and the time has come, it is looked at again."""
        if not self._problem:
            return True
        if self._looking or time.monotonic() < self._down_until:
            return False
        self._looking = True
        self._down_until = time.monotonic() + RETRY_S  # this request tries; the others go on without
        self.spawn(self._look_again())
        return False

    def failed(self, problem: BaseException) -> None:
        """Go on without Redis for a while."""
        if not self._problem:
            log.warning("redis", up=False, error=str(problem) or type(problem).__name__)
        self._problem = f"down: {type(problem).__name__}"
        self._down_until = time.monotonic() + RETRY_S

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """Do something soon, and before the store is closed."""
        task = asyncio.get_running_loop().create_task(self._done(work))
        self._tasks.add(task)  # the loop itself holds tasks only weakly
        task.add_done_callback(self._tasks.discard)

    async def _done(self, work: Coroutine[Any, Any, Any]) -> None:
        try:
            await work
        except CONNECTION_ERRORS as problem:
            self.failed(problem)

    async def _look_again(self) -> None:
        try:
            await self._batch.send("PING")
            await self.counts.presence.come_back()
        except CONNECTION_ERRORS:
            return
        finally:
            self._looking = False
        self._problem = ""
        log.warning("redis", up=True)


def sync_client(url: str, *, answers: bool = True) -> "redis_sync.Redis":
    """Return a blocking client, for threads; its errors are CONNECTION_ERRORS.

    `answers`: every command is answered at once, so silence is an error (not so for a subscription).
    """
    return redis_sync.Redis.from_url(
        url, socket_connect_timeout=TIMEOUT_S, socket_timeout=TIMEOUT_S if answers else None
    )


def _of_hit(demand: Demand) -> Demand:
    """Return what a cached answer takes."""
    return Demand(demand.id, rates=demand.on_hit)


def _entry_key(cache_key: bytes) -> bytes:
    return b"gw:cache:" + cache_key


def _unpacked(packed: Any) -> Entry | None:
    if not isinstance(packed, bytes):
        return None
    try:
        return Entry.unpack(packed)
    except ValueError:
        return None  # written by another version, or damaged: a miss
