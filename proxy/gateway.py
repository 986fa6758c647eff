"""A process's entrance for requests: begins each, has it answered, and records how it ends."""

import asyncio

from django.http import HttpResponseBase

from proxy.admission import admitted
from proxy.answering import record_failure
from proxy.authentication import recognised
from proxy.cache import BYPASS
from proxy.endpoints import Endpoint
from proxy.endpoints.forwarded import Forwarded
from proxy.errors import stopping
from proxy.exchange import Exchange
from proxy.forwarding import ForwardedExchange, Forwarding
from proxy.http import LaneRequest
from proxy.middleware.entrance import pass_through
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
            snapshot = self.snapshot or await self.current()
            caller = recognised(request, snapshot) or await self.caller(request, snapshot)
            self.take_caller(exchange, caller)
            if self.middleware.request:
                await pass_through(self.middleware.request, request, endpoint=target.name, caller=caller)
            to = await forwarding.route(snapshot, caller)
            await admitted(self.store, BYPASS, limits=self.limits, completion=exchange.completion)
            return await forwarding.answer(to)
        except BaseException as problem:
            self._record(exchange, problem)
            raise

    def _record(self, exchange: Exchange, problem: BaseException) -> None:
        if self.stopping and isinstance(problem, asyncio.CancelledError):
            problem = stopping()  # the client has not left: we are about to
        record_failure(exchange, problem)
