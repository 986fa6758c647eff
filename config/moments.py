"""Moments as people write them: ISO 8601, in UTC unless they say otherwise."""

import re
from datetime import UTC, date, datetime, timedelta

_SPAN = re.compile(r"(\d{1,5})([dhm])")
_UNITS = {"d": "days", "h": "hours", "m": "minutes"}
_EXPECTED = "must be a date or time such as 2027-01-31 or 2027-01-31T12:00:00Z"


def moment(text: str) -> datetime:
    """Return the moment that `text` names; a bare date is its midnight. Raises ValueError."""
    try:
        parsed = datetime.fromisoformat(text.strip())
        return parsed.astimezone(UTC) if parsed.tzinfo else parsed.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise ValueError(_EXPECTED) from None


def moment_text(value: datetime) -> str:
    """Return what `moment` reads back as the same moment, as short as it is exact."""
    value = value.astimezone(UTC)
    if value == datetime.combine(date(value.year, value.month, value.day), datetime.min.time(), UTC):
        return value.date().isoformat()
    return value.isoformat().replace("+00:00", "Z")


def whole_moment(value: datetime) -> str:
    """Return the same with the time of day, at midnight too: `2027-01-31T00:00:00Z`."""
    text = moment_text(value)
    return text if "T" in text else f"{text}T00:00:00Z"


def moment_or_span(text: str, *, now: datetime) -> datetime:
    """Return the moment that `text` names, or one as far from `now` as it says (90d, 12h, 30m).

    Raises ValueError.
    """
    span = _SPAN.fullmatch(text.strip())
    if span is None:
        try:
            return moment(text)
        except ValueError as problem:
            raise ValueError(f"{problem}, or a time from now such as 90d, 12h or 30m") from None
    try:
        return now + timedelta(**{_UNITS[span[2]]: int(span[1])})
    except OverflowError:
        raise ValueError("is too far away") from None
