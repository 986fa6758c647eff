"""The bare lane: the reference that every ratio of the benchmark is taken from.

The same server, the same lane (with its disconnect watch) and the same transport as the gateway;
the view only forwards bytes: no key, no parsing, no routing, no cache, no records, no log, no metrics.
"""

import os
from collections.abc import AsyncIterator
from functools import cache
from urllib.parse import urlsplit

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gatewaysite.settings")

import django

django.setup()

from django.http import HttpRequest, HttpResponse, HttpResponseBase  # noqa: E402 - settings come first

import proxy.asgi  # noqa: E402
from providers.pricing import RateSchedule  # noqa: E402
from providers.upstream import Account, Timeouts, Upstream, UpstreamRequest  # noqa: E402
from proxy.http import StreamReply  # noqa: E402
from proxy.transport import Response, Transport  # noqa: E402

UPSTREAM_URL = os.environ.get("BENCH_UPSTREAM", "http://127.0.0.1:9/v1")
_HEADERS = {"content-type": "application/json"}
UPSTREAM = Upstream(
    id="bench",
    account=Account(
        name="bench",
        dialect="openai",
        base_url=UPSTREAM_URL,
        headers={"authorization": "Bearer bench-credential"},
        timeouts=Timeouts(),
        max_connections=10_000,
    ),
    model="",
    prices=RateSchedule(()),
)


@cache
def transport() -> Transport:
    """Return the process's transport; made inside the event loop, on first use."""
    return Transport(max_response_bytes=1 << 30)


async def forward(request: HttpRequest) -> HttpResponseBase:
    """Send the body on as it came and the answer back as it comes."""
    path = urlsplit(request.path).path.removeprefix("/v1")
    response = await transport().open(
        UPSTREAM, UpstreamRequest(path=path, body=request.body, headers=_HEADERS)
    )
    content_type = response.headers["content-type"]
    if content_type.startswith("text/event-stream"):
        return StreamReply(_pieces(response), {}, abandon=response.close)
    return HttpResponse(await response.read(), status=response.status, content_type=content_type)


async def _pieces(response: Response) -> AsyncIterator[bytes]:
    whole = False
    try:
        async for chunk in response.chunks():
            yield chunk
        whole = True
    finally:
        if not whole:
            response.close()


# The lane asks this name for the view of a path; everything else in it runs as it is.
setattr(proxy.asgi, "find", lambda _: (forward, {}))  # noqa: B010 - not its to export, ours to replace
application = proxy.asgi.lane
