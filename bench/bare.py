"""The bare lane: the reference that every ratio of the benchmark is taken from.

The same server and the same lane (with its disconnect watch) as the gateway, a Django async view, and
aiohttp; the view only forwards bytes: no key, no parsing, no routing, no cache, no records, no log, no
metrics. With BENCH_CLIENT=own the same view asks the vendor with the gateway's own transport instead.
"""

import os
from collections.abc import AsyncIterator
from functools import cache
from typing import Any
from urllib.parse import urlsplit

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gatewaysite.settings")

import aiohttp
import django

django.setup()

from django.http import HttpRequest, HttpResponse, HttpResponseBase  # noqa: E402 - settings come first

import proxy.asgi  # noqa: E402
from providers.pricing import RateSchedule  # noqa: E402
from providers.upstream import Account, Timeouts, Upstream, UpstreamRequest  # noqa: E402
from proxy.http import StreamReply  # noqa: E402
from proxy.transport import Transport  # noqa: E402
from proxy.vendor_response import Response  # noqa: E402

UPSTREAM_URL = os.environ.get("BENCH_UPSTREAM", "http://127.0.0.1:9/v1")
_CREDENTIAL = {"authorization": "Bearer bench-credential"}
_JSON = {"content-type": "application/json"}
UPSTREAM = Upstream(
    id="bench",
    account=Account(
        name="bench",
        dialect="openai",
        base_url=UPSTREAM_URL,
        headers=_CREDENTIAL,
        timeouts=Timeouts(),
        max_connections=10_000,
    ),
    model="",
    prices=RateSchedule(()),
    timeouts=Timeouts(),
)


@cache
def session() -> aiohttp.ClientSession:
    """Return the process's session; made inside the event loop, on first use."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=10_000),
        timeout=aiohttp.ClientTimeout(total=None),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"accept-encoding": "identity", **_CREDENTIAL, **_JSON},
    )


@cache
def transport() -> Transport:
    """Return the process's own transport; made inside the event loop, on first use."""
    return Transport(max_response_bytes=1 << 30)


async def forward(request: HttpRequest) -> HttpResponseBase:
    """Send the body on as it came and the answer back as it comes."""
    response = await session().post(UPSTREAM_URL + _path(request), data=request.body, allow_redirects=False)
    content_type = response.headers["content-type"]
    if content_type.startswith("text/event-stream"):
        return StreamReply(_pieces(response.content.iter_any(), response), abandon=response.close)
    return HttpResponse(await response.read(), status=response.status, content_type=content_type)


async def forward_with_own_client(request: HttpRequest) -> HttpResponseBase:
    """Do the same with the gateway's own transport."""
    asked = UpstreamRequest(path=_path(request), body=request.body, headers=_JSON)
    response = await transport().open(UPSTREAM, asked)
    content_type = response.headers["content-type"]
    if content_type.startswith("text/event-stream"):
        return StreamReply(_pieces(_own(response), response), abandon=response.close)
    return HttpResponse(await response.read(), status=response.status, content_type=content_type)


async def _own(response: Response) -> AsyncIterator[bytes]:
    while piece := await response.piece():
        yield piece


def _path(request: HttpRequest) -> str:
    return urlsplit(request.path).path.removeprefix("/v1")


async def _pieces(
    chunks: AsyncIterator[bytes], response: aiohttp.ClientResponse | Response
) -> AsyncIterator[bytes]:
    whole = False
    try:
        async for chunk in chunks:
            yield chunk
        whole = True
    finally:
        if not whole:
            response.close()


_view: Any = forward_with_own_client if os.environ.get("BENCH_CLIENT") == "own" else forward
# The lane asks this name for the view of a path; everything else in it runs as it is.
setattr(proxy.asgi, "find", lambda _: (_view, {}))  # noqa: B010 - not its to export, ours to replace
application = proxy.asgi.lane
