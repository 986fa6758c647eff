"""Operators' screen of the periodic jobs: when each ran, what it did, and what keeps it from that."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.timesince import timesince, timeuntil
from unfold.enums import ActionVariant

import proxy.tasks  # noqa: F401 - tasks say what they are when they are read
from analytics.tasks import run_now
from config.jobs import JOBS, Job
from config.models import JobRun
from config.screens import ReadOnlyScreen, action, display, goto
from config.words import moment


@admin.register(JobRun)
class JobAdmin(ReadOnlyScreen):
    """Periodic jobs."""

    empty_hint = "Jobs appear here with their first run: is the shipper, or a Celery beat, running?"
    list_display = ("title", "state_in_words", "last_run", "result", "next_due")
    search_fields = ("name",)
    search_help_text = "Name"
    actions = ("run_selected",)  # type: ignore[assignment]  # rows are not changed by it
    actions_detail = ("run_one",)
    fields = (
        ("title", "does"),
        ("state_in_words", "failing"),
        ("started", "finished", "next_due"),
        "result",
        "problem",
        ("runs", "failures"),
    )
    readonly_fields = ("title", "does", "state_in_words", "failing", "started", "finished", "next_due")

    def get_queryset(self, request: HttpRequest) -> QuerySet[JobRun]:
        """Show those that are scheduled, also those that have never run."""
        found: QuerySet[JobRun] = super().get_queryset(request)
        return found.filter(name__in=settings.CELERY_BEAT_SCHEDULE)

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """Make rows of jobs that have never run."""
        now = timezone.now()
        known = set(JobRun.objects.values_list("name", flat=True))
        new = [name for name in settings.CELERY_BEAT_SCHEDULE if name not in known]
        if new:
            JobRun.objects.bulk_create(
                [JobRun(name=name, state=JobRun.State.DONE, started_at=now) for name in new],
                ignore_conflicts=True,
            )
        response: HttpResponse = super().changelist_view(request, extra_context)
        return response

    def has_run_permission(self, request: HttpRequest, *_: Any) -> bool:
        """May whoever asks run jobs?"""
        return bool(request.user.has_perm("config.change_jobrun"))

    @admin.action(description="Run now", permissions=["run"])
    def run_selected(self, request: HttpRequest, queryset: QuerySet[JobRun]) -> None:
        """Run those that are chosen."""
        for row in queryset.order_by("name"):
            _run(request, row)

    @action(
        description="Run now",
        icon="play_arrow",
        url_path="run",
        permissions=("run",),
        variant=ActionVariant.PRIMARY,
        dialog={
            "title": "Run this job now?",
            "description": "It may be run at any time. Nothing happens if it is running already.",
            "form_class": None,
            "form_submit_text": "Run now",
        },
    )
    def run_one(self, request: HttpRequest, form: Any, object_id: str) -> HttpResponse:
        """Run this one."""
        row = self.get_queryset(request).filter(pk=object_id).first()
        if row is not None:
            _run(request, row)
        return goto(request, reverse("admin:config_jobrun_change", args=[object_id]))

    @display(description="Job", header=True, ordering="name")
    def title(self, obj: JobRun) -> Sequence[str]:
        """Show its title over its name."""
        return [_job(obj).title, obj.name]

    @display(description="What it does")
    def does(self, obj: JobRun) -> str:
        """Say it in a sentence."""
        return _job(obj).does

    @display(
        description="State",
        label={"done": "success", "failed": "danger", "running": "info", "never": "warning"},
    )
    def state_in_words(self, obj: JobRun) -> tuple[str, str]:
        """Say how the last run went."""
        if obj.finished_at is None and obj.state != JobRun.State.RUNNING:
            return "never", "has never run"
        if obj.failing_since is not None:
            return "failed", f"failing for {timesince(obj.failing_since, depth=1)}"
        return obj.state, str(obj.get_state_display()).lower()

    @display(description="Failing since")
    def failing(self, obj: JobRun) -> str:
        """Show since when."""
        return moment(obj.failing_since)

    @display(description="Last run", ordering="started_at")
    def last_run(self, obj: JobRun) -> str:
        """Say how long ago; of a frequent job about so."""
        return f"{timesince(obj.started_at, depth=1)} ago" if _has_run(obj) else "never"

    @display(description="Started (UTC)")
    def started(self, obj: JobRun) -> str:
        """Show when."""
        return moment(obj.started_at if _has_run(obj) else None)

    @display(description="Ended (UTC)")
    def finished(self, obj: JobRun) -> str:
        """Show when."""
        return moment(obj.finished_at)

    @display(description="Next due")
    def next_due(self, obj: JobRun) -> str:
        """Say when it should run again."""
        due = due_at(obj)
        if due is None:
            return "not scheduled"
        return f"in {timeuntil(due, depth=1)}" if due > timezone.now() + timedelta(minutes=1) else "now"


def failing_jobs() -> QuerySet[JobRun]:
    """Return the scheduled jobs whose last run failed, those that have failed for the longest first."""
    scheduled = settings.CELERY_BEAT_SCHEDULE
    return JobRun.objects.filter(name__in=scheduled).exclude(failing_since=None).order_by("failing_since")


def title_of(row: JobRun) -> str:
    """Return what people call a job."""
    return _job(row).title


def due_at(row: JobRun) -> datetime | None:
    """Return when a job is to run again; None: it is in no schedule."""
    entry = settings.CELERY_BEAT_SCHEDULE.get(row.name)
    if entry is None:
        return None
    if not _has_run(row):
        return timezone.now()
    every = entry["schedule"]
    if isinstance(every, int | float):
        return row.started_at + timedelta(seconds=every)
    left: timedelta = every.remaining_estimate(row.started_at)  # type: ignore[attr-defined]  # Celery's
    return timezone.now() + left


def _run(request: HttpRequest, row: JobRun) -> None:
    title = title_of(row)
    try:
        later = run_now(row.name)
    except Exception as problem:  # noqa: BLE001 - whatever a job fails with is shown here, as in its row
        messages.error(request, f"{title}: {type(problem).__name__}: {problem}")
        return
    if later:
        messages.success(request, f"{title}: a worker runs it now.")
        return
    row.refresh_from_db()
    messages.success(request, f"{title}: {row.result or 'there was nothing to do'}.")


def _has_run(row: JobRun) -> bool:
    return row.finished_at is not None or row.state == JobRun.State.RUNNING


def _job(row: JobRun) -> Job:
    return JOBS.get(row.name) or Job(row.name, row.name, "")
