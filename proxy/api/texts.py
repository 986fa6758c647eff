"""Texts of the management API: REST framework's own field makes one of a number as well."""

from typing import Any

from rest_framework import serializers


class Text(serializers.CharField):
    """A text, and nothing that can be written as one."""

    def to_internal_value(self, data: Any) -> str:
        """Return it. Raises ValidationError."""
        if not isinstance(data, str):
            self.fail("invalid")
        text: str = super().to_internal_value(data)
        return text
