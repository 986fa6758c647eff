"""How resources look in JSON, for OpenAPI: made of the configuration file's tables and their columns.

Bodies are read by `gatewaysite.config_file`, not by these serializers, so that a field means the same in a
file and here. They say which fields there are; whatever else a body gives is refused.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from django.db import models
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from config.moments import whole_moment
from config.money import UsdField
from gatewaysite.config_file.fields import Field

USD = r"^[0-9]{1,10}(\.[0-9]{1,9})?$"
_OBJECT = {"type": "object", "additionalProperties": {}}


@extend_schema_field({"type": "string", "pattern": USD, "example": "25.00"})
class Dollars(serializers.CharField):
    """US dollars as a decimal text, exact to the nano-dollar."""


@extend_schema_field({"type": "string", "pattern": r"^-?[0-9]{1,10}(\.[0-9]{1,9})?$", "example": "0.00042"})
class SignedDollars(serializers.CharField):
    """The same, where it may be negative."""


@extend_schema_field(_OBJECT)
class Anything(serializers.JSONField):
    """An object whose fields the row's own rules check."""


class Texts(serializers.ListField):
    """A list of texts."""

    child = serializers.CharField()


class TextByName(serializers.DictField):
    """Names and texts."""

    child = serializers.CharField(allow_blank=True)


# Columns of JSON say nothing of what is in them.
_JSON: Mapping[str, type[serializers.Field[Any, Any, Any, Any]]] = {
    "allowed_models": Texts,
    "denied_models": Texts,
    "allowed_networks": Texts,
    "alert_emails": Texts,
    "tags": TextByName,
    "extra_headers": TextByName,
    "quirks": Anything,
}


class Shape(serializers.Serializer[Any]):
    """An object's fields; never used to read or write one."""


def shown_fields(row: Mapping[str, Any], table: Sequence[Field]) -> dict[str, Any]:
    """Return a row's columns as the table's fields; moments whole, as `date-time` in OpenAPI is."""
    told = {}
    for field in table:
        value = row[field.column]
        told[field.name] = whole_moment(value) if isinstance(value, datetime) else field.write(value)
    return told


def shape(name: str, parts: Mapping[str, Any], doc: str = "") -> type[Shape]:
    """Return a serializer of this name with these fields."""
    return type(f"{name}Serializer", (Shape,), {"__doc__": doc or f"{name}.", **parts})


def fields_of(
    model: type[models.Model], table: Sequence[Field], *, leave_out: Sequence[str] = ()
) -> dict[str, Any]:
    """Return the serializer fields of a table's fields, by what their columns are."""
    made = {}
    for field in table:
        if field.name not in leave_out:
            made[field.name] = _field(model, field)
    return made


def _field(model: type[models.Model], field: Field) -> Any:
    column = model._meta.get_field(field.column)
    assert isinstance(column, models.Field)
    told: dict[str, Any] = {"help_text": str(column.help_text), "required": field.required}
    if column.null:
        told["allow_null"] = True
    if isinstance(column, UsdField):
        return Dollars(**told)
    if isinstance(column, models.ForeignKey):
        told["allow_null"] = told["allow_blank"] = not field.required
        return serializers.CharField(**told)
    if isinstance(column, models.JSONField):
        if field.column == "alert_percents":
            child = serializers.IntegerField(min_value=1, max_value=1000)
            return serializers.ListField(child=child, **told)
        return _JSON[field.column](**told)
    return _plain(model, field, column, told)


def _plain(
    model: type[models.Model], field: Field, column: "models.Field[Any, Any]", told: dict[str, Any]
) -> Any:
    made: Any = serializers.ModelSerializer(data={})
    made.Meta = type("Meta", (), {"model": model})
    kind, given = made.build_standard_field(field.column, column)
    kept = {
        name: given[name] for name in ("max_length", "min_value", "max_value", "choices") if name in given
    }
    if kind is serializers.ModelField:
        kind = serializers.IntegerField
    if "choices" in kept:
        kept["choices"] = [value for value, _ in kept["choices"] if value != ""]
        if column.blank:
            told["allow_blank"] = True
        return serializers.ChoiceField(choices=kept["choices"], **told)
    if kind is serializers.CharField and not field.required:
        told["allow_blank"] = True
    return kind(**kept, **told)


NoFieldsSerializer = shape("NoFields", {}, "Nothing.")


class ErrorBodySerializer(serializers.Serializer[Any]):
    """What is wrong."""

    message = serializers.CharField(help_text="A sentence for people, which names the field and its rule.")
    type = serializers.CharField(help_text="The class of error: invalid_request_error, not_found_error, ...")
    param = serializers.CharField(allow_null=True, help_text="The field or parameter that it is about.")
    code = serializers.CharField(allow_null=True, help_text="What programs may tell errors apart by.")


class ErrorSerializer(serializers.Serializer[Any]):
    """Every error of this gateway."""

    error = ErrorBodySerializer()


def listed(name: str, item: type[serializers.Serializer[Any]]) -> type[Shape]:
    """Return the shape of a page of a list."""
    return shape(
        f"{name}Page",
        {
            "items": item(many=True),
            "next_cursor": serializers.CharField(
                allow_null=True, help_text="Send it as `cursor` for the next page. Null: this is the last."
            ),
        },
        f"A page of {name}.",
    )
