"""The Celery tasks of budgets: they find what was reached, and tell of it. Both may run several at a time."""

from celery import shared_task
from django.utils import timezone

from config.jobs import counted, job
from keys.alert_delivery import deliver_due
from keys.alerting import find_reached


@shared_task(name="keys.tasks.tell_of_budgets")
@job(
    "tell-of-budgets",
    title="Budget alerts",
    does="Tells of budgets that have reached one of their percentages, until it has worked.",
    told=lambda tried: counted(tried, "message") + " sent or tried" if tried else "",
)
def tell_of_budgets() -> int:
    """Look at the windows to which something was booked, and tell of what they reached; return how many."""
    find_reached(timezone.now())
    return deliver_due(timezone.now())


@shared_task(name="keys.tasks.look_through_budgets")
@job(
    "look-through-budgets",
    title="Look through budgets",
    does="Finds budgets that have reached a percentage though nothing was booked: their limit has come down.",
    told=lambda reached: counted(reached, "budget") + " had reached a percentage" if reached else "",
)
def look_through_budgets() -> int:
    """Look at all windows: what was reached is told by `tell_of_budgets`."""
    return find_reached(timezone.now(), everything=True)
