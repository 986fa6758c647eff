"""Who asks the management API by an API key: the key's Caller, read from its row."""

from collections.abc import Mapping, Sequence

from django.conf import settings
from django.db.models import Q
from django.http import HttpRequest
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from keys.caller import Caller
from keys.models import ApiKey
from keys.secret import digest
from proxy import key_rows
from proxy.authentication import HOW, require_network
from proxy.callers import compile_callers
from proxy.errors import Unauthenticated, Unavailable
from proxy.metrics import UNAUTHENTICATED
from proxy.snapshot import ConfigurationError


class KeyHolder:
    """Stands where a signed-in person would: whoever has a key is no operator."""

    is_authenticated = True
    is_active = True
    is_staff = False

    def has_perm(self, permission: str) -> bool:  # noqa: ARG002 - Django's contract
        """No key has a person's permissions."""
        return False


class KeyAuthentication(BaseAuthentication):
    """`Authorization: Bearer` or `x-api-key`. `request.auth` is the Caller."""

    def authenticate(self, request: Request) -> tuple[KeyHolder, Caller] | None:
        """Return the holder and the Caller; None where no key was sent.

        Raises Unauthenticated, or Forbidden where the key is not accepted from.
        """
        secret = _secret_of(request)
        if not secret:
            return None
        known = digest(secret)
        either = Q(digest=known.hex()) | Q(previous_digest=known.hex())
        refs = [str(pk) for pk in ApiKey.objects.filter(either).values_list("pk", flat=True)]
        caller = _callers(refs).get(known)
        if caller is None:
            UNAUTHENTICATED.inc()
            raise Unauthenticated(
                f"The API key is not one of this gateway's. {HOW}", headers={"www-authenticate": "Bearer"}
            )
        received: HttpRequest = request._request  # noqa: SLF001 - REST framework's only way to Django's
        require_network(received, caller, settings.GATEWAY.trusted_proxies)
        return KeyHolder(), caller

    def authenticate_header(self, request: Request) -> str:  # noqa: ARG002 - REST framework's contract
        """Have missing credentials answered 401, not 403."""
        return "Bearer"


def caller_of(key_id: int) -> Caller:
    """Return a key as the hot path knows it. Raises Unavailable where its row makes none."""
    return next(iter(_callers([str(key_id)]).values()))


def _callers(refs: Sequence[str]) -> Mapping[bytes, Caller]:
    """Return the Callers of keys by the digests of their secrets, the present one of each first."""
    try:
        compiled = [compile_callers(row) for row in key_rows.read_some(refs)]
    except ConfigurationError as problem:
        raise Unavailable(f"The rows do not make a configuration: {problem}.") from None
    return {known: caller for callers in compiled for known, caller in callers.items()}


def _secret_of(request: Request | HttpRequest) -> str:
    authorization = request.headers.get("authorization", "")
    if authorization[:7].lower() == "bearer ":
        return authorization[7:].strip()
    return request.headers.get("x-api-key", "").strip()
