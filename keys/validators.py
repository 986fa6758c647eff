"""What lists and names in keys' rows must look like. Migrations name these functions."""

import ipaddress
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import validate_email

MAX_TAGS, MAX_TAG = 20, 100
STAR = 'a * stands at the end of a pattern alone: "gpt-4o*"'


def check_patterns(value: Any) -> None:
    """Refuse what is no list of model patterns. Raises ValidationError."""
    if not isinstance(value, list) or not all(isinstance(item, str) and item.strip() for item in value):
        raise ValidationError('must be a list of model patterns, such as ["gpt-4o*", "anthropic/*"]')
    if any("*" in item[:-1] for item in value):
        raise ValidationError(STAR)


def check_networks(value: Any) -> None:
    """Refuse what is no list of addresses and networks. Raises ValidationError."""
    if not isinstance(value, list):
        raise ValidationError('must be a list of addresses and networks, such as ["10.0.0.0/8"]')
    for each in value:
        try:
            ipaddress.ip_network(each, strict=False) if isinstance(each, str) else _no_network()
        except ValueError:
            raise ValidationError(
                f"{each!r} is neither an address nor a network such as 10.0.0.0/8"
            ) from None


def _no_network() -> None:
    raise ValueError


def check_tags(value: Any) -> None:
    """Refuse what is no mapping of short names to short texts. Raises ValidationError."""
    if not isinstance(value, dict) or not all(
        isinstance(name, str) and name and isinstance(text, str) for name, text in value.items()
    ):
        raise ValidationError('must be names and texts, such as {"team": "search"}')
    if len(value) > MAX_TAGS or any(len(part) > MAX_TAG for pair in value.items() for part in pair):
        raise ValidationError(f"at most {MAX_TAGS} tags, of {MAX_TAG} characters each")
    for name in value:
        if _reads_as_number(name):  # databases would take it for a place in a list
            raise ValidationError(f"a name cannot be a whole number: {name}")


def check_percents(value: Any) -> None:
    """Refuse what is no list of percentages. Raises ValidationError."""
    if not isinstance(value, list) or not all(type(each) is int and 1 <= each <= 1000 for each in value):
        raise ValidationError("must be a list of whole percentages from 1 to 1000, such as [80, 100]")


def check_emails(value: Any) -> None:
    """Refuse what is no list of e-mail addresses. Raises ValidationError."""
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise ValidationError('must be a list of addresses, such as ["ops@example.com"]')
    for each in value:
        try:
            validate_email(each)
        except ValidationError:  # its code would have a JSON field say that this is no JSON
            raise ValidationError(f"{each!r} is not an e-mail address") from None


def usual_percents() -> list[int]:
    """Return the percentages of a budget that are told of, unless it says others."""
    return [80, 100]


def _reads_as_number(name: str) -> bool:
    try:
        int(name)
    except ValueError:
        return False
    return True
