"""Signatures of what the gateway sends to webhooks, so that a receiver knows it from anybody else's."""

import hashlib
import hmac

SIGNATURE = "x-gateway-signature"


def signature(body: bytes, secret: bytes, *, at: int) -> str:
    """Return `t=<epoch seconds>,v1=<hex>`: HMAC-SHA256 of the time, a full stop and the body."""
    digest = hmac.new(secret, b"%d." % at + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"
