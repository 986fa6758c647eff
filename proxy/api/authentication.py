"""Who asks the management API by an API key: the key's Caller, read from its row."""

from django.http import HttpRequest
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from keys.caller import Caller
from keys.models import ApiKey
from keys.secret import digest
from proxy import rows
from proxy.authentication import HOW
from proxy.errors import Unauthenticated
from proxy.metrics import UNAUTHENTICATED
from proxy.snapshot import compile_caller


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
        """Return the holder and the Caller; None where no key was sent. Raises Unauthenticated."""
        secret = _secret_of(request)
        if not secret:
            return None
        pk = ApiKey.objects.filter(digest=digest(secret).hex()).values_list("pk", flat=True).first()
        if pk is None:
            UNAUTHENTICATED.inc()
            raise Unauthenticated(
                f"The API key is not one of this gateway's. {HOW}", headers={"www-authenticate": "Bearer"}
            )
        return KeyHolder(), caller_of(pk)

    def authenticate_header(self, request: Request) -> str:  # noqa: ARG002 - REST framework's contract
        """Have missing credentials answered 401, not 403."""
        return "Bearer"


def caller_of(key_id: int) -> Caller:
    """Return a key as the hot path knows it."""
    (row,) = rows.read_keys([str(key_id)])
    _, caller = compile_caller(row)
    return caller


def _secret_of(request: Request | HttpRequest) -> str:
    authorization = request.headers.get("authorization", "")
    if authorization[:7].lower() == "bearer ":
        return authorization[7:].strip()
    return request.headers.get("x-api-key", "").strip()
