"""What budgets have spent and have left in the windows that run now, and raises for a while."""

from datetime import datetime
from typing import Any

from django.db.models import OuterRef, QuerySet, Subquery
from django.utils import timezone
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from config.moments import whole_moment
from config.money import usd
from gatewaysite.api import etags, pages
from gatewaysite.api.base import answer
from gatewaysite.api.bodies import mapping
from gatewaysite.api.filters import BudgetFilters
from gatewaysite.api.kinds import invalid
from gatewaysite.api.limits import BUDGETS
from gatewaysite.api.resources import KindView, writing
from gatewaysite.api.shapes import Dollars, SignedDollars, shape
from keys.calendar import bounds, zone_of
from keys.models import Budget, BudgetWindow

WindowSerializer = shape(
    "BudgetWindow",
    {
        "budget": serializers.IntegerField(help_text="Its id."),
        "tenant": serializers.CharField(allow_null=True),
        "key": serializers.CharField(allow_null=True),
        "model": serializers.CharField(allow_blank=True),
        "window": serializers.ChoiceField(choices=Budget.Window.values),
        "enabled": serializers.BooleanField(),
        "starts_at": serializers.DateTimeField(),
        "ends_at": serializers.DateTimeField(help_text="When the next begins, in the tenant's time zone."),
        "limit_usd": Dollars(help_text="What may be spent, raised or not."),
        "spent_usd": SignedDollars(help_text="What is, as the ledger says."),
        "left_usd": SignedDollars(help_text="The rest; negative: overspent."),
        "raised": serializers.BooleanField(help_text="Does a raise hold now?"),
    },
    "A budget's window that runs now.",
)
RaiseSerializer = shape(
    "BudgetRaise",
    {
        "raised_usd": Dollars(help_text="What may be spent instead."),
        "raised_until": serializers.DateTimeField(help_text="Until when."),
    },
    "That a budget is another one for a while.",
)


class BudgetWindows(KindView):
    """The windows of all budgets that one may see."""

    kind = BUDGETS
    parameters = frozenset({*BudgetFilters.base_filters, *pages.PARAMETERS})
    filterset_class = BudgetFilters
    scopes = ("usage",)

    def get_queryset(self) -> QuerySet[Budget]:
        """Return the budgets, each with its newest window."""
        newest = BudgetWindow.objects.filter(budget=OuterRef("pk"), starts_at__lte=timezone.now())
        newest = newest.order_by("-starts_at")
        budgets: QuerySet[Budget] = BUDGETS.rows(self.seen)
        return budgets.annotate(
            window_starts_at=Subquery(newest.values("starts_at")[:1]),
            window_spent=Subquery(newest.values("spent_nanousd")[:1]),
        )

    def get(self, request: Request) -> Response:
        """Answer with a page."""
        narrowed = BudgetFilters(request.query_params, queryset=self.get_queryset(), request=request)
        if not narrowed.is_valid():
            raise ValidationError(narrowed.errors)
        found, cursor = pages.page(request, narrowed.qs, ("id",))
        now = timezone.now()
        return answer({"items": [_standing(row, now) for row in found], "next_cursor": cursor})


class RaiseBudget(KindView):
    """Raises a budget for a while, or ends that."""

    kind = BUDGETS
    post_takes = "change"

    def post(self, request: Request, id: int) -> Response:  # noqa: A002 - the address's word
        """Raise it."""
        body = mapping(request)
        for name in ("raised_usd", "raised_until"):
            if body.get(name) is None:
                raise invalid(name, "required")
        if extra := set(body) - {"raised_usd", "raised_until"}:
            raise invalid(min(extra), "unknown field; known: raised_until, raised_usd")
        return self._written(request, id, body)

    def delete(self, request: Request, id: int) -> Response:  # noqa: A002 - the address's word
        """Let the amount hold again."""
        return self._written(request, id, {"raised_usd": None, "raised_until": None})

    def _written(self, request: Request, pk: int, body: dict[str, Any]) -> Response:
        with writing():
            row = BUDGETS.find({"id": pk}, self.seen, lock=True)
            if row is None:
                raise self.missing({"id": pk})
            etags.check(request, self.tag(row))
            saved = BUDGETS.write(request, row, {"id": pk}, body, whole=False)
            if body["raised_until"] is not None and saved.raised_until <= timezone.now():
                raise invalid("raised_until", "is over")
            return self.shown(saved)


def _standing(row: Any, now: datetime) -> dict[str, Any]:
    tenant = row.key.tenant if row.key_id else row.tenant
    start, end = bounds(row.window, now, zone_of(tenant.timezone if tenant else "UTC"))
    raised = row.raised_nanousd is not None and row.raised_until is not None and now < row.raised_until
    limit = row.raised_nanousd if raised else row.amount_nanousd
    current = row.window_starts_at is not None and row.window_starts_at >= start
    spent = int(row.window_spent) if current else 0
    return {
        "budget": row.pk,
        "tenant": row.tenant.name if row.tenant else None,
        "key": row.key.name if row.key else None,
        "model": row.model,
        "window": row.window,
        "enabled": row.enabled,
        "starts_at": whole_moment(start),
        "ends_at": whole_moment(end),
        "limit_usd": usd(limit),
        "spent_usd": usd(spent),
        "left_usd": usd(limit - spent),
        "raised": raised,
    }
