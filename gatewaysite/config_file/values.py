"""Readers and writers of single values: what the file says <-> what a row holds.

A reader raises ValueError with the end of a sentence whose beginning is the field's path.
"""

import re
from collections.abc import Callable, Collection
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db import models

from config import money
from config.moments import moment, moment_text
from keys.limit_models import MAX_BUDGET_NANOUSD

Reader = Callable[[Any], Any]
# The most that most columns hold on every database.
INTEGER = 2**31 - 1
_SHA256 = re.compile(r"[0-9a-f]{64}")


class WrongValueError(ValueError):
    """The file's value is not what the field takes."""


def text(value: Any) -> str:
    """Read text that is not empty."""
    if not isinstance(value, str):
        raise WrongValueError("must be text" if value is None else "must be text: put it in quotes")
    if not value.strip():
        raise WrongValueError("must not be empty")
    return value


def optional_text(value: Any) -> str:
    """Read text; null is the empty text."""
    if value is None or value == "":
        return ""
    return text(value)


def flag(value: Any) -> bool:
    """Read true or false."""
    if not isinstance(value, bool):
        raise WrongValueError("must be true or false")
    return value


def whole(least: int, most: int = INTEGER) -> Reader:
    """Return a reader of whole numbers from `least` to `most`."""

    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise WrongValueError("must be a whole number")
        if not least <= value <= most:
            raise WrongValueError(f"must be {least} or more" if value < least else f"must be {most} or less")
        return value

    return read


def optional(read: Reader) -> Reader:
    """Return `read`, with null read as None."""
    return lambda value: None if value is None else read(value)


def seconds(value: Any) -> float:
    """Read a number of seconds above 0."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal) or value <= 0:
        raise WrongValueError("must be a number of seconds above 0")
    return float(value)


def number_written(value: float | None) -> Any:
    """Write a number: 5.0 as 5."""
    return int(value) if value is not None and value == int(value) else value


def percent(value: Any) -> float:
    """Read a share in percent; the row holds it against 0 and 100."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise WrongValueError("must be a number of percent")
    return float(value)


def usd(value: Any) -> int:
    """Read dollars as nano-dollars; quoted or not, never rounded."""
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        raise WrongValueError('must be a decimal number of dollars, such as "25.00"')
    nanousd = money.nanousd(value)
    if nanousd < 0:
        raise WrongValueError("must not be negative")
    return nanousd


def usd_written(nanousd: int | None) -> str | None:
    """Write nano-dollars as dollars."""
    return None if nanousd is None else money.usd(nanousd)


def choice(choices: type[models.TextChoices]) -> Reader:
    """Return a reader of one of a row's choices."""
    return one_of([str(value) for value in choices.values if value])


def one_of(known: Collection[str]) -> Reader:
    """Return a reader of one of the names in `known`."""

    def read(value: Any) -> str:
        if value not in known:
            raise WrongValueError(f"must be one of {', '.join(known)}")
        return str(value)

    return read


def instant(value: Any) -> datetime:
    """Read a date or time."""
    if not isinstance(value, str):
        raise WrongValueError("must be a date or time such as 2027-01-31T12:00:00Z")
    return moment(value)


def instant_written(value: datetime | None) -> str | None:
    """Write a moment."""
    return None if value is None else moment_text(value)


def budget_usd(value: Any) -> int:
    """Read the dollars of a budget."""
    nanousd = usd(value)
    if nanousd > MAX_BUDGET_NANOUSD:
        raise WrongValueError(f"must be at most {MAX_BUDGET_NANOUSD // money.NANO:,} dollars")
    return nanousd


def patterns(value: Any) -> list[str]:
    """Read a list of model patterns."""
    if not isinstance(value, list) or not all(isinstance(item, str) and item.strip() for item in value):
        raise WrongValueError('must be a list of model patterns, such as ["gpt-4o*", "anthropic/*"]')
    return list(value)


def listed(value: Any) -> list[Any]:
    """Read a list whose items the row itself checks."""
    if not isinstance(value, list):
        raise WrongValueError("must be a list ([] for none)")
    return list(value)


def tags(value: Any) -> dict[str, Any]:
    """Read names and texts, which the row itself checks; null is none."""
    if not isinstance(value, dict | None):
        raise WrongValueError("must be names and texts, such as {team: search}")
    return dict(value or {})


def headers(value: Any) -> dict[str, str]:
    """Read header names and values."""
    pairs = value.items() if isinstance(value, dict) else [(0, 0)]
    if not all(isinstance(name, str) and isinstance(content, str) for name, content in pairs):
        raise WrongValueError('must be a mapping of text to text, such as {"x-team": "blue"}')
    return dict(value)


def headers_written(value: dict[str, str]) -> dict[str, str]:
    """Write headers by name: PostgreSQL keeps no order."""
    return dict(sorted(value.items()))


def mapping(value: Any) -> dict[str, Any]:
    """Read a mapping whose fields the row itself checks; null is an empty one."""
    if not isinstance(value, dict | None):
        raise WrongValueError("must be a mapping of fields")
    return dict(value or {})


def mapping_written(value: dict[str, Any]) -> dict[str, Any]:
    """Write a mapping by name: PostgreSQL keeps no order."""
    return {
        name: mapping_written(each) if isinstance(each, dict) else each
        for name, each in sorted(value.items())
    }


def sha256(value: Any) -> str:
    """Read a SHA-256 digest in hex."""
    if not isinstance(value, str) or not _SHA256.fullmatch(value.lower()):
        raise WrongValueError("must be a SHA-256 digest: 64 hexadecimal digits")
    return value.lower()
