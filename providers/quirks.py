"""Reads the quirks of a provider's row: how a compatible server differs from OpenAI."""

from typing import Any

from providers.upstream import NO_QUIRKS, Quirks

_FLAGS = ("stream_usage", "completions", "responses")
_NAMES = ("rename_params", "unsupported_params", "developer_role", *_FLAGS)


def read_quirks(value: Any) -> Quirks:
    """Return the quirks that a row's JSON says. Raises ValueError, a sentence that names the field."""
    if not isinstance(value, dict):
        raise ValueError("must be an object")  # noqa: TRY004 - what is wrong is the row
    unknown = sorted(name for name in value if name not in _NAMES)
    if unknown:
        raise ValueError(f"has no field {unknown[0]!r}; it has {', '.join(_NAMES)}")
    if not value:
        return NO_QUIRKS
    renamed = value.get("rename_params", {})
    if not isinstance(renamed, dict) or not all(isinstance(name, str) and name for name in renamed.values()):
        raise ValueError('rename_params must be an object such as {"max_completion_tokens": "max_tokens"}')
    unsupported = value.get("unsupported_params", [])
    if not isinstance(unsupported, list) or not all(isinstance(name, str) and name for name in unsupported):
        raise ValueError('unsupported_params must be a list of names such as ["logit_bias"]')
    role = value.get("developer_role", "developer")
    if role not in ("developer", "system"):
        raise ValueError('developer_role must be "developer" or "system"')
    for name in _FLAGS:
        if not isinstance(value.get(name, True), bool):
            raise ValueError(f"{name} must be true or false")  # noqa: TRY004 - what is wrong is the row
    return Quirks(
        rename_params=renamed,
        unsupported_params=frozenset(unsupported),
        developer_role=role,
        stream_usage=value.get("stream_usage", True),
        completions=value.get("completions", True),
        responses=value.get("responses", True),
    )
