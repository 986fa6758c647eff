"""Finds the percentages that budgets have reached, and notes who is to be told: once in each window.

A window is looked at when something was booked to it, and all of them now and then, because a limit may come
down by itself: an operator lowers it, or a raise ends.
"""

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from django.conf import settings
from django.db import transaction
from django.db.models import Q, QuerySet

from keys.calendar import FIRST, zone_of
from keys.limits import Ceiling
from keys.models import AlertDelivery, Budget, BudgetAlert, BudgetWindow

# A booking may be committed some time after it was written down, and a run may have been missed.
BOOKED_WITHIN = timedelta(minutes=2)
# What was spent just before a window's end is booked after it.
TOLD_AFTER_END_S = 600
LONGEST_WINDOW = timedelta(days=32)
TENANTS, OPERATORS = "tenant", "operators"


class Reached(NamedTuple):
    """A window of which some percentages were reached, and the limit that was in force then."""

    window_id: int
    limit_nanousd: int


def find_reached(now: datetime, *, everything: bool = False) -> int:
    """Write an alert for each percentage that was reached for the first time; return for how many windows.

    `everything`: not only the windows to which something was booked lately.
    """
    found = [reached for window in _windows(now, everything=everything) if (reached := _reached(window, now))]
    for reached in found:
        _alert(reached, now)
    return len(found)


def ceiling_of(budget: Budget) -> Ceiling:
    """Return a row's calendar and limit."""
    raised_until = budget.raised_until
    return Ceiling(
        budget.pk,
        budget.amount_nanousd,
        budget.window,
        zone=zone_of(zone_name(budget)),
        raised_nanousd=budget.raised_nanousd,
        raised_until=None if raised_until is None else raised_until.timestamp(),
    )


def zone_name(budget: Budget) -> str:
    """Return the time zone of a budget's windows, by its name."""
    tenant = budget.tenant or (budget.key.tenant if budget.key else None)
    return tenant.timezone if tenant else "UTC"


def targets_of(budget: Budget) -> list[tuple[str, str]]:
    """Return who is to be told, each once: the tenant's people, and the operators."""
    tenant = budget.tenant or (budget.key.tenant if budget.key else None)
    env = settings.GATEWAY
    addresses = [*(tenant.alert_emails if tenant else ()), *env.budget_alert_emails]
    targets = [(AlertDelivery.Kind.EMAIL.value, address) for address in addresses]
    if tenant and tenant.alert_webhook:
        targets.append((AlertDelivery.Kind.WEBHOOK.value, TENANTS))
    if env.budget_alert_webhook_url:
        targets.append((AlertDelivery.Kind.WEBHOOK.value, OPERATORS))
    return list(dict.fromkeys(targets))


def _windows(now: datetime, *, everything: bool) -> QuerySet[BudgetWindow]:
    rows = (
        BudgetWindow.objects.filter(budget__enabled=True, spent_nanousd__gt=0)
        .select_related("budget__tenant", "budget__key__tenant")
        .prefetch_related("alerts")
        .order_by("pk")
    )
    if everything:
        return rows.filter(Q(starts_at__gte=now - LONGEST_WINDOW) | Q(starts_at=FIRST))
    return rows.filter(updated_at__gte=now - BOOKED_WITHIN)


def _reached(window: BudgetWindow, now: datetime) -> Reached | None:
    """Return the window if a percentage of it was reached of which there is no alert."""
    ceiling = ceiling_of(window.budget)
    span = ceiling.span_at(window.starts_at.timestamp())
    at = now.timestamp()
    if span.start != int(window.starts_at.timestamp()) or at >= span.end + TOLD_AFTER_END_S:
        return None  # its calendar has changed since, or it is over
    limit = ceiling.limit_at(min(at, span.end - 1))
    known = {alert.percent for alert in window.alerts.all()}
    new = _percents(window, limit) - known
    return Reached(window.pk, limit) if new else None


def _percents(window: BudgetWindow, limit: int) -> set[int]:
    spent = window.spent_nanousd
    return {each for each in window.budget.alert_percents if spent > 0 and spent * 100 >= each * limit}


def _alert(reached: Reached, now: datetime) -> None:
    """Write the alerts of a window. Its row is locked: of two processes, one finds nothing left to write."""
    with transaction.atomic():
        windows = BudgetWindow.objects.select_for_update(of=("self",)).select_related(
            "budget__tenant", "budget__key__tenant"
        )
        window = windows.filter(pk=reached.window_id).first()
        if window is None:
            return  # the budget was deleted
        known = set(window.alerts.values_list("percent", flat=True))
        new = sorted(_percents(window, reached.limit_nanousd) - known)
        if not new:
            return
        alerts = BudgetAlert.objects.bulk_create(
            BudgetAlert(
                window=window,
                percent=percent,
                spent_nanousd=window.spent_nanousd,
                limit_nanousd=reached.limit_nanousd,
            )
            for percent in new
        )
        # One message for all that were reached at once; none where a higher one was told before.
        if new[-1] > max(known, default=0):
            _to_tell(alerts[-1], window.budget, now)
        else:
            window.alerts.filter(percent__in=new).update(sent_at=now)


def _to_tell(alert: BudgetAlert, budget: Budget, now: datetime) -> None:
    AlertDelivery.objects.bulk_create(
        AlertDelivery(alert=alert, kind=kind, address=address, due_at=now)
        for kind, address in targets_of(budget)
    )


def bounds_of(budget: Budget, starts_at: datetime) -> tuple[datetime, datetime] | None:
    """Return when the window that starts at `starts_at` begins and ends; None for one that never does."""
    if budget.window == Budget.Window.TOTAL:
        return None
    end = ceiling_of(budget).span_at(starts_at.timestamp()).end
    return starts_at, datetime.fromtimestamp(end, UTC)
