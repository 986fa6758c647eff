"""When a vendor's rate limit resets, as its headers say it: in many ways, none of them sure.

"6m0s" (OpenAI, Groq), "11.4" seconds (Cerebras, Mistral), "1766100445" since 1970 (DigitalOcean), RFC 3339
(Anthropic). Moments count from the answer's own Date: no clock is needed here, nor an exact one there.
"""

import re
from datetime import datetime
from email.utils import parsedate_to_datetime

# The longest that is believed: a day's quota resets within one.
MAX_RESET_S = 86_400.0
_MAX_TEXT = 40
_SINCE_1970_S, _SINCE_1970_MS = 1e9, 1e12
_UNITS_S = {"d": 86_400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_NUMBER = r"\d{1,15}(?:\.\d{1,15})?"
_PLAIN = re.compile(_NUMBER, re.ASCII)
_PART = re.compile(rf"({_NUMBER})(ms|[dhms])", re.ASCII)
_DURATION = re.compile(rf"(?:{_NUMBER}(?:ms|[dhms])){{1,5}}", re.ASCII)


def reset_in_s(text: str, date: str) -> float | None:
    """Return the seconds from an answer to a reset, between 0 and MAX_RESET_S; None when unreadable.

    `date` is the answer's Date header.
    """
    seconds = _seconds(text.strip(), date) if len(text) <= _MAX_TEXT else None
    return None if seconds is None else min(max(seconds, 0.0), MAX_RESET_S)


def minute_ends_in_s(date: str) -> float | None:
    """Return the seconds to the end of the vendor's minute; None without a readable Date header."""
    now = _moment(date)
    return None if now is None else 60.0 - now % 60.0


def _seconds(text: str, date: str) -> float | None:
    if _PLAIN.fullmatch(text):
        number = float(text)
        if number < _SINCE_1970_S:
            return number
        return _from_date(number if number < _SINCE_1970_MS else number / 1000, date)
    if _DURATION.fullmatch(text):
        return sum(float(count) * _UNITS_S[unit] for count, unit in _PART.findall(text))
    try:
        moment = datetime.fromisoformat(text)
        return None if moment.tzinfo is None else _from_date(moment.timestamp(), date)
    except (ValueError, OverflowError):
        return None


def _from_date(moment: float, date: str) -> float | None:
    now = _moment(date)
    return None if now is None else moment - now


def _moment(date: str) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp() if date else None
    except (ValueError, OverflowError, TypeError):
        return None
