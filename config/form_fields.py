"""Form fields that let people write lists and headers as lines instead of JSON."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.forms.models import ModelChoiceIterator


class LinesField(forms.CharField):
    """A list of strings, one a line."""

    def prepare_value(self, value: Any) -> Any:
        """Show a list as lines; typed text stays as typed."""
        return "\n".join(value) if isinstance(value, Sequence) and not isinstance(value, str) else value

    def to_python(self, value: Any) -> Any:
        """Return the lines without blank ones and repetitions."""
        return list(dict.fromkeys(line.strip() for line in (value or "").splitlines() if line.strip()))

    def validate(self, value: Any) -> None:
        """Demand a line when required."""
        if self.required and not value:
            raise ValidationError(self.error_messages["required"], code="required")

    def run_validators(self, value: Any) -> None:
        """Leave it to the model, which knows what the lines mean."""

    def has_changed(self, initial: Any, data: Any) -> bool:
        """Compare as lists."""
        return not self.disabled and self.to_python(self.prepare_value(initial)) != self.to_python(data)


class PairsField(forms.CharField):
    """A mapping of texts, one `name=text` a line."""

    mark, gap, form = "=", "", "name=text"

    def prepare_value(self, value: Any) -> Any:
        """Show a mapping as lines; typed text stays as typed."""
        return (
            "\n".join(f"{name}{self.mark}{self.gap}{text}" for name, text in value.items())
            if isinstance(value, Mapping)
            else value
        )

    def to_python(self, value: Any) -> Any:
        """Return the mapping. Raises ValidationError naming the line."""
        pairs: dict[str, str] = {}
        for number, line in enumerate((value or "").splitlines(), start=1):
            if not line.strip():
                continue
            name, mark, text = line.partition(self.mark)
            if not mark or not self.is_name(name.strip()):
                raise ValidationError(f"Line {number} is not of the form {self.form}.", code="pair")
            pairs[name.strip()] = text.strip()
        return pairs

    def is_name(self, name: str) -> bool:
        """May something be called so?"""
        return bool(name)

    def validate(self, value: Any) -> None:
        """Accept none."""

    def run_validators(self, value: Any) -> None:
        """Leave it to the model."""

    def has_changed(self, initial: Any, data: Any) -> bool:
        """Compare as mappings; what does not parse has changed."""
        try:
            return not self.disabled and self.to_python(self.prepare_value(initial)) != self.to_python(data)
        except ValidationError:
            return True


class HeadersField(PairsField):
    """HTTP headers, one `Name: value` a line."""

    mark, gap, form = ":", " ", "Name: value"

    def is_name(self, name: str) -> bool:
        """May a header be called so?"""
        return _is_token(name)


class PercentsField(LinesField):
    """A list of whole percentages, written "80, 100"."""

    def prepare_value(self, value: Any) -> Any:
        """Show a list with commas; typed text stays as typed."""
        return (
            ", ".join(map(str, value))
            if isinstance(value, Sequence) and not isinstance(value, str)
            else value
        )

    def to_python(self, value: Any) -> Any:
        """Return the numbers, smallest first. Raises ValidationError."""
        words = (value or "").replace("%", " ").replace(",", " ").split()
        if not all(word.isascii() and word.isdigit() and len(word) <= 4 for word in words):
            raise ValidationError("Write whole percentages with commas: 80, 100.", code="percents")
        return sorted({int(word) for word in words})

    def has_changed(self, initial: Any, data: Any) -> bool:
        """Compare as lists; what does not parse has changed."""
        try:
            return super().has_changed(initial, data)
        except ValidationError:
            return True


class ObjectField(forms.JSONField):
    """A JSON object; an empty field is the empty one."""

    def prepare_value(self, value: Any) -> Any:
        """Show an object on lines, an empty one as nothing; typed text stays as typed."""
        if not isinstance(value, Mapping):
            return super().prepare_value(value)
        return json.dumps(value, indent=2) if value else ""

    def to_python(self, value: Any) -> Any:
        """Return the object. Raises ValidationError."""
        if isinstance(value, str) and not value.strip():
            return {}
        read = super().to_python(value)
        return {} if read is None else read

    def validate(self, value: Any) -> None:
        """Accept nothing but an object."""
        if not isinstance(value, Mapping):
            raise ValidationError("must be an object", code="object")


class ChoicesOnce(forms.ModelChoiceField):  # type: ignore[type-arg]  # generic only in the stubs
    """A choice of rows that a formset reads once, not once for each of its forms."""

    class Iterator(ModelChoiceIterator):  # type: ignore[type-arg]  # generic only in the stubs
        """Reads the rows at the first use in a request: the field is made anew for each."""

        def __iter__(self) -> Any:
            """Give the empty choice and the rows."""
            if self.field.empty_label is not None:
                yield ("", self.field.empty_label)
            kept: list[Any] = self.field.kept  # type: ignore[attr-defined]  # our own field
            if not kept:
                kept.extend(self.choice(row) for row in self.queryset)
            yield from kept

    iterator = Iterator

    def __init__(self, *args: Any, **options: Any) -> None:
        """Share the rows among all copies of the field."""
        self.kept: list[Any] = []
        super().__init__(*args, **options)


def _is_token(name: str) -> bool:
    return bool(name) and all(
        letter.isascii() and (letter.isalnum() or letter in "!#$%&'*+-.^_`|~") for letter in name
    )
