"""Tenants in addresses: a tenant's name as one segment of a path, whatever letters it has."""

from collections.abc import Mapping

from django.urls import register_converter

# A proxy or Django decodes %2F before routing, and a browser takes "." and ".." away.
_WRITTEN: Mapping[str, str] = {"~": "~0", "/": "~1", "\\": "~2"}
_DOT = "~3"


class TenantNameConverter:
    """A tenant's name. Whether there is such a tenant is for the page to say."""

    regex = "[^/]+"

    def to_python(self, value: str) -> str:
        """Return the name that a segment stands for."""
        if value.startswith(_DOT):
            value = f".{value[len(_DOT) :]}"
        for letter, written in reversed(list(_WRITTEN.items())):
            value = value.replace(written, letter)
        return value

    def to_url(self, value: str) -> str:
        """Return the segment for a name."""
        text = str(value)
        for letter, written in _WRITTEN.items():
            text = text.replace(letter, written)
        return f"{_DOT}{text[1:]}" if text.startswith(".") else text


register_converter(TenantNameConverter, "tenant")
