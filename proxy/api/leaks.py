"""`POST /api/v1/keys/report-leak`: whoever has found a secret has its key disabled, at once."""

from typing import Any, Literal

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.http import HttpRequest
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import SimpleRateThrottle
from rest_framework.views import APIView

from keys import secret as secrets
from keys.models import ApiKey
from proxy.api.chunked import ChunkedBodies
from proxy.api.texts import Text
from proxy.clients import client_ip
from proxy.errors import BadRequest, GatewayError

MAX_KEYS = 100
MAX_SECRET = 512
MAX_BODY_BYTES = 64 * 1024
REASON = "reported as leaked on {at:%Y-%m-%d %H:%M} UTC, by {by}"

Status = Literal["disabled", "already_disabled", "unknown"]


class LeakThrottle(SimpleRateThrottle):
    """So many reports from one address: secrets are not to be found out by trying."""

    scope = "report-leak"
    rate = "30/min"

    def get_cache_key(self, request: Request, view: APIView) -> str:  # noqa: ARG002 - REST framework's contract
        """Count by the client's address, as the data plane knows it."""
        return self.cache_format % {"scope": self.scope, "ident": _address(request)}


class ReportSerializer(serializers.Serializer[Any]):
    """What has been found: one secret or several.

    What else a report says is ignored: refusing it would leave a secret in force that is in wrong hands.
    """

    key = Text(required=False, max_length=MAX_SECRET, help_text="The whole secret.")
    keys = serializers.ListField(
        required=False,
        child=Text(max_length=MAX_SECRET),
        min_length=1,
        max_length=MAX_KEYS,
        help_text=f"Several of them, at most {MAX_KEYS}.",
    )

    def validate(self, attrs: Any) -> Any:
        """Demand one of the two."""
        if ("key" in attrs) == ("keys" in attrs):
            raise serializers.ValidationError("Send either 'key' or 'keys'.")
        return attrs


class ReportLeakView(ChunkedBodies):
    """Disables the keys of secrets that are in wrong hands.

    Nobody need sign in: whoever holds a secret could do worse with it. The answer tells whether there was
    such a key, and nothing else of it. A secret from before a rotation ends alone: its key has another one.
    """

    authentication_classes = ()
    permission_classes = ()
    throttle_classes = (LeakThrottle,)

    @sensitive_variables()
    def post(self, request: Request) -> Response:
        """Answer with what became of each, in the order of the report."""
        if int(request.META.get("CONTENT_LENGTH") or 0) > MAX_BODY_BYTES:
            raise GatewayError(
                "The body is too large.", status=413, type="invalid_request_error", code="body_too_large"
            )
        if not isinstance(request.data, dict):
            raise BadRequest("The body must be a JSON object.")
        report = ReportSerializer(data=request.data)
        report.is_valid(raise_exception=True)
        found = report.validated_data.get("keys") or [report.validated_data["key"]]
        by = _address(request)
        return Response(
            {
                "reported": [
                    {"prefix": secrets.display_prefix(secret), "status": disable(secret, by=by)}
                    for secret in found
                ]
            }
        )


@sensitive_variables()
def disable(secret: str, *, by: str) -> Status:
    """Disable the key of a secret, or end a secret from before a rotation. Audited as any change."""
    digest, now = secrets.digest(secret).hex(), timezone.now()
    with transaction.atomic():
        key = (
            ApiKey.objects.select_for_update(of=("self",))
            .filter(Q(digest=digest) | Q(previous_digest=digest))
            .first()
        )
        if key is None:
            return "unknown"
        if key.digest != digest:
            worked = key.enabled and key.previous_until is not None and key.previous_until > now
            key.end_previous()
            key.save(update_fields=["previous_digest", "previous_prefix", "previous_until"])
            return "disabled" if worked else "already_disabled"
        worked = key.enabled
        if worked or not key.disabled_because:
            key.report_leak(REASON.format(at=now, by=by or "an unknown address"))
            key.save(update_fields=["enabled", "disabled_because", "tags"])
    return "disabled" if worked else "already_disabled"


def _address(request: Request) -> str:
    received: HttpRequest = request._request  # noqa: SLF001 - REST framework's only way to Django's request
    return client_ip(received, settings.GATEWAY.trusted_proxies)
