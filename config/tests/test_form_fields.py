import pytest
from django.core.exceptions import ValidationError

from config.form_fields import HeadersField, LinesField, ObjectField


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("", []),
        ("a", ["a"]),
        (" a \n\n b\r\nb \n", ["a", "b"]),
        ("gpt-4o*\nanthropic/*", ["gpt-4o*", "anthropic/*"]),
    ],
)
def test_it_reads_a_list_from_lines(typed, meant):
    field = LinesField(required=False)
    assert field.clean(typed) == meant
    assert field.clean(field.prepare_value(meant)) == meant


def test_it_notices_changes_of_lines_not_of_blanks():
    field = LinesField(required=False)
    assert not field.has_changed(["a", "b"], "a\r\n\r\n b ")
    assert field.has_changed(["a", "b"], "b\na")
    assert not field.has_changed([], "")


def test_it_demands_a_line_when_required():
    with pytest.raises(ValidationError, match="required"):
        LinesField().clean("\n \n")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("", {}),
        ("X-Team: blue", {"X-Team": "blue"}),
        ("a:b:c\n\n x-y :  z ", {"a": "b:c", "x-y": "z"}),
        ("empty:", {"empty": ""}),
    ],
)
def test_it_reads_headers_from_lines(typed, meant):
    field = HeadersField(required=False)
    assert field.clean(typed) == meant
    assert field.clean(field.prepare_value(meant)) == meant
    assert not field.has_changed(meant, typed)


@pytest.mark.parametrize("typed", ["no colon", ": nameless", "two words: x", "ünicode: x", "good: yes\nbad"])
def test_it_refuses_what_is_no_header(typed):
    field = HeadersField(required=False)
    with pytest.raises(ValidationError, match=r"Line \d is not of the form"):
        field.clean(typed)
    assert field.has_changed({}, typed)


@pytest.mark.parametrize(
    ("text", "value"),
    [("", {}), ("  ", {}), ("null", {}), ("{}", {}), ('{"a": {"b": [1]}}', {"a": {"b": [1]}})],
)
def test_it_reads_an_object(text, value):
    field = ObjectField(required=False)
    assert field.clean(text) == value
    assert not field.has_changed(value, text)
    assert field.has_changed({"other": 1}, text)


@pytest.mark.parametrize("text", ["[]", "7", '"text"', "false", "{a: 1}", "{"])
def test_it_refuses_what_is_no_object(text):
    with pytest.raises(ValidationError):
        ObjectField(required=False).clean(text)


def test_it_shows_an_object_as_it_can_be_typed_again():
    field = ObjectField(required=False)
    assert field.prepare_value({}) == ""
    assert field.clean(field.prepare_value({"a": {"b": 1}})) == {"a": {"b": 1}}
    assert "\n" in field.prepare_value({"a": 1})
