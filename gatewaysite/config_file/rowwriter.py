"""Saves rows only where they differ, and tells what it did."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any, Generic, TypeVar

from config.models import TrackedModel
from gatewaysite.config_file.differences import Difference, Verb, shown
from gatewaysite.config_file.document import Row

Tracked = TypeVar("Tracked", bound=TrackedModel)


@dataclass(slots=True)
class Changes:
    """What was done, in sentences and field by field, and the secrets of keys that got a generated one."""

    done: list[str] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    left_alone: Mapping[str, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    secrets: dict[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Listed(Generic[Tracked]):
    """A list of rows: whose it is in words and in columns, and what it lists."""

    what: str
    model: type[Tracked]
    owner: Mapping[str, Any]

    @property
    def noun(self) -> str:
        """Name one of them."""
        return str(self.model._meta.verbose_name)


class RowWriter:
    """Upserts rows and replaces lists of rows. Saving always bumps the version, so sameness saves nothing."""

    def __init__(self) -> None:
        self.changes = Changes()

    def upsert(self, what: str, model: type[Tracked], found: Tracked | None, row: Row) -> Tracked:
        """Return the saved row: made of `row`, or `found` with its differing columns."""
        if found is None:
            made = model(**row)
            made.save(force_insert=True)
            self.changes.done.append(f"{what}: created")
            self._differ(what, "created", {column: (None, row[column]) for column in row})
            return made
        differing = [column for column, value in row.items() if getattr(found, column) != value]
        if not differing:
            self.changes.unchanged.append(what)
            return found
        self._differ(what, "changed", {column: (getattr(found, column), row[column]) for column in differing})
        for column in differing:
            setattr(found, column, row[column])
        found.save(update_fields=differing)
        self.changes.done.append(f"{what}: changed ({', '.join(differing)})")
        return found

    def remove(self, what: str, row: TrackedModel) -> None:
        """Delete a row of what is named so."""
        self.changes.done.append(f"{what}: {row._meta.verbose_name} {row} removed")
        self._differ(f"{what}: {row._meta.verbose_name} {row}", "removed", {})
        row.delete()

    def _differ(self, what: str, verb: Verb, columns: Mapping[str, tuple[Any, Any]]) -> None:
        fields = {
            name: (shown(name, before), shown(name, after)) for name, (before, after) in columns.items()
        }
        self.changes.differences.append(Difference(what, verb, fields))

    def replace(
        self,
        listed: Listed[Tracked],
        rows: Sequence[Tracked],
        wanted: Sequence[Row],
        *,
        identity: Sequence[str],
    ) -> None:
        """Make `rows`, the whole list, into `wanted`; a row whose `identity` stays is kept and changed."""
        left = list(rows)
        pairs: list[tuple[Row, Tracked | None]] = [(row, None) for row in wanted]
        for columns in (tuple(wanted[0]) if wanted else (), tuple(identity)):
            for index, (row, found) in enumerate(pairs):
                if found is None:
                    pairs[index] = (row, _take(left, row, columns))
        for surplus in left:
            self.remove(listed.what, surplus)
        for row, found in pairs:
            self._put(listed, found, row)

    def reorder(
        self, listed: Listed[Tracked], rows: Sequence[Tracked], wanted: Sequence[Row], *, first: int = 0
    ) -> None:
        """Make `rows`, the whole list in its order, into `wanted`, place by place from position `first`."""
        pairs = zip_longest(rows, wanted)
        if all(row and want and _holds(row, want) for row, want in pairs):
            self.changes.unchanged += [f"{listed.what}: {listed.noun} {row}" for row in rows]
            return
        for surplus in rows[len(wanted) :]:
            self.remove(listed.what, surplus)
        for position, want in enumerate(wanted):
            found = rows[position] if position < len(rows) else None
            self._put(listed, found, {**want, "position": first + position})

    def _put(self, listed: Listed[Tracked], found: Tracked | None, row: Row) -> None:
        what = f"{listed.what}: {listed.noun} {listed.model(**row)}"
        self.upsert(what, listed.model, found, row if found else {**listed.owner, **row})


def _take(left: list[Tracked], row: Row, columns: Sequence[str]) -> Tracked | None:
    """Take out of `left` the first row that agrees with `row` in `columns`."""
    for index, candidate in enumerate(left):
        if _holds(candidate, {column: row[column] for column in columns}):
            return left.pop(index)
    return None


def _holds(row: TrackedModel, wanted: Row) -> bool:
    return all(getattr(row, column) == value for column, value in wanted.items())
