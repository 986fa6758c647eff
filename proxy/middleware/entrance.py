"""A request on its way through the request middlewares, before it is read and routed."""

from collections.abc import Mapping
from typing import Any

import orjson

from keys.caller import Caller
from proxy.http import LaneRequest
from proxy.middleware.base import Asked
from proxy.middleware.chain import RequestChain


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
    request.change_body(orjson.dumps(passed.body))
    return True


def _json_of(request: LaneRequest) -> Mapping[str, Any] | None:
    """Return the body if it is an object; of anything else its reader says what is wrong."""
    try:
        body = orjson.loads(request.body)
    except orjson.JSONDecodeError:
        return None
    return body if isinstance(body, dict) else None
