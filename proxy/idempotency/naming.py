"""What a key stands for: the caller's own word at one path, and the request it was first sent with."""

import asyncio
import hashlib
import re

from keys.caller import Caller
from proxy.clients import client_ip
from proxy.errors import BadRequest, GatewayError
from proxy.forwarded_body import STALL_S, stalled
from proxy.http import LaneRequest
from proxy.incoming import Incoming, Message
from proxy.multipart import boundary_of
from proxy.own_credential import OwnCredential
from proxy.services import Services
from proxy.store.claims import Claim

HEADER = b"idempotency-key"
# What shapes an answer beside the body.
_SHAPING = (b"anthropic-beta", b"openai-beta", b"x-gateway-provider")
_VALUE = re.compile(rb"[\x21-\x7e]{1,255}")


async def claim_of(
    request: LaneRequest,
    services: Services,
    *,
    caller: Caller,
    owner: str,
    own: OwnCredential | None = None,
) -> Claim:
    """Return what a request lays claim to. Raises BadRequest, and GatewayError for a form that is too large.

    A key belongs to the API key it came with, or to the address of a client without one; and to the vendor's
    key that the client has brought.
    """
    value = request.wire[HEADER]
    if not _VALUE.fullmatch(value):
        raise BadRequest(
            "Idempotency-Key must be 1 to 255 visible ASCII characters; a UUID is a good one.",
            param="Idempotency-Key",
            code="invalid_idempotency_key",
        )
    if own is not None and own.alone:
        whose = "own:"
    elif caller.key_id is None:
        whose = "ip:" + client_ip(request, services.env.trusted_proxies)
    else:
        whose = f"key:{caller.key_id}"
    if own is not None:
        whose += f" own:{own.name.hex()}"
    path, query = request.path.encode(), request.scope.get("query_string", b"")
    if request.incoming is None:
        body = request.body
    else:
        body = await _form(request, limit=services.env.max_body_bytes)
    headers = [request.wire.get(name, b"") for name in _SHAPING]
    fingerprint = _digest((request.method or "").encode(), path, query, body, *headers)
    return Claim(_digest(whose.encode(), path, value), fingerprint, owner.encode())


async def _form(request: LaneRequest, *, limit: int) -> bytes:
    """Take a form as a whole, have it arrive anew, and return it without its boundary.

    Clients make up another boundary for each try of the same request.
    """
    assert request.incoming is not None
    boundary = boundary_of(request.wire.get(b"content-type", b"").decode("latin-1"))
    whole = await _arrived(request.incoming, limit)

    async def again() -> Message:
        return {"type": "http.request", "body": whole, "more_body": False}

    request.incoming = Incoming(again)
    return whole.replace(boundary, b"")


async def _arrived(incoming: Incoming, limit: int) -> bytes:
    pieces: list[bytes] = []
    size = 0
    while True:
        try:
            async with asyncio.timeout(STALL_S):
                piece = await incoming.piece()
        except TimeoutError:
            incoming.give_up()
            raise stalled() from None
        if not piece:
            return b"".join(pieces)
        pieces.append(piece)
        size += len(piece)
        if size > limit:
            incoming.give_up()
            raise _too_large(limit)


def _too_large(limit: int) -> GatewayError:
    return GatewayError(
        f"A form with an Idempotency-Key may be as large as MAX_BODY_BYTES ({limit}): it is read as a whole "
        "before it is sent on. Send a larger one without the header.",
        status=413,
        type="invalid_request_error",
        code="body_too_large",
        param="Idempotency-Key",
    )


def _digest(*parts: bytes) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(b"%d:" % len(part))  # where one ends and the next begins
        digest.update(part)
    return digest.digest()
