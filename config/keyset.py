"""Pages of a table that grows for ever: by where the last page ended, not by numbers.

The page after a row is read from an index from that row on, so that the thousandth page costs what the first
does, and rows that come in meanwhile move nothing. Nothing is counted; one row more than a page is read, to
know whether there are others.

A filter that no index serves could look at every row to fill a page. It looks at so many and no more: the
page says how far it came, and goes on from there.
"""

import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from django.core.paginator import Page, Paginator
from django.db.models import Model, Q, QuerySet

# Read from an index in some tens of milliseconds, and on most pages far fewer are.
LOOKED_THROUGH = 50_000
# Stands for "many": Django shows all rows of a list of fewer.
MANY = 10**9

_CURSOR = re.compile(r"([on])(\d{1,17})\.(\d{1,18})")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Cursor:
    """Between which rows a page begins: the older ones than (at, pk), or the newer ones."""

    older: bool
    at: datetime
    pk: int

    @classmethod
    def read(cls, text: str) -> "Cursor | None":
        """Return what a query string says; None for anything that no page has written there."""
        found = _CURSOR.fullmatch(text)
        if found is None:
            return None
        try:
            return cls(found[1] == "o", _EPOCH + timedelta(microseconds=int(found[2])), int(found[3]))
        except OverflowError:
            return None

    def __str__(self) -> str:
        """Return it as `read` takes it."""
        return f"{'o' if self.older else 'n'}{(self.at - _EPOCH) // timedelta(microseconds=1)}.{self.pk}"


class KeysetPaginator(Paginator):  # type: ignore[type-arg]  # generic only in the stubs
    """Pages of rows, the newest of which come first: by a moment, and by their number where that is the same.

    After `page`, `newer` and `older` are the cursors of the pages beside it (None: there is none), and
    `looked_back_to` the moment as far as rows were looked at, where it was not to the end.
    """

    template_name = "unfold/helpers/pagination_keyset.html"
    count = MANY

    def __init__(
        self,
        rows: QuerySet[Any],
        per_page: int,
        *,
        moment: str,
        cursor: Cursor | None,
        looked_through: QuerySet[Any] | None = None,
    ) -> None:
        """Page `rows` by the column `moment`.

        `looked_through`: the rows among which a filter without an index looks for its own.
        """
        super().__init__(rows, per_page)
        self._moment, self._cursor, self._among = moment, cursor, looked_through
        self.looks_at_most = LOOKED_THROUGH
        self.newer: Cursor | None = None
        self.older: Cursor | None = None
        self.looked_back_to: datetime | None = None

    def page(self, number: int | str) -> Page:  # type: ignore[type-arg]  # noqa: ARG002 - Django's contract
        """Return the page at the cursor; Django's number of it means nothing."""
        cursor = self._cursor
        rows = self._newer_rows(cursor) if cursor and not cursor.older else None
        return Page(self._older_rows(cursor) if rows is None else rows, 1, self)

    def _older_rows(self, cursor: Cursor | None) -> list[Model]:
        if cursor is not None and not cursor.older:
            cursor = None
        end = self._end(cursor)
        rows = self._read(self.object_list, cursor, end)
        shown = rows[: self.per_page]
        if len(rows) > self.per_page:
            self.older = self._after(shown[-1], older=True)
        elif end is not None:
            self.older, self.looked_back_to = Cursor(older=True, at=end, pk=0), end
        if cursor is not None:
            self.newer = self._after(shown[0], older=False) if shown else replace(cursor, older=False)
        return shown

    def _newer_rows(self, cursor: Cursor) -> list[Model] | None:
        """Return the page before a row; None for the first page, which begins with the newest row."""
        end = self._end(cursor)
        rows = self._read(self.object_list, cursor, end)
        if len(rows) <= self.per_page and end is None:
            return None
        shown = rows[: self.per_page][::-1]
        full = len(rows) > self.per_page
        if full or end is None:
            self.newer = self._after(shown[0], older=False)
        else:
            self.newer = Cursor(older=False, at=end, pk=2**63 - 1)
        self.older = self._after(shown[-1], older=True) if shown else replace(cursor, older=True)
        return shown

    def _read(self, rows: Any, cursor: Cursor | None, end: datetime | None) -> list[Model]:
        older = cursor is None or cursor.older
        if end is not None:
            rows = rows.filter(**{f"{self._moment}__{'gte' if older else 'lte'}": end})
        return list(self._from(rows, cursor)[: self.per_page + 1])

    def _end(self, cursor: Cursor | None) -> datetime | None:
        """Return the moment beyond which no row is looked at; None: to the end."""
        if self._among is None:
            return None
        moments = self._from(self._among, cursor).values_list(self._moment, flat=True)
        found: datetime | None = next(iter(moments[self.looks_at_most - 1 : self.looks_at_most]), None)
        return found

    def _from(self, rows: Any, cursor: Cursor | None) -> Any:
        """Return the rows on one side of a cursor, those next to it first."""
        name = self._moment
        if cursor is None:
            return rows.order_by(f"-{name}", "-pk")
        # The first condition is the index's, the second takes away rows of the same moment.
        beyond, nearer = ("lte", "lt") if cursor.older else ("gte", "gt")
        past = Q((f"{name}__{nearer}", cursor.at)) | Q((f"pk__{nearer}", cursor.pk))
        order = (f"-{name}", "-pk") if cursor.older else (name, "pk")
        return rows.filter(past, **{f"{name}__{beyond}": cursor.at}).order_by(*order)

    def _after(self, row: Any, *, older: bool) -> Cursor:
        return Cursor(older, getattr(row, self._moment), row.pk)
