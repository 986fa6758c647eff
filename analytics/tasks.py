"""The Celery tasks of the records. None retries by itself: the shipper owns retry and backoff."""

from datetime import timedelta

from celery import Celery, shared_task
from celery.beat import ScheduleEntry
from celery.schedules import schedule
from django.utils import timezone

from analytics import retention, rollup_check
from analytics.booking import book
from analytics.models import SpoolReceipt
from analytics.payloads import purge
from analytics.report_delivery import send_due
from analytics.segments import Shipment
from config.jobs import counted, job

# The file of a receipt is gone within a second of it, or at the shipper's next start. If one should
# live longer, its completions are still known to the ledger.
RECEIPTS_KEPT = timedelta(days=3)
PURGED_AT_ONCE = 5_000


@shared_task(name="analytics.tasks.write_request_logs")
def write_request_logs(segment: str, lines: int, done: str, interrupted: str, *, payloads: str = "") -> None:
    """Write one segment's rows and its receipt. Arguments as in `Shipment`; idempotent."""
    book(segment, lines, done=done, interrupted=interrupted, payloads=payloads)


@shared_task(name="analytics.tasks.purge_receipts")
@job(
    "purge-receipts",
    title="Purge receipts",
    does="Deletes the receipts of spool segments whose files are long gone.",
)
def purge_receipts() -> str:
    """Delete old receipts, a few thousand per transaction."""
    purged = 0
    old = SpoolReceipt.objects.filter(at__lt=timezone.now() - RECEIPTS_KEPT).order_by("pk")
    while chunk := list(old.values_list("pk", flat=True)[:PURGED_AT_ONCE]):
        SpoolReceipt.objects.filter(pk__in=chunk).delete()
        purged += len(chunk)
    return f"{counted(purged, 'receipt')} purged"


@shared_task(name="analytics.tasks.purge_payloads")
@job(
    "purge-payloads",
    title="Purge payloads",
    does="Deletes stored requests and answers whose days are over.",
)
def purge_payloads() -> str:
    """Delete payloads whose time is over."""
    return f"{counted(purge(timezone.now()), 'payload')} purged"


@shared_task(name="analytics.tasks.send_daily_report")
@job(
    "daily-report",
    title="Daily report",
    does="Tells of yesterday's traffic and cost by e-mail and webhook, once a day (REPORT_EMAILS, "
    "REPORT_WEBHOOK).",
)
def send_daily_report() -> str:
    """Send yesterday's report where it is due; who has got it gets it once."""
    return send_due(timezone.now())


@shared_task(name="analytics.tasks.check_rollups")
@job(
    "check-rollups",
    title="Check sums",
    does="Adds up the last two days of log and ledger once more, and mends sums of dashboards that differ.",
)
def check_rollups() -> str:
    """Compare what dashboards read with what it is made of."""
    return rollup_check.check_rollups()


@shared_task(name="analytics.tasks.apply_retention")
@job(
    "apply-retention",
    title="Apply retention",
    does="Lets go of log and sums that are past their time (LOG_RETENTION, ROLLUP_RETENTION), and makes room "
    "for the days to come.",
)
def apply_retention() -> str:
    """Delete what is old, day by day or in batches."""
    return f"{retention.apply_log_retention()}; {retention.apply_rollup_retention()}"


def publish(shipment: Shipment) -> None:
    """Hand a shipment to a Celery worker; without a broker, write it here and now."""
    arguments = (shipment.segment, shipment.lines, shipment.done, shipment.interrupted)
    # A worker of an older version knows no other shipments.
    more = {"payloads": shipment.payloads} if shipment.payloads else {}
    if runs_inline():
        write_request_logs.apply(arguments, more, throw=True)
        return
    write_request_logs.apply_async(
        arguments,
        more,
        argsrepr=f"({shipment.segment!r}, ...)",  # type: ignore[call-arg]  # missing from the stubs
        kwargsrepr="...",
        # One more try at once, on a fresh connection: a broker that was restarted has cut the old one.
        retry=True,
        retry_policy={"max_retries": 1, "interval_start": 0, "interval_max": 0},
    )


class Periodic:
    """An entry of Celery beat's schedule, for where there is no Celery beat."""

    def __init__(self, name: str, entry: ScheduleEntry) -> None:
        """Make intervals due at once: a process that lives shorter than one would never get there."""
        self.name = name
        self._entry = entry
        if isinstance(entry.schedule, schedule):
            entry.last_run_at -= entry.schedule.run_every  # type: ignore[attr-defined]  # the same

    def take_due(self) -> bool:
        """Is it due? If so, the next time is counted from now."""
        due, _ = self._entry.is_due()
        if due:
            self._entry = next(self._entry)
        return due

    def run(self) -> None:
        """Run the task to its end, here. Raises what it raises."""
        _app().tasks[str(self._entry.task)].apply(self._entry.args, self._entry.kwargs, throw=True)


def runs_inline() -> bool:
    """Is there no broker, so that tasks run where they are called?"""
    return bool(_app().conf.task_always_eager)


def run_now(name: str) -> bool:
    """Run a job of the schedule: by a worker, soon (True), or without a broker to its end, here and now.

    Raises what it raises; KeyError for one that is not scheduled.
    """
    app = _app()
    app.loader.import_default_modules()
    task = app.tasks[app.conf.beat_schedule[name]["task"]]
    if not runs_inline():
        task.apply_async()
        return True
    task.apply(throw=True)
    return False


def scheduled() -> list[Periodic]:
    """Return the entries of the configured beat schedule, with all tasks registered."""
    app = _app()
    app.loader.import_default_modules()
    return [
        Periodic(name, ScheduleEntry(**entry, name=name, app=app))
        for name, entry in (app.conf.beat_schedule or {}).items()
    ]


def _app() -> Celery:
    app: Celery = write_request_logs.app
    return app
