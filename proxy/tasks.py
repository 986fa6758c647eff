"""The Celery tasks of the hot path's store."""

from celery import shared_task

from config.jobs import job
from proxy.store.stuck import sweep


@shared_task(name="proxy.tasks.sweep_holds")
@job(
    "sweep-holds",
    title="Sweep stuck holds",
    does="Frees budget holds and concurrency slots of processes that are gone, where no other process has.",
)
def sweep_holds() -> str:
    """Free what nobody else has; say what it was."""
    return sweep()
