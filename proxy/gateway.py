"""The story of a request, top to bottom. Each step happens once; no step calls back up.

authenticate -> parse -> route -> admit (limits and cache) -> fail over -> answer or relay -> record
"""

import asyncio
import secrets
import time
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import count
from typing import Any

import structlog
from django.conf import settings
from django.http import HttpResponseBase
from django.utils.module_loading import import_string

from config.vault import Vault
from keys.caller import ANONYMOUS, Caller
from providers.call import Call
from proxy import announce, cache
from proxy.answering import Answering, record_failure, replay
from proxy.authentication import authenticate, recognised
from proxy.cache import BYPASS, BrokenEntry, Entry, Policy
from proxy.clients import client_ip
from proxy.completion import Completion
from proxy.deadline import Deadlines
from proxy.encore import Encores, Terms
from proxy.endpoints import Endpoint
from proxy.endpoints.forwarded import Forwarded
from proxy.errors import Forbidden, RateLimited, Unavailable
from proxy.exchange import Exchange
from proxy.forwarding import ForwardedExchange, Forwarding
from proxy.http import JsonReply, LaneRequest, request_id_of
from proxy.metrics import Meter
from proxy.prepared import NO_HEADERS, Prepared, Repeats, repeat_key
from proxy.renderers import Renderer, RendererFactory
from proxy.routing import Resolved, resolve
from proxy.snapshot import Snapshot
from proxy.spool import Spool
from proxy.store import make_store
from proxy.store.base import Admission, Limit
from proxy.transport import Transport
from proxy.watcher import Watcher

log = structlog.get_logger()

START_WAIT_S = 10.0
CLOSE_WAIT_S = 2.0
MAX_LOGGED_PROMPT = 200


class Gateway:
    """What one process serves requests with; made on first use inside its event loop."""

    def __init__(self, *, worker: int = 0) -> None:
        """Read settings and open the spool."""
        env = settings.GATEWAY
        self.env = env
        self.boot = secrets.token_hex(5)
        self.started_at = time.time()
        self.snapshot: Snapshot | None = None
        self.store = make_store(env)
        self.transport = Transport(max_response_bytes=env.max_response_bytes)
        self.deadlines = Deadlines()
        self.meter = Meter()
        self.spool = Spool(env.data_dir / "spool", boot=self.boot, worker=worker)
        self.watcher = Watcher(
            self._publish, kept_at=env.data_dir / f"snapshot-{worker}.kept", vault=Vault(settings.SECRET_KEYS)
        )
        self.watcher.each_poll = self.meter.publish
        self._log_request = import_string(settings.REQUEST_LOG)
        self._observers = [import_string(path) for path in settings.COMPLETION_OBSERVERS]
        self._prefix = f"{self.boot}-{worker}-"
        self._numbers = count(1)
        self._repeats: Repeats[Prepared] = Repeats()
        self.encores = Encores(
            store=self.store,
            spool=self.spool,
            meter=self.meter,
            log_request=self._log_request,
            next_id=self._next_id,
        )
        self._tasks: set[asyncio.Task[Any]] = set()
        self._limits = [Limit("global", "RPM_LIMIT", env.rpm_limit, 60.0)] if env.rpm_limit else []

    def start(self) -> None:
        """Start following the configuration."""
        self.watcher.start()
        if self.env.redis_url:
            announce.listen(self.env.redis_url, self.watcher.poke)

    async def serve(
        self, request: LaneRequest, endpoint: Endpoint, *, render: RendererFactory, anonymous: bool = False
    ) -> HttpResponseBase:
        """Answer one inference request. Raises GatewayError; whatever happens is recorded once.

        `anonymous`: the endpoint needs no key (the simple chat), and is limited per client IP.
        """
        exchange = self._begin(request, endpoint)
        try:
            return await self._answer(request, endpoint, exchange, render=render, anonymous=anonymous)
        except BaseException as problem:
            record_failure(exchange, problem)
            raise

    async def forward(self, request: LaneRequest, target: Forwarded, path: str) -> HttpResponseBase:
        """Pass one request on as it is, to the vendor's `path`. Raises GatewayError; recorded once."""
        exchange = self._begin(request, target, ForwardedExchange)
        forwarding = Forwarding(
            target=target,
            path=path,
            request=request,
            exchange=exchange,
            transport=self.transport,
            env=self.env,
        )
        try:
            snapshot = self.snapshot or await self.current()
            caller = recognised(request, snapshot) or await self.caller(request, snapshot)
            self._take_caller(exchange, caller)
            to = await forwarding.route(snapshot, caller)
            now = exchange.completion.at
            admission = await self.store.admit(cache_key=b"", limits=self._limits, now=now)
            _entry_of(admission, BYPASS, exchange.completion)
            return await forwarding.answer(to)
        except BaseException as problem:
            record_failure(exchange, problem)
            raise

    async def close(self) -> None:
        """Let go of everything; what is recorded is on disk."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSE_WAIT_S)
        for _ in range(int(CLOSE_WAIT_S / 0.02)):
            if not self.spool.in_flight:
                break
            await asyncio.sleep(0.02)  # requests that the server has just cancelled write their record
        await self.transport.close()
        self.deadlines.close()
        await self.store.close()
        self.watcher.close()
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

    async def caller(self, request: LaneRequest, snapshot: Snapshot) -> Caller:
        """Return who calls. Raises Unauthenticated."""
        return await authenticate(
            request,
            snapshot,
            allow_anonymous=self.env.allow_anonymous,
            watcher=self.watcher,
            current=self.current,
        )

    def _publish(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot

    def _begin(
        self, request: LaneRequest, endpoint: Endpoint | Forwarded, kind: type[Exchange] = Exchange
    ) -> Exchange:
        identity = self._next_id()
        completion = Completion(
            id=identity,
            request_id=request_id_of(request) or identity,
            at=time.time(),
            endpoint=endpoint.name,
        )
        return kind(
            completion,
            spool=self.spool,
            meter=self.meter,
            observers=self._observers,
            log_request=self._log_request,
        )

    async def _answer(
        self,
        request: LaneRequest,
        endpoint: Endpoint,
        exchange: Exchange,
        *,
        render: RendererFactory,
        anonymous: bool,
    ) -> HttpResponseBase:
        snapshot = self.snapshot or await self.current()
        completion = exchange.completion
        if anonymous:
            caller = ANONYMOUS
        else:
            caller = recognised(request, snapshot) or await self.caller(request, snapshot)
        self._take_caller(exchange, caller)
        cache_control = request.wire.get(b"cache-control", b"")
        body = request.body
        headers = endpoint.headers_in(request.wire) if endpoint.headers else NO_HEADERS
        key = repeat_key(endpoint, caller, body, cache_control=cache_control, headers=headers)
        known = self._repeats.get(snapshot, key)
        prepared = known or self._prepared(
            endpoint,
            exchange,
            snapshot,
            caller=caller,
            body=body,
            headers=headers,
            cache_control=cache_control,
        )
        call, resolved, policy = prepared
        exchange.take(call)
        if self.env.log_prompts:
            exchange.prompt = _prompt_of(call)
        completion.route = resolved.route
        limits = self._limits if not anonymous else self._limits_of_address(request)
        cache_key = policy.key if policy.read else b""
        admission = self.store.admit_now(cache_key=cache_key, limits=limits, now=completion.at)
        if admission is None:
            admission = await self.store.admit(cache_key=cache_key, limits=limits, now=completion.at)
        entry = _entry_of(admission, policy, completion)
        renderer = render(completion, call)
        if entry is not None:
            if known is None:
                self._repeats.remember(snapshot, key, prepared)
            terms = Terms(caller, policy, limits)
            reply = self._replayed(
                entry, request, exchange, snapshot=snapshot, call=call, terms=terms, renderer=renderer
            )
            if reply is not None:
                return reply
        return await Answering(
            exchange=exchange,
            call=call,
            resolved=resolved,
            renderer=renderer,
            policy=policy,
            ttl_s=snapshot.cache_ttl_s,
            store=self.store,
            transport=self.transport,
            deadlines=self.deadlines,
            env=self.env,
            spawn=self._spawn,
        ).answer()

    def _take_caller(self, exchange: Exchange, caller: Caller) -> None:
        """Note whose request it is: from here on it is recorded. Raises Unavailable if it cannot be."""
        completion = exchange.completion
        completion.key_id, completion.key_prefix = caller.key_id, caller.prefix
        completion.tenant_id = caller.tenant_id
        exchange.recorded = True
        if self.spool.full:
            raise Unavailable("The disk for usage records is full.", code="spool_full", retry_after_s=30)

    def _replayed(
        self,
        entry: Entry,
        request: LaneRequest,
        exchange: Exchange,
        *,
        snapshot: Snapshot,
        call: Call,
        terms: Terms,
        renderer: Renderer,
    ) -> HttpResponseBase | None:
        """Answer from the cache; None if its entry is broken, which is a miss."""
        try:
            reply, assembled = replay(entry, call=call, exchange=exchange, renderer=renderer)
        except BrokenEntry:
            exchange.completion.cache = "miss"
            return None
        if assembled is not None:
            self.store.put(terms.policy.key, assembled, ttl_s=snapshot.cache_ttl_s)
        elif isinstance(reply, JsonReply):
            reply.went_out = partial(
                self.encores.remember, snapshot, request, terms=terms, entry=entry, exchange=exchange
            )
        return reply

    def _prepared(
        self,
        endpoint: Endpoint,
        exchange: Exchange,
        snapshot: Snapshot,
        *,
        caller: Caller,
        body: bytes,
        headers: Mapping[str, str],
        cache_control: bytes,
    ) -> Prepared:
        """Read, route and judge. Raises GatewayError; what is known by then is in the exchange."""
        call = endpoint.parse(body)
        if headers:
            call = call._replace(headers=headers)
        exchange.take(call)
        resolved = resolve(snapshot, call.model)
        exchange.completion.route = resolved.route
        _require_allowed(snapshot, caller, call, resolved)
        if self.env.cache_mode == "none" or not endpoint.cacheable:
            return Prepared(call, resolved, BYPASS)
        policy = cache.policy(
            snapshot,
            call=call,
            caller=caller,
            resolved=resolved,
            endpoint=endpoint.name,
            namespace=self.env.gateway_version,
            cache_control=cache_control.decode("latin-1"),
        )
        return Prepared(call, resolved, policy)

    def _next_id(self) -> str:
        return self._prefix + format(next(self._numbers), "x")

    def _limits_of_address(self, request: LaneRequest) -> Sequence[Limit]:
        if not self.env.anon_ip_rpm:
            return self._limits
        address = client_ip(request, self.env.trusted_proxies)
        return [*self._limits, Limit(f"ip:{address}", "ANON_IP_RPM", self.env.anon_ip_rpm, 60.0)]

    def _spawn(self, work: Any) -> "asyncio.Task[Any]":
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)  # the loop itself holds tasks only weakly
        task.add_done_callback(self._tasks.discard)
        return task


def _entry_of(admission: Admission, policy: Policy, completion: Completion) -> Entry | None:
    """Return the answer that the cache has for an admitted request, if any. Raises RateLimited."""
    refused_by = admission.refused_by
    if refused_by is not None:
        raise RateLimited(
            f"Rate limit {refused_by.name} reached: {refused_by.amount} requests per "
            f"{refused_by.window_s:g} seconds. Try again in {admission.retry_after_s:.1f} seconds.",
            retry_after_s=admission.retry_after_s,
        )
    entry = admission.entry
    if entry is not None and policy.accepts(entry, completion.at):
        completion.cache = "hit"
        return entry
    completion.cache = "miss" if policy.read else "bypass"
    return None


def _require_allowed(snapshot: Snapshot, caller: Caller, call: Call, resolved: Resolved) -> None:
    if not caller.allowed:
        return
    # By the name asked for, or because every target is allowed: one allowed target is not enough.
    key = ("allowed", caller.allowed, call.model)
    allowed = snapshot.memo.get(key)
    if allowed is None:
        targets = all(
            caller.may_use(*snapshot.names(each.account.name, each.model)) for each in resolved.all_upstreams
        )
        allowed = snapshot.remember(key, caller.may_use(call.model) or targets)
    if not allowed:
        raise Forbidden(
            f"This key may not use model {call.model!r}. GET /v1/models lists what it may use.",
            code="model_not_allowed",
            param="model",
        )


def _prompt_of(call: Call) -> str:
    messages = call.body.get("messages")
    last = messages[-1].get("content") if isinstance(messages, list) and messages else call.body.get("input")
    return str(last)[:MAX_LOGGED_PROMPT]
