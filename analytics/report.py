"""What the daily report says of a day: its sums, who and what was dearest, and budgets near their end."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

from analytics import usage
from analytics.usage import Figures, Period
from config.money import usd
from keys.alerting import ceiling_of
from keys.models import Budget, BudgetWindow, Tenant

TOP = 5
NEAR_PERCENT = 80


def report_of(day: date, *, zone: ZoneInfo, now: datetime) -> dict[str, Any]:
    """Return the report of a zone's day as JSON. Money is decimal dollars in texts."""
    period = Period.dates(day, 1, zone)
    whole = usage.totals(period)
    tenants = usage.by("tenant", period, limit=TOP)
    names: Mapping[int, str] = dict(
        Tenant.objects.filter(pk__in=[tenant_id for tenant_id, _ in tenants]).values_list("pk", "name")
    )
    return {
        "type": "daily_report",
        "id": f"daily-report-{day}",
        "day": str(day),
        "timezone": zone.key,
        **_figures(whole),
        "hit_rate": whole.hit_rate,
        "saved_usd": usd(whole.saved_nanousd),
        "unpriced": whole.unpriced,
        "tenants": [
            {"tenant": names.get(tenant_id, f"#{tenant_id}" if tenant_id else "none"), **_figures(figures)}
            for tenant_id, figures in tenants
        ],
        "models": [
            {"model": name or "none", **_figures(figures)}
            for name, figures in usage.by("model", period, limit=TOP)
        ],
        "budgets_near_their_end": _near(now),
    }


def subject_of(report: Mapping[str, Any]) -> str:
    """Return the mail's subject."""
    return f"LLM gateway, {report['day']}: {report['requests']:,} requests, {_dollars(report)}"


def text_of(report: Mapping[str, Any]) -> str:
    """Return the mail's text."""
    hit_rate = "" if report["hit_rate"] is None else f" ({report['hit_rate']:.1%} of lookups)"
    lines = [
        f"{report['day']} ({report['timezone']})",
        "",
        f"Requests       {report['requests']:,}",
        f"Errors         {report['errors']:,}",
        f"Tokens         {report['tokens']:,}",
        f"Cost           {_dollars(report)}",
        f"Cache saved    ${report['saved_usd']}{hit_rate}",
    ]
    if report["unpriced"]:
        lines.append(f"Not in the cost: {report['unpriced']:,} answers whose price is unknown")
    lines += _listed("Tenants", "tenant", report["tenants"]) + _listed("Models", "model", report["models"])
    if report["budgets_near_their_end"]:
        lines += ["", "Budgets near their end"]
        lines += [
            f"  {each['scope']}: ${each['spent_usd']} of ${each['limit_usd']} ({each['window']}), "
            f"{each['percent']}%"
            for each in report["budgets_near_their_end"]
        ]
    return "\n".join(lines) + "\n"


def _figures(figures: Figures) -> dict[str, Any]:
    return {
        "requests": figures.requests,
        "errors": figures.errors,
        "tokens": figures.tokens,
        "cost_usd": usd(figures.cost_nanousd),
    }


def _dollars(figures: Mapping[str, Any]) -> str:
    return f"${figures['cost_usd']}"


def _listed(title: str, name: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    if not rows:
        return []
    lines = [f"  {row[name]}: {row['requests']:,} requests, {_dollars(row)}" for row in rows]
    return ["", f"{title} by cost", *lines]


def _near(now: datetime) -> list[dict[str, Any]]:
    """Return the budgets of which little is left now, the fullest first."""
    found = []
    for budget in Budget.objects.filter(enabled=True).select_related("tenant", "key__tenant"):
        ceiling = ceiling_of(budget)
        start = ceiling.span_at(now.timestamp()).start
        limit = ceiling.limit_at(now.timestamp())
        row = BudgetWindow.objects.filter(
            budget=budget, starts_at=datetime.fromtimestamp(start, now.tzinfo)
        ).first()
        if row is None or row.spent_nanousd * 100 < limit * NEAR_PERCENT:
            continue
        found.append(
            {
                "budget": budget.pk,
                "scope": str(budget.scope),
                "window": budget.window,
                "spent_usd": usd(row.spent_nanousd),
                "limit_usd": usd(limit),
                "percent": row.spent_nanousd * 100 // limit if limit else 100,
            }
        )
    return sorted(found, key=lambda each: -each["percent"])
