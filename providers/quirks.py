"""Reads the quirks of a provider's row: how a compatible server differs from OpenAI."""

from collections.abc import Mapping
from typing import Any

from providers.upstream import NO_QUIRKS, Quirks

# Without these there is no request.
_ESSENTIAL = frozenset({"model", "messages", "prompt", "input", "stream"})
_FLAGS = ("stream_usage", "completions", "responses", "reasoning_content")
_NAMES = ("rename_params", "unsupported_params", "developer_role", *_FLAGS)


def read_quirks(value: Any) -> Quirks:
    """Return the quirks that a row's JSON says. Raises ValueError, a sentence that names the field."""
    if not isinstance(value, dict):
        raise ValueError("must be an object")  # noqa: TRY004 - what is wrong is the row
    unknown = [str(name) for name in value if name not in _NAMES]
    if unknown:
        raise ValueError(f"has no field {min(unknown)!r}; it has {', '.join(_NAMES)}")
    if not value:
        return NO_QUIRKS
    role = value.get("developer_role", "developer")
    if role not in ("developer", "system"):
        raise ValueError('developer_role must be "developer" or "system"')
    return Quirks(
        rename_params=_renamed(value.get("rename_params", {})),
        unsupported_params=_unsupported(value.get("unsupported_params", [])),
        developer_role=role,
        **{name: _flag(value, name) for name in _FLAGS if name in value},
    )


def _renamed(value: Any) -> Mapping[str, str]:
    if not isinstance(value, dict) or not _are_names([*value, *value.values()]):
        raise ValueError('rename_params must be an object such as {"max_completion_tokens": "max_tokens"}')
    _check_optional("rename_params", [*value, *value.values()])
    return value


def _unsupported(value: Any) -> frozenset[str]:
    if not isinstance(value, list) or not _are_names(value):
        raise ValueError('unsupported_params must be a list of names such as ["logit_bias"]')
    _check_optional("unsupported_params", value)
    return frozenset(value)


def _flag(value: Mapping[str, Any], name: str) -> bool:
    given = value[name]
    if not isinstance(given, bool):
        raise ValueError(f"{name} must be true or false")  # noqa: TRY004 - what is wrong is the row
    return given


def _are_names(values: list[Any]) -> bool:
    return all(isinstance(value, str) and value for value in values)


def _check_optional(field: str, names: list[str]) -> None:
    essential = _ESSENTIAL.intersection(names)
    if essential:
        raise ValueError(f"{field} must not name {min(essential)!r}, without which there is no request")
