from copy import deepcopy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.dialects.anthropic.schema import closed


def an_object(**properties):
    return {"type": "object", "properties": properties}


def fitted(schema):
    found = closed(schema)
    assert found is not None
    return found


def test_it_closes_every_object():
    schema = {
        **an_object(
            list={"type": "array", "items": an_object(a={"type": "string"})}, ref={"$ref": "#/$defs/x"}
        ),
        "$defs": {"x": {"anyOf": [an_object(), {"type": "null"}]}},
        "required": ["list"],
    }
    before = deepcopy(schema)
    whole = fitted(schema)
    assert schema == before
    assert whole["required"] == ["list"]
    for each in (whole, whole["properties"]["list"]["items"], whole["$defs"]["x"]["anyOf"][0]):
        assert each["additionalProperties"] is False


def test_it_tells_bounds_in_the_description():
    age = {"type": "integer", "minimum": 1, "description": "In years."}
    assert fitted(an_object(age=age))["properties"]["age"] == {
        "type": "integer",
        "description": "In years.\n\n{minimum: 1}",
    }
    tags = {"type": "array", "items": {"type": "string", "format": "email"}, "minItems": 1, "maxItems": 3}
    assert fitted(an_object(tags=tags))["properties"]["tags"] == {
        "type": "array",
        "items": {"type": "string", "format": "email"},
        "minItems": 1,
        "description": "{maxItems: 3}",
    }


def test_it_says_one_of_as_any_of():
    schema = an_object(x={"oneOf": [{"type": "string"}, {"type": "null"}]})
    assert fitted(schema)["properties"]["x"] == {"anyOf": [{"type": "string"}, {"type": "null"}]}


def test_it_leaves_a_schema_alone_that_is_closed_already():
    schema = {**an_object(x={"type": ["string", "null"], "enum": ["a", None]}), "additionalProperties": False}
    assert closed(schema) == schema


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object"},
        {**an_object(), "additionalProperties": True},
        {**an_object(), "additionalProperties": {"type": "string"}},
        an_object(x={"type": "object", "additionalProperties": {"type": "string"}}),
        an_object(x={"$ref": "#"}),
        {**an_object(x={"$ref": "#/$defs/a"}), "$defs": {"a": an_object(b={"$ref": "#/$defs/a"})}},
        {
            **an_object(x={"$ref": "#/$defs/a"}),
            "$defs": {"a": an_object(b={"$ref": "#/$defs/b"}), "b": an_object(a={"$ref": "#/$defs/a"})},
        },
        {"type": "object", "properties": ["x"]},
        an_object(x=True),
        an_object(x={"anyOf": {"type": "string"}}),
        None,
        [],
        "object",
    ],
)
def test_it_says_when_a_schema_cannot_be_closed(schema):
    assert closed(schema) is None


_KEYS = st.sampled_from(["type", "properties", "items", "$ref", "$defs", "anyOf", "format", "minItems", "x"])
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["object", "array", "#/$defs/x", "#"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=4),
)


@given(_JSON)
def test_it_survives_any_json(schema):
    assert isinstance(closed(schema), dict | None)
