"""Rate limits and budgets compiled for the hot path, and whom each counts together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from zoneinfo import ZoneInfo

from keys.calendar import Span, span

REQUESTS, TOKENS, CONCURRENT = "requests", "tokens", "concurrent"
WINDOWS_S: Mapping[str, float] = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86_400.0, "": 0.0}
# A window slides in so many steps: what was let through in one step leaves it together, at that step's end.
STEPS = 600

UTC = ZoneInfo("UTC")
EVERYONE = "everyone"  # for whom a rule holds that is no tenant's or key's


@dataclass(frozen=True, slots=True, eq=False)
class RateRule:
    """At most `amount` requests or tokens in any `window_s` seconds, or requests at a time (0 seconds).

    `model` is a pattern, "" takes in every model. `each`: "" counts all of them together, else each
    "tenant", "key", "model" or "ip" apart. `holds_for` says in words for whom it is. `id` is the row's, or a
    setting's name.
    """

    id: str
    kind: str
    amount: int
    per: str = ""
    model: str = ""
    each: str = ""
    holds_for: str = EVERYONE
    window_s: float = field(init=False)
    step_us: int = field(init=False)

    def __post_init__(self) -> None:
        """Derive what is asked for with every request."""
        object.__setattr__(self, "window_s", WINDOWS_S[self.per])
        # Rounded up: the steps of a window are never shorter than it is.
        object.__setattr__(self, "step_us", -(-int(self.window_s * 1e6) // STEPS))


@dataclass(frozen=True, slots=True, eq=False)
class Ceiling:
    """A Budget: at most `amount_nanousd` in each calendar window, or `raised_nanousd` until `raised_until`.

    `strict`: never overspent; else it is judged by expected costs. Times are epoch seconds.
    """

    id: int
    amount_nanousd: int
    window: str
    zone: ZoneInfo = UTC
    strict: bool = True
    model: str = ""
    holds_for: str = EVERYONE
    raised_nanousd: int | None = None
    raised_until: float | None = None
    refuse_unpriced: bool = False

    def limit_at(self, now: float) -> int:
        """Return what may be spent in the window around epoch second `now`, in nano-dollars."""
        if self.raised_nanousd is not None and self.raised_until is not None and now < self.raised_until:
            return self.raised_nanousd
        return self.amount_nanousd

    def span_at(self, now: float) -> Span:
        """Return the window around epoch second `now`."""
        return span(self.window, now, self.zone)


@dataclass(frozen=True, slots=True, eq=False)
class Rules:
    """The rate limits and budgets of one owner: everyone, a tenant, or a key."""

    rates: Sequence[RateRule] = ()
    ceilings: Sequence[Ceiling] = ()

    def __bool__(self) -> bool:
        """Is there any?"""
        return bool(self.rates or self.ceilings)


NO_RULES = Rules()


class Counted(NamedTuple):
    """A rate limit, and the key of the count that it holds one request to."""

    rule: RateRule
    key: str
    by_tokens: bool


class Purse(NamedTuple):
    """One window of a budget: the key of its sums, what may be spent (nano-dollars), and until when."""

    ceiling: Ceiling
    key: str
    limit: int
    span: Span


def purse_key(budget_id: int, starts_at: int) -> str:
    """Return the key of a budget's sums in the window that starts at epoch second `starts_at`."""
    return f"{budget_id}@{starts_at}"
