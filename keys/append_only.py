"""Rows that are written once and never again: what is wrong in one is put right by another.

The ORM refuses here; the database refuses by a trigger (migration keys/0005). Old rows may go, once
LedgerRetention says from when on rows are kept: see `keys.retention`.
"""

from collections.abc import Iterable
from typing import Any, NoReturn, TypeVar

from django.db import models

Row = TypeVar("Row", bound=models.Model)


class AppendOnly(TypeError):
    """Somebody tries to change or delete a row that is never changed or deleted."""

    def __init__(self, model: type[models.Model]) -> None:
        """Say which kind of row."""
        words = model._meta.verbose_name_plural
        super().__init__(f"{words} are append-only: add a row that corrects, change and delete none")


class AppendOnlyQuerySet(models.QuerySet[Row]):
    """Reads and adds."""

    def update(self, **_: Any) -> NoReturn:
        """Refuse."""
        raise AppendOnly(self.model)

    def bulk_update(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse, even if there is nothing to update."""
        raise AppendOnly(self.model)

    def delete(self) -> NoReturn:
        """Refuse."""
        raise AppendOnly(self.model)

    def bulk_create(self, objs: Iterable[Row], *arguments: Any, **options: Any) -> list[Row]:
        """Insert rows; those that are there already are not overwritten."""
        if options.get("update_conflicts"):
            raise AppendOnly(self.model)
        return super().bulk_create(objs, *arguments, **options)


class AppendOnlyModel(models.Model):
    """A row that is inserted and stays as it is."""

    objects = models.Manager.from_queryset(AppendOnlyQuerySet)()

    class Meta:
        """No table of its own."""

        abstract = True

    def save(self, **options: Any) -> None:
        """Insert a new row; refuse for one that is stored."""
        if not self._state.adding:
            raise AppendOnly(type(self))
        super().save(**{**options, "force_insert": True})

    def delete(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse."""
        raise AppendOnly(type(self))
