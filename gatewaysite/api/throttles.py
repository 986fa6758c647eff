"""How often one token, or one person, may ask the management API: API_RPM."""

from django.conf import settings
from rest_framework.request import Request
from rest_framework.throttling import SimpleRateThrottle
from rest_framework.views import APIView

from gatewaysite.models import ApiToken
from keys.caller import Caller
from proxy.clients import client_ip


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
