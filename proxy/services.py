"""What one process serves requests with: store, transport, fleet, spool, meter, and what follows the rows."""

import asyncio
import os
import secrets
import socket
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from itertools import count
from typing import Any, TypeVar

import structlog
from django.conf import settings
from django.utils.module_loading import import_string

from config.vault import Vault
from keys.caller import Caller
from keys.limits import Counted
from proxy import announce
from proxy.authentication import authenticate, secret_of
from proxy.completion import Completion
from proxy.deadline import Deadlines
from proxy.encore import Encores
from proxy.errors import Unavailable
from proxy.exchange import Exchange
from proxy.fleet.registry import Fleet
from proxy.flights import Flights
from proxy.http import LaneRequest, request_id_of
from proxy.idempotency.turns import Turns
from proxy.keeping import Keeping
from proxy.learning import Learned
from proxy.metrics import Meter
from proxy.middleware.chain import configured
from proxy.near_limits import NearLimits
from proxy.oversight import Oversight
from proxy.own_credential import brought
from proxy.payload import payload_days
from proxy.payload_writer import PayloadWriter
from proxy.prepared import Prepared, Repeats
from proxy.reseeding import Reseeding
from proxy.ruling import nobody
from proxy.shadow_budgets import ShadowBudgets
from proxy.snapshot import Snapshot
from proxy.spool import Spool, backlog
from proxy.store import make_store
from proxy.store.base import Used
from proxy.store.redis import RedisStore
from proxy.store.side_by_side import SideBySideStore
from proxy.transport import Transport
from proxy.watcher import Watcher
from proxy.worker_state import WorkerReporter

log = structlog.get_logger()

Started = TypeVar("Started", bound=Exchange)
START_WAIT_S = 10.0
CLOSE_WAIT_S = 2.0
NEVER_S = 86_400.0
HANDOVER_S = 0.05


class Services:
    """One process's. Made inside its event loop."""

    def __init__(self, *, worker: int = 0) -> None:
        """Read settings and open the spool."""
        env = settings.GATEWAY
        self.env = env
        self.boot = secrets.token_hex(5)
        self.started_at = time.time()
        self.stopping = self._closing = False
        self.keep_alive_s = env.stream_keep_alive_s or NEVER_S  # a stream's silence until a comment is due
        self.snapshot: Snapshot | None = None
        self.store = make_store(env, owner=f"{self.boot}-{worker}")
        self.transport = Transport(max_response_bytes=env.max_response_bytes)
        self.deadlines = Deadlines()
        self.meter = Meter()
        self.fleet = Fleet(
            threshold=env.cb_error_threshold,
            window_s=env.cb_time_window_s,
            half_open_after_s=env.cb_half_open_timeout_s,
        )
        self.meter.depths = self.fleet.depths
        self.fleet.queued, self.fleet.turned_away = self.meter.queued, self.meter.queue_refused
        self.oversight = Oversight(
            self.fleet, name=self.boot, worker=worker, meter=self.meter.breakers, redis_url=env.redis_url
        )
        self._reporter = self._reports(worker)
        self.flights = Flights()
        self.turns = self._turns()
        self.middleware = configured()
        self.cache_namespace = env.gateway_version + self.middleware.response.namespace
        # Whoever is to see each request is not passed by.
        self.looks_into_requests = bool(self.middleware.request)
        self.watches_answers = bool(self.middleware.response)
        self.plays_encores = not (self.looks_into_requests or self.watches_answers)
        self.shadows = ShadowBudgets()
        self.spool = Spool(env.data_dir / "spool", boot=self.boot, worker=worker)
        self.payloads = PayloadWriter(
            self.spool,
            vault=Vault(settings.SECRET_KEYS),
            limit=env.payload_max_bytes,
            patterns=env.payload_redact,
        )
        self.watcher = Watcher(
            self._publish, kept_at=env.data_dir / f"snapshot-{worker}.kept", vault=Vault(settings.SECRET_KEYS)
        )
        self.watcher.each_poll = self._each_poll
        self.watcher.before_publishing = self._before_publishing
        self.reseeding = self._reseeding(worker)
        self._log_request = import_string(settings.REQUEST_LOG)
        self._observers = [import_string(path) for path in settings.COMPLETION_OBSERVERS]
        self._prefix = f"{self.boot}-{worker}-"
        self._numbers = count(1)
        self.repeats: Repeats[Prepared] = Repeats()
        self.encores = Encores(
            store=self.store,
            spool=self.spool,
            meter=self.meter,
            log_request=self._log_request,
            next_id=self._next_id,
            observers=self._observers,
        )
        self._tasks: set[asyncio.Task[Any]] = set()
        self.learned, self.nobody = Learned(), nobody(env.anon_ip_rpm)
        self._near_limits = NearLimits(self.store, self._standing, own=self.nobody.terms.rules)

    def _turns(self) -> Turns | None:
        ttl_s = self.env.idempotency_ttl_s
        return Turns(self.store.claims, ttl_s=ttl_s) if ttl_s else None

    def _reports(self, worker: int) -> WorkerReporter:
        return WorkerReporter(
            name=f"{self.boot}-{worker}",
            host=socket.gethostname(),
            worker=worker,
            plane=os.environ.get("GATEWAY_PLANE", "all"),
            started_at=self.started_at,
        )

    def start(self) -> None:
        """Start following the configuration."""
        self.watcher.start()
        if self.env.redis_url:
            announce.listen(self.env.redis_url, self.watcher.poke)
        self.oversight.start()

    def break_off(self) -> None:
        """End what is still running, as an error that says so: its time to finish is over."""
        self.stopping = True
        self.transport.break_off()

    async def close(self) -> None:
        """Let go of everything; what is recorded is on disk."""
        self.shadows.stop()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSE_WAIT_S)
        for _ in range(int(CLOSE_WAIT_S / 0.02)):
            if not self.spool.in_flight:
                break
            await asyncio.sleep(0.02)  # requests that the server has just cancelled write their record
        if self.middleware.response:
            await asyncio.to_thread(self.middleware.response.close)
        await self.transport.close()
        self.deadlines.close()
        self.reseeding.close()
        await self.store.close()
        self.oversight.close()
        self._closing = True
        self.watcher.close()
        await asyncio.to_thread(self.payloads.close)
        self.spool.close()
        self.meter.publish()

    async def current(self) -> Snapshot:
        """Return the snapshot in force, waiting for the first one. Raises Unavailable."""
        waited_until = time.monotonic() + START_WAIT_S
        while self.snapshot is None:
            if time.monotonic() > waited_until:
                raise Unavailable(
                    "The configuration has not been read yet.", code="starting", retry_after_s=2
                )
            await asyncio.sleep(0.02)
        return self.snapshot

    async def caller(
        self, request: LaneRequest, snapshot: Snapshot, *, own_credentials: bool = False
    ) -> Caller:
        """Return who calls. Raises Unauthenticated or Forbidden.

        `own_credentials`: whoever asks sees to it that a STRANGER uses nothing but what it brings.
        """
        return await authenticate(
            request,
            snapshot,
            allow_anonymous=self.env.allow_anonymous,
            watcher=self.watcher,
            current=self.current,
            trusted_proxies=self.env.trusted_proxies,
            own_credentials=own_credentials and self.env.allow_client_api_keys,
        )

    def _publish(self, snapshot: Snapshot) -> None:
        """Put a configuration in force. Called from the watcher's thread."""
        self.oversight.follow(snapshot)
        self.snapshot = snapshot
        self.fleet.loop.call_soon_threadsafe(self.fleet.configure, snapshot.accounts)

    def _reseeding(self, worker: int) -> Reseeding:
        data_dir, keeping = self.env.data_dir, None
        if isinstance(self.store, SideBySideStore):
            keeping = Keeping(
                self.store,
                self.spool,
                sums=data_dir / f"sums-{worker}.kept",
                rates=data_dir / f"rates-{worker}.kept",
                on_loop=self._on_loop,
            )
        reseeding = Reseeding(
            self.store,
            spool=data_dir / "spool",
            receipts=import_string(settings.SPOOL_RECEIPTS),
            on_loop=self._on_loop,
            keeping=keeping,
        )
        if isinstance(self.store, RedisStore):
            self.store.ask_ledger(before_dropping=reseeding.before_dropping, reseed=reseeding.reseed)
        return reseeding

    def _before_publishing(self, snapshot: Snapshot) -> None:
        """Count its budgets. Called from the watcher's thread."""
        try:
            self.reseeding.prepare(snapshot, database_up=self.watcher.database_up)
        except Exception:  # a configuration is put in force all the same: it may take keys back
            log.exception("budgets_not_counted")

    def _on_loop(self, work: Callable[[], Any]) -> Any:
        """Run `work` on the event loop and return its result. Called from the watcher's thread."""
        done: Future[Any] = Future()

        def run() -> None:
            try:
                done.set_result(work())
            except Exception as problem:  # noqa: BLE001 - it is raised in the thread
                done.set_exception(problem)

        self.fleet.loop.call_soon_threadsafe(run)
        while not self._closing:  # then the loop waits for this very thread
            if wait([done], HANDOVER_S).done:
                return done.result()
        return None

    def _each_poll(self) -> None:
        self.meter.publish()
        try:
            self.reseeding.poll(database_up=self.watcher.database_up)
        except Exception:  # the watcher must live
            log.exception("budgets_not_followed")
        if self.watcher.database_up:
            self.oversight.poll()
            self._report()

    def _report(self) -> None:
        """Write that this process lives, and by which configuration. For the watcher's thread."""
        now, snapshot = time.time(), self.snapshot
        known: dict[str, Any] = {
            "version": None if snapshot is None else snapshot.version,
            "problem": self.watcher.problem,
            "full": self.spool.full,
        }
        if self._reporter.is_due(now, **known):
            waiting = backlog(self.env.data_dir / "spool")
            self._reporter.report(
                now,
                **known,
                segments=waiting["segments"],
                size=waiting["bytes"],
                near_limits=self._near_limits.found(snapshot, now),
            )

    def _standing(self, counted: Sequence[Counted], now: float) -> Sequence[Used] | None:
        """Ask the store how limits stand. For the watcher's thread; None: everything ends."""
        asked = asyncio.run_coroutine_threadsafe(self._used(counted, now), self.fleet.loop)
        while not self._closing:  # then the loop waits for this very thread
            if wait([asked], HANDOVER_S).done:
                return asked.result()
        asked.cancel()
        return None

    async def _used(self, counted: Sequence[Counted], now: float) -> Sequence[Used]:
        return await self.store.used(counted, (), now=now)

    def begin(self, request: LaneRequest, endpoint: str, kind: type[Exchange] = Exchange) -> Exchange:
        """Start the record of a request at `endpoint`, as records name it."""
        identity = self._next_id()
        completion = Completion(
            id=identity,
            request_id=request_id_of(request) or identity,
            at=time.time(),
            endpoint=endpoint,
        )
        return kind(
            completion,
            spool=self.spool,
            meter=self.meter,
            observers=self._observers,
            log_request=self._log_request,
        )

    def begin_beside(self, exchange: Exchange, kind: type[Started], meter: Any) -> Started:
        """Start the record of another call for the same request: nobody's, and counted by `meter`."""
        first = exchange.completion
        completion = Completion(
            id=self._next_id(), request_id=first.request_id, at=time.time(), endpoint=first.endpoint
        )
        return kind(
            completion,
            spool=self.spool,
            meter=meter,
            observers=self._observers,
            log_request=self._log_request,
        )

    def take_caller(
        self, exchange: Exchange, caller: Caller, *, snapshot: Snapshot, request: LaneRequest
    ) -> None:
        """Note whose request it is: from here on it is recorded. Raises Unavailable if it cannot be."""
        completion = exchange.completion
        completion.key_id, completion.key_prefix = caller.key_id, caller.prefix
        completion.tenant_id = caller.tenant_id
        completion.tags = caller.terms.tags or None
        exchange.recorded = True
        if snapshot.payload_days or caller.terms.payload_days:
            days = payload_days(snapshot, caller)
            exchange.payload = self.payloads.begin(request, days=days) if days else None
        if self.spool.full:
            raise Unavailable("The disk for usage records is full.", code="spool_full", retry_after_s=30)

    @staticmethod
    def take_own_credential(
        exchange: Exchange, request: LaneRequest, snapshot: Snapshot, *, caller: Caller
    ) -> None:
        """Note a vendor's key that the client brings, where clients may. Raises BadRequest."""
        exchange.own = brought(request, snapshot, caller, secret=secret_of(request))

    def _next_id(self) -> str:
        return self._prefix + format(next(self._numbers), "x")

    def spawn(self, work: Any) -> "asyncio.Task[Any]":
        """Run a coroutine in a task that is waited for at the end."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)  # the loop itself holds tasks only weakly
        task.add_done_callback(self._tasks.discard)
        return task
