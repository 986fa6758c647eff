"""A request on its way through the request middlewares, before it is read and routed."""

from collections.abc import Mapping
from typing import Any

import orjson
import structlog

from keys.caller import Caller
from proxy.endpoints.reading import is_verbatim, object_in
from proxy.http import LaneRequest
from proxy.middleware.base import Asked, MiddlewareFailed
from proxy.middleware.chain import RequestChain

log = structlog.get_logger()


async def pass_through(
    chain: RequestChain,
    request: LaneRequest,
    *,
    endpoint: str,
    caller: Caller,
    body: Mapping[str, Any] | None = None,
) -> bool:
    """Let all middlewares see and change a request; return whether its body is another one now.

    `body` is what is asked where the request's own bytes are not it. Raises GatewayError.
    """
    if body is None and request.incoming is None:
        body = _json_of(request)
    asked = Asked(endpoint, request.headers, body, caller)
    passed = await chain.request(asked)
    if passed.headers is not asked.headers:
        request.change_headers(passed.headers)
    if passed.body is asked.body or passed.body is None:
        return False
    try:
        request.change_body(orjson.dumps(passed.body))
    except TypeError as problem:
        log.exception("request_middleware_body", endpoint=endpoint)
        raise MiddlewareFailed from problem
    return True


def require_looked_into(request: LaneRequest) -> None:
    """See to it that the next reader of a body finds in it what the middlewares did. Raises BadRequest.

    For what is sent on without being read: a vendor might take JSON that we do not (NaN), or the first of two
    values of one key.
    """
    raw = request.body if request.incoming is None and request.method == "POST" else b""
    if raw:
        body = object_in(raw)
        if not is_verbatim(raw, body):
            request.change_body(orjson.dumps(body))


def _json_of(request: LaneRequest) -> Mapping[str, Any] | None:
    """Return the body if it is an object; of anything else its reader says what is wrong."""
    try:
        body = orjson.loads(request.body)
    except orjson.JSONDecodeError:
        return None
    return body if isinstance(body, dict) else None
