"""The configuration's version and change log, and the base of every row that has a part in it."""

from collections.abc import Collection, Iterable
from typing import Any, ClassVar, Self, TypeVar

from django.db import models, transaction
from django.db.models.signals import class_prepared, post_delete, post_save, pre_delete
from django.dispatch import Signal

# Sent after the saving transaction has committed, with `version`.
changed = Signal()

KEPT_CHANGES = 200_000

Row = TypeVar("Row", bound=models.Model)


class ConfigVersion(models.Model):
    """One row: a number that grows with every change of configuration.

    Its row lock makes writers commit in version order, so a reader that saw version n has
    seen all changes up to n.
    """

    version = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        """Show the number."""
        return f"version {self.version}"


class ConfigChange(models.Model):
    """What a version changed: a part, and one row of it, or (`ref` empty) all of it."""

    version = models.BigIntegerField(primary_key=True)
    part = models.CharField(max_length=20)
    ref = models.CharField(max_length=40, blank=True)
    at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        """Show version, part and row."""
        return f"{self.version}: {self.part} {self.ref}".strip()


def current_version() -> int:
    """Return the committed version; 0 on a new database."""
    row = ConfigVersion.objects.filter(pk=1).values_list("version", flat=True).first()
    return row or 0


def bump(part: str, ref: str = "") -> None:
    """Record in the current transaction that `part` (or one row of it) changed."""
    with transaction.atomic():
        if not ConfigVersion.objects.filter(pk=1).update(version=models.F("version") + 1):
            ConfigVersion.objects.get_or_create(pk=1)
            ConfigVersion.objects.filter(pk=1).update(version=models.F("version") + 1)
        version = current_version()
        ConfigChange.objects.create(version=version, part=part, ref=ref)
        if version % 1000 == 0:
            ConfigChange.objects.filter(version__lt=version - KEPT_CHANGES).delete()
        # Robust: the row is saved; an announcement that fails must not tell its author otherwise.
        transaction.on_commit(lambda: changed.send_robust(sender=ConfigVersion, version=version))


class TrackedQuerySet(models.QuerySet[Row]):
    """Bulk writes send no signals, so they bump the version themselves."""

    def update(self, **values: Any) -> int:
        """Update rows and bump, unless only ignored columns change."""
        with transaction.atomic():
            count = super().update(**values)
            if count and not set(values) <= set(self._tracked().snapshot_ignores):
                self._bump_all()
        return count

    def bulk_create(self, objs: Iterable[Row], *args: Any, **options: Any) -> list[Row]:
        """Insert rows and bump once."""
        with transaction.atomic():
            rows = super().bulk_create(objs, *args, **options)
            if rows:
                self._bump_all()
        return rows

    def bulk_update(self, objs: Iterable[Row], fields: Iterable[str], *args: Any, **options: Any) -> int:
        """Update rows and bump once (QuerySet.bulk_update calls `update` itself)."""
        return super().bulk_update(objs, fields, *args, **options)

    def _tracked(self) -> type["TrackedModel"]:
        return self.model  # type: ignore[return-value]  # only tracked models use this class

    def _bump_all(self) -> None:
        for part in self._tracked().snapshot_parts():
            bump(part)


class TrackedManager(models.Manager[Row]):
    """Starts every query with a TrackedQuerySet."""

    def get_queryset(self) -> TrackedQuerySet[Row]:
        """Return all rows."""
        return TrackedQuerySet(self.model, using=self._db)


class TrackedModel(models.Model):
    """A row of the configuration: saving, deleting and bulk writes bump the version."""

    # The snapshot's part that rows of this model belong to.
    snapshot_part: ClassVar[str]
    # Columns no snapshot holds (bookkeeping): writing only these bumps nothing.
    snapshot_ignores: ClassVar[Collection[str]] = frozenset()

    objects: ClassVar[models.Manager[Self]] = TrackedManager()

    class Meta:
        """No table of its own."""

        abstract = True

    def save(self, **options: Any) -> None:
        """Save the row and bump the version in one transaction."""
        written = options.get("update_fields")
        with transaction.atomic():
            super().save(**options)
            if written is None or not set(written) <= set(self.snapshot_ignores):
                for part, ref in sorted(self.snapshot_changes()):
                    bump(part, ref)

    def snapshot_ref(self) -> str:
        """Return what names this row inside its part, or "" when the part is rebuilt whole."""
        return ""

    def snapshot_changes(self) -> Collection[tuple[str, str]]:
        """Return what a change of this row changes: parts, and what names a row inside each (or "")."""
        return {(self.snapshot_part, self.snapshot_ref())}

    @classmethod
    def snapshot_parts(cls) -> Collection[str]:
        """Return the parts that rows of this model may be in."""
        return (cls.snapshot_part,)


def _begin_delete(origin: Any, **_: Any) -> None:
    """Note on what was asked to be deleted (a row, a query set) that nothing is told of it yet.

    Django sends this for every row of a delete before the first one is gone.
    """
    origin.changes_told = set()


def _bump_deleted(sender: type[TrackedModel], instance: TrackedModel, origin: Any, **_: Any) -> None:
    """Bump for a deleted row, and for the rows of other parts that pointed to it.

    Django sends this inside the deleting transaction, for cascades too: a provider takes a thousand
    prices along, which are one change of their part. What SET_NULL changes is updated below our
    query sets, so it is told here.
    """
    changes = set(instance.snapshot_changes())
    for relation in sender._meta.related_objects:
        pointing = relation.related_model
        if relation.on_delete is models.SET_NULL and issubclass(pointing, TrackedModel):
            changes.update((part, "") for part in pointing.snapshot_parts())
    for part, ref in changes - origin.changes_told:
        bump(part, ref)
    origin.changes_told |= changes


def _bump_loaded(instance: TrackedModel, **signal: Any) -> None:
    """Bump for a row of a fixture (`loaddata`), which goes past `save`."""
    if signal["raw"]:
        for part, ref in sorted(instance.snapshot_changes()):
            bump(part, ref)


def _track(sender: type[models.Model], **_: Any) -> None:
    # By sender: a receiver for every model would take from all others the fast way of deleting,
    # which loads no rows, and request logs are deleted by the million.
    if issubclass(sender, TrackedModel) and not sender._meta.abstract:
        pre_delete.connect(_begin_delete, sender=sender, dispatch_uid="config.begin_delete")
        post_delete.connect(_bump_deleted, sender=sender, dispatch_uid="config.bump_deleted")
        post_save.connect(_bump_loaded, sender=sender, dispatch_uid="config.bump_loaded")


class_prepared.connect(_track, dispatch_uid="config.track")


class JobRun(models.Model):
    """How a periodic job's last run went. One row per job."""

    class State(models.TextChoices):
        """How it ended, if it has."""

        RUNNING = "running", "Running"
        DONE = "done", "Done"
        FAILED = "failed", "Failed"

    name = models.CharField(max_length=80, primary_key=True)
    state = models.CharField(max_length=10, choices=State, default=State.RUNNING)
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)
    result = models.CharField(max_length=300, blank=True, help_text="What the last run that ended well did.")
    problem = models.CharField(max_length=300, blank=True, help_text="Why the last run failed.")
    runs = models.BigIntegerField(default=0)
    failures = models.BigIntegerField(default=0)
    failing_since = models.DateTimeField(null=True)
    memory = models.JSONField(default=dict, help_text="What it has to know the next time.")

    class Meta:
        """By name."""

        verbose_name = "job"
        ordering = ("name",)

    def __str__(self) -> str:
        """Show the name."""
        return self.name
