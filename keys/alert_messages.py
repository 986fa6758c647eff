"""What people and webhooks are told when a budget has reached a percentage."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from django.conf import settings
from django.urls import reverse

from config.money import usd
from config.words import dollars
from keys.alerting import bounds_of, zone_name
from keys.calendar import zone_of
from keys.models import Budget, BudgetAlert

TYPE = "budget.threshold"


def subject_of(alert: BudgetAlert) -> str:
    """Return a mail's subject, on one line."""
    budget = alert.window.budget
    spent = f"{dollars(alert.spent_nanousd)} of {dollars(alert.limit_nanousd)} {_per(budget)}"
    return " ".join(f"Budget of {budget.scope}: {alert.percent} % spent ({spent})".split())


def text_of(alert: BudgetAlert) -> str:
    """Return a mail's text, with times as the tenant's clocks show them."""
    budget = alert.window.budget
    zone = zone_of(zone_name(budget))
    rows = {
        "Budget": f"{dollars(alert.limit_nanousd)} {_per(budget)} (budget:{budget.pk})",
        "Holds for": budget.scope,
        "Spent": f"{dollars(alert.spent_nanousd)}{_share(alert)}",
        "Left": dollars(max(alert.limit_nanousd - alert.spent_nanousd, 0)),
        "Window": _window(alert, zone),
        "Resets": _reset(alert, zone),
        "Reached": _local(alert.reached_at, zone),
    }
    table = "\n".join(f"{name + ':':<11}{value}" for name, value in rows.items())
    link = _link(budget)
    return (
        f"The budget of {budget.scope} has reached {alert.percent} % of what may be spent.\n\n{table}\n\n"
        f"{_consequence(budget)}\n" + (f"\n{link}\n" if link else "")
    )


def json_of(alert: BudgetAlert) -> dict[str, Any]:
    """Return a webhook's body. `id` is the same each time that it is tried."""
    window = alert.window
    budget = window.budget
    tenant = budget.tenant or (budget.key.tenant if budget.key else None)
    bounds = bounds_of(budget, window.starts_at)
    return {
        "type": TYPE,
        "id": f"budget-alert-{alert.pk}",
        "budget": f"budget:{budget.pk}",
        "tenant": tenant.name if tenant else None,
        "key": budget.key.name if budget.key else None,
        "model": budget.model or None,
        "percent": alert.percent,
        "spent_usd": usd(alert.spent_nanousd),
        "limit_usd": usd(alert.limit_nanousd),
        "window": budget.window,
        "window_starts_at": _iso(bounds[0]) if bounds else None,
        "window_ends_at": _iso(bounds[1]) if bounds else None,
        "at": _iso(alert.reached_at),
    }


def _per(budget: Budget) -> str:
    return "in total" if budget.window == Budget.Window.TOTAL else f"per {budget.window}"


def _share(alert: BudgetAlert) -> str:
    if not alert.limit_nanousd:
        return ""
    return f" ({alert.spent_nanousd * 100 / alert.limit_nanousd:.1f} %)"


def _window(alert: BudgetAlert, zone: ZoneInfo) -> str:
    bounds = bounds_of(alert.window.budget, alert.window.starts_at)
    return "all time" if bounds is None else f"{_local(bounds[0], zone)} to {_local(bounds[1], zone)}"


def _reset(alert: BudgetAlert, zone: ZoneInfo) -> str:
    bounds = bounds_of(alert.window.budget, alert.window.starts_at)
    return "never" if bounds is None else _local(bounds[1], zone)


def _consequence(budget: Budget) -> str:
    most: Mapping[str, str] = {Budget.Mode.STRICT: "may cost", Budget.Mode.SOFT: "are likely to cost"}
    until = "" if budget.window == Budget.Window.TOTAL else " until it resets"
    return f"Requests that {most[budget.mode]} more than what is left are refused{until}."


def _link(budget: Budget) -> str:
    base = settings.GATEWAY.app_base_url.rstrip("/")
    return f"{base}{reverse('admin:keys_budget_change', args=[budget.pk])}" if base else ""


def _local(at: datetime, zone: ZoneInfo) -> str:
    return f"{at.astimezone(zone):%Y-%m-%d %H:%M} ({zone.key})"


def _iso(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
