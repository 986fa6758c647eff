"""How operations are described for OpenAPI: one table of words for what all of them have in common."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import django_filters
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.utils import (
    OpenApiExample,
    OpenApiParameter,
    OpenApiResponse,
    extend_schema,
    extend_schema_view,
)

from gatewaysite.api.pages import DEFAULT_LIMIT, MAX_LIMIT
from gatewaysite.api.shapes import ErrorSerializer

_ERRORS: Mapping[int, tuple[str, str, str, str | None]] = {
    400: (
        "The request is not valid: which field, and by what rule.",
        "invalid_request_error",
        "invalid",
        "name",
    ),
    401: ("No token, or none that is accepted.", "authentication_error", "missing_api_token", None),
    403: ("The permission or scope is missing.", "permission_error", "permission_denied", None),
    404: ("There is no such thing, or none that one may see.", "not_found_error", "not_found", None),
    409: (
        "It exists already, or somebody else has just changed it.",
        "invalid_request_error",
        "already_exists",
        "name",
    ),
    412: ("If-Match or If-None-Match does not hold.", "invalid_request_error", "precondition_failed", None),
    413: ("The body is too large.", "invalid_request_error", "body_too_large", None),
    415: ("The body is of another content type.", "invalid_request_error", "unsupported_media_type", None),
    503: ("The rows do not make a configuration.", "api_error", "service_unavailable", None),
    429: ("Too many requests: Retry-After says when.", "rate_limit_error", "throttled", None),
}


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One operation. `request` and `response` are serializers or types; None: no body."""

    id: str
    tag: str
    summary: str
    description: str = ""
    request: Any = None
    response: Any = None
    status: int = 200
    also: Mapping[int, Any] = field(default_factory=dict)
    sent: Any = None
    answered: Any = None
    errors: Sequence[int] = ()
    parameters: Sequence[OpenApiParameter] = ()
    tagged: bool = False
    security: Any = None
    media: str = ""

    def schema(self) -> Any:
        """Return drf-spectacular's decorator."""
        codes = sorted({400, 401, 403, 429, *self.errors, *((413, 415) if self.request is not None else ())})
        told = _TITLES[self.status] if self.response is None else self.summary
        responses: dict[Any, Any] = {
            self._key: OpenApiResponse(self.response, description=told)
            if self.response
            else OpenApiResponse(description=told),
            **{
                code: OpenApiResponse(what, description=_TITLES.get(code, ""))
                for code, what in self.also.items()
            },
            **{code: OpenApiResponse(ErrorSerializer, description=_ERRORS[code][0]) for code in codes},
        }
        parameters = list(self.parameters)
        if self.tagged:
            where = [code for code in (self.status, *self.also) if code != 304]
            parameters.append(
                OpenApiParameter(
                    "ETag",
                    str,
                    OpenApiParameter.HEADER,
                    response=where,
                    description="The state that it is in.",
                )
            )
        return extend_schema(
            operation_id=self.id,
            tags=[self.tag],
            summary=self.summary,
            description=self.description or self.summary + ".",
            request=self.request,
            responses=responses,
            parameters=parameters,
            examples=[*self._examples(), *_error_examples(codes)],
            auth=self.security,
        )

    @property
    def _key(self) -> Any:
        """The status, with the media type where it is not JSON."""
        return (self.status, self.media) if self.media else self.status

    def _examples(self) -> list[OpenApiExample]:
        found = []
        if self.sent is not None:
            found.append(OpenApiExample("What is sent", value=self.sent, request_only=True))
        if self.answered is not None:
            codes = [str(self.status), *(str(code) for code in self.also if code != 304)]
            found.append(
                OpenApiExample(
                    "What is answered",
                    value=self.answered,
                    response_only=True,
                    status_codes=codes,
                    media_type=self.media or "application/json",
                )
            )
        return found


_TITLES = {200: "Done.", 201: "Made.", 204: "Gone.", 304: "Not changed since."}


def _error_examples(codes: Sequence[int]) -> list[OpenApiExample]:
    return [
        OpenApiExample(
            f"Error {code}",
            value={
                "error": {
                    "message": f"'{param}': {message}" if param else message,
                    "type": kind,
                    "param": param,
                    "code": word,
                }
            },
            response_only=True,
            status_codes=[str(code)],
        )
        for code in codes
        for message, kind, word, param in (_ERRORS[code],)
    ]


def described(view: type[Any], **operations: Operation) -> type[Any]:
    """Describe a view's methods and return it."""
    made: type[Any] = extend_schema_view(**{name: each.schema() for name, each in operations.items()})(view)
    return made


def in_path(name: str, description: str) -> OpenApiParameter:
    """Return a part of an address."""
    kind = int if name == "id" else str
    return OpenApiParameter(name, kind, OpenApiParameter.PATH, description=description)


_TEXT = {"type": "string", "minLength": 1}


def query(name: str, description: str, *, enum: Sequence[str] | None = None) -> OpenApiParameter:
    """Return a parameter of the query."""
    return OpenApiParameter(name, str if enum else _TEXT, description=description, enum=enum)


IF_MATCH = OpenApiParameter(
    "If-Match",
    str,
    OpenApiParameter.HEADER,
    description="The ETag of the state that is to be changed; in another one nothing is (412).",
)
IF_NONE_MATCH = OpenApiParameter(
    "If-None-Match", str, OpenApiParameter.HEADER, description="`*`: only if it does not exist yet (412)."
)
IF_CHANGED = OpenApiParameter(
    "If-None-Match", str, OpenApiParameter.HEADER, description="An ETag: 304 if it is still that."
)
PAGES = (
    OpenApiParameter(
        "limit",
        {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT},
        description="How many at a time.",
    ),
    OpenApiParameter("cursor", str, description="`next_cursor` of the page before; empty: the first page."),
)


def of_filters(filters: Any) -> list[OpenApiParameter]:
    """Return the parameters of a filter set."""
    return [_parameter(name, each) for name, each in filters.base_filters.items()] if filters else []


def _parameter(name: str, each: Any) -> OpenApiParameter:
    told = str(each.extra.get("help_text", ""))
    if "choices" in each.extra:
        return query(name, told, enum=[value for value, _ in each.extra["choices"]])
    if isinstance(each, django_filters.NumberFilter):
        return OpenApiParameter(
            name,
            {"type": "integer", "minimum": each.extra["min_value"], "maximum": each.extra["max_value"]},
            description=told,
        )
    return query(name, told)


class TokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]  # a class that registers itself
    """An API token."""

    target_class = "gatewaysite.api.authentication.TokenAuthentication"
    match_subclasses = True
    name = "apiToken"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:  # noqa: ARG002 - spectacular's contract
        """Return OpenAPI's words."""
        return {
            "type": "http",
            "scheme": "bearer",
            "description": "`Authorization: Bearer sk-mgmt-...`: made in the admin, or by "
            "`manage.py create_api_token`.",
        }


class KeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]  # a class that registers itself
    """A caller's API key."""

    target_class = "proxy.api.authentication.KeyAuthentication"
    name = "apiKey"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:  # noqa: ARG002 - spectacular's contract
        """Return OpenAPI's words."""
        return {
            "type": "http",
            "scheme": "bearer",
            "description": "`Authorization: Bearer sk-gw-...`: a key that requests to models are sent with.",
        }


def strict_requests(result: Any, **_: Any) -> Any:
    """Say in the schema that a field that it does not name is refused, and so is a missing body."""
    for name, component in result["components"]["schemas"].items():
        if name.endswith("Request") and "properties" in component and not name.startswith("Report"):
            component["additionalProperties"] = False
    for operations in result["paths"].values():
        for told in operations.values():
            if "requestBody" in told and told["operationId"] != "rotate_key":
                told["requestBody"]["required"] = True
    return result
