"""The arguments of tool calls: what goes out is JSON still, in any pieces."""

import json
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.middleware.arguments import ArgumentsScanner, redacted_arguments
from proxy.middleware.patterns import KINDS, Kinds
from proxy.middleware.scanner import redacted
from proxy.tests.test_middleware_patterns import FOUND, TEXTS

ALL = Kinds(KINDS)


def streamed(pieces):
    scanner = ArgumentsScanner(ALL)
    out = [scanner.feed(piece) for piece in pieces]
    return "".join([*out, scanner.finish()])


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ('{"to": "a@b.example"}', '{"to": "[EMAIL]"}'),
        ('{"card": 4111111111111111, "n": 5}', '{"card": "[CARD]", "n": 5}'),
        ('{"card":-4111111111111111}', '{"card":"-[CARD]"}'),
        ("[4111111111111111]", '["[CARD]"]'),
        (r'{"a": "\nfoo@b.example"}', r'{"a": "\n[EMAIL]"}'),
        (r'{"a": "foo\u0040b.example"}', '{"a": "[EMAIL]"}'),
        (r'{"a": "\"foo@b.example\\"}', r'{"a": "\"[EMAIL]\\"}'),
        (r'{"a": "\ud83d\ude00 a@b.example \ud83d"}', '{"a": "😀 [EMAIL] \\ud83d"}'),
        ('{"a": [true, null, 1.5e3, {"b": "+15551234567"}]}', '{"a": [true, null, 1.5e3, {"b": "[PHONE]"}]}'),
        ("write to a@b.example", "write to [EMAIL]"),
        ('{"a": "half a@b.exam', '{"a": "half [EMAIL]'),
        ("  ", "  "),
        ("", ""),
    ],
)
def test_it_redacts_strings_and_numbers(arguments, expected):
    assert redacted_arguments(arguments, ALL) == expected
    assert streamed(arguments) == expected


def test_what_holds_nothing_stays_as_it_was_written():
    arguments = r'{"path": "a\/b", "e": "\u00e9"}'
    assert redacted_arguments(arguments, ALL) is arguments


def test_words_too_long_for_json_are_plain_text():
    arguments = "{" + "x" * 600 + " a@b.example 4111 1111 1111 1111"
    assert redacted_arguments(arguments, ALL) == "{" + "x" * 600 + " [EMAIL] [CARD]"
    assert streamed(arguments) == redacted_arguments(arguments, ALL)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.just(4111111111111111)
    | st.sampled_from([text for text, _ in FOUND])
    | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=8,
)


def expected(value):
    if isinstance(value, str):
        return redacted(value, ALL)
    if isinstance(value, list):
        return [expected(each) for each in value]
    if isinstance(value, dict):
        return {redacted(name, ALL): expected(each) for name, each in value.items()}
    if value is None or isinstance(value, bool):
        return value
    written = json.dumps(value)
    said = redacted(written, ALL)
    return value if said == written else said


@given(
    value=st.dictionaries(st.text(max_size=4), VALUES, max_size=4) | st.lists(VALUES, max_size=4),
    cuts=st.lists(st.integers(0, 3000), max_size=30),
    ascii_only=st.booleans(),
)
@example(value={"😀": ['a@b.example\n\t\\"/']}, cuts=[], ascii_only=True)
def test_it_stays_json_that_says_the_redaction_of_what_it_said(value, cuts, ascii_only):
    text = json.dumps(value, ensure_ascii=ascii_only)
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[start:end] for start, end in pairwise(places)]
    said = streamed(pieces)
    assert said == streamed(text) == streamed([text])
    assert json.loads(said) == expected(value)


@given(text=TEXTS, cuts=st.lists(st.integers(0, 3000), max_size=10))
def test_it_says_in_pieces_what_it_says_of_the_whole_even_of_what_is_no_json(text, cuts):
    text = "{" + text
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[start:end] for start, end in pairwise(places)]
    assert streamed(pieces) == streamed([text]) == streamed(text)
