"""What every view of the management API has in common."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

from django.db import models
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from gatewaysite.api.access import Admission, Seen, Verb
from gatewaysite.api.authentication import AUTHENTICATION, private
from gatewaysite.api.bodies import ExactJSONParser
from gatewaysite.api.throttles import Throttled
from gatewaysite.config_file.problems import did_you_mean
from proxy.errors import BadRequest


class OneForm(DefaultContentNegotiation):
    """Answers in the first renderer's form, whatever is asked for: there is no other."""

    def select_renderer(
        self,
        request: Any,  # noqa: ARG002 - REST framework's contract
        renderers: Any,
        format_suffix: str | None = None,  # noqa: ARG002 - REST framework's contract
    ) -> Any:
        """Return it."""
        return renderers[0], renderers[0].media_type


class ApiView(Throttled):
    """Takes a token or a session, a scope and permissions; refuses what it does not know in the query."""

    authentication_classes = AUTHENTICATION
    permission_classes = (Admission,)
    parser_classes: Sequence[type[BaseParser]] = (ExactJSONParser,)
    renderer_classes = (JSONRenderer,)
    content_negotiation_class = OneForm
    metadata_class = None

    # "config": reading takes config:read, writing config:write. Or whole scopes, for whatever is done.
    scopes: ClassVar[Sequence[str]] = ()
    # Whose permissions (view, add, change, delete) it takes, all of them.
    permission_models: ClassVar[Sequence[type[models.Model]]] = ()
    # The permission that a POST takes, where it adds nothing.
    post_takes: ClassVar[Verb | None] = None
    # Do members of tenants come in, and may they do more than look?
    for_members: ClassVar[bool] = False
    members_write: ClassVar[bool] = False
    # Names that the query may give.
    parameters: ClassVar[Collection[str]] = ()

    seen: Seen = Seen()

    def scopes_for(self, *, writes: bool) -> Sequence[str]:
        """Return the scopes that a token needs."""
        word = "write" if writes else "read"
        return [scope if ":" in scope else f"{scope}:{word}" for scope in self.scopes]

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Refuse what is asked for in words that nobody knows: it would be ignored."""
        if request.method not in self.allowed_methods:  # 405, whoever asks for it
            self.http_method_not_allowed(request)
        super().initial(request, *args, **kwargs)
        known = set(self.parameters) if request.method in {"GET", "HEAD"} else self.write_parameters()
        for name, given in request.query_params.lists():
            if name not in known:
                raise BadRequest(
                    f"'{name}': unknown parameter{did_you_mean(name, known)}.",
                    param=name,
                    code="unknown_parameter",
                )
            if len(given) > 1:
                raise BadRequest(f"'{name}': is given twice.", param=name, code="invalid")
            if not given[0] and name != "cursor":  # an empty cursor is that of the first page
                raise BadRequest(f"'{name}': must not be empty; leave it out.", param=name, code="invalid")

    def write_parameters(self) -> set[str]:
        """Return the names that the query of a write may give."""
        return set()

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Response:
        """Keep every answer out of caches."""
        return private(super().finalize_response(request, response, *args, **kwargs))


def answer(
    shown: Mapping[str, Any], *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Return an answer."""
    return Response(shown, status=status, headers=dict(headers or {}))
