"""What is found in a text and what is not, and that a stream of it finds the same at every split."""

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.middleware.patterns import KINDS, PATTERNS, Kinds
from proxy.middleware.scanner import MAX_HELD, Scanner, redacted

ALL = Kinds(KINDS)
JWT = (
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0"
    ".dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"
)
PEM = (
    "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,AB12\n\n"
    + ("MIIEpAIBAAKCAQEA" * 4 + "\n") * 3
    + "Abc=\n-----END RSA PRIVATE KEY-----"
)

FOUND = [
    ("jane.doe+tag@mail.example.co.uk", "[EMAIL]"),
    ("jörg@müller.de", "[EMAIL]"),
    ("メールはfoo@example.comです", "メールは[EMAIL]です"),
    ("+49 30 123456", "[PHONE]"),
    ("+49 (0)30 123456", "[PHONE]"),
    ("+15551234567", "[PHONE]"),
    ("+1 (555) 123-4567", "[PHONE]"),
    ("0044 20 7946 0958", "[PHONE]"),
    ("(555) 123-4567", "[PHONE]"),
    ("555-123-4567", "[PHONE]"),
    ("1-800-555-1234", "[PHONE]"),
    ("555.123.4567", "[PHONE]"),
    ("020 7946 0958", "[PHONE]"),
    ("07700 900123", "[PHONE]"),
    ("06 12 34 56 78", "[PHONE]"),
    ("06.12.34.56.78", "[PHONE]"),
    ("030/1234567", "[PHONE]"),
    ("090-1234-5678", "[PHONE]"),
    ("(11) 91234-5678", "[PHONE]"),
    ("(02) 9876 5432", "[PHONE]"),
    ("+49\u00a030\u00a0123456", "[PHONE]"),
    ("4111111111111111", "[CARD]"),
    ("4111 1111 1111 1111", "[CARD]"),
    ("4111-1111-1111-1111", "[CARD]"),
    ("5555 5555 5555 4444", "[CARD]"),
    ("378282246310005", "[CARD]"),
    ("3782 822463 10005", "[CARD]"),
    ("30569309025904", "[CARD]"),
    ("4111 1111 1111 1111 123", "[CARD] 123"),
    ("DE89 3704 0044 0532 0130 00", "[IBAN]"),
    ("DE89370400440532013000", "[IBAN]"),
    ("de89 3704 0044 0532 0130 00", "[IBAN]"),
    ("GB82WEST12345698765432", "[IBAN]"),
    ("BE68 5390 0754 7034 from", "[IBAN] from"),
    ("sk-abcDEF0123456789abcdef", "[SECRET]"),
    ("sk-proj-" + "aB3_-" * 30, "[SECRET]"),
    ("sk-ant-api03-" + "aB3" * 30, "[SECRET]"),
    ("sk-gw-" + "aB3dE" * 9 + "0fZaQ1", "[SECRET]"),
    ("AKIAIOSFODNN7EXAMPLE", "[SECRET]"),
    ("ghp_" + "a1B2" * 9, "[SECRET]"),
    ("github_pat_" + "a1B2" * 20, "[SECRET]"),
    ("xoxb-123456789012-abcdefABCDEF", "[SECRET]"),
    ("AIza" + "a1B2C" * 7, "[SECRET]"),
    (JWT, "[SECRET]"),
    (JWT + ". Then", "[SECRET]. Then"),
    ("eyJ" + "a" * 600, "[SECRET]"),
    (PEM, "[SECRET]"),
    (PEM.replace("\n", "\\n"), "[SECRET]"),
    (PEM + "\nHello.", "[SECRET]\nHello."),
    (PEM[:200], "[SECRET]"),
]
UNTOUCHED = [
    "",
    "plain words, and more of them",
    "1234567890",
    "12345678901234567890",
    "2024-01-31",
    "31.01.2024",
    "01-02-2024 12:30",
    "2024-01-31T12:30:45.123456+01:00",
    "1700000000000",
    "192.168.100.200",
    "10.0.0.1:8080",
    "512 256 1024",
    "3.14159265358979",
    "+1.23456789",
    "1,234,567.89",
    "order 0123-4567-8901",
    "Smith (2019) 123-1456",
    "version 1.2.3-rc.4",
    "550e8400-e29b-41d4-a716-446655440000",
    "4111111111111112",
    "4111 1111 1111 1112",
    "9999999999999995",
    "DE89 3704 0044 0532 0130 01",
    "XX89 3704 0044 0532 0130 00",
    "sk-circle-fade-dot-animation-long",
    "task-0123456789abcdefghijkl",
    "chatcmpl-0123456789abcdefghijkl",
    "call_0123456789ABCDEFabcdef01",
    "a @ b.com",
    "@decorator",
    "x@localhost",
    "-----BEGIN CERTIFICATE-----\nMIIEpAIBAAKCAQEA\n-----END CERTIFICATE-----",
    "---- a rule ----",
    "eyJpZCI6MTIzfQ==",
    "$0171 2345678",
]


@pytest.mark.parametrize(("text", "expected"), FOUND)
def test_it_finds_what_is_personal_or_secret(text, expected):
    assert redacted(text, ALL) == expected
    assert redacted(f"So: {text}, she said.", ALL) == f"So: {expected}, she said."


@pytest.mark.parametrize("text", UNTOUCHED)
def test_it_leaves_everything_else_alone(text):
    assert redacted(text, ALL) is text
    assert redacted(f"so {text} said", ALL) == f"so {text} said"


def test_it_says_a_private_key_only_of_its_body_not_of_prose_about_it():
    text = "A key begins with -----BEGIN PRIVATE KEY----- and then comes base64."
    assert redacted(text, ALL) == "A key begins with [SECRET] and then comes base64."


def test_it_finds_only_the_kinds_it_is_asked_for():
    text = "a@b.example 4111111111111111 +15551234567"
    assert redacted(text, Kinds(["email"])) == "[EMAIL] 4111111111111111 +15551234567"
    assert redacted(text, Kinds(["card", "phone"])) == "a@b.example [CARD] [PHONE]"


def test_it_has_a_pattern_of_every_kind():
    assert {pattern.kind for pattern in PATTERNS} == set(KINDS)


def streamed(pieces, kinds=ALL):
    scanner = Scanner(kinds)
    out = [scanner.feed(piece) for piece in pieces]
    return "".join([*out, scanner.finish()])


@pytest.mark.parametrize("text", [text for text, _ in FOUND] + UNTOUCHED)
def test_it_finds_the_same_at_every_split_in_two_and_letter_by_letter(text):
    text = f"So: {text}, she said. {text}"
    whole = redacted(text, ALL)
    assert streamed(text) == whole
    for place in range(len(text)):
        assert streamed([text[:place], text[place:]]) == whole


# Texts made of what patterns are made of: most random text would never come near one.
_BITS = st.sampled_from(
    [
        *[text for text, _ in FOUND],
        *UNTOUCHED,
        *"0123456789+-()./ @_:=,\\\n\"'aZ-é\u00a0",
        *[
            "sk-",
            "eyJ",
            "-----",
            "BEGIN ",
            "PRIVATE KEY",
            "END ",
            "AKIA",
            "@b.co",
            ".com",
            "00",
            " 0",
            "4111 ",
        ],
        *["a" * 70, "1" * 25, "A" * 600, "x@" + "y" * 80, "\\n" * 5, "Version: 1", "日本", "😀"],
    ]
)
_CUT_BITS = st.builds(
    lambda bit, start, end: bit[start:end], _BITS, st.integers(0, 8), st.integers(1, 700) | st.none()
)
TEXTS = st.lists(_CUT_BITS | _BITS | st.text(max_size=5), max_size=8).map("".join)


@given(text=TEXTS, cuts=st.lists(st.integers(0, 4000), max_size=30))
@example(text="a" * 64 + "@b.com", cuts=[1])
@example(text=f"{PEM}{JWT}", cuts=list(range(0, 600, 7)))
def test_it_says_in_pieces_what_it_says_of_the_whole(text, cuts):
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[start:end] for start, end in pairwise(places)]
    whole = redacted(text, ALL)
    assert streamed(pieces) == whole
    assert streamed(text) == whole


@given(text=TEXTS)
def test_it_holds_no_more_than_the_longest_shape(text):
    scanner = Scanner(ALL)
    for letter in text:
        scanner.feed(letter)
        assert scanner.held <= 4 * MAX_HELD


@pytest.mark.parametrize(
    "endless",
    ["a" * 5000, "sk-" + "aB3" * 2000, "eyJ" + "a" * 5000, "a@" + "b." * 3000, "1 " * 3000, PEM * 20],
)
def test_an_endless_token_neither_leaks_nor_stalls(endless):
    scanner = Scanner(ALL)
    out = []
    for letter in endless:
        out.append(scanner.feed(letter))
        assert scanner.held <= MAX_HELD
    assert "".join(out) + scanner.finish() == redacted(endless, ALL)


def test_it_holds_of_prose_no_more_than_the_word_being_written():
    scanner = Scanner(ALL)
    assert scanner.feed("The quick brown f") == "The quick brown "
    assert scanner.feed("ox jumps. ") == "fox jumps. "
    assert scanner.held == 0


def test_it_is_the_same_object_if_nothing_is_found():
    text = "nothing to see: 42"
    assert redacted(text, ALL) is text
