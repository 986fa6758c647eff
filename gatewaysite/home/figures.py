"""The first page's figures with their changes, and its charts: two queries, however much there is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from analytics.charts import Chart, Series
from analytics.usage import Figures, by_time, totals
from config.words import about, dollars, duration
from gatewaysite.home.ranges import Range

NO_FIGURES = Figures()


@dataclass(frozen=True, slots=True)
class Card:
    """One figure. `change` is in words; `tone` says whether it is for the better: good, bad or ""."""

    title: str
    value: str
    note: str = ""
    change: str = ""
    tone: str = ""


@dataclass(frozen=True, slots=True)
class Overall:
    """What the period came to."""

    cards: Sequence[Card]
    charts: Sequence[Chart]
    whole: Figures


def overall(chosen: Range) -> Overall:
    """Return figures and charts of a period."""
    steps = [figures for _, figures in by_time(chosen.period, latency=True)]
    whole, over = _sum(steps), _sum(steps[: chosen.steps_over])
    before = NO_FIGURES if chosen.before is None else totals(chosen.before, latency=True)
    return Overall(_cards(whole, over, before), _charts(chosen, steps), whole)


def _sum(steps: Sequence[Figures]) -> Figures:
    return sum(steps, NO_FIGURES)


def _cards(whole: Figures, over: Figures, before: Figures) -> list[Card]:
    def card(
        title: str,
        value: str,
        measure: Callable[[Figures], float | None],
        *,
        note: str = "",
        better: str = "",
    ) -> Card:
        words, tone = _change(measure(over), measure(before), better=better)
        return Card(title, value, note, words, tone)

    return [
        card("Requests", f"{whole.requests:,}", lambda f: f.requests, note=f"{whole.streams:,} streamed"),
        card(
            "Failed",
            _percent(whole.error_rate),
            lambda f: f.error_rate,
            note=f"{whole.errors:,} requests, {whole.limited:,} of them over a limit",
            better="less",
        ),
        card("Cost", about(whole.cost_nanousd), lambda f: f.cost_nanousd, note=_exactly(whole)),
        card(
            "Tokens",
            f"{whole.tokens:,}",
            lambda f: f.tokens,
            note=f"{whole.prompt_tokens:,} in, {whole.completion_tokens:,} out",
        ),
        card(
            "Latency, p50",
            duration(whole.latency_ms(0.5)),
            lambda f: f.latency_ms(0.5),
            note=f"p95 {duration(whole.latency_ms(0.95))}",
            better="less",
        ),
        card(
            "First content, p50",
            duration(whole.ttft_ms(0.5)),
            lambda f: f.ttft_ms(0.5),
            note=f"p95 {duration(whole.ttft_ms(0.95))}, of streams",
            better="less",
        ),
        card(
            "Cache hits",
            _percent(whole.hit_rate),
            lambda f: f.hit_rate,
            note=f"{whole.hits:,} of {whole.hits + whole.misses:,} lookups",
            better="more",
        ),
        card(
            "Saved by the cache",
            about(whole.saved_nanousd),
            lambda f: f.saved_nanousd,
            note=f"exactly {dollars(whole.saved_nanousd)}",
            better="more",
        ),
    ]


def _change(now: float | None, before: float | None, *, better: str) -> tuple[str, str]:
    """Say how a measure has changed, and whether that is good."""
    if now is None or not before:
        return "", ""
    percent = 100 * (now - before) / before
    if abs(percent) < 0.5:
        return "the same as", ""
    direction = "more" if percent > 0 else "less"
    size = f"{abs(percent):,.0f} %" if percent < 1000 else f"{now / before:,.0f} times"
    tone = "" if not better else "good" if direction == better else "bad"
    return f"{'▲' if percent > 0 else '▼'} {size} {direction} than", tone


def _charts(chosen: Range, steps: Sequence[Figures]) -> list[Chart]:
    period = chosen.period
    refused = [each.refused for each in steps]
    return [
        Chart.of_time(
            "requests",
            "Requests",
            period,
            [
                Series("Answered", [each.requests - each.errors for each in steps], "good"),
                Series("Refused (4xx)", refused, "warn"),
                Series("Failed", [each.errors - each.refused for each in steps], "bad"),
            ],
            unit="count",
            stacked=True,
        ),
        Chart.of_time(
            "cost",
            "Cost, and what the cache saved",
            period,
            [
                Series("Cost", [each.cost_nanousd for each in steps], "accent"),
                Series("Saved", [each.saved_nanousd for each in steps], "good"),
            ],
            unit="usd",
        ),
        Chart.of_time(
            "tokens",
            "Tokens",
            period,
            [
                Series("Prompts", [each.prompt_tokens for each in steps]),
                Series("Answers", [each.completion_tokens for each in steps]),
            ],
            unit="tokens",
            stacked=True,
        ),
        Chart.of_time(
            "latency",
            "Latency",
            period,
            [
                Series("p50", [each.latency_ms(0.5) for each in steps]),
                Series("p95", [each.latency_ms(0.95) for each in steps], "warn"),
            ],
            unit="ms",
            kind="line",
        ),
        Chart.of_time(
            "ttft",
            "Time to first content, of streams",
            period,
            [
                Series("p50", [each.ttft_ms(0.5) for each in steps]),
                Series("p95", [each.ttft_ms(0.95) for each in steps], "warn"),
            ],
            unit="ms",
            kind="line",
        ),
        Chart.of_time(
            "hits",
            "Cache hits among lookups",
            period,
            [Series("Hits", [_share(each.hit_rate) for each in steps], "good")],
            unit="percent",
            kind="line",
        ),
    ]


def _share(rate: float | None) -> float | None:
    return None if rate is None else 100 * rate


def _percent(rate: float | None) -> str:
    return "-" if rate is None else f"{100 * rate:.1f} %"


def _exactly(figures: Figures) -> str:
    """Return the cost in all its digits, and what is not in it."""
    unpriced = f"; {figures.unpriced:,} attempts had no known price" if figures.unpriced else ""
    return f"exactly {dollars(figures.cost_nanousd)}{unpriced}"
