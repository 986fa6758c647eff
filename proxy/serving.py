"""The story of a request, top to bottom. Each step happens once; no step calls back up.

authenticate -> read and route -> admit (limits and cache) -> replay, follow, or fail over and answer
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

from django.http import HttpResponseBase

from keys.caller import USUAL, Caller
from providers.call import Call
from proxy import cache
from proxy.admission import admitted, require_allowed
from proxy.answering import Answering, replay
from proxy.authentication import recognised
from proxy.cache import BYPASS, BrokenEntry, Entry, Policy
from proxy.clients import client_ip
from proxy.demand import Asking, Who, applicable
from proxy.encore import Terms
from proxy.endpoints import CHAT_COMPLETIONS, Endpoint
from proxy.exchange import Exchange
from proxy.fleet.affinity import affinity
from proxy.following import Following
from proxy.http import JsonReply, LaneRequest
from proxy.key_terms import on_terms
from proxy.middleware.base import Context
from proxy.middleware.entrance import pass_through
from proxy.own_credential import routed
from proxy.plain import changeable
from proxy.prepared import NO_HEADERS, Prepared, repeat_key
from proxy.renderers import Renderer, RendererFactory
from proxy.routing import resolve
from proxy.services import Services
from proxy.snapshot import Snapshot

MAX_LOGGED_PROMPT = 200
FLIGHTS = 2  # that one request follows, should they fail


@dataclass(slots=True)
class Serving:
    """One request. `anonymous`: it needs no key, and is limited per client IP."""

    services: Services
    request: LaneRequest
    endpoint: Endpoint
    exchange: Exchange
    render: RendererFactory
    anonymous: bool

    async def answer(self) -> HttpResponseBase:
        """Answer it. Raises GatewayError."""
        services, exchange = self.services, self.exchange
        snapshot = services.snapshot or await services.current()
        if self.anonymous:
            caller = services.nobody
        else:
            caller = recognised(self.request, snapshot) or await services.caller(
                self.request, snapshot, own_credentials=True
            )
        services.take_caller(exchange, caller, snapshot=snapshot, request=self.request)
        if services.env.allow_client_api_keys and not self.anonymous:
            services.take_own_credential(exchange, self.request, snapshot, caller=caller)
        if services.looks_into_requests:
            await self._pass_through(caller)
        key, known, prepared = self._prepared(snapshot, caller)
        call, resolved, policy = prepared
        exchange.take(call)
        if services.env.log_prompts:
            exchange.prompt = _prompt_of(call)
        exchange.completion.route = resolved.route
        asking = Asking(snapshot, Who(caller, self.address), call, resolved)
        entry = await self._admitted(policy, asking)
        renderer = self.render(exchange.completion, call)
        if services.watches_answers:
            context = Context(exchange.completion, call, caller)
            exchange.watching = services.middleware.response.begin(context)
            if exchange.watching is not None:
                exchange.watching.require_all()
        if entry is not None:
            if not known:
                services.repeats.remember(snapshot, key, prepared)
            terms = Terms(caller, policy, applicable(snapshot, caller, call.model, resolved))
            reply = self._replayed(entry, snapshot, call=call, terms=terms, renderer=renderer)
            if reply is not None:
                return reply
            await self._admitted(BYPASS, asking)  # as a hit it has taken little
            exchange.completion.cache = "miss"
        return await self._made(snapshot, prepared, renderer)

    async def _admitted(self, policy: Policy, asking: Asking) -> Entry | None:
        services = self.services
        return await admitted(
            services.store, policy, asking=asking, exchange=self.exchange, learned=services.learned
        )

    async def _made(self, snapshot: Snapshot, prepared: Prepared, renderer: Renderer) -> HttpResponseBase:
        """Answer by asking somebody, or with the answer that somebody is about to get."""
        policy, watching = prepared.policy, self.exchange.watching
        if watching is not None and watching.changes_events:
            prepared = prepared._replace(call=changeable(prepared.call))
        if policy.read and policy.write:
            reply = await self._followed(snapshot, prepared, renderer)
            if reply is not None:
                return reply
        return await self._answering(snapshot, prepared, renderer).answer()

    async def _pass_through(self, caller: Caller) -> None:
        endpoint, own = self.endpoint, self.exchange.own
        if own is not None:
            own.withhold(self.request)
        chain = self.services.middleware.request
        changed = await pass_through(
            chain, self.request, endpoint=endpoint.name, caller=caller, body=endpoint.asked
        )
        if changed and endpoint.asked is not None:
            self.endpoint = replace(endpoint, parse=CHAT_COMPLETIONS.parse)

    def _prepared(self, snapshot: Snapshot, caller: Caller) -> tuple[tuple[object, ...], bool, Prepared]:
        """Read, route and judge, unless that is remembered. Raises GatewayError.

        Returns the key to remember it by, whether it was remembered, and what it is.
        """
        request, endpoint = self.request, self.endpoint
        cache_control = request.wire.get(b"cache-control", b"")
        headers = endpoint.headers_in(request.wire) if endpoint.headers else NO_HEADERS
        if self.exchange.own is not None:  # its targets show it, and nothing of it is remembered
            return (), False, self._read(snapshot, caller, headers=headers, cache_control=cache_control)
        key = repeat_key(endpoint, caller, request.body, cache_control=cache_control, headers=headers)
        known = self.services.repeats.get(snapshot, key)
        if known is not None:
            return key, True, known
        return key, False, self._read(snapshot, caller, headers=headers, cache_control=cache_control)

    def _read(
        self, snapshot: Snapshot, caller: Caller, *, headers: Mapping[str, str], cache_control: bytes
    ) -> Prepared:
        """What is known when it raises is in the exchange."""
        env, endpoint, exchange = self.services.env, self.endpoint, self.exchange
        call = endpoint.parse(self.request.body)
        if headers:
            call = call._replace(headers=headers)
        exchange.take(call)
        if caller.terms is not USUAL:
            call = on_terms(call, caller.terms)
            exchange.take(call)
        resolved = resolve(snapshot, call.model)
        exchange.completion.route = resolved.route
        require_allowed(snapshot, caller, call, resolved)
        namespace = self.services.cache_namespace
        if exchange.own is not None:
            resolved = routed(resolved, exchange.own)
            exchange.completion.own_credential = resolved.own_credential
            if resolved.own_credential:
                namespace += exchange.own.name.hex()
        if env.cache_mode == "none" or not endpoint.cacheable:
            return Prepared(call, resolved, BYPASS)
        policy = cache.policy(
            snapshot,
            call=call,
            caller=caller,
            resolved=resolved,
            endpoint=endpoint.name,
            namespace=namespace,
            cache_control=cache_control.decode("latin-1"),
        )
        return Prepared(call, resolved, policy)

    def _replayed(
        self, entry: Entry, snapshot: Snapshot, *, call: Call, terms: Terms, renderer: Renderer
    ) -> HttpResponseBase | None:
        """Answer from the cache; None if its entry is broken, which is a miss."""
        services, exchange = self.services, self.exchange
        try:
            reply, assembled = replay(entry, call=call, exchange=exchange, renderer=renderer)
        except BrokenEntry:
            return None
        if assembled is not None:
            services.store.put(terms.policy.key, assembled, ttl_s=snapshot.cache_ttl_s)
        elif services.plays_encores and isinstance(reply, JsonReply):
            reply.went_out = partial(
                services.encores.remember, snapshot, self.request, terms=terms, entry=entry, exchange=exchange
            )
        return reply

    async def _followed(
        self, snapshot: Snapshot, prepared: Prepared, renderer: Renderer
    ) -> HttpResponseBase | None:
        """Answer from the same call that is in the air; None where there is none, and this one takes off."""
        services, exchange = self.services, self.exchange
        call, _, policy = prepared
        for _ in range(FLIGHTS):
            flight = services.flights.find(policy.key)
            if flight is None:
                break
            following = Following(
                flight=flight,
                exchange=exchange,
                call=call,
                renderer=renderer,
                keep_alive_s=services.keep_alive_s,
                alone=partial(self._made, snapshot, prepared, renderer),
            )
            reply = await following.answer()
            if reply is not None:
                return reply
        else:
            return None  # nobody's failure is shared for long
        exchange.flight = services.flights.start(policy.key)
        self.request.detain_by(exchange.detain)
        return None

    def _answering(self, snapshot: Snapshot, prepared: Prepared, renderer: Renderer) -> Answering:
        call, resolved, policy = prepared
        weights = snapshot.tenant_weights
        return Answering(
            services=self.services,
            exchange=self.exchange,
            call=call,
            resolved=resolved,
            renderer=renderer,
            policy=policy,
            ttl_s=snapshot.cache_ttl_s,
            weight=weights.get(self.exchange.completion.tenant_id, 1) if weights else 1,
            affinity=affinity(resolved.sticky, call, self.request.wire) if resolved.sticky else b"",
        )

    def address(self) -> str:
        """Return where it comes from."""
        return client_ip(self.request, self.services.env.trusted_proxies)


def _prompt_of(call: Call) -> str:
    messages = call.body.get("messages")
    last = messages[-1].get("content") if isinstance(messages, list) and messages else call.body.get("input")
    return str(last)[:MAX_LOGGED_PROMPT]
