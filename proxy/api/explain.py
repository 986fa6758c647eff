"""`POST /api/v1/explain`: what would become of a request, and why, without calling anyone."""

import time
from collections.abc import Mapping
from typing import Any

import orjson
from django.conf import settings
from django.db.models import Q
from rest_framework import serializers
from rest_framework.authentication import SessionAuthentication
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from keys.caller import Caller
from keys.models import ApiKey
from proxy.api.authentication import KeyAuthentication, caller_of
from proxy.api.chunked import ChunkedBodies
from proxy.api.texts import Text
from proxy.errors import BadRequest, Forbidden, GatewayError, Unauthenticated
from proxy.explaining.disclosure import for_caller
from proxy.explaining.reading import ENDPOINTS, Question
from proxy.explaining.sources import explain

ANY_KEY = Caller(key_id=None, tenant_id=None, name="", prefix="")
DEFAULT_ENDPOINT = "/v1/chat/completions"


class QuestionSerializer(serializers.Serializer[Any]):
    """What is asked: a request that nobody sends."""

    endpoint = serializers.ChoiceField(
        choices=list(ENDPOINTS), default=DEFAULT_ENDPOINT, help_text="Where it would be sent."
    )
    body = serializers.JSONField(help_text="The request's JSON object.")
    headers = serializers.DictField(
        child=Text(allow_blank=True, max_length=4096),
        default=dict,
        help_text="Headers that it would be sent with: cache-control, a session's header.",
    )
    key = Text(
        default="",
        allow_blank=True,
        max_length=80,
        help_text="Operators only: the name of the key that it would be sent with, or how its secret begins. "
        "Without one, every model is allowed.",
    )

    def validate_body(self, value: Any) -> Any:
        """Refuse what is no object."""
        if not isinstance(value, dict):
            raise serializers.ValidationError("It must be a JSON object.")
        return value

    def validate_headers(self, value: Mapping[str, str]) -> Mapping[str, str]:
        """Refuse what HTTP cannot carry."""
        for name, text in value.items():
            try:
                (name + text).encode("latin-1")
            except UnicodeEncodeError:
                raise serializers.ValidationError(
                    f"{name!r} has characters that no header can have."
                ) from None
        return {name.lower(): text for name, text in value.items()}

    def validate(self, attrs: Any) -> Any:
        """Refuse what is not asked for: a mistyped name would be ignored."""
        for name in self.initial_data:
            if name not in self.fields:
                raise serializers.ValidationError({name: ["There is no such field."]})
        return attrs


class MayExplain(BasePermission):
    """A key's holder, for itself, or an operator who may see the routes."""

    def has_permission(self, request: Request, view: APIView) -> bool:  # noqa: ARG002 - REST framework's contract
        """Say whether the question is answered."""
        if isinstance(request.auth, Caller):
            return True
        return request.user.is_staff and request.user.has_perm("proxy.view_route")


class ExplainView(ChunkedBodies):
    """Explains a request. Nothing is sent, counted or paid."""

    authentication_classes = (KeyAuthentication, SessionAuthentication)
    permission_classes = (MayExplain,)

    def post(self, request: Request) -> Response:
        """Answer with the explanation: all of it to operators, to a caller what concerns it."""
        if int(request.META.get("CONTENT_LENGTH") or 0) > settings.GATEWAY.max_body_bytes:
            raise GatewayError(
                "The body is too large.", status=413, type="invalid_request_error", code="body_too_large"
            )
        asked = QuestionSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        told = asked.validated_data
        own = request.auth if isinstance(request.auth, Caller) else None
        caller = _own(own, told["key"]) if own is not None else _chosen(request, told["key"])
        question = Question(told["endpoint"], orjson.dumps(told["body"]), caller, told["headers"])
        explanation = explain(question, now=time.time())
        return Response(explanation if own is None else for_caller(explanation))


def _own(caller: Caller, key: str) -> Caller:
    """Return the caller itself. Raises BadRequest where it asks about another, Unauthenticated."""
    if key:
        raise BadRequest("'key': a caller explains its own requests only.", param="key")
    if not caller.enabled:
        raise Unauthenticated(
            "The API key is disabled. Ask the operator of this gateway.", code="api_key_disabled"
        )
    if caller.expired(time.time()):
        raise Unauthenticated(
            "The API key has expired. Ask the operator of this gateway.", code="api_key_expired"
        )
    return caller


def _chosen(request: Request, key: str) -> Caller:
    """Return the Caller of the key that an operator names. Raises BadRequest, Forbidden."""
    if not key:
        return ANY_KEY
    if not request.user.has_perm("keys.view_apikey"):
        raise Forbidden("You may not see API keys.", code="permission_denied", param="key")
    found = ApiKey.objects.filter(Q(name=key) | Q(prefix=key)).values_list("pk", flat=True)[:2]
    if len(found) != 1:
        what = "more than one key's secret begins" if found else "no key has this name, and no secret begins"
        raise BadRequest(f"'key': {what} like this.", param="key", code="key_not_found")
    return caller_of(found[0])
