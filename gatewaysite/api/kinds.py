"""What a resource is, for the views that serve all of them: how its rows are found, shown and written."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from django.db import models
from django.db.models import QuerySet
from django_filters import FilterSet
from rest_framework import serializers
from rest_framework.request import Request

from gatewaysite.api.access import Seen
from gatewaysite.config_file.problems import ConfigFileError, did_you_mean
from proxy.errors import BadRequest

Body = Mapping[str, Any]
Identity = Mapping[str, Any]
Example = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Kind(ABC):
    """A resource. `identity` are the names that its address gives, in their order.

    `permission_models` are those whose permissions it takes; `parts` the models of rows inside it, whose
    permissions writing them takes. `fixed`: fields of the body that are part of the identity.
    """

    noun: str
    plural: str
    path: str
    model: type[models.Model]
    serializer: type[serializers.Serializer[Any]]
    example: Example
    scope: str
    ordering: Sequence[str]
    identity: Sequence[str]
    tag: str
    filters: type[FilterSet] | None = None
    parts: Mapping[str, Sequence[type[models.Model]]] = field(default_factory=dict)
    for_members: bool = False
    named: bool = True

    @abstractmethod
    def rows(self, seen: Seen) -> QuerySet[Any]:
        """Return the rows that somebody may see, with what showing them takes."""

    @abstractmethod
    def find(self, identity: Identity, seen: Seen, *, lock: bool = False) -> Any | None:
        """Return the row with this identity, if it may be seen; locked for the transaction, if asked for."""

    @abstractmethod
    def show(self, row: Any) -> dict[str, Any]:
        """Return the row as JSON."""

    def show_to(self, row: Any, seen: Seen) -> dict[str, Any]:  # noqa: ARG002 - for those that hide something
        """Return of the row what may be seen of it."""
        return self.show(row)

    @abstractmethod
    def write(self, request: Request, row: Any | None, identity: Identity, body: Body, *, whole: bool) -> Any:
        """Save what `body` says and return the row. `whole`: what it leaves out is as in a new row.

        Runs in a transaction. Raises BadRequest with field and rule.
        """

    @abstractmethod
    def identity_of(self, body: Body) -> Identity:
        """Return the identity of what a POST's body describes. Raises BadRequest."""

    def hidden(self, row: Any) -> Sequence[str]:  # noqa: ARG002 - for those that have secrets
        """Return what is not shown and makes a difference all the same: stored secrets."""
        return ()

    def delete(self, row: Any) -> None:
        """Delete the row."""
        row.delete()

    @property
    def permission_models(self) -> tuple[type[models.Model], ...]:
        """Whose permissions it takes."""
        return (self.model,)

    def writable(self, body: Body) -> dict[str, Any]:
        """Return the body without what is only read, as who changes what was read sends that along.

        Raises BadRequest for a field that there is not.
        """
        return writable(self.serializer(), body)


def writable(serializer: serializers.Serializer[Any], body: Body, path: str = "") -> dict[str, Any]:
    """Return what `body` gives of the fields that may be written, at every depth. Raises BadRequest."""
    kept: dict[str, Any] = {}
    for name, value in body.items():
        field = serializer.fields.get(name)
        where = f"{path}{name}"
        if field is None:
            known = [each for each, found in serializer.fields.items() if not found.read_only]
            raise invalid(where, f"unknown field{did_you_mean(name, known)}")
        if field.read_only:
            continue
        kept[name] = _inside(field, value, where)
    return kept


def _inside(field: Any, value: Any, where: str) -> Any:
    if isinstance(field, serializers.ListSerializer) and isinstance(value, list):
        return [
            writable(cast("serializers.Serializer[Any]", field.child), each, f"{where}[{index}].")
            if isinstance(each, dict)
            else each
            for index, each in enumerate(value)
        ]
    if isinstance(field, serializers.Serializer) and isinstance(value, dict):
        return writable(field, value, f"{where}.")
    return value


def invalid(param: str, rule: str) -> BadRequest:
    """Return the error of a field: which, and what it must be."""
    return BadRequest(f"'{param}': {rule}.", param=param, code="invalid")


def refused(problem: ConfigFileError, path: str, renamed: Callable[[str], str] = str) -> BadRequest:
    """Return a file's problems as those of a body whose object stands at `path`."""
    told = []
    for each in problem.problems:
        where, _, rule = each.partition(": ")
        where = renamed(where.removeprefix(path).removeprefix("."))
        told.append((where, rule))
    first, rule = told[0]
    text = f"'{first}': {rule}" if first else rule
    more = "".join(f"; '{where}': {rule}" if where else f"; {rule}" for where, rule in told[1:])
    return BadRequest(f"{text}{more}.", param=first or None, code="invalid")


def texts(body: Body, *names: str) -> Identity:
    """Return these fields of a body, each of which must be a text that is not empty. Raises BadRequest."""
    for name in names:
        if name not in body:
            raise invalid(name, "required")
        if not isinstance(body[name], str) or not body[name].strip():
            raise invalid(name, "must be text that is not empty")
    return {name: body[name] for name in names}
