"""How a tenant's budgets stand by the ledger, and which rate limits hold for it.

What is spent is what has been booked, a second or two behind the last answer. What is held for running
requests, and how much of a rate limit is used at the moment, only the serving processes know: /v1/limits.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from django.db.models import Q

from analytics.dashboard.projection import Outlook, Projection, in_words, projected
from config.words import dollars
from keys import spending
from keys.calendar import bounds, zone_of
from keys.models import Budget, BudgetWindow, RateLimit, Tenant

NEAR = 80  # percent


@dataclass(frozen=True, slots=True)
class BudgetStanding:
    """A budget in the window that runs. Money in nano-dollars; `end` None: it never ends."""

    budget: Budget
    spent: int
    limit: int
    start: datetime
    end: datetime | None
    projection: Projection
    outlook: str

    @property
    def percent(self) -> int:
        """How much of it is spent, rounded down, from 0 to 100."""
        return 100 if self.limit <= 0 else max(min(100 * self.spent // self.limit, 100), 0)

    @property
    def state(self) -> str:
        """Return "full", "near" or "fine"."""
        if self.spent >= self.limit:
            return "full"
        over = self.projection.outlook is Outlook.OVER
        return "near" if over or self.percent >= NEAR else "fine"

    @property
    def name(self) -> str:
        """What it is called."""
        window = {"total": "in total"}.get(self.budget.window, f"per {self.budget.window}")
        model = f" for {self.budget.model}" if self.budget.model else ""
        return f"{dollars(self.budget.amount_nanousd)} {window}{model}"

    @property
    def holds_for(self) -> str:
        """Whom it holds for."""
        return f"key {self.budget.key}" if self.budget.key_id else "all keys together"

    @property
    def left(self) -> str:
        """Say what is left, or how much too much is spent."""
        rest = self.limit - self.spent
        return f"{dollars(rest)} left" if rest >= 0 else f"{dollars(-rest)} over"

    @property
    def spent_words(self) -> str:
        """Say what is spent."""
        return dollars(self.spent)

    @property
    def limit_words(self) -> str:
        """Say what may be spent, a raise included."""
        raised = " (raised)" if self.limit != self.budget.amount_nanousd else ""
        return f"{dollars(self.limit)}{raised}"


def budgets_of(tenant: Tenant, *, now: datetime) -> list[BudgetStanding]:
    """Return the enabled budgets of a tenant and its keys, those of all keys first. Two queries, mostly."""
    zone = zone_of(tenant.timezone)
    owned = Budget.objects.filter(Q(tenant=tenant) | Q(key__tenant=tenant), enabled=True)
    budgets = list(owned.select_related("key").order_by("key__name", "pk"))
    budgets.sort(key=lambda each: each.key_id is not None)
    windows = {each.pk: bounds(each.window, now, zone) for each in budgets}
    sums = _spent(budgets, {pk: start for pk, (start, _) in windows.items()}, tenant)
    found = []
    for budget in budgets:
        start, last = windows[budget.pk]
        end = None if budget.window == Budget.Window.TOTAL else last
        limit, spent = limit_at(budget, now), sums[budget.pk]
        projection = projected(spent=spent, limit=limit, start=start, end=end, now=now)
        words = in_words(projection, end=end, zone=zone)
        found.append(BudgetStanding(budget, spent, limit, start, end, projection, words))
    return found


def limit_at(budget: Budget, now: datetime) -> int:
    """Return what may be spent in the window around `now`, in nano-dollars."""
    until = budget.raised_until
    if budget.raised_nanousd is not None and until is not None and now < until:
        return int(budget.raised_nanousd)
    return int(budget.amount_nanousd)


def _spent(budgets: Sequence[Budget], starts: dict[int, datetime], tenant: Tenant) -> dict[int, int]:
    rows = BudgetWindow.objects.filter(budget__in=budgets, starts_at__in=set(starts.values()))
    kept = {(row.budget_id, row.starts_at): row.spent_nanousd for row in rows}
    return {
        each.pk: kept[each.pk, starts[each.pk]]
        if (each.pk, starts[each.pk]) in kept
        else _from_ledger(each, starts[each.pk], tenant)
        for each in budgets
    }


def _from_ledger(budget: Budget, start: datetime, tenant: Tenant) -> int:
    """Return the sum of a window that nothing has been booked to since its budget was made."""
    ceiling = spending.Ceiling(
        budget_id=budget.pk,
        key_id=budget.key_id,
        tenant_id=budget.tenant_id,
        model=budget.model,
        window=budget.window,
        zone=zone_of(tenant.timezone),
    )
    return spending.ledger_sums(ceiling, start).spent


@dataclass(frozen=True, slots=True)
class LimitInForce:
    """A rate limit in words."""

    words: str
    holds_for: str
    counted: str


def limits_of(tenant: Tenant) -> list[LimitInForce]:
    """Return the rate limits that may refuse a request of this tenant: its keys', its own, everyone's."""
    wanted = Q(tenant=tenant) | Q(key__tenant=tenant) | Q(tenant=None, key=None)
    rows = RateLimit.objects.filter(wanted, enabled=True).select_related("key", "tenant")
    found = [_in_words(row) for row in _ordered(rows)]
    if settings.GATEWAY.rpm_limit:
        found.append(LimitInForce(f"{settings.GATEWAY.rpm_limit:,} requests per minute", "everyone", ""))
    return found


def _ordered(rows: Iterable[RateLimit]) -> list[RateLimit]:
    def rank(row: RateLimit) -> tuple[int, str, int]:
        return (1 if row.key_id else 0 if row.tenant_id else 2, str(row.key or ""), row.pk)

    return sorted(rows, key=rank)


def _in_words(row: RateLimit) -> LimitInForce:
    owner = f"key {row.key}" if row.key_id else "this tenant" if row.tenant_id else "everyone"
    model = f" for {row.model}" if row.model else ""
    return LimitInForce(f"{row}{model}", owner, row.get_each_display() if row.each else "together")
