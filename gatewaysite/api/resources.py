"""The views of every resource: a list to read and add to, and one to read, put, patch and delete.

Writers take turns: each holds the lock that applying a file holds, and the row's own, so that what If-Match
was held against is still so when it is written.
"""

from collections.abc import Collection, Sequence
from typing import Any, ClassVar

from django.db import IntegrityError, models, transaction
from django.db.models import ProtectedError
from django_filters.rest_framework import DjangoFilterBackend
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from gatewaysite.api import access, etags, pages
from gatewaysite.api.base import ApiView, answer
from gatewaysite.api.bodies import mapping
from gatewaysite.api.kinds import Identity, Kind
from gatewaysite.exclusive import one_at_a_time
from proxy.errors import GatewayError, NotFound


class Filters(DjangoFilterBackend):  # type: ignore[misc]  # django-filter ships no types
    """Narrows a list by what the query gives; its schema is read from `filterset_class`."""

    def get_filterset_class(self, view: Any, queryset: Any = None) -> Any:  # noqa: ARG002 - django-filter's contract
        """Return the view's own."""
        return view.filterset_class


class KindView(ApiView):
    """A view of one kind."""

    kind: ClassVar[Kind]

    @property
    def scopes(self) -> Sequence[str]:  # type: ignore[override]  # the kind's
        """The kind's scope."""
        return (self.kind.scope,)

    @property
    def permission_models(self) -> Sequence[type[models.Model]]:  # type: ignore[override]  # the kind's
        """Whose permissions it takes."""
        return self.kind.permission_models

    @property
    def for_members(self) -> bool:  # type: ignore[override]  # the kind's
        """Do members of tenants come in?"""
        return self.kind.for_members

    def shown(self, row: Any, *, status: int = 200) -> Response:
        """Return the answer that shows a row, with its tag, and with the secret that it was just given."""
        kind = self.kind
        body, tag = kind.show_to(row, self.seen), self.tag(row)
        assert tag is not None
        if secret := getattr(row, "issued_secret", None):
            body = {**body, "secret": secret}
        return answer(body, status=status, headers={"ETag": tag})

    def tag(self, row: Any | None) -> str | None:
        """Return a row's tag; None for none."""
        return None if row is None else etags.tag_of(self.kind.show(row), *self.kind.hidden(row))

    def missing(self, identity: Identity) -> NotFound:
        """Return the error of what is not there, or not to be seen."""
        name = "/".join(str(identity[part]) for part in self.kind.identity)
        return NotFound(f"There is no {self.kind.noun} {name}.", code="not_found")


class KindList(KindView):
    """All of a kind, by pages."""

    filter_backends: ClassVar[Sequence[type[Filters]]] = (Filters,)
    # Identity that the address of the list gives: members are a tenant's.
    within: ClassVar[Sequence[str]] = ()

    @property
    def parameters(self) -> Collection[str]:  # type: ignore[override]  # the kind's
        """The names of the filters, and of pages."""
        filters = self.kind.filters.base_filters if self.kind.filters else {}
        return {*filters, *pages.PARAMETERS}

    @property
    def filterset_class(self) -> Any:
        """The kind's filters."""
        return self.kind.filters

    def get_queryset(self) -> Any:
        """Return the rows that may be seen."""
        return self.kind.rows(self.seen)

    def get(self, request: Request, **_: Any) -> Response:
        """Answer with a page."""
        rows = self.get_queryset()
        if self.kind.filters is not None:
            narrowed = self.kind.filters(request.query_params, queryset=rows, request=request)
            if not narrowed.is_valid():
                raise ValidationError(narrowed.errors)
            rows = narrowed.qs
        found, cursor = pages.page(request, rows, self.kind.ordering)
        return answer({"items": [self.kind.show_to(row, self.seen) for row in found], "next_cursor": cursor})

    def post(self, request: Request, **_: Any) -> Response:
        """Add one; refuse what exists."""
        body = mapping(request)
        identity = self.kind.identity_of(body)
        with writing():
            if identity and self.kind.find(identity, access.Seen(everything=True), lock=True) is not None:
                raise GatewayError(
                    f"There is such a {self.kind.noun} already.",
                    status=409,
                    type="invalid_request_error",
                    code="already_exists",
                    param=self.kind.identity[-1],
                )
            self.before_adding(request, body)
            row = self.kind.write(request, None, identity, body, whole=True)
            return self.shown(row, status=201)

    def before_adding(self, request: Request, body: dict[str, Any]) -> None:
        """Refuse what a member of a tenant may not add."""


class KindItem(KindView):
    """One of a kind, by what its address says."""

    def get(self, request: Request, **identity: Any) -> Response:
        """Answer with it, or that it has not changed."""
        row = self._found(identity)
        response = self.shown(row)
        if etags.unchanged(request, response["ETag"]):
            return Response(status=304, headers={"ETag": response["ETag"]})
        return response

    def put(self, request: Request, **identity: Any) -> Response:
        """Make it what the body says, whole, whether it was there or not."""
        body = mapping(request)
        with writing():
            row = self.kind.find(identity, self.seen, lock=True)
            etags.check(request, self.tag(row))
            if row is None and not self.kind.named:
                raise self.missing(identity)
            access.require(request, self.kind.permission_models, "add" if row is None else "change")
            saved = self.kind.write(request, row, identity, body, whole=True)
            return self.shown(saved, status=201 if row is None else 200)

    def patch(self, request: Request, **identity: Any) -> Response:
        """Change the fields that the body gives."""
        body = mapping(request)
        with writing():
            row = self._found(identity, lock=True)
            etags.check(request, self.tag(row))
            saved = self.kind.write(request, row, identity, body, whole=False)
            return self.shown(saved)

    def delete(self, request: Request, **identity: Any) -> Response:
        """Delete it."""
        with writing():
            row = self._found(identity, lock=True)
            etags.check(request, self.tag(row))
            self.before_deleting(row)
            self.kind.delete(row)
        return Response(status=204)

    def before_deleting(self, row: Any) -> None:
        """Refuse what a member of a tenant may not delete."""

    def _found(self, identity: Identity, *, lock: bool = False) -> Any:
        row = self.kind.find(identity, self.seen, lock=lock)
        if row is None:
            raise self.missing(identity)
        return row


class writing:  # noqa: N801 - reads as the statement that it is
    """`with writing():` a transaction that no other writer of the configuration is in."""

    def __enter__(self) -> None:
        self._transaction = transaction.atomic()
        self._transaction.__enter__()
        one_at_a_time()

    def __exit__(self, *problem: Any) -> None:  # noqa: PYI036 - handed on as it is
        self._transaction.__exit__(*problem)
        if isinstance(problem[1], IntegrityError | ProtectedError):
            raise GatewayError(
                "Somebody else has just changed this. Read it again, and change that.",
                status=409,
                type="invalid_request_error",
                code="conflict",
            ) from None
