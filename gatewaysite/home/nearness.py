"""Which budgets and rate limits have little left, however many there are.

Budgets: of those that were booked to last. Rate limits: as the workers that live have told with their rows,
for what is used of them at the moment only the serving processes and Redis know.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from django.http import HttpRequest
from django.urls import reverse

from keys.admin_limits import left_of
from keys.models import ApiKey, BudgetWindow, RateLimit, Tenant
from proxy.models import WorkerState

LOOKED_AT, SHOWN = 300, 8
NEAR_PERCENT = 50

_ROW = "rate:"  # how rules are called that are rows; the others are settings
Told = Mapping[str, Any]


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


def near_limits(request: HttpRequest, workers: Iterable[WorkerState], now: datetime) -> list[dict[str, Any]]:
    """Return the rate limits that are at least half used, the fullest first."""
    told = _fullest(workers, now.timestamp())
    ids = {int(each["limit"].removeprefix(_ROW)) for each in told if each["limit"].startswith(_ROW)}
    rows = RateLimit.objects.filter(enabled=True).select_related("tenant", "key__tenant").in_bulk(ids)
    named = _Names(request, told)
    found = []
    for each in told:
        row = None
        if each["limit"].startswith(_ROW):
            row = rows.get(int(each["limit"].removeprefix(_ROW)))
            if row is None:  # it was taken away since
                continue
        found.append(_limit(each, row, named.of(each), now.timestamp()))
    near = [each for each in found if each["exact"] >= NEAR_PERCENT]  # a row's amount may be another by now
    return sorted(near, key=lambda each: -each["exact"])[:SHOWN]


def _fullest(workers: Iterable[WorkerState], now: float) -> Sequence[Told]:
    """Return each limit once: workers without Redis count each for itself, so the fullest tells most."""
    fullest: dict[str, Told] = {}
    for worker in workers:
        for each in worker.near_limits:
            over = each["resets_at"] is not None and each["resets_at"] <= now
            known = fullest.get(each["key"])
            if not over and (known is None or each["used"] > known["used"]):
                fullest[each["key"]] = each
    return list(fullest.values())


def _limit(told: Told, row: RateLimit | None, counted: str, now: float) -> dict[str, Any]:
    amount = told["amount"] if row is None else row.amount
    exact = 100 * told["used"] / amount
    return {
        "url": "" if row is None else reverse("admin:keys_ratelimit_change", args=[row.pk]),
        "owner": (row.scope if row is not None else "everyone") + (f", {counted}" if counted else ""),
        "name": told["words"] if row is None else str(row),
        "used": f"{told['used']:,} of {amount:,}",
        "percent": min(round(exact), 100),
        "exact": exact,
        "resets": _resets(told, now),
    }


def _resets(told: Told, now: float) -> str:
    if told["resets_at"] is None:
        return "one is free when a request ends"
    frees, resets = told["frees_at"], told["resets_at"]
    if frees is None or frees >= resets - 1:  # all of it came together
        return f"all of it is free {_in(resets - now)} at the latest"
    return f"some is free {_in(frees - now)}, all of it {_in(resets - now)} at the latest"


def _in(seconds: float) -> str:
    seconds = max(round(seconds), 0)
    if not seconds:
        return "now"
    hours, minutes = seconds // 3600, seconds // 60 % 60
    if hours:
        return f"in {hours} h {minutes} min"
    return f"in {minutes} min {seconds % 60} s" if minutes else f"in {seconds} s"


class _Names:
    """Who has a count for itself, by name for those who may see names."""

    def __init__(self, request: HttpRequest, told: Sequence[Told]) -> None:
        self._known: dict[str, Mapping[str, str]] = {}
        columns: Sequence[tuple[str, type[ApiKey | Tenant], Sequence[str], str]] = (
            ("key", ApiKey, ("tenant__name", "name"), "keys.view_apikey"),
            ("tenant", Tenant, ("name",), "keys.view_tenant"),
        )
        for each, model, fields, permission in columns:
            ids = {one["who"] for one in told if one["each"] == each and one["who"].isdecimal()}
            if ids and request.user.has_perm(permission):
                rows = model.objects.filter(pk__in=ids).values_list("pk", *fields)
                self._known[each] = {str(pk): "/".join(names) for pk, *names in rows}

    def of(self, told: Told) -> str:
        """Return who it is, "" where all share one count."""
        each, who = told["each"], told["who"]
        if each in {"key", "tenant"}:
            return f"{each} {self._known.get(each, {}).get(who, f'number {who}')}"
        return {"model": f"model {who}", "ip": f"address {who}"}.get(each, "")
