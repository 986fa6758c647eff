"""What a vendor's answers say is left of its rate limits, and when the next call fits into them.

Vendors count in two ways, and their headers do not say in which. A limit that fills up continuously (OpenAI,
Anthropic, Groq) tells the time until it is full: what is missing, divided by that time, is then the limit's
own rate by the minute, hour or day, and a call may go out as soon as there is enough for it. Anything else
is a window (Mistral's) that gives nothing more until its reset.

An answer tells what was left when the vendor let that call in. Calls sent after it are not in that count,
and are taken off here; those sent before it are. So `spend` returns a mark, and `learn` wants the mark of
the call that is answered; once a call is answered, answers to calls sent before it tell nothing new. Where
the order is in doubt, less is left here than there, until the next answer.

After its reset a limit is as full as it was said to become; an hour after its last word it holds nobody up.
Limits are most often one model's, not the account's: keep one Quota for each model of an account.
"""

from collections.abc import Mapping
from typing import NamedTuple

from proxy.fleet.resets import minute_ends_in_s, reset_in_s

# How many calls, and how many tokens, had been sent when one was.
Mark = tuple[int, int]

# Nobody waits longer for a vendor's word, and none is believed for longer.
MAX_WAIT_S = 3600.0
# Where no reset is told: Azure keeps its limits in parts of a minute. A guess that is too short costs a 429,
# which says how long; one that is too long makes every call wait.
GUESS_S = 10.0
# How far a rate may be off a window and still be its limit's own: what is told is rounded.
_ALIKE = 0.25
# Limits that are called by their window; how long any other lasts only its answers tell.
_NAMED = ("-minute", "-day")
_WINDOWS_S = (60.0, 3600.0, 86_400.0)
# Between two answers of a busy account no reset is read, only where there is a shortage or time went by.
_BUSY_S = 0.5
# A window that began after the last answer ends nobody knows when. Its first answers will say: look again.
_SOON_S = 1.0
# How often an answer is looked at whether or not there is a shortage.
_LOOK_S = 0.1
_MAX_DIGITS = 18

_REQUESTS, _TOKENS, _ANSWERS = "requests", "tokens", "answers"


class _Names(NamedTuple):
    """One limit's headers; what it counts; how long its window lasts."""

    remaining: str
    limit: str
    reset: str
    counts: str
    window_s: float = 60.0


def _names(pattern: str, counts: str, window_s: float = 60.0) -> _Names:
    remaining, limit, reset = (pattern.replace("*", word) for word in ("remaining", "limit", "reset"))
    return _Names(remaining, limit, reset, counts, window_s)


_ALL = (
    # OpenAI and those like it: Groq, Azure (which tells no reset), ...
    _names("x-ratelimit-*-requests", _REQUESTS),
    _names("x-ratelimit-*-tokens", _TOKENS),
    # Anthropic. Tokens of answers count as they are written: one that is left is enough to begin.
    _names("anthropic-ratelimit-requests-*", _REQUESTS),
    _names("anthropic-ratelimit-tokens-*", _TOKENS),
    _names("anthropic-ratelimit-input-tokens-*", _TOKENS),
    _names("anthropic-ratelimit-output-tokens-*", _ANSWERS),
    # Mistral. Its minutes are those of its clock: in its older answers, Date and the reset told of the
    # limit by size add up to a full one; the newer ones tell none. Its months are left to its 429s.
    _names("x-ratelimit-*-req-minute", _REQUESTS),
    _names("x-ratelimit-*-tokens-minute", _TOKENS),
    _names("ratelimitbysize-*", _TOKENS),
    # Cerebras (and its tokens by the minute, named as Mistral's).
    _names("x-ratelimit-*-requests-minute", _REQUESTS),
    _names("x-ratelimit-*-requests-day", _REQUESTS, 86_400.0),
    _names("x-ratelimit-*-tokens-day", _TOKENS, 86_400.0),
)
_BY_NAME = [(names.remaining, names) for names in _ALL]


class _Limit:
    """What was told of one limit, and what is left. What only a shortage needs is read when there is one."""

    __slots__ = (
        "_guessed",
        "_left",
        "_limit",
        "_names",
        "_rate_per_s",
        "_remaining",
        "_reset_at",
        "_since",
        "_told_at",
        "_unread",
    )

    def __init__(self, names: _Names) -> None:
        self._names = names
        self._unread: Mapping[str, str] | None = None
        self._limit: int | None = None
        self._remaining = self._left = self._rate_per_s = 0.0
        self._told_at = self._since = self._reset_at = 0.0
        self._guessed = False

    def tell(self, headers: Mapping[str, str], now: float, *, remaining: int, uncounted: Mark) -> None:
        """Take over an answer's word, less the calls that it does not count yet."""
        calls, tokens = uncounted
        counts = self._names.counts
        self._unread, self._told_at, self._since, self._remaining = headers, now, now, remaining
        self._left = remaining - (calls if counts is _REQUESTS else tokens if counts is _TOKENS else 0)

    def spend(self, tokens: int, now: float) -> None:
        self._left = self._left_at(now)
        self._since = now
        if self._names.counts is not _ANSWERS:
            self._left -= self._need(tokens)

    def ready_at(self, tokens: int, now: float) -> float:
        need = self._need(tokens)
        if self._left_at(now) >= need:
            return now
        self._read()
        if now - self._told_at >= MAX_WAIT_S or self._limit == 0:
            return now  # a limit of nothing has no better time: the vendor's answer says more than a wait
        if self._limit is not None:
            need = min(need, self._limit)  # a call that is larger never fits; here too the vendor will say so
        left = self._left_at(now)
        if left >= need:
            return now
        if self._rate_per_s:
            return now + (need - left) / self._rate_per_s
        return min(self._reset_at, now + _SOON_S) if self._guessed else self._reset_at

    def _need(self, tokens: int) -> int:
        return tokens if self._names.counts is _TOKENS else 1

    def _left_at(self, now: float) -> float:
        """Return what is left; begin the next window if one is over."""
        if self._unread is not None:
            if now - self._told_at < _BUSY_S:
                return self._left
            self._read()
        if self._limit is None:
            return self._left if now < self._reset_at else float("inf")
        if self._rate_per_s:
            return min(self._left + self._rate_per_s * max(now - self._since, 0.0), self._limit)
        if now >= self._reset_at:
            window_s = self._names.window_s
            self._reset_at = now + window_s - (now - self._reset_at) % window_s
            self._left = self._limit
            self._guessed = not self._names.limit.endswith(_NAMED)
        return self._left

    def _read(self) -> None:
        """Read the last answer's limit and reset, if that is still to do."""
        headers, self._unread = self._unread, None
        if headers is None:
            return
        names, self._rate_per_s, self._guessed = self._names, 0.0, False
        self._limit = _whole(headers.get(names.limit))
        date = headers.get("date", "")
        reset_s = reset_in_s(headers.get(names.reset, ""), date)
        if reset_s is not None:
            self._rate_per_s = self._own_rate_per_s(reset_s)
        elif names.limit.endswith("-minute"):
            reset_s = minute_ends_in_s(date)
        self._reset_at = self._told_at + (GUESS_S if reset_s is None else reset_s)

    def _own_rate_per_s(self, reset_s: float) -> float:
        """Return the rate that a limit fills up at; 0 for a window."""
        missing = 0.0 if self._limit is None else self._limit - self._remaining
        if self._limit is None or missing <= 0 or reset_s <= 0:
            return 0.0
        full_s = self._limit * reset_s / missing
        alike = any(abs(full_s - window_s) <= _ALIKE * window_s for window_s in _WINDOWS_S)
        return missing / reset_s if alike else 0.0


class Quota:
    """What is left at a vendor, for one model or account. Times are any one clock's, in seconds."""

    __slots__ = ("_answered", "_latest", "_limits", "_looked_at", "_sent")

    def __init__(self) -> None:
        """Know nothing."""
        self._limits: dict[str, _Limit] = {}
        self._sent: Mark = (0, 0)
        self._answered: Mark = (0, 0)
        self._latest: tuple[Mapping[str, str], float] | None = None  # an answer not looked at, and its time
        self._looked_at = -_LOOK_S

    def learn(self, headers: Mapping[str, str], now: float, *, mark: Mark | None = None) -> None:
        """Take over what an answer's headers (lower-case names) say; garbage says nothing.

        `mark` is what `spend` returned for the call that is answered; without it the vendor is taken to have
        counted every call until now. The headers are kept for a while: do not change them.
        """
        mark = self._sent if mark is None else mark
        if mark < self._answered:
            return
        self._answered = mark
        self._latest = headers, now
        # Of answers that come faster one is enough, unless it is a refusal or a call finds too little left.
        if now - self._looked_at >= _LOOK_S or "retry-after" in headers:
            self._look()

    def _look(self) -> None:
        assert self._latest is not None
        (headers, now), self._latest = self._latest, None
        self._looked_at = now
        mark, limits = self._answered, self._limits
        uncounted = (self._sent[0] - mark[0], self._sent[1] - mark[1])
        for name, names in _BY_NAME:
            text = headers.get(name)
            if text is None:
                continue
            remaining = _whole(text)
            if remaining is None:
                continue
            limit = limits.get(name)
            if limit is None:
                limit = limits[name] = _Limit(names)
            limit.tell(headers, now, remaining=remaining, uncounted=uncounted)

    def ready_at(self, now: float, tokens: int) -> float:
        """Return when a call of about `tokens` prompt tokens may go out: `now`, if nothing speaks against it.

        At most MAX_WAIT_S from now, whatever the vendor said.
        """
        at = self._ready_at(now, tokens)
        if at > now and self._latest is not None:
            self._look()
            at = self._ready_at(now, tokens)
        return min(at, now + MAX_WAIT_S)

    def _ready_at(self, now: float, tokens: int) -> float:
        at = now
        for limit in self._limits.values():
            at = max(at, limit.ready_at(tokens, now))
        return at

    def spend(self, tokens: int, now: float) -> Mark:
        """Count a call that goes out now. Give the mark to `learn` with its answer."""
        for limit in self._limits.values():
            limit.spend(tokens, now)
        self._sent = (self._sent[0] + 1, self._sent[1] + tokens)
        return self._sent


def _whole(text: str | None) -> int | None:
    """Return a count; None for what is none."""
    if text is None or len(text) > _MAX_DIGITS or not text.isascii():
        return None
    return int(text) if text.isdecimal() else None
