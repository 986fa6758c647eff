"""How often one token, or one person, may ask the management API: API_RPM."""

from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from rest_framework.exceptions import APIException
from rest_framework.request import Request
from rest_framework.throttling import SimpleRateThrottle
from rest_framework.views import APIView

from gatewaysite.models import ApiToken
from keys.caller import Caller
from proxy.api.chunked import ChunkedBodies
from proxy.clients import client_ip
from proxy.errors import GatewayError


class ApiThrottle(SimpleRateThrottle):
    """So many requests a minute by one token, else by one person, else from one address. 0: any number."""

    scope = "management-api"

    def get_rate(self) -> str | None:
        """Return the rate that the environment says."""
        rpm: int = settings.GATEWAY.api_rpm
        return f"{rpm}/min" if rpm else None

    def get_cache_key(self, request: Request, view: APIView) -> str:  # noqa: ARG002 - REST framework's contract
        """Count by who asks."""
        if isinstance(request.auth, ApiToken):
            ident = f"token-{request.auth.pk}"
        elif isinstance(request.auth, Caller):
            ident = f"key-{request.auth.key_id}"
        elif request.user.is_authenticated:
            ident = f"user-{request.user.pk}"
        else:
            received = request._request  # noqa: SLF001 - REST framework's only way to Django's request
            ident = client_ip(received, settings.GATEWAY.trusted_proxies)
        return self.cache_format % {"scope": self.scope, "ident": ident}


class Throttled(ChunkedBodies):
    """Counts whatever is asked, before it is refused: for a missing permission, or for an unknown token."""

    throttle_classes = (ApiThrottle,)

    def perform_authentication(self, request: Request) -> None:
        """Find out who asks; who shows what we do not know is counted as its address."""
        try:
            super().perform_authentication(request)
        except (APIException, GatewayError):
            request.user, request.auth = AnonymousUser(), None
            super().check_throttles(request)
            raise

    def check_permissions(self, request: Request) -> None:
        """Count, and then look whether it may."""
        super().check_throttles(request)
        super().check_permissions(request)

    def check_throttles(self, request: Request) -> None:
        """It was counted already: REST framework would look at permissions first."""
