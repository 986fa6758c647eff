"""The Redis store: one script per admission, so limits are exact across workers and replicas.

Redis down is no error: the cache is off, limits of this file let through (the design's section 8
says what budgets do), one log line says so, and Redis is tried again after a pause.
"""

import asyncio
import time
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

import redis as redis_sync
import redis.asyncio as redis_async
import structlog
from redis.exceptions import NoScriptError, RedisError

from keys.limits import Counted, Purse
from proxy.cache import BYPASS, Entry, Policy
from proxy.store.base import Admission, Demand, Hold, Ledgered, Refusal, Used
from proxy.store.batch import Batcher, Command
from proxy.store.claims import Claims, LocalClaims
from proxy.store.memory import MemoryStore
from proxy.store.redis_claims import RedisClaims, Script

log = structlog.get_logger()

CONNECTION_ERRORS = (RedisError, OSError, TimeoutError)
TIMEOUT_S = 1.0
RETRY_S = 2.0
MAX_CONNECTIONS = 100


class RedisStore:
    """Counters and cache in Redis."""

    name = "redis"

    def __init__(self, url: str, *, local: MemoryStore | None = None, max_claim_bytes: int = 0) -> None:
        """Use the server at `url`; with `local` the cache is there and only counters and claims are shared.

        `max_claim_bytes` is kept of answers under keys while the server is away.
        """
        # Waits for a free connection: a burst of requests is no outage.
        pool = redis_async.BlockingConnectionPool.from_url(
            url,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            max_connections=MAX_CONNECTIONS,
            timeout=TIMEOUT_S,
            # Telling Redis our version reads it from disk, for each connection, on the event loop.
            driver_info=None,
        )
        self._client = redis_async.Redis.from_pool(pool)
        self._local = local
        self._counts = MemoryStore(max_bytes=0)
        self.claims: Claims = RedisClaims(self, local=LocalClaims(max_bytes=max_claim_bytes))
        self._batch = Batcher(self._round_trip)
        self._down_until = 0.0
        self._problem = ""
        self._looking = False  # one look at a time: each would say that Redis is up again
        self._tasks: set[asyncio.Task[Any]] = set()

    def admit_now(self, demand: Demand, policy: Policy, *, now: float) -> Admission | None:  # noqa: ARG002 - the contract
        """Nothing is here."""
        return None

    def peek(self, cache_key: bytes, now: float) -> Entry | None:  # noqa: ARG002 - the contract
        """Nothing is here."""
        return None

    async def admit(self, demand: Demand, policy: Policy, *, now: float) -> Admission:
        """Take all of it or nothing, and look up."""
        if policy.read and self._local is None and self._usable():
            try:
                packed = await self._batch.send("GET", _entry_key(policy.key))
            except CONNECTION_ERRORS as problem:
                self._went_down(problem)
                packed = None
            entry = _unpacked(packed)
            if entry is not None and policy.accepts(entry, now):
                return Admission(entry=entry)
        here = self._local or self._counts
        return here.admit_now(demand, policy if self._local else BYPASS, now=now)

    async def raise_hold(self, hold: Hold, *, worst: int, expected: int, now: float) -> Refusal | None:
        """Compare and take."""
        return await (self._local or self._counts).raise_hold(hold, worst=worst, expected=expected, now=now)

    def settle(self, hold: Hold, *, tokens: int, costs: Sequence[int], now: float) -> None:
        """End a hold."""
        (self._local or self._counts).settle(hold, tokens=tokens, costs=costs, now=now)

    def give_back(self, hold: Hold, *, now: float) -> None:
        """End a hold."""
        (self._local or self._counts).give_back(hold, now=now)

    def adopt(self, holds: Sequence[Hold]) -> None:
        """Hold these too."""
        (self._local or self._counts).adopt(holds)

    def raise_spent(self, sums: Mapping[str, Ledgered]) -> None:
        """Lift sums."""
        (self._local or self._counts).raise_spent(sums)

    async def used(
        self, counted: Sequence[Counted], purses: Sequence[Purse], *, now: float
    ) -> Sequence[Used]:
        """Look them up."""
        return await (self._local or self._counts).used(counted, purses, now=now)

    def put(self, cache_key: bytes, entry: Entry, *, ttl_s: float) -> None:
        """Keep an entry, soon."""
        if self._local is not None:
            self._local.put(cache_key, entry, ttl_s=ttl_s)
        elif self._usable():
            ttl_s -= time.time() - entry.stored_at  # an entry that is written again lives no longer
            ttl_ms = max(int(ttl_s * 1000), 1)
            stored = self._batch.send("SET", _entry_key(cache_key), entry.pack(), "PX", ttl_ms)
            stored.add_done_callback(self._stored)

    def _stored(self, answer: "asyncio.Future[Any]") -> None:
        problem = None if answer.cancelled() else answer.exception()
        if isinstance(problem, CONNECTION_ERRORS):
            self._went_down(problem)

    async def look(self) -> None:
        """Ask Redis for a sign of life."""
        await self.ask(("PING",))

    def state(self) -> str:
        """Return "up", or why Redis is not used."""
        return self._problem or "up"

    async def close(self) -> None:
        """Close the connections."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=TIMEOUT_S)
        await self._batch.finish(within_s=TIMEOUT_S)
        await self._client.aclose()

    async def ask(self, *commands: Command) -> Sequence[Any] | None:
        """Return the answers to commands that go out together. None: Redis is away."""
        if not self._usable():
            return None
        try:
            return await asyncio.gather(*[self._batch.send(*command) for command in commands])
        except CONNECTION_ERRORS as problem:
            self._went_down(problem)
            return None

    async def run(self, script: Script, keys: Sequence[bytes], arguments: Sequence[Any]) -> Any:
        """Return a script's answer. None: Redis is away."""
        if not self._usable():
            return None
        try:
            return await self._evaluated(script, keys, arguments)
        except CONNECTION_ERRORS as problem:
            self._went_down(problem)
            return None

    async def _evaluated(self, script: Script, keys: Sequence[Any], arguments: Sequence[Any]) -> Any:
        try:
            return await self._batch.send("EVALSHA", script.sha, len(keys), *keys, *arguments)
        except NoScriptError:  # Redis was restarted: EVAL makes it known again
            return await self._batch.send("EVAL", script.text, len(keys), *keys, *arguments)

    async def _round_trip(self, commands: Sequence[Command]) -> Sequence[Any]:
        async with self._client.pipeline(transaction=False) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)
            answers: Sequence[Any] = await pipeline.execute(raise_on_error=False)
            return answers

    def _usable(self) -> bool:
        if not self._problem:
            return True
        if self._looking or time.monotonic() < self._down_until:
            return False
        self._looking = True
        self._down_until = time.monotonic() + RETRY_S  # this request tries; the others go on without
        self.spawn(self._look_again())
        return False

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """Do something soon, and before the store is closed."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)  # the loop itself holds tasks only weakly
        task.add_done_callback(self._tasks.discard)

    async def _look_again(self) -> None:
        try:
            # The pool's other connections died with the one that told us: each would tell it again.
            await self._client.connection_pool.disconnect(inuse_connections=False)
            await self._client.ping()
        except CONNECTION_ERRORS:
            return
        finally:
            self._looking = False
        self._problem = ""
        log.warning("redis", up=True)

    def _went_down(self, problem: BaseException) -> None:
        if not self._problem:
            log.warning("redis", up=False, error=str(problem) or type(problem).__name__)
        self._problem = f"down: {type(problem).__name__}"
        self._down_until = time.monotonic() + RETRY_S


def sync_client(url: str, *, answers: bool = True) -> "redis_sync.Redis":
    """Return a blocking client, for threads; its errors are CONNECTION_ERRORS.

    `answers`: every command is answered at once, so silence is an error (not so for a subscription).
    """
    return redis_sync.Redis.from_url(
        url, socket_connect_timeout=TIMEOUT_S, socket_timeout=TIMEOUT_S if answers else None
    )


def _entry_key(cache_key: bytes) -> bytes:
    return b"gw:cache:" + cache_key


def _unpacked(packed: Any) -> Entry | None:
    if not isinstance(packed, bytes):
        return None
    try:
        return Entry.unpack(packed)
    except ValueError:
        return None  # written by another version, or damaged: a miss
