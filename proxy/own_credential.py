"""Credentials that clients bring: a vendor's key of their own, shown to one provider and kept nowhere.

A client sends it beside a key of this gateway, in the header `x-upstream-api-key`, or in the place of one, as
its bearer. It is shown to the provider of the request's first target, and to no other. Who sends no key of
this gateway gets nothing on the operator's credentials: its requests go to that provider alone.

Everything here is made for one request and goes with it. What must be told apart for longer (answers in
the cache, calls in the air, Idempotency-Keys) goes by `OwnCredential.name`, which tells nothing of it.
"""

import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from django.conf import settings

from keys.caller import Caller
from keys.secret import PREFIX, digest
from providers.own_credential import showing
from providers.upstream import Account, Upstream
from proxy.destination import Destination
from proxy.errors import BadRequest, Unauthenticated
from proxy.http import LaneRequest
from proxy.routing import Resolved
from proxy.snapshot import Snapshot

HEADER = b"x-upstream-api-key"
# Vendors' keys, and tokens of RFC 6750; no placeholder of an SDK, as "not-needed".
_CREDENTIAL = re.compile(r"[!#-&(-;=?-\[\]-~]{16,2048}")
# Who has no key of this gateway, but one that might be a vendor's.
STRANGER = Caller(key_id=None, tenant_id=None, name="own credential", prefix="")


@dataclass(frozen=True, slots=True)
class OwnCredential:
    """One request's. `alone`: it came without a key of this gateway, and no other credential may be used.

    `name` stands for it wherever requests must be told apart: 32 bytes, the same in every process that has
    the same secret keys.
    """

    secret: str = field(repr=False)
    alone: bool
    name: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Make the name."""
        key = settings.SECRET_KEYS[0].encode()
        name = hmac.digest(key, b"own credential\0" + self.secret.encode(), "sha256")
        object.__setattr__(self, "name", name)

    def withhold(self, request: LaneRequest) -> None:
        """Take it out of a request's headers: whoever reads them next has no business with it."""
        secret = self.secret.encode()
        request.change_wire({name: value for name, value in request.wire.items() if secret not in value})


def may_be_one(secret: str) -> bool:
    """Might this be a vendor's key? None of ours is."""
    return not secret.startswith(PREFIX) and _CREDENTIAL.fullmatch(secret) is not None


def brought(request: LaneRequest, snapshot: Snapshot, caller: Caller, *, secret: str) -> OwnCredential | None:
    """Return the credential that a request brings. Raises BadRequest.

    `secret`: what it came with as a key. That is a vendor's where its caller has none of this gateway.
    """
    sent = request.wire.get(HEADER, b"").strip().decode("latin-1")
    if sent:
        if not may_be_one(sent) or digest(sent) in snapshot.callers:
            raise BadRequest(
                "The header x-upstream-api-key holds no key of a vendor: those are 16 to 2048 visible ASCII "
                "characters, and none of this gateway's own keys.",
                code="invalid_upstream_key",
                param="x-upstream-api-key",
            )
        return OwnCredential(sent, alone=False)
    if caller is STRANGER:
        return OwnCredential(secret, alone=True)
    if caller.key_id is None and may_be_one(secret):  # anybody is served here
        return OwnCredential(secret, alone=False)
    return None


def routed(resolved: Resolved, own: OwnCredential) -> Resolved:
    """Return where a request goes that brings a credential. Raises Unauthenticated.

    The targets of the provider that takes it come first. Where others remain, on credentials of the
    operator's, a request has one attempt that costs something: it is paid by the one or by the other.
    """
    able = [each for each, weight in zip(resolved.upstreams, resolved.weights, strict=True) if weight]
    able = able or list(resolved.upstreams)
    to = _recipient(able[0].account, own)
    if to is None:
        return resolved
    larger, freer = to.shown(resolved.on_context_overflow), to.own(resolved.on_content_filter)
    if all(map(to.takes, resolved.upstreams)):
        shown = replace(resolved, upstreams=tuple(map(to.show, resolved.upstreams)))
    else:
        upstreams = (*to.own(able), *(() if own.alone else to.others(able)))
        shown = replace(
            resolved,
            upstreams=upstreams,
            weights=(1,) * len(upstreams),
            strategy="ordered",
            canaries=(),
            sticky="",
            plain=True,
        )
    shown = replace(
        shown, shadows=(), own_credential=True, on_context_overflow=larger, on_content_filter=freer
    )
    if all(each.account.own_credential for each in shown.all_upstreams):
        return shown
    return replace(shown, on_content_filter=(), hedges=False, continues=False)


def destined(to: Destination, own: OwnCredential) -> Destination:
    """Return where a request is passed on to that brings a credential. Raises Unauthenticated."""
    recipient = _recipient(to.upstreams[0].account, own)
    if recipient is None:
        return to
    upstreams = (*recipient.own(to.upstreams), *(() if own.alone else recipient.others(to.upstreams)))
    return to._replace(upstreams=upstreams, own_credential=True)


@dataclass(frozen=True, slots=True)
class _Recipient:
    """Who is shown the credential: an account by it, in the place of the configured one."""

    account: Account
    alone: bool

    def takes(self, upstream: Upstream) -> bool:
        return upstream.account.name == self.account.name

    def show(self, upstream: Upstream) -> Upstream:
        return replace(upstream, account=self.account, spares=()) if self.takes(upstream) else upstream

    def own(self, upstreams: Iterable[Upstream]) -> tuple[Upstream, ...]:
        return tuple(self.show(each) for each in upstreams if self.takes(each))

    def others(self, upstreams: Iterable[Upstream]) -> tuple[Upstream, ...]:
        return tuple(each for each in upstreams if not self.takes(each))

    def shown(self, upstreams: Iterable[Upstream]) -> tuple[Upstream, ...]:
        return self.own(upstreams) if self.alone else tuple(map(self.show, upstreams))


def _recipient(account: Account, own: OwnCredential) -> _Recipient | None:
    """Return who is shown the credential; None where the provider has none whose place it could take."""
    if account.takes_credential:
        return _Recipient(showing(account, own.secret), own.alone)
    if own.alone:
        raise Unauthenticated(
            f"Provider {account.name!r} takes no key of a client's own. Send a key of this gateway.",
            headers={"www-authenticate": "Bearer"},
        )
    return None
