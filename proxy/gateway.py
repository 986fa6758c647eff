"""A process's entrance for requests: begins each, has it answered, and records how it ends."""

import asyncio
from functools import partial

from django.http import HttpResponseBase

from proxy.admission import admitted
from proxy.answering import record_failure
from proxy.authentication import recognised
from proxy.cache import BYPASS
from proxy.clients import client_ip
from proxy.demand import Asking, Who
from proxy.endpoints import Endpoint
from proxy.endpoints.forwarded import Forwarded
from proxy.errors import stopping
from proxy.exchange import Exchange
from proxy.forwarding import ForwardedExchange, Forwarding
from proxy.http import LaneRequest
from proxy.idempotency.keyed import Keyed, Make
from proxy.idempotency.naming import HEADER
from proxy.middleware.entrance import pass_through, require_looked_into
from proxy.renderers import RendererFactory
from proxy.services import Services
from proxy.serving import Serving


class Gateway(Services):
    """One process's, with all that it serves with."""

    async def serve(
        self, request: LaneRequest, endpoint: Endpoint, *, render: RendererFactory, anonymous: bool = False
    ) -> HttpResponseBase:
        """Answer one inference request. Raises GatewayError; whatever happens is recorded once.

        `anonymous`: the endpoint needs no key (the simple chat), and is limited per client IP.
        """
        exchange = self.begin(request, endpoint.name)
        serving = Serving(self, request, endpoint, exchange, render, anonymous)
        try:
            if HEADER in request.wire:
                return await self._once(request, exchange, serving.answer, anonymous=anonymous)
            return await serving.answer()
        except BaseException as problem:
            self._record(exchange, problem)
            raise

    async def forward(self, request: LaneRequest, target: Forwarded, path: str) -> HttpResponseBase:
        """Pass one request on as it is, to the vendor's `path`. Raises GatewayError; recorded once."""
        exchange = self.begin(request, target.name, ForwardedExchange)
        forwarding = Forwarding(
            target=target,
            path=path,
            request=request,
            exchange=exchange,
            transport=self.transport,
            fleet=self.fleet,
            env=self.env,
        )
        try:
            if HEADER in request.wire:
                return await self._once(request, exchange, partial(self._passed_on, forwarding))
            return await self._passed_on(forwarding)
        except BaseException as problem:
            self._record(exchange, problem)
            raise

    async def _passed_on(self, forwarding: Forwarding) -> HttpResponseBase:
        request, exchange = forwarding.request, forwarding.exchange
        snapshot = self.snapshot or await self.current()
        caller = recognised(request, snapshot) or await self.caller(request, snapshot, own_credentials=True)
        self.take_caller(exchange, caller, snapshot=snapshot, request=request)
        if self.env.allow_client_api_keys:
            self.take_own_credential(exchange, request, snapshot, caller=caller)
        if self.looks_into_requests:
            target = forwarding.target
            if exchange.own is not None:
                exchange.own.withhold(request)
            await pass_through(self.middleware.request, request, endpoint=target.name, caller=caller)
            if not target.names_model:
                require_looked_into(request)
        to = await forwarding.route(snapshot, caller)
        who = Who(caller, partial(client_ip, request, self.env.trusted_proxies))
        asking = Asking(snapshot, who, forwarding.call, to, free=not forwarding.target.metered)
        await admitted(self.store, BYPASS, asking=asking, exchange=exchange, learned=self.learned)
        if self.watches_answers:
            exchange.watching = self.middleware.response.begin(forwarding.context(caller))
            if exchange.watching is not None:
                exchange.watching.require_all()
        return await forwarding.answer(to)

    async def _once(
        self,
        request: LaneRequest,
        exchange: Exchange,
        make: Make,
        *,
        anonymous: bool = False,
    ) -> HttpResponseBase:
        """Answer a request with an Idempotency-Key: by `make`, unless its key has had an answer."""
        if self.turns is None or request.method != "POST":
            return await make()
        snapshot = self.snapshot or await self.current()
        if anonymous:
            caller = self.nobody
        else:
            caller = recognised(request, snapshot) or await self.caller(
                request, snapshot, own_credentials=True
            )
        self.take_caller(exchange, caller, snapshot=snapshot, request=request)
        if self.env.allow_client_api_keys and not anonymous:
            self.take_own_credential(exchange, request, snapshot, caller=caller)
        keyed = Keyed(
            services=self,
            turns=self.turns,
            request=request,
            exchange=exchange,
            caller=caller,
            snapshot=snapshot,
        )
        return await keyed.answer(make)

    def _record(self, exchange: Exchange, problem: BaseException) -> None:
        if self.stopping and isinstance(problem, asyncio.CancelledError):
            problem = stopping()  # the client has not left: we are about to
        record_failure(exchange, problem)
