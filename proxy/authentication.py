"""Who calls: the key's digest looked up in the snapshot, or a 401 that says how to get a key."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from django.http import HttpRequest

from keys.caller import ANONYMOUS, USUAL, Caller
from keys.secret import PREFIX, digest, well_formed
from proxy.clients import client_ip, comes_from
from proxy.errors import Forbidden, Unauthenticated
from proxy.http import LaneRequest
from proxy.metrics import UNAUTHENTICATED
from proxy.own_credential import HEADER, STRANGER, may_be_one
from proxy.snapshot import Snapshot
from proxy.watcher import Watcher

HOW = (
    "Send a key as 'Authorization: Bearer ...' or 'x-api-key'. Keys are made in the admin (Access, API "
    "keys) or with 'manage.py create_key'; ALLOW_ANONYMOUS=true serves requests without one, "
    "ALLOW_CLIENT_API_KEYS=true those with a vendor's key in its place."
)
REFRESH_EVERY_S = 1.0
REFRESH_WAIT_S = 0.5


def recognised(request: LaneRequest, snapshot: Snapshot) -> Caller | None:
    """Return the Caller of a key that is known, enabled, without an end and accepted from everywhere."""
    caller = snapshot.callers.get(digest(secret_of(request)))
    if caller is None or not caller.enabled or caller.expires_at is not None:
        return None
    return caller if caller.terms is USUAL or not caller.terms.networks else None


async def authenticate(
    request: LaneRequest,
    snapshot: Snapshot,
    *,
    allow_anonymous: bool,
    watcher: Watcher,
    current: Callable[[], Awaitable[Snapshot]],
    trusted_proxies: Sequence[str] = (),
    own_credentials: bool = False,
) -> Caller:
    """Return the Caller of the request's key, or ANONYMOUS where that is allowed.

    Raises Unauthenticated, or Forbidden where the key is not accepted from. With ALLOW_ANONYMOUS a key we do
    not know is no key; one that we know to be disabled, expired or somewhere else's is still refused. With
    `own_credentials` one that we do not know may be a vendor's: STRANGER, who may use nothing of the
    operator's. Not where such a one comes in its header: then this one was to be ours.
    """
    secret = secret_of(request)
    if not secret:
        if allow_anonymous:
            return ANONYMOUS
        raise _refused(f"No API key was sent. {HOW}", code="missing_api_key")
    caller = snapshot.callers.get(digest(secret))
    if caller is None and secret.startswith(PREFIX) and well_formed(secret):
        caller = await _looked_up_again(secret, watcher, current)
    if caller is None:
        if allow_anonymous:
            return ANONYMOUS
        if own_credentials and HEADER not in request.wire and may_be_one(secret):
            return STRANGER
        raise _refused(f"The API key is not one of this gateway's. {HOW}")
    if not caller.enabled:
        raise _refused("The API key is disabled. Ask the operator of this gateway.", code="api_key_disabled")
    if caller.expires_at is not None and caller.expired(time.time()):
        raise _refused("The API key has expired. Ask the operator of this gateway.", code="api_key_expired")
    require_network(request, caller, trusted_proxies)
    return caller


def require_network(request: HttpRequest, caller: Caller, trusted_proxies: Sequence[str]) -> None:
    """Raise Forbidden unless the key is accepted from where the request comes from."""
    networks = caller.terms.networks
    if not networks:
        return
    address = client_ip(request, trusted_proxies)
    if not comes_from(address, networks):
        raise Forbidden(
            f"This API key is not accepted from the address {address[:60] or '(unknown)'!r}. Ask the "
            "operator of this gateway.",
            code="ip_not_allowed",
        )


def secret_of(request: LaneRequest) -> str:
    """Return the key that a request carries, or the empty string."""
    authorization = request.wire.get(b"authorization")
    if authorization is not None and authorization[:7].lower() == b"bearer ":
        return authorization[7:].strip().decode("latin-1")
    return request.wire.get(b"x-api-key", b"").strip().decode("latin-1")


async def _looked_up_again(
    secret: str, watcher: Watcher, current: Callable[[], Awaitable[Snapshot]]
) -> Caller | None:
    """A key with a valid checksum may be newer than our snapshot: look once a second, all together."""
    now = time.monotonic()
    if now - watcher.refreshed_at >= REFRESH_EVERY_S:
        watcher.refreshed_at = now
        watcher.poke()
    # The look happens in a thread: asking now and then costs less than a bridge to the loop.
    while (  # noqa: ASYNC110 - see above
        watcher.polled_at < watcher.refreshed_at and time.monotonic() - now < REFRESH_WAIT_S
    ):
        await asyncio.sleep(0.01)
    return (await current()).callers.get(digest(secret))


def _refused(message: str, *, code: str | None = None) -> Unauthenticated:
    UNAUTHENTICATED.inc()
    return Unauthenticated(message, code=code, headers={"www-authenticate": "Bearer"})
