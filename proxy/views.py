"""The data plane's views: ordinary async Django views, called by the lane.

`endpoint` is the request's entrance: the one place that turns errors into answers.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from functools import cache, partial, wraps
from typing import Any

import orjson
import structlog
from django.conf import settings
from django.core.exceptions import SuspiciousOperation
from django.http import HttpResponse, HttpResponseBase

from proxy import health as state
from proxy import model_list, renderers
from proxy.clients import client_ip
from proxy.demand import Who
from proxy.endpoints import (
    ANTHROPIC_MESSAGES,
    CHAT_COMPLETIONS,
    COMPLETION,
    EMBEDDING,
    RESPONSE,
    TOKEN_COUNT,
    read_message,
    simple_chat,
)
from proxy.endpoints.forwarded import Forwarded
from proxy.errors import BadRequest, GatewayError, NotFound, Unauthenticated
from proxy.headroom import headroom
from proxy.http import LaneRequest, is_anthropic, named_as_anthropic, request_id_of
from proxy.lifecycle import gateway
from proxy.metrics import exposition
from proxy.refusals import refused
from proxy.snapshot import ServedModel

log = structlog.get_logger()

View = Callable[..., Coroutine[Any, Any, HttpResponseBase]]


def endpoint(*methods: str, head: bool = True) -> Callable[[View], View]:
    """Allow `methods`, and answer every error in its envelope. `head`: a lone GET takes HEAD as well."""

    def decorate(view: View) -> View:
        @wraps(view)
        async def entrance(request: LaneRequest, **arguments: Any) -> HttpResponseBase:
            # HEAD is GET without a body, which the lane leaves out; not where a GET asks a vendor.
            bodiless = head and request.method == "HEAD" and methods == ("GET",)
            if request.method not in methods and not bodiless:
                return refused(request, _not_allowed(request, methods))
            try:
                return await view(request, **arguments)
            except SuspiciousOperation as problem:
                return refused(request, BadRequest(f"The request was refused: {problem}"))
            except GatewayError as error:
                return refused(request, error)
            except Exception:  # the entrance: a fault of ours becomes a 500 with its trace in the log
                log.exception("panic", path=request.path, request_id=request_id_of(request))
                failure = GatewayError("The gateway failed. This was logged.", code="internal_error")
                return refused(request, failure)

        return entrance

    return decorate


@endpoint("POST")
async def chat_completions(request: LaneRequest) -> HttpResponseBase:
    """`POST /v1/chat/completions`."""
    return await gateway().serve(request, CHAT_COMPLETIONS, render=renderers.chat)


@endpoint("POST")
async def completions(request: LaneRequest) -> HttpResponseBase:
    """`POST /v1/completions`."""
    return await gateway().serve(request, COMPLETION, render=renderers.completions)


@endpoint("POST")
async def embeddings(request: LaneRequest) -> HttpResponseBase:
    """`POST /v1/embeddings`."""
    return await gateway().serve(request, EMBEDDING, render=renderers.chat)


@cache
def forwarded(*methods: str) -> View:
    """Return the view of the paths that are passed on to a vendor, and that take `methods`."""

    @endpoint(*methods, head=False)
    async def view(request: LaneRequest, target: Forwarded, path: str) -> HttpResponseBase:
        return await gateway().forward(request, target, path)

    return view


@endpoint("POST")
async def messages(request: LaneRequest) -> HttpResponseBase:
    """`POST /v1/messages`: Anthropic's format in, any provider out."""
    return named_as_anthropic(await gateway().serve(request, ANTHROPIC_MESSAGES, render=renderers.messages))


@endpoint("POST")
async def count_tokens(request: LaneRequest) -> HttpResponseBase:
    """`POST /v1/messages/count_tokens`."""
    return named_as_anthropic(await gateway().serve(request, TOKEN_COUNT, render=renderers.messages))


@endpoint("POST")
async def responses(request: LaneRequest) -> HttpResponseBase:
    """`POST /v1/responses`."""
    return await gateway().serve(request, RESPONSE, render=renderers.responses)


@endpoint("POST")
async def simple(request: LaneRequest) -> HttpResponseBase:
    """`POST /api/chat`."""
    return await _simple(request, read_message(request.body), stream=False)


@endpoint("GET", "POST")
async def simple_stream(request: LaneRequest) -> HttpResponseBase:
    """`GET|POST /api/chat/stream`."""
    if request.method == "POST":
        message = read_message(request.body)
    else:
        message = request.GET.get("prompt") or request.GET.get("message") or ""
        if not message.strip():
            raise BadRequest("?prompt= (or ?message=) must not be empty.", param="prompt")
    return await _simple(request, message, stream=True)


@endpoint("GET")
async def models(request: LaneRequest) -> HttpResponseBase:
    """`GET /v1/models`: what the key may use."""
    return _json(model_list.listed(await _usable_models(request), anthropic=is_anthropic(request)))


@endpoint("GET")
async def model(request: LaneRequest, name: str) -> HttpResponseBase:
    """`GET /v1/models/{id}`: by its prefixed id, or by the vendor's own name."""
    found = model_list.named(await _usable_models(request), name)
    return _json(model_list.described(found, anthropic=is_anthropic(request)))


@endpoint("GET")
async def limits(request: LaneRequest) -> HttpResponseBase:
    """`GET /v1/limits`: the caller's headroom. `?model=` narrows it to what holds for one."""
    running = gateway()
    snapshot = running.snapshot or await running.current()
    caller = await running.caller(request, snapshot)
    who = Who(caller, partial(client_ip, request, running.env.trusted_proxies))
    model = request.GET.get("model", "")
    reply = _json(await headroom(running.store, snapshot, who, model=model, now=time.time()))
    reply["Cache-Control"] = "no-store"
    return reply


@endpoint("GET")
async def health(request: LaneRequest) -> HttpResponseBase:
    """`GET /health`: the detail for operators, the status for everyone."""
    running = gateway()
    await running.store.look()
    # It looks into the spool's directory, which may be long after an outage: not on the event loop.
    whole = await asyncio.to_thread(state.health, running, settings.GATEWAY_RELEASE)
    return _json(whole if state.may_see_detail(running, request) else {"status": whole["status"]})


@endpoint("GET")
async def ready(_: LaneRequest) -> HttpResponseBase:
    """`GET /ready`: 200 while requests can be served."""
    running = gateway()
    await running.store.look()
    status, body = state.readiness(running)
    return _json(body, status=status)


@endpoint("GET")
async def metrics(request: LaneRequest) -> HttpResponseBase:
    """`GET /metrics`: Prometheus, all workers."""
    running = gateway()
    if not state.may_see_detail(running, request):
        raise Unauthenticated("Send 'Authorization: Bearer <METRICS_TOKEN>'.", code="metrics_token")
    running.meter.publish()
    # Rendering thousands of series takes milliseconds: not on the event loop.
    text = await asyncio.to_thread(exposition, running.env.data_dir / "spool")
    return HttpResponse(text, content_type="text/plain; version=0.0.4; charset=utf-8")


async def not_found(request: LaneRequest) -> HttpResponseBase:
    """Answer a path under /v1/ that nobody serves."""
    return refused(request, NotFound(f"There is nothing at {request.path}.", code="unknown_path"))


async def _simple(request: LaneRequest, message: str, *, stream: bool) -> HttpResponseBase:
    running = gateway()
    snapshot = running.snapshot or await running.current()
    if not snapshot.default_model:
        raise NotFound(
            "No default model is set. Set DEFAULT_MODEL, or one in the admin (Gateway settings).",
            code="model_not_found",
        )
    return await running.serve(
        request,
        simple_chat(message, model=snapshot.default_model, stream=stream),
        render=renderers.simple,
        anonymous=running.env.simple_chat_open,
    )


async def _usable_models(request: LaneRequest) -> list[ServedModel]:
    running = gateway()
    snapshot = running.snapshot or await running.current()
    return model_list.usable(snapshot, await running.caller(request, snapshot, own_credentials=True))


def _not_allowed(request: LaneRequest, methods: tuple[str, ...]) -> GatewayError:
    return GatewayError(
        f"{request.method} is not allowed at {request.path}; use {' or '.join(methods)}.",
        status=405,
        type="invalid_request_error",
        code="method_not_allowed",
        headers={"allow": ", ".join(methods)},
    )


def _json(body: Any, *, status: int = 200) -> HttpResponse:
    return HttpResponse(orjson.dumps(body), status=status, content_type="application/json")
