"""Resources of one row each, read by a table of fields and held against the row's own rules."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.db import models
from django.db.models import QuerySet
from rest_framework.request import Request

from gatewaysite.api.access import Seen
from gatewaysite.api.kinds import Body, Identity, Kind, invalid, refused, texts
from gatewaysite.config_file.fields import Field, read_fields
from gatewaysite.config_file.problems import ConfigFileError, Problems
from proxy.errors import BadRequest


@dataclass(frozen=True, kw_only=True)
class TableKind(Kind):
    """A row whose fields are `table`'s. `refer` turns names of other rows (by column) into them.

    `found_by` turns an identity into a query, `made_of` into the columns of a new row.
    """

    table: Sequence[Field]
    shown: Callable[[Any], dict[str, Any]]
    base: Callable[[], QuerySet[Any]]
    found_by: Callable[[Identity], Mapping[str, Any]]
    made_of: Callable[[Identity], Mapping[str, Any]] = lambda _: {}
    refer: Mapping[str, type[models.Model]]
    narrowed: Callable[[QuerySet[Any], Seen], QuerySet[Any]] | None = None
    settled: Callable[[Any], None] = lambda _: None

    def rows(self, seen: Seen) -> QuerySet[Any]:
        """Return the rows that may be seen."""
        found = self.base()
        return found if seen.everything or self.narrowed is None else self.narrowed(found, seen)

    def find(self, identity: Identity, seen: Seen, *, lock: bool = False) -> Any | None:
        """Return the row of this identity."""
        where = self.found_by(identity)
        if any("\0" in str(value) for value in where.values()):
            return None
        if lock and (pk := self.rows(seen).filter(**where).values_list("pk", flat=True).first()) is not None:
            self.model._base_manager.select_for_update(of=("self",)).get(pk=pk)  # noqa: SLF001 - Django's documented name
        return self.rows(seen).filter(**where).first()

    def show(self, row: Any) -> dict[str, Any]:
        """Return the row as JSON."""
        return self.shown(row)

    def identity_of(self, body: Body) -> Identity:
        """Return the fields of the body that name it."""
        return texts(body, *self.identity) if self.named else {}

    def write(self, request: Request, row: Any | None, identity: Identity, body: Body, *, whole: bool) -> Any:
        """Set the columns that the body gives, and save them."""
        del request
        given = self.writable(body)
        values = self._read(given, identity)
        if row is None:
            row = self.model(**self.made_of(identity))
            fresh = True
        else:
            fresh = False
        changed = self._set(row, values, whole=whole or fresh, keep=set(self.made_of(identity)))
        self.settled(row)
        self._check(row)
        if fresh:
            row.save(force_insert=True)
        elif changed:
            row.save(update_fields=sorted(changed))
        saved = self.base().get(pk=row.pk)
        saved.issued_secret = None
        return saved

    def _read(self, given: Body, identity: Identity) -> dict[str, Any]:
        problems = Problems()
        values = read_fields(dict(given), "", self.table, problems)
        try:
            problems.raise_if_any()
        except ConfigFileError as problem:
            raise refused(problem, "") from None
        for name, value in identity.items():
            if name in given and given[name] != value:
                raise invalid(name, f"must be {value}, as in the address")
        for column, model in self.refer.items():
            if values.get(column):
                values[column] = _referred(model, column, values[column])
            elif column in values:
                values[column] = None
        return values

    def _set(self, row: Any, values: Mapping[str, Any], *, whole: bool, keep: set[str]) -> set[str]:
        """Set what differs and return the columns."""
        changed = set()
        for field in self.table:
            if field.column in values:
                value = values[field.column]
            elif whole and field.column not in keep:
                if field.required:
                    raise invalid(field.name, "required")
                column: Any = self.model._meta.get_field(field.column)
                value = column.get_default()
            else:
                continue
            if getattr(row, field.column) != value:
                setattr(row, field.column, value)
                changed.add(field.column)
        return changed

    def _check(self, row: Any) -> None:
        """Raise BadRequest for what the row's own rules refuse."""
        names = {field.column: field.name for field in self.table}
        try:
            row.full_clean()
        except ValidationError as found:
            column, messages = next(iter(found.message_dict.items()))
            rule = messages[0].rstrip(".")
            if column == NON_FIELD_ERRORS:
                raise BadRequest(f"{rule}.", code="invalid") from None
            raise invalid(names.get(column, column), rule) from None


def _referred(model: type[models.Model], column: str, name: str) -> Any:
    by = "username" if column == "user" else "name"
    found = model._base_manager.filter(**{by: name}).first()  # noqa: SLF001 - Django's documented name
    if found is None:
        raise invalid(column, f"no {model._meta.verbose_name} is named {name}")
    return found
