"""Errors of the management API, in the envelope of all others."""

from collections.abc import Iterator, Mapping
from typing import Any

import structlog
from django.core.exceptions import PermissionDenied
from django.http import Http404
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.views import set_rollback

from proxy.authentication import HOW
from proxy.errors import GatewayError, Unauthenticated

log = structlog.get_logger()

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


def enveloped(problem: Exception, context: Mapping[str, Any]) -> Response:
    """Return the answer to a request that failed: REST framework's exception handler."""
    error = _translated(problem)
    if error is None:
        log.error("api_panic", exc_info=problem, view=type(context.get("view")).__name__)
        error = GatewayError("The gateway failed. This was logged.", code="internal_error")
    set_rollback()
    return Response(error.envelope(), status=error.status, headers=error.headers)


def _translated(problem: Exception) -> GatewayError | None:
    if isinstance(problem, GatewayError):
        return problem
    if isinstance(problem, Http404):
        return GatewayError("There is no such thing.", status=404, type=_TYPES[404], code="not_found")
    if isinstance(problem, PermissionDenied):
        return GatewayError("You may not do this.", status=403, type=_TYPES[403], code="permission_denied")
    if not isinstance(problem, exceptions.APIException):
        return None
    if isinstance(problem, exceptions.NotAuthenticated):
        return Unauthenticated(
            f"No API key was sent. {HOW} Operators may sign in to the admin instead.",
            code="missing_api_key",
            headers={"www-authenticate": "Bearer"},
        )
    status = problem.status_code
    message, param = _first_of(problem.detail)
    return GatewayError(
        f"'{param}': {message}" if param else message,
        status=status,
        type=_TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error"),
        code=problem.default_code,
        param=param,
        retry_after_s=getattr(problem, "wait", None),
    )


def _first_of(detail: Any) -> tuple[str, str | None]:
    """Return the first message of REST framework's tree of them, and the path of the field it is about."""
    path, message = next(_messages(detail, ()), ((), "The request is not valid."))
    return message, ".".join(part for part in path if part != "non_field_errors") or None


def _messages(detail: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    if isinstance(detail, Mapping):
        for name, inner in detail.items():
            yield from _messages(inner, (*path, str(name)))
    elif isinstance(detail, list):
        for inner in detail:
            yield from _messages(inner, path)
    else:
        yield path, str(detail)
