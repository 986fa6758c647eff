"""The first page: usage, money, speed, budgets and limits of a tenant in a time. Reads sums alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.http import require_safe

from analytics import usage
from analytics.charts import Chart, Series
from analytics.dashboard.access import Seat, seated
from analytics.dashboard.names import is_id, key_names
from analytics.dashboard.pages import page
from analytics.dashboard.period_choice import CHOICES, PeriodChoice, chosen
from analytics.dashboard.standings import budgets_of, limits_of
from analytics.usage import Figures, Where
from config.words import about, dollars, duration
from keys.models import ApiKey, Budget

SHOWN = 10  # models and keys in the tables; the export has all


@dataclass(frozen=True, slots=True)
class Tile:
    """A number, and what is beside it."""

    title: str
    value: str
    note: str = ""
    name: str = ""


@require_safe
@seated("look")
def overview(request: HttpRequest, seat: Seat) -> HttpResponse:
    """Show it."""
    now = timezone.now()
    choice = chosen(request.GET, now=now, zone=seat.zone)
    key, model = _key(seat, request.GET.get("key", "")), request.GET.get("model", "")
    provider, _, short = model.partition("/")
    where = Where(tenant_id=seat.tenant.pk, key_id=key.pk if key else None, provider=provider, model=short)
    steps = [figures for _, figures in usage.by_time(choice.period, where, latency=True)]
    whole = sum(steps, Figures())
    context = {
        "choice": choice,
        "choices": CHOICES,
        "key": key,
        "model": model,
        "narrowed": urlencode(
            [*([("key", str(key.pk))] if key else []), *([("model", model)] if model else [])]
        ),
        "tiles": _tiles(whole, usage.totals(choice.period.before(), where)),
        "charts": _charts(choice, steps),
        "by_model": _table(usage.by("model", choice.period, where), {}),
        "by_key": _by_key(seat, choice, where),
        "shown": SHOWN,
        "empty": not whole.requests,
        "budgets": budgets_of(seat.tenant, now=now),
        "shared_budgets": Budget.objects.filter(tenant=None, key=None, enabled=True).exists(),
        "limits": limits_of(seat.tenant),
    }
    return page(request, seat, "overview", context)


def _key(seat: Seat, ref: str) -> ApiKey | None:
    """Return the key of the tenant that is asked for; one that is not its own is none."""
    return ApiKey.objects.filter(tenant=seat.tenant, pk=int(ref)).first() if is_id(ref) else None


def _tiles(whole: Figures, before: Figures) -> list[Tile]:
    unpriced = f"{whole.unpriced:,} calls without a known price" if whole.unpriced else ""
    unbilled = f"{dollars(whole.unbilled_nanousd)} of it in no budget" if whole.unbilled_nanousd else ""
    exact = f"exactly {dollars(whole.cost_nanousd)}"
    failed = f"{whole.refused:,} refused (4xx), {whole.limited:,} of them by a limit"
    tokens = f"{whole.prompt_tokens:,} in, {whole.completion_tokens:,} out"
    return [
        Tile("Requests", f"{whole.requests:,}", _change(whole.requests, before.requests), "requests"),
        Tile("Cost", about(whole.cost_nanousd), "; ".join(filter(None, (exact, unpriced, unbilled))), "cost"),
        Tile("Errors", _percent(whole.error_rate), f"{whole.errors:,}: {failed}", "errors"),
        Tile("Tokens", f"{whole.tokens:,}", tokens, "tokens"),
        Tile("Cache hits", _percent(whole.hit_rate), f"saved {dollars(whole.saved_nanousd)}", "hits"),
        Tile(
            "Latency, median",
            duration(whole.latency_ms(0.5)),
            f"95 % within {duration(whole.latency_ms(0.95))}; first content {duration(whole.ttft_ms(0.5))}",
            "latency",
        ),
    ]


def _change(now: int, before: int) -> str:
    if not before:
        return "none in the time before"
    percent = round(100 * (now - before) / before)
    return "as in the time before" if not percent else f"{percent:+,} % against the time before"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:,.1f} %"


def _charts(choice: PeriodChoice, steps: Sequence[Figures]) -> list[Chart]:
    period = choice.period
    answered = [each.requests - each.errors for each in steps]
    return [
        Chart.of_time(
            "chart-cost",
            "Cost",
            period,
            [Series("Cost", [s.cost_nanousd for s in steps], "accent")],
            unit="usd",
        ),
        Chart.of_time(
            "chart-requests",
            "Requests",
            period,
            [Series("Answered", answered, "good"), Series("Failed", [s.errors for s in steps], "bad")],
            unit="count",
            stacked=True,
        ),
        Chart.of_time(
            "chart-tokens",
            "Tokens",
            period,
            [
                Series("In", [s.prompt_tokens for s in steps]),
                Series("Out", [s.completion_tokens for s in steps]),
            ],
            unit="tokens",
            stacked=True,
        ),
        Chart.of_time(
            "chart-latency",
            "Latency",
            period,
            [
                Series("Median", [s.latency_ms(0.5) for s in steps], "accent"),
                Series("95 % within", [s.latency_ms(0.95) for s in steps], "warn"),
            ],
            unit="ms",
            kind="line",
        ),
    ]


def _by_key(seat: Seat, choice: PeriodChoice, where: Where) -> list[dict[str, Any]]:
    rows = usage.by("key", choice.period, where)
    return _table(rows, key_names(seat.tenant, [ref for ref, _ in rows[:SHOWN]]))


def _table(rows: Sequence[tuple[Any, Figures]], names: Mapping[Any, str]) -> list[dict[str, Any]]:
    return [
        {
            "ref": ref,
            "name": names.get(ref) or str(ref) or "none reached",
            "requests": f"{each.requests:,}",
            "errors": f"{each.errors:,}",
            "tokens": f"{each.tokens:,}",
            "cost": dollars(each.cost_nanousd),
        }
        for ref, each in rows[:SHOWN]
    ]
