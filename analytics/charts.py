"""Charts: what static/charts.js draws, and the same numbers as a table for those who cannot see it.

    chart = Chart.of_time("cost", "Cost", steps, period, [Series("Cost", costs, "accent")], unit="usd")
    {% include "charts/chart.html" with chart=chart %}      in a page that loads Chart.js and charts.js

The table has exact numbers; those that are drawn may be rounded.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from analytics.usage import Period
from config.money import NANO
from config.words import dollars, duration

Kind = Literal["bar", "line"]
Unit = Literal["usd", "count", "ms", "percent", "tokens"]
Tone = Literal["", "good", "bad", "warn", "accent"]


@dataclass(frozen=True, slots=True)
class Series:
    """One row of values: nano-dollars, numbers, milliseconds or percent (0 to 100). None: there is none."""

    label: str
    values: Sequence[float | None]
    tone: Tone = ""


@dataclass(frozen=True, slots=True)
class Chart:
    """One chart. `id` is the page's own name for it: letters, digits and dashes."""

    id: str
    title: str
    labels: Sequence[str]
    series: Sequence[Series]
    unit: Unit
    kind: Kind = "bar"
    stacked: bool = False
    axis: str = "Time"  # what the labels are

    @classmethod
    def of_time(
        cls,
        name: str,
        title: str,
        period: Period,
        series: Sequence[Series],
        *,
        unit: Unit,
        kind: Kind = "bar",
        stacked: bool = False,
    ) -> "Chart":
        """Return the chart of values for each step of `period`, as its zone's clocks show them."""
        return cls(name, title, time_labels(period), series, unit, kind, stacked, f"Time ({period.zone.key})")

    @property
    def drawing(self) -> dict[str, Any]:
        """What charts.js takes. Dollars are floats here: pixels, not money."""
        return {
            "kind": self.kind,
            "labels": list(self.labels),
            "series": [self._drawn(each) for each in self.series],
            "unit": self.unit,
            "stacked": self.stacked,
        }

    @property
    def heads(self) -> list[str]:
        """The heads of the table."""
        return [self.axis, *(each.label for each in self.series)]

    @property
    def rows(self) -> list[list[str]]:
        """The rows of the table, in words."""
        columns = [[self._in_words(value) for value in each.values] for each in self.series]
        return [list(row) for row in zip(self.labels, *columns, strict=True)]

    @property
    def is_empty(self) -> bool:
        """Is there nothing to draw?"""
        return not any(value for each in self.series for value in each.values)

    @property
    def described(self) -> str:
        """What a screen reader says of the drawing."""
        names = ", ".join(each.label for each in self.series)
        ends = f", {self.labels[0]} to {self.labels[-1]}" if self.labels else ""
        return f"{self.title}: {names}{ends}. The numbers are in the table below."

    def _drawn(self, series: Series) -> dict[str, Any]:
        values = [self._value(each) for each in series.values]
        return {"label": series.label, "values": values} | ({"tone": series.tone} if series.tone else {})

    def _value(self, value: float | None) -> float | None:
        if value is None:
            return None
        return value / NANO if self.unit == "usd" else round(value, 3)

    def _in_words(self, value: float | None) -> str:
        if value is None:
            return "-"
        if self.unit == "usd":
            return dollars(int(value))
        if self.unit == "ms":
            return duration(value)
        return f"{value:,.1f} %" if self.unit == "percent" else f"{value:,}"


def time_labels(period: Period) -> list[str]:
    """Return how each step is called: hours with their day where there are several days."""
    moments = [at.astimezone(period.zone) for at in period.steps()]
    if period.step == "day":
        return [f"{at:%d %b}".lstrip("0") for at in moments]
    one_day = len({at.date() for at in moments}) == 1
    return [f"{at:%H:%M}" if one_day else f"{_day(at)} {at:%H:%M}" for at in moments]


def _day(at: datetime) -> str:
    return f"{at:%d %b}".lstrip("0")
