"""The attempts of a request as bars on one line of time, and where its time went."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from analytics.models import RequestLog
from analytics.request_page.words import moved_on_in_words, outcome_in_words
from config.words import duration

WIDTH = 1000.0  # of a drawing, in its own units
LEAST_WIDTH = 4.0  # of a bar: what took no time at all is to be seen too


@dataclass(frozen=True, slots=True)
class Bar:
    """A stretch of time: where it begins and how long it is, in the drawing's units."""

    x: float
    width: float
    tone: str


@dataclass(frozen=True, slots=True)
class Try:
    """One attempt."""

    number: int
    provider: str
    model: str
    good: bool
    badge: str
    status: str
    began: str
    took: str
    words: str
    moved_on: str
    error: str
    bars: Sequence[Bar]


def timeline(row: RequestLog) -> list[Try]:
    """Return each try at a vendor, in their order."""
    attempts = [each for each in row.attempts or [] if isinstance(each, dict)]
    ends = (_number(each, "started_ms") + _number(each, "latency_ms") for each in attempts)
    whole = max([row.latency_ms, *ends])
    answering = max((place for place, each in enumerate(attempts) if each.get("outcome") == "ok"), default=-1)
    return [
        _try(row, each, place, whole=whole, is_last=place == len(attempts) - 1, answers=place == answering)
        for place, each in enumerate(attempts)
    ]


def _try(
    row: RequestLog, attempt: Mapping[str, Any], place: int, *, whole: float, is_last: bool, answers: bool
) -> Try:
    good = attempt.get("outcome") == "ok"
    began, took = _number(attempt, "started_ms"), _number(attempt, "latency_ms")
    bars = [_bar(began, began + took, whole, "good" if good else "bad")]
    if answers and row.stream and row.latency_ms > began + took:
        bars.append(_bar(began + took, row.latency_ms, whole, "stream"))
    return Try(
        number=place + 1,
        provider=str(attempt.get("provider") or "?"),
        model=str(attempt.get("model") or "?"),
        good=good,
        badge=str(attempt.get("outcome") or "?"),
        status=str(attempt.get("status") or "no answer"),
        began=duration(began),
        took=duration(took),
        words=outcome_in_words(attempt),
        moved_on=moved_on_in_words(attempt, is_last=is_last, answered=row.outcome == RequestLog.Outcome.OK),
        error=str(attempt.get("error") or ""),
        bars=bars,
    )


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of the time that a request took."""

    name: str
    took: str
    note: str
    bar: Bar | None


def timings(row: RequestLog) -> list[Stretch]:
    """Return where the time went; what is unknown is left out."""
    whole = row.latency_ms
    rows = (
        ("In line", row.queue_ms, "waiting for a busy provider", "warn"),
        ("Gateway's own share", row.overhead_ms, "without waiting for vendors", "accent"),
        ("First content after", row.ttft_ms, "what a reader waits for", "good"),
        ("In all", whole, "until the last byte", "stream"),
    )
    return [
        Stretch(name, duration(value), note, _bar(0, value, whole, tone) if whole else None)
        for name, value, note, tone in rows
        if value is not None
    ]


def _bar(since: float, until: float, whole: float, tone: str) -> Bar:
    scale = WIDTH / whole if whole > 0 else 0.0
    width = max((until - since) * scale, LEAST_WIDTH)
    return Bar(round(min(since * scale, WIDTH - LEAST_WIDTH), 1), round(min(width, WIDTH), 1), tone)


def _number(attempt: Mapping[str, Any], name: str) -> float:
    value = attempt.get(name)
    return float(value) if isinstance(value, int | float) and value >= 0 else 0.0
