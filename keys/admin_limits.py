"""Operators' screens for what limits callers: RateLimit, Budget, alone and inside other forms."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from unfold.contrib.filters.admin import ChoicesDropdownFilter, DropdownFilter
from unfold.widgets import UnfoldAdminTextInputWidget

from config.form_fields import PercentsField
from config.screens import OnOffActions, Rows, Screen, display
from config.words import dollars
from keys.calendar import bounds, zone_of
from keys.models import Budget, BudgetAlert, BudgetWindow, RateLimit

LATEST_ALERTS = 20


class RateLimitForm(forms.ModelForm):  # type: ignore[type-arg]  # generic only in the stubs
    """A rate limit."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Propose the window that most limits have."""
        super().__init__(*arguments, **options)
        if "per" in self.fields and self.instance.pk is None:
            self.fields["per"].initial = RateLimit.Per.MINUTE

    def clean(self) -> dict[str, Any]:
        """Leave the window out where nothing is counted in one, and ask for it where something is."""
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if cleaned.get("kind") == RateLimit.Kind.CONCURRENT:
            cleaned["per"] = ""
        elif not cleaned.get("per") and "per" not in self.errors:
            self.add_error("per", "Per what?")
        return cleaned


class RateLimitRows(Rows):
    """The limits of a tenant or key."""

    model = RateLimit
    form = RateLimitForm
    verbose_name_plural = "Rate limits"
    fields = ("kind", "amount", "per", "each", "model", "enabled")


class BudgetRows(Rows):
    """The budgets of a tenant or key; a raise and the alerts are on a budget's own form."""

    model = Budget
    verbose_name_plural = "Budgets"
    fields = ("amount_nanousd", "window", "mode", "model", "enabled", "more")
    readonly_fields = ("more",)

    @display(description="Raise, alerts")
    def more(self, obj: Any) -> str:
        """Link to the budget's own form."""
        if obj.pk is None:
            return "once saved"
        url = reverse("admin:keys_budget_change", args=[obj.pk])
        return format_html('<a class="gw-link" href="{}">edit</a>', url)


class OwnerFilter(DropdownFilter):  # type: ignore[misc]  # unfold ships no types
    """By whom a limit or budget holds for."""

    title = "holds for"
    parameter_name = "owner"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Sequence[tuple[str, str]]:
        """Return the choices."""
        return (("everyone", "Everyone"), ("tenant", "A tenant"), ("key", "A key"))

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Return the chosen ones."""
        chosen: Mapping[str, Mapping[str, Any]] = {
            "everyone": {"tenant": None, "key": None},
            "tenant": {"tenant__isnull": False},
            "key": {"key__isnull": False},
        }
        return queryset.filter(**chosen.get(self.value() or "", {}))


class _ScopeScreen(OnOffActions, Screen):
    """Limits and budgets, wherever they hold."""

    list_select_related = ("tenant", "key")
    search_fields = ("tenant__name", "key__name", "model")
    search_help_text = "Tenant, key or model"
    autocomplete_fields = ("tenant", "key")
    actions = ("enable_selected", "disable_selected")
    ordering = ("tenant__name", "key__name", "pk")

    @display(description="Holds for")
    def holds_for(self, obj: Any) -> str:
        """Say the owner in words."""
        return str(obj.scope)


_SCOPE = (
    "Holds for",
    {
        "fields": (("tenant", "key"), "model"),
        "description": "A key, or all keys of a tenant; with neither, everyone.",
    },
)


@admin.register(RateLimit)
class RateLimitAdmin(_ScopeScreen):
    """How much, how often."""

    form = RateLimitForm
    empty_hint = (
        "So many requests or tokens in a second, minute, hour or day, or so many requests at once: for "
        "everyone, a tenant or a key. Those of a tenant or key are on its own form, too."
    )
    list_display = ("__str__", "holds_for", "counted", "enabled")
    list_filter = (
        OwnerFilter,
        ("kind", ChoicesDropdownFilter),
        ("each", ChoicesDropdownFilter),
        "enabled",
    )
    fieldsets = ((None, {"fields": (("kind", "amount"), ("per", "each"), "enabled")}), _SCOPE)

    @display(description="Counted", ordering="each")
    def counted(self, obj: RateLimit) -> str:
        """Say who of those it holds for shares it."""
        return obj.get_each_display()


class BudgetForm(forms.ModelForm):  # type: ignore[type-arg]  # generic only in the stubs
    """A budget."""

    alert_percents = PercentsField(
        label="Tell at (%)",
        required=False,
        widget=UnfoldAdminTextInputWidget(attrs={"placeholder": "80, 100"}),
        help_text="A message for each of these, once in each window, when so much of it is spent. "
        "Default 80, 100. Empty: nobody is told.",
    )

    class Meta:
        """The date is below the amount here."""

        help_texts: Mapping[str, str] = {
            "raised_nanousd": "US dollars that hold instead of the amount until then. Empty: no raise."
        }

    def clean(self) -> dict[str, Any]:
        """Refuse half a raise, and one that lowers."""
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        raised, until = cleaned.get("raised_nanousd"), cleaned.get("raised_until")
        if {"raised_nanousd", "raised_until"} & set(self.errors):
            return cleaned
        if raised is not None and until is None:
            self.add_error("raised_until", "Say until when it is raised.")
        if until is not None and raised is None:
            self.add_error("raised_nanousd", "Say to how much it is raised.")
        if raised is not None and raised < cleaned.get("amount_nanousd", 0):
            self.add_error("raised_nanousd", "A raise is to more than the amount.")
        return cleaned


@admin.register(Budget)
class BudgetAdmin(_ScopeScreen):
    """How much money."""

    form = BudgetForm
    empty_hint = (
        "So many dollars in a day, week or month, or in total: for everyone, a tenant or a key. A request "
        "that might cost more than what is left is refused. Models need a price to count."
    )
    list_select_related = ("tenant", "key__tenant")
    list_display = ("__str__", "holds_for", "standing", "resets", "mode_label", "enabled", "alerts")
    list_filter = (OwnerFilter, ("window", ChoicesDropdownFilter), ("mode", ChoicesDropdownFilter), "enabled")
    readonly_fields = ("standing", "resets")
    _BASIC = (("amount_nanousd", "window"), ("mode", "enabled"), "refuse_unpriced")
    _RAISE = (
        "Temporary raise",
        {
            "fields": ("raised_nanousd", "raised_until"),
            "description": "Another amount until a date (UTC), in force within a second. It ends by itself.",
        },
    )
    _ALERTS = (
        "Alerts",
        {
            "fields": ("alert_percents",),
            "description": "They go to the e-mail addresses and the webhook on the tenant's form, and to "
            "those for all budgets (BUDGET_ALERT_EMAILS, BUDGET_ALERT_WEBHOOK_URL).",
        },
    )
    add_fieldsets = ((None, {"fields": _BASIC}), _SCOPE, _RAISE, _ALERTS)
    fieldsets = (
        (None, {"fields": (("standing", "resets"), *_BASIC)}),
        _SCOPE,
        _RAISE,
        _ALERTS,
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Budget]:
        """Read the newest window of each along."""
        newest = BudgetWindow.objects.filter(budget=OuterRef("pk"), starts_at__lte=timezone.now())
        newest = newest.order_by("-starts_at")
        found: QuerySet[Budget] = super().get_queryset(request)
        return found.annotate(
            window_starts_at=Subquery(newest.values("starts_at")[:1]),
            window_spent=Subquery(newest.values("spent_nanousd")[:1]),
        )

    @display(description="Spent in this window")
    def standing(self, obj: Any) -> str:
        """Show what is spent and what is left, as a bar and in words."""
        now = timezone.now()
        limit, spent = _limit_at(obj, now), _spent_at(obj, now)
        percent = 100 if limit <= 0 else min(round(100 * spent / limit), 100)
        left = f"{_short(limit - spent)} left" if spent <= limit else f"{_short(spent - limit)} over"
        raised = " (raised)" if limit != obj.amount_nanousd else ""
        return format_html(
            '<div><div class="gw-bar {}" role="img" aria-label="{}%"><span style="width: {}%"></span></div>'
            '<span class="gw-nowrap">{} of {}{}</span> <span class="gw-faint gw-nowrap">{}</span></div>',
            "gw-bar-full" if spent >= limit else "gw-bar-near" if percent >= 80 else "",
            percent,
            percent,
            _short(spent),
            _short(limit),
            raised,
            left,
        )

    @display(description="Resets")
    def resets(self, obj: Any) -> str:
        """Say when the next window begins."""
        if obj.window == Budget.Window.TOTAL:
            return "never"
        _, end = bounds(obj.window, timezone.now(), zone_of(_zone(obj)))
        return f"{end.astimezone(zone_of(_zone(obj))):%Y-%m-%d %H:%M} ({_zone(obj)})"

    @display(description="Mode", ordering="mode")
    def mode_label(self, obj: Budget) -> str:
        """Say it in a word: the whole sentence is on the form."""
        return obj.mode

    @display(description="Alerts")
    def alerts(self, obj: Budget) -> str:
        """Link to what it has reached."""
        url = f"{reverse('admin:keys_budgetalert_changelist')}?window__budget__id__exact={obj.pk}"
        return format_html('<a class="gw-link" href="{}">show</a>', url)


def used_up(now: datetime) -> Iterator[Budget]:
    """Yield the budgets with nothing left, of those with the latest alerts."""
    alerts = BudgetAlert.objects.filter(percent__gte=100).order_by("-pk")
    alerts = alerts.select_related("window__budget__tenant", "window__budget__key__tenant")
    for alert in alerts[:LATEST_ALERTS]:
        budget = alert.window.budget
        start, _ = bounds(budget.window, now, zone_of(_zone(budget)))
        if alert.window.starts_at < start or not budget.enabled:
            continue
        if alert.window.spent_nanousd >= _limit_at(budget, now):
            yield budget


def left_of(window: BudgetWindow, now: datetime) -> tuple[int, int] | None:
    """Return what a window has spent and its limit; None: it is over. Its budget's owners should be read."""
    start, _ = bounds(window.budget.window, now, zone_of(_zone(window.budget)))
    if window.starts_at < start:
        return None
    return window.spent_nanousd, _limit_at(window.budget, now)


def _short(nanousd: int) -> str:
    """Show dollars to a hundredth of a cent: the ledger has all digits."""
    return dollars(round(nanousd, -5))


def _limit_at(budget: Any, now: datetime) -> int:
    if budget.raised_nanousd is not None and budget.raised_until is not None and now < budget.raised_until:
        return int(budget.raised_nanousd)
    return int(budget.amount_nanousd)


def _spent_at(budget: Any, now: datetime) -> int:
    """Return what is spent in the window around `now`: of an older one's sum nothing counts."""
    start, _ = bounds(budget.window, now, zone_of(_zone(budget)))
    starts_at = budget.window_starts_at
    return int(budget.window_spent) if starts_at is not None and starts_at.astimezone(UTC) >= start else 0


def _zone(budget: Any) -> str:
    tenant = budget.key.tenant if budget.key_id else budget.tenant
    return str(tenant.timezone) if tenant is not None else "UTC"


def limits_in_words(owner: Any) -> str:
    """Say what holds for a tenant or key; its `ratelimits` and `budgets` should be prefetched."""
    rows = [row for row in (*owner.ratelimits.all(), *owner.budgets.all()) if row.enabled]
    return ", ".join(_in_words(row) for row in rows) or "none"


def _in_words(row: Any) -> str:
    each = f" for {row.get_each_display().lower()}" if getattr(row, "each", "") else ""
    return f"{row}{each} on {row.model}" if row.model else f"{row}{each}"
