"""What one viewer has been told, is to be told, and wants to be told of; no input, no output.

A viewer confirms each batch. One that is behind with UNCONFIRMED of them gets no more until it has caught up;
what it misses meanwhile is counted, and told.
"""

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from analytics.live.events import failed

UNCONFIRMED = 4
# So many wait for the next batch, and so many are in one: more than anybody reads.
WAITING, AT_ONCE = 200, 40
MAX_LENGTH = 200

Event = Mapping[str, Any]


class Wanted:
    """Which requests a viewer wants to see. Names are found anywhere in a text, in any case."""

    FIELDS = ("provider", "model", "key", "status", "errors")

    def __init__(self, wishes: Mapping[str, Any] | None = None) -> None:
        """Take the filter as a client sends it. Raises ValueError, naming the field and its rule."""
        wishes = wishes or {}
        for name in wishes:
            if name not in self.FIELDS:
                raise ValueError(f"filter.{name}: unknown; there are {', '.join(self.FIELDS)}")
        self._texts = {name: _text(name, wishes.get(name, "")) for name in ("provider", "model", "key")}
        self._status = _status(wishes.get("status", ""))
        errors = wishes.get("errors", False)
        if not isinstance(errors, bool):
            raise ValueError("filter.errors: must be true or false")  # noqa: TRY004 - one error for all
        self._errors = errors

    def has(self, event: Event) -> bool:
        """Is it one of them?"""
        if self._errors and not failed(event):
            return False
        if self._status and not str(event["status"]).startswith(self._status):
            return False
        return all(
            any(text in str(event.get(field) or "").lower() for field in _FIELDS[name])
            for name, text in self._texts.items()
            if text
        )


_FIELDS = {
    "provider": ("provider",),
    "model": ("requested_model", "model"),
    "key": ("key", "key_name", "tenant_name"),
}


class Viewer:
    """One connection's."""

    def __init__(self, tenants: frozenset[int] | None) -> None:
        """`tenants`: whose requests they may know of; None: everybody's."""
        self.tenants = tenants
        self.paused = False
        self._wanted = Wanted()
        self._events: deque[Event] = deque()
        self._seen = self._failed = self._sampled = self._slow = self._missed = 0
        self._sent = self._confirmed = 0
        self._news = False

    def change(self, message: Any) -> None:
        """Do what the client asks. Raises ValueError with a sentence for it."""
        if not isinstance(message, Mapping):
            raise ValueError("a message must be a JSON object")  # noqa: TRY004 - one error for all
        for name in message:
            if name not in {"filter", "pause", "confirm"}:
                raise ValueError(f"{name}: unknown; there are filter, pause, confirm")
        if "filter" in message:
            wishes = message["filter"]
            if not isinstance(wishes, Mapping):
                raise ValueError("filter: must be an object")
            self._wanted = Wanted(wishes)
            self._events.clear()
        if "pause" in message:
            if not isinstance(message["pause"], bool):
                raise ValueError("pause: must be true or false")
            self.paused = message["pause"]
        if "confirm" in message:
            number = message["confirm"]
            if isinstance(number, bool) or not isinstance(number, int) or number > self._sent:
                raise ValueError("confirm: must be the number of a batch that was sent")
            self._confirmed = max(self._confirmed, number)

    def hear(self, news: Mapping[str, Any], name: Callable[[Event], Event] = lambda event: event) -> None:
        """Take a process's news. `name` adds the names of key and tenant."""
        self._news = True
        seen, failures = self._mine(news["seen"]), self._mine(news["failed"])
        self._seen, self._failed = self._seen + seen, self._failed + failures
        told = 0
        for event in news["events"]:
            if self.tenants is not None and event["tenant_id"] not in self.tenants:
                continue
            told += 1
            if not self._wanted.has(named := name(event)):
                continue
            if self.paused:
                self._missed += 1
            elif len(self._events) < WAITING:
                self._events.append(named)
            elif self._behind:
                self._slow += 1
            else:
                self._sampled += 1
        self._sampled += max(seen - told, 0)
        if self.tenants is None:
            self._sampled += news["unsent"]

    def take(self, *, beat: bool = False) -> dict[str, Any] | None:
        """Return the next batch; None: there is nothing to say, or the viewer is behind. `beat`: say it.

        `seen` and `failed` count all requests since the last batch; `sampled` those that were too many to
        show, whether wanted or not; `slow` those that the viewer was too slow for; `missed` wanted ones that
        came while it paused.
        """
        if self._behind or not (self._news or self._events or beat):
            return None
        self._sent += 1
        events = [self._events.popleft() for _ in range(min(len(self._events), AT_ONCE))]
        batch = {
            "type": "batch",
            "number": self._sent,
            "events": events,
            "seen": self._seen,
            "failed": self._failed,
            "sampled": self._sampled,
            "slow": self._slow,
            "missed": self._missed,
        }
        self._seen = self._failed = self._sampled = self._slow = self._missed = 0
        self._news = False
        return batch

    @property
    def _behind(self) -> bool:
        return self._sent - self._confirmed >= UNCONFIRMED

    def _mine(self, counts: Mapping[str, int]) -> int:
        if self.tenants is None:
            return sum(counts.values())
        return sum(count for tenant, count in counts.items() if int(tenant) in self.tenants)


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str) or len(value) > MAX_LENGTH:
        raise ValueError(f"filter.{name}: must be a text of at most {MAX_LENGTH} characters")
    return value.strip().lower()


def _status(value: Any) -> str:
    """Return what the status begins with: "429" -> "429", "5xx" -> "5"."""
    text = value.lower().rstrip("x") if isinstance(value, str) else "?"
    if text and not (text.isascii() and text.isdigit() and len(text) <= 3):
        raise ValueError('filter.status: must be a status or a class of them, as "429" or "5xx"')
    return text
