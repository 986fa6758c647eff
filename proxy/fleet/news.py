"""What workers tell each other of upstreams: a value, and its JSON. What does not read as one is no news."""

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import orjson

# Nobody is left alone for longer than a day because somebody has said so.
MAX_FOR_S = 86_400.0
MAX_BYTES = 4096
MAX_UPSTREAM_LENGTH = 500
MAX_LENGTH = 200


class Kind(StrEnum):
    """What has happened."""

    OPEN = "open"  # a breaker has opened, for `for_s`
    CLOSED = "closed"  # a probe has succeeded
    COOL = "cool"  # a vendor has told us to leave a credential alone for `for_s`; 0: that is forgotten


@dataclass(frozen=True, slots=True)
class News:
    """Of one upstream, by the process that is named `by`."""

    kind: Kind
    upstream: str
    by: str
    for_s: float = 0.0
    reason: str = ""
    credential: str = ""

    @property
    def subject(self) -> str:
        """What it is about: newer news of the same subject replaces it."""
        if self.kind is Kind.COOL:
            return f"cool:{self.upstream}:{self.credential}"
        return f"breaker:{self.upstream}"

    def after(self, seconds: float) -> "News":
        """Return what is left of it so much later."""
        return replace(self, for_s=max(self.for_s - seconds, 0.0))

    def pack(self) -> bytes:
        """Return it as JSON."""
        return orjson.dumps(
            {
                "kind": self.kind,
                "upstream": self.upstream,
                "by": self.by,
                "for_s": self.for_s,
                "reason": self.reason,
                "credential": self.credential,
            }
        )


def unpack(packed: object) -> News | None:
    """Return the news in a message, None if it has none that can be understood."""
    if not isinstance(packed, bytes) or len(packed) > MAX_BYTES:
        return None
    try:
        read = orjson.loads(packed)
        kind, for_s = Kind(read["kind"]), float(read["for_s"])
    except (ValueError, KeyError, TypeError):
        return None
    if not (math.isfinite(for_s) and for_s >= 0) or (kind is Kind.OPEN and not for_s):
        return None
    upstream = _text(read.get("upstream"), MAX_UPSTREAM_LENGTH)
    rest = [_text(read.get(name), MAX_LENGTH) for name in ("by", "reason", "credential")]
    if not upstream or "/" not in upstream or None in rest:
        return None
    by, reason, credential = (text or "" for text in rest)
    return News(kind, upstream, by, min(for_s, MAX_FOR_S), reason, credential)


def _text(value: Any, most: int) -> str | None:
    return value if isinstance(value, str) and len(value) <= most else None
