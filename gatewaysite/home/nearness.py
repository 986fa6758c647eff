"""Which budgets have little left: of those that were booked to last, however many there are."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from django.urls import reverse

from keys.admin_limits import left_of
from keys.models import BudgetWindow

LOOKED_AT, SHOWN = 300, 8
NEAR_PERCENT = 50


def near_budgets(now: datetime) -> list[dict[str, Any]]:
    """Return the budgets whose window is at least half spent, the fullest first."""
    return sorted(_near(now), key=lambda each: -each["exact"])[:SHOWN]


def _near(now: datetime) -> Iterator[dict[str, Any]]:
    rows = BudgetWindow.objects.filter(budget__enabled=True).order_by("-updated_at")
    for window in rows.select_related("budget__tenant", "budget__key__tenant")[:LOOKED_AT]:
        standing = left_of(window, now)
        if standing is None:
            continue
        spent, limit = standing
        exact = 100 * spent / limit if limit > 0 else 100.0
        if exact < NEAR_PERCENT or spent <= 0:
            continue
        budget = window.budget
        yield {
            "url": reverse("admin:keys_budget_change", args=[budget.pk]),
            "name": str(budget),
            "owner": str(budget.scope),
            "percent": min(round(exact), 100),
            "shown": f"{exact:,.0f} %",
            "exact": exact,
        }
