"""Reads the fields of spool records: total, so that a strange field does not cost a record its money.

A field of the wrong type becomes empty, and a text that is too long is cut.
"""

import math
from collections.abc import Mapping
from typing import Any

import orjson

from keys.validators import MAX_TAG, MAX_TAGS

MAX_BIGINT = 2**63 - 1
MAX_SMALLINT = 32_767


def text(value: Any, limit: int) -> str:
    """Return a text of at most `limit` characters; anything else is empty."""
    return value[:limit] if isinstance(value, str) else ""


def count(value: Any) -> int | None:
    """Return a whole number that a column can hold, or None."""
    # True is no number here; JSON has no other kinds of whole numbers.
    return value if type(value) is int and 0 <= value <= MAX_BIGINT else None


def real(value: Any) -> float | None:
    """Return a finite number, or None."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def tags(record: Mapping[str, Any]) -> str | None:
    """Return the key's tags as JSON; None when it has none."""
    found = record.get("tags")
    if not isinstance(found, dict):
        return None
    pairs = [(text(name, MAX_TAG), text(value, MAX_TAG)) for name, value in found.items()]
    return to_json(dict(pairs[:MAX_TAGS])) if pairs else None


def to_json(value: Any) -> str:
    """Return what a JSON column is given."""
    return orjson.dumps(value).decode()
