"""Moments as people write them: ISO 8601, in UTC unless they say otherwise."""

from datetime import UTC, date, datetime

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
