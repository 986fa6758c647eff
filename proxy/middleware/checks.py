"""What a regex cannot tell: is this number a card's, an account's, a telephone's? Pure.

Each check gets the text of a candidate and returns how many of its characters are the thing, 0 for none:
what follows a number may look like more of it ("4111 1111 1111 1111 123").
"""

import re
from collections.abc import Iterator, Sequence

_DIGITS = re.compile(r"\d+")
# Lengths of accounts by country: https://www.swift.com/resource/iban-registry-pdf
_IBAN_LENGTHS = {
    country: length
    for length, countries in {
        15: "NO",
        16: "BE BI",
        18: "DK FI FK FO GL NL SD",
        19: "MK SI",
        20: "AT BA EE KZ LT LU MN XK",
        21: "CH HR LI LV",
        22: "BG BH CR DE GB GE IE ME RS VA",
        23: "AE GI IL IQ OM SO TL",
        24: "AD CZ ES MD PK RO SA SE SK TN VG",
        25: "LY PT ST",
        26: "IS TR",
        27: "BY DJ FR GR IT MC MR SM",
        28: "AL AZ CY DO GT HN HU LB NI PL SV",
        29: "BR EG PS QA UA",
        30: "JO KW MU YE",
        31: "MT SC",
        32: "LC",
        33: "RU",
    }.items()
    for country in countries.split()
}
# Prefixes of card numbers and the lengths that their issuers give them:
# https://en.wikipedia.org/wiki/Payment_card_number#Issuer_identification_number_(IIN)
_ISSUERS = {
    str(prefix): lengths
    for low, high, lengths in (
        (4, 4, (13, 16, 19)),
        (51, 55, (16,)),
        (2200, 2204, (16, 17, 18, 19)),
        (2221, 2720, (16,)),
        (34, 34, (15,)),
        (37, 37, (15,)),
        (300, 305, (14, 16)),
        (36, 36, (14, 16)),
        (38, 39, (14, 16)),
        (3528, 3589, (16, 17, 18, 19)),
        (6011, 6011, (16, 19)),
        (644, 659, (16, 19)),
        (62, 62, (16, 17, 18, 19)),
        (50, 50, (13, 14, 15, 16, 17, 18, 19)),
        (56, 58, (13, 14, 15, 16, 17, 18, 19)),
        (63, 63, (16, 18, 19)),
        (67, 67, (16, 18, 19)),
    )
    for prefix in range(low, high + 1)
}
_DOUBLED = bytes.maketrans(b"0123456789", bytes([0, 2, 4, 6, 8, 1, 3, 5, 7, 9]))
_SINGLE = bytes.maketrans(b"0123456789", bytes(range(10)))


def card_length(text: str) -> int:
    """Return how much of `text`, digits in groups, is the number of a payment card."""
    for end in _ends_of_groups(text):
        number = text[:end].replace(" ", "").replace("-", "")
        if len(number) < 13:
            break
        if luhn(number) and any(len(number) in _ISSUERS.get(number[:size], ()) for size in range(1, 5)):
            return end
    return 0


def luhn(number: str) -> bool:
    """Does the check digit hold?"""
    digits = number.encode()[::-1]
    return (sum(digits[::2].translate(_SINGLE)) + sum(digits[1::2].translate(_DOUBLED))) % 10 == 0


def iban_length(text: str) -> int:
    """Return how much of `text` is an account's number with the right checksum (mod 97)."""
    length = _IBAN_LENGTHS.get(text[:2].upper(), 0)
    kept = 0
    for end, letter in enumerate(text, 1):
        kept += letter != " "
        if length and kept == length:
            return end if _mod97(text[:end].replace(" ", "").upper()) == 1 else 0
    return 0


def international_length(text: str) -> int:
    """Return how much of `text`, which begins with `+` or `00`, is a telephone number (E.164)."""
    if re.match(r"\+\d{1,3}\.\d{5,9}(?!\d)", text):
        return 0  # a number with decimals
    written_out = text.startswith("00")
    prefix = 2 if written_out else 0
    for end in _ends_of_groups(text):
        groups = _DIGITS.findall(text[:end])
        if written_out and (len(groups) == 1 or _in_fours(groups)):
            continue
        if 8 <= sum(map(len, groups)) - prefix <= 15:
            return end
    return 0


def national_length(text: str) -> int:
    """Return how much of `text`, which begins with `0`, is a telephone number: 030 123456, 06 12 34 56 78."""
    if re.match(r"\d{1,2}[./-]\d{1,2}[./-]\d{2}(?:\d{2})?(?!\d)", text) and not _in_pairs(text):
        return 0  # a date
    for end in _ends_of_groups(text):
        groups = _DIGITS.findall(text[:end])
        if len(groups) > 1 and 9 <= sum(map(len, groups)) <= 12 and not _in_fours(groups):
            return end
    return 0


def in_parentheses_length(text: str) -> int:
    """Return how much of `text`, which begins with `(`, is a telephone number: (11) 91234-5678."""
    area = _DIGITS.findall(text)[0]
    if len(area) == 4 and area[:2] in ("19", "20"):
        return 0  # a year, as citations have it
    for end in _ends_of_groups(text):
        groups = _DIGITS.findall(text[:end])
        if len(groups) > 1 and 9 <= sum(map(len, groups)) <= 12:
            return end
    return 0


def american_length(text: str) -> int:
    """Return how much of `text` is a telephone number of North America, written 555-123-4567."""
    found = re.match(r"(?:1[ .-])?\d{3}([ .-])\d{3}([ .-])\d{4}", text)
    # "512 256 1024" is a list of numbers; and more behind it makes it something else.
    spaced = found is not None and found[1] == found[2] == " "
    return 0 if found is None or spaced or found.end() != len(text) else len(text)


def secret_length(text: str) -> int:
    """Return all of `text`, `sk-` and a token, unless it is words joined by hyphens."""
    rest = text.partition("-")[2]
    return len(text) if any(letter.isdigit() or letter.isupper() for letter in rest) else 0


def private_key_length(text: str) -> int:
    """Return all of `text`, the first line of a PEM block, if the block is a private key."""
    return len(text) if "PRIVATE KEY" in text else 0


def whole_length(text: str) -> int:
    """Return all of `text`: its shape tells enough."""
    return len(text)


def _ends_of_groups(text: str) -> Iterator[int]:
    """Yield where the groups of digits in `text` end, the last one first."""
    ends: Sequence[int] = [found.end() for found in _DIGITS.finditer(text)]
    for end in reversed(ends):
        yield end + (text[end : end + 1] == ")")


def _in_pairs(text: str) -> bool:
    """Are these five pairs of digits, as a French telephone number has it?"""
    groups = _DIGITS.findall(text)
    return len(groups) >= 5 and all(len(group) == 2 for group in groups[:5])


def _in_fours(groups: Sequence[str]) -> bool:
    """Are these groups of four, the last maybe shorter: part of an account's, a card's, an order's number?"""
    return len(groups) > 2 and all(len(group) == 4 for group in groups[:-1]) and len(groups[-1]) <= 4


def _mod97(account: str) -> int:
    moved = account[4:] + account[:4]
    return int("".join(str(int(letter, 36)) for letter in moved)) % 97
