"""Who asks the management API: a token's user, or a person who has signed in."""

from auditlog.context import auditlog_value
from django.utils import timezone
from django.utils.cache import patch_vary_headers
from django.views.decorators.debug import sensitive_variables
from rest_framework.authentication import BaseAuthentication, SessionAuthentication
from rest_framework.request import Request
from rest_framework.response import Response

from gatewaysite.api import tokens
from gatewaysite.models import ApiToken
from proxy.errors import Unauthenticated

HOW = (
    "Send `Authorization: Bearer sk-mgmt-...`; tokens are made in the admin (People, API tokens) or by "
    "`manage.py create_api_token`."
)
_CHALLENGE = {"www-authenticate": "Bearer"}


def unauthenticated(message: str, code: str) -> Unauthenticated:
    """Return the answer to whom we do not know."""
    return Unauthenticated(f"{message} {HOW}", code=code, headers=_CHALLENGE)


class TokenAuthentication(BaseAuthentication):
    """`Authorization: Bearer sk-mgmt-...`. `request.auth` is the ApiToken, `request.user` its user."""

    @sensitive_variables()
    def authenticate(self, request: Request) -> tuple[object, ApiToken] | None:
        """Return the user and the token; None where no token was sent. Raises Unauthenticated."""
        scheme, _, secret = request.headers.get("authorization", "").partition(" ")
        secret = secret.strip()
        if scheme.lower() != "bearer" or not secret:
            return None
        if _takes_keys(request) and not secret.startswith(tokens.PREFIX):
            return None
        token = tokens.found(secret)
        if token is None:
            raise unauthenticated("The API token is not one of this gateway's.", "invalid_api_token")
        state = tokens.state(token)
        if state != "active":
            raise unauthenticated(
                f"The API token {'has expired' if state == 'expired' else 'is disabled'}.",
                f"api_token_{state}",
            )
        tokens.note_use(token, timezone.now())
        name_actor(token.user)
        return token.user, token

    def authenticate_header(self, request: Request) -> str:  # noqa: ARG002 - REST framework's contract
        """Have missing credentials answered 401, not 403."""
        return "Bearer"


def _takes_keys(request: Request) -> bool:
    """Do callers' keys come to this view by the same header?"""
    return bool(getattr((request.parser_context or {}).get("view"), "takes_keys", False))


# Session sign-in, with the CSRF token that browsers must send along.
AUTHENTICATION = (TokenAuthentication, SessionAuthentication)


def name_actor(user: object) -> None:
    """Have what this request changes audited as done by `user`: the middleware saw no session."""
    if about := auditlog_value.get(None):
        about["actor"] = user


def private(response: Response) -> Response:
    """Keep an answer out of every cache: who asks decides what is in it."""
    response["Cache-Control"] = "no-store"
    patch_vary_headers(response, ("Authorization", "Cookie"))
    return response
