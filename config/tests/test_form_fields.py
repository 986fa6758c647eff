import pytest
from django.core.exceptions import ValidationError

from config.form_fields import HeadersField, LinesField


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
