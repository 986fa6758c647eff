"""Makes up requests as they could have been: rows of the log and the ledger, an hour at a time.

Tenants work by day and less at weekends, each by its own clock. A few requests fail, more of them while a
vendor has an outage; then others answer. The same numbers make the same history.
"""

import random
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from math import exp
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from analytics import ledger_rows
from analytics.demo_cast import MODELS, Caller, Model
from analytics.fields import to_json
from analytics.prices import PriceBook
from keys.limits import REQUESTS, RateRule
from keys.models import LedgerEntry
from providers.pricing import Rates
from providers.usage import Usage
from proxy import limit_records

Row = dict[str, Any]


class Failure(NamedTuple):
    """How a request ends that gets no answer, and how often one does."""

    status: int
    outcome: str
    code: str
    odds: float


DEATHS, CUT_OFF = 2, 4  # how often a process has died, and how many requests it had then
_HOUR = timedelta(hours=1)
_WEEKEND = 5
_NO_TOKENS = dict.fromkeys(ledger_rows.COUNTS.values(), 0)
# Columns of a ledger row that are its request's.
_SAME = ("completion_id", "at", "tenant_ref", "key_ref", "requested_model", "tags", "provider", "model")
# What vendors say to a failure.
_SAID = {
    400: "This model's maximum context length is 128000 tokens.",
    502: "Bad gateway.",
    503: "The engine is currently overloaded, please try again later.",
    529: "Overloaded",
}
_ROUTES = {model.name: f"exact:{model.name}" for model in MODELS}
_FAILURES = (
    Failure(429, "error", "rate_limit_exceeded", 0.012),
    Failure(400, "error", "invalid_request_error", 0.006),
    Failure(502, "error", "upstream_error", 0.004),
    Failure(499, "cancelled", "client_closed_request", 0.008),
)


class Told(NamedTuple):
    """What a record says of its limits, as JSON."""

    all: str
    hit: str
    refused: str


class Made(NamedTuple):
    """Rows of the log and of the ledger, column to value."""

    logs: list[Row]
    entries: list[Row]


class Traffic:
    """A history of `requests` requests of some callers between two moments."""

    def __init__(
        self, callers: Sequence[Caller], *, since: datetime, until: datetime, requests: int, seed: int
    ) -> None:
        """Lay out how many come in each hour."""
        self._rng = random.Random(seed)  # noqa: S311 - a history that can be made again
        # The ledger keeps the ids of a history that was taken away.
        self._ids, self._serial = f"{int(until.timestamp()):x}-{seed:x}", 0
        self._since, self._until = since, until
        self._prices = PriceBook({model.provider for model in MODELS})
        self._rates: dict[tuple[Model, int], Rates | None] = {}
        self._plan = _plan(callers, since, until, requests)
        days = max((until - since).days, 1)
        # Vendors' bad hours, which everybody has.
        self._outages = {
            since.replace(minute=0) + self._rng.randrange(days * 24) * _HOUR: self._rng.choice(
                MODELS
            ).provider
            for _ in range(max(days // 6, 1))
        }
        self._deaths = self._hours_of_death()
        self._odds = [model.share for model in MODELS]
        self._tags = {
            caller.key.pk: to_json(caller.key.tags) if caller.key.tags else None for caller in callers
        }
        # What records say of limits: of all requests, of those from the cache, and of refused ones.
        self._limits = {caller.key.pk: _told(caller.limits) for caller in callers}

    def hours(self) -> Iterator[Made]:
        """Yield each hour's rows."""
        for hour, counts in self._plan:
            made = Made([], [])
            down = self._outages.get(hour)
            begin = max(hour, self._since)
            seconds = (min(hour + _HOUR, self._until) - begin).total_seconds()
            dies = begin + timedelta(seconds=seconds / 2) if hour in self._deaths else None
            for caller, count in counts:
                for model in self._rng.choices(MODELS, self._odds, k=count):
                    at = begin + timedelta(seconds=self._rng.random() * seconds)
                    cut_off = dies is not None and len(made.logs) < CUT_OFF
                    if dies is not None and cut_off:
                        at = dies - timedelta(seconds=self._rng.random() * 3)
                    row = self._asked(caller, model, at)
                    made.logs.append(row)
                    if cut_off:
                        made.entries.append(self._interrupted(row, model))
                    else:
                        self._end(made, row, model, is_down=model.provider == down)
            yield made

    def _hours_of_death(self) -> set[datetime]:
        """Choose when a process died: when there was something to do."""
        busy = [hour for hour, counts in self._plan if sum(count for _, count in counts) > 2 * CUT_OFF]
        return set(self._rng.sample(busy, min(DEATHS, len(busy))))

    def _end(self, made: Made, row: Row, model: Model, *, is_down: bool) -> None:
        """Make up what became of a request."""
        rng = self._rng
        chance = rng.random()
        for failure in _FAILURES:
            chance -= failure.odds
            if chance < 0:
                self._failed(row, model, failure)
                return
        usage = self._usage(model)
        if row["cache"] == "hit":
            self._hit(row, model, usage)
            return
        answering, attempts, lost = model, [], 0.0
        if rng.random() < (0.7 if is_down else 0.004):
            answering = rng.choice([other for other in MODELS if other.provider != model.provider])
            lost = rng.uniform(200, 4_000)
            attempts.append(_attempt(model, (0.4, lost), rng.choice((503, 503, 529)), "overloaded"))
        self._answered(row, answering, usage, attempts)
        made.entries.append(self._spent(row, answering, usage, len(attempts) - 1))

    def _asked(self, caller: Caller, model: Model, at: datetime) -> Row:
        """Return the row of a request before it is known what became of it."""
        rng = self._rng
        self._serial += 1
        number = f"{self._ids}-{self._serial:x}"
        return {
            "completion_id": f"demo-{number}",
            "request_id": f"req-demo-{number}",
            "at": at,
            "endpoint": "chat/completions",
            "tenant_ref": caller.key.tenant_id,
            "key_ref": caller.key.pk,
            "tags": self._tags[caller.key.pk],
            "requested_model": model.name,
            "route": _ROUTES[model.name],
            "provider": model.provider,
            "model": model.name,
            "status": 200,
            "outcome": "ok",
            "error_code": "",
            "stream": rng.random() < 0.45,
            "cache": "hit" if rng.random() < 0.11 else "miss",
            "attempts": "[]",
            "prompt_tokens": None,
            "completion_tokens": None,
            "cached_tokens": None,
            "cache_write_tokens": None,
            "reasoning_tokens": None,
            "usage_estimated": False,
            "cost_nanousd": None,
            "latency_ms": 0.0,
            "ttft_ms": None,
            "overhead_ms": round(rng.uniform(0.4, 1.9), 3),
            "queue_ms": None,
            "saved_nanousd": None,
            "limits": self._limits[caller.key.pk].all,
        }

    def _usage(self, model: Model) -> Usage:
        rng = self._rng
        prompt = int(rng.lognormvariate(0, 0.7) * model.prompt) + 8
        completion = int(rng.lognormvariate(0, 0.8) * model.completion) + 1
        return Usage(prompt=prompt, completion=completion, cached=prompt // 2 if rng.random() < 0.2 else 0)

    def _failed(self, row: Row, model: Model, how: Failure) -> None:
        row.update(status=how.status, outcome=how.outcome, error_code=how.code, cache="")
        took = self._rng.uniform(200, 9_000)
        if how.status == 429:
            limits = self._limits[row["key_ref"]].refused
            row.update(provider="", model="", latency_ms=0.6, limits=limits)
            return
        row.update(
            latency_ms=round(took, 3), attempts=to_json([_attempt(model, (0.4, took), how.status, how.code)])
        )

    def _hit(self, row: Row, model: Model, usage: Usage) -> None:
        row.update(_counts(usage), latency_ms=round(self._rng.uniform(0.5, 2.5), 3), cost_nanousd=0)
        row["saved_nanousd"] = self._cost(model, usage, row["at"])[1]
        row["limits"] = self._limits[row["key_ref"]].hit

    def _answered(self, row: Row, model: Model, usage: Usage, attempts: list[Row]) -> None:
        """Have a model answer, after the `attempts` that have failed."""
        rng, lost = self._rng, sum(each["latency_ms"] for each in attempts)
        first = model.first_ms * rng.lognormvariate(0, 0.35)
        took = first + usage.completion / model.tokens_per_s * 1000 * rng.uniform(0.8, 1.3)
        attempts.append(_attempt(model, (lost + 0.4, took), 200, "ok"))
        queued = rng.uniform(5, 400) if rng.random() < 0.01 else None
        row.update(
            _counts(usage),
            provider=model.provider,
            model=model.name,
            attempts=to_json(attempts),
            cost_nanousd=self._cost(model, usage, row["at"])[1],
            latency_ms=round(lost + took + (queued or 0), 3),
            ttft_ms=round(lost + first, 3) if row["stream"] else None,
            queue_ms=queued,
        )

    def _interrupted(self, row: Row, model: Model) -> Row:
        """Have the process die while the model answers: what was used is estimated, when it ended unknown."""
        usage = self._usage(model)
        entry = self._spent(row, model, usage, 0)
        attempt = {"provider": model.provider, "model": model.name, "outcome": "interrupted", "status": None}
        row.update(
            _counts(usage),
            status=0,
            outcome="interrupted",
            error_code="interrupted",
            cache="",
            attempts=to_json([attempt]),
            usage_estimated=True,
            cost_nanousd=entry["cost_nanousd"],
            overhead_ms=None,
            limits=None,
        )
        return {**entry, "kind": LedgerEntry.Kind.INTERRUPTED.value, "estimated": True}

    def _spent(self, row: Row, model: Model, usage: Usage, attempt: int) -> Row:
        price, cost = self._cost(model, usage, row["at"])
        same = (
            "completion_id",
            "at",
            "tenant_ref",
            "key_ref",
            "requested_model",
            "tags",
            "provider",
            "model",
        )
        return {
            **{name: row[name] for name in same},
            **_NO_TOKENS,
            **_counts(usage),
            "attempt": attempt,
            "kind": LedgerEntry.Kind.SPENT.value,
            "revision": 0,
            "estimated": False,
            "price_ref": price,
            "cost_nanousd": cost,
            "own_credential": False,
            "shadow": False,
            "rerating_ref": None,
        }

    def _cost(self, model: Model, usage: Usage, at: datetime) -> tuple[int | None, int | None]:
        """Return the price used, and nano-dollars; None when no price is known."""
        day = int(at.timestamp()) // 86_400
        if (model, day) not in self._rates:
            self._rates[model, day] = self._prices.rates(model.provider, model.name, day * 86_400.0)
        rates = self._rates[model, day]
        return (None, None) if rates is None else (rates.price_id, ledger_rows.cost(usage, rates))


def _told(limits: Sequence[RateRule]) -> Told:
    rates = [each for each in limits if each.kind == REQUESTS]
    return Told(
        limit_records.told(limits).decode(),
        limit_records.told(rates).decode(),
        limit_records.told(limits, rates[0]).decode(),
    )


def _counts(usage: Usage) -> Row:
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "cached_tokens": usage.cached,
        "cache_write_tokens": usage.cache_write,
        "reasoning_tokens": usage.reasoning,
    }


def _attempt(model: Model, when_ms: tuple[float, float], status: int, outcome: str) -> Row:
    """Return a try in the log's form; `when_ms`: when it began, and how long it took."""
    started, took = when_ms
    return {
        "provider": model.provider,
        "model": model.name,
        "started_ms": round(started, 3),
        "latency_ms": round(took, 3),
        "status": status,
        "outcome": outcome,
        "error": _SAID.get(status, ""),
    }


def _plan(
    callers: Sequence[Caller], since: datetime, until: datetime, requests: int
) -> list[tuple[datetime, list[tuple[Caller, int]]]]:
    """Return how many requests each caller makes in each hour; they add up to `requests`."""
    hours = []
    hour = since.replace(minute=0, second=0, microsecond=0)
    while hour < until:
        hours.append(hour)
        hour += _HOUR
    weights = [
        _weight(caller, hour, number / len(hours)) for number, hour in enumerate(hours) for caller in callers
    ]
    whole, seen, planned = sum(weights), 0.0, 0
    plan: list[tuple[datetime, list[tuple[Caller, int]]]] = []
    for number, hour in enumerate(hours):
        counts = []
        for place, caller in enumerate(callers):
            seen += weights[number * len(callers) + place]
            count = round(requests * seen / whole) - planned
            planned += count
            counts.append((caller, count))
        plan.append((hour, counts))
    return plan


def _weight(caller: Caller, hour: datetime, progress: float) -> float:
    """Return how busy a caller is in an hour: by its clock and its week, more from week to week."""
    local = hour.replace(tzinfo=hour.tzinfo or UTC).astimezone(ZoneInfo(caller.zone))
    by_day = 0.12 + exp(-(((local.hour - 14) / 4.2) ** 2))
    return caller.share * by_day * (0.35 if local.weekday() >= _WEEKEND else 1.0) * (0.8 + 0.4 * progress)
