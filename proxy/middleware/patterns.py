"""What is personal or secret, and how it is known: e-mail, telephone, card, account, keys.

A pattern is a set of shapes (RE2, linear in the text), a check of what a regex cannot tell, and for
what has no longest form (a token, a block of a private key) how it goes on: `more` is swallowed for as
long as it lasts, `rest` once at the end.

Deliberately not found: plain integers, dates, IP addresses, lists of numbers, digits in other scripts, and
what somebody hides on purpose (zero-width characters, words for digits, base64).
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from proxy.middleware import checks
from proxy.middleware.shapes import Part, Shape, compiled, run, token, word

KINDS = ("email", "phone", "card", "iban", "secret")
# Digits of a number stand together, or with one of these between groups: space, no-break ones, hyphens.
_GAP = r"[ .\-/\x{A0}\x{202F}\x{2011}]"
_LETTER = r"A-Za-z0-9\x{C0}-\x{24F}"
_URL64 = r"[A-Za-z0-9_\-]"
_ALNUM = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"


@dataclass(frozen=True, slots=True)
class Pattern:
    """One thing to find.

    `starts` is a class of the bytes that it may begin with. `length_in` says how many characters of a
    candidate are it (proxy.middleware.checks). The byte before it may be none of `not_before`, the one behind
    it none of `not_after`. `more` matches pieces that may be swallowed without knowing what comes;
    `more_opening` what may become another one.
    """

    kind: str
    starts: str
    shapes: Sequence[Shape]
    length_in: Callable[[str], int] = checks.whole_length
    not_before: bytes = b""
    not_after: bytes = b""
    more: str = ""
    more_opening: str = ""
    rest: str = ""


# ---------------------------------------------------------------- e-mail

_EMAIL = Pattern(
    "email",
    r"[A-Za-z0-9\x80-\xff]",
    [
        Shape(
            [
                run(f"[{_LETTER}]", 1, 1),
                run(rf"[{_LETTER}._%+'\-]", 0, 63),
                Part("@"),
                Part(
                    rf"[{_LETTER}][{_LETTER}\-]{{0,62}}\.", 1, 5, pieces=rf"[{_LETTER}][{_LETTER}\-]{{0,62}}"
                ),
                run("[A-Za-z]", 2, 24),
            ]
        )
    ],
)

# ---------------------------------------------------------------- numbers

_CARD = Pattern(
    "card",
    "[2-6]",
    [
        Shape([run("[2-6]", 1, 1), run("[0-9]", 12, 18)], before=r"\b"),
        Shape(
            [
                run("[2-6]", 1, 1),
                run("[0-9]", 3, 3),
                Part(r"[ \-][0-9]{4}", 3, 3, pieces=r"[ \-][0-9]{0,3}"),
                Part(r"[ \-][0-9]{1,3}", 0, 1, pieces=r"[ \-]"),
            ],
            before=r"\b",
        ),
        Shape(
            [
                run("3", 1, 1),
                run("[0-9]", 3, 3),
                run(r"[ \-]", 1, 1),
                run("[0-9]", 6, 6),
                run(r"[ \-]", 1, 1),
                run("[0-9]", 4, 5),
            ],
            before=r"\b",
        ),
    ],
    checks.card_length,
    not_before=_ALNUM,
    not_after=_ALNUM,
)
_IBAN = Pattern(
    "iban",
    "[A-Za-z]",
    [
        Shape(
            [
                run("[A-Za-z]", 2, 2),
                run("[0-9]", 2, 2),
                Part("[ ]?[A-Za-z0-9]{1,4}", 3, 8, pieces="[ ]"),
            ],
            before=r"\b",
        )
    ],
    checks.iban_length,
    not_before=_ALNUM,
    not_after=_ALNUM,
)
_GROUP = Part(rf"{_GAP}?\(?[0-9]{{1,8}}\)?", 1, 7, pieces=rf"{_GAP}?\(?")
_AMERICAN = (
    run("[2-9]", 1, 1),
    run("[0-9]", 2, 2),
    run(r"[ .\-]", 1, 1),
    run("[0-9]", 3, 3),
    run(r"[ .\-]", 1, 1),
    run("[0-9]", 4, 4),
    Part(r"[.\-/][0-9]", 0, 1, pieces=r"[.\-/]"),  # then it is something longer
)
_PHONES = (
    Pattern(
        "phone",
        r"\+",
        [Shape([Part(r"\+"), run("[1-9]", 1, 1), _GROUP])],
        checks.international_length,
        not_before=_ALNUM + b"+",
        not_after=_ALNUM,
    ),
    Pattern(
        "phone",
        "0",
        [Shape([Part("0"), Part("0"), run("[1-9]", 1, 1), _GROUP], before=r"\b")],
        checks.international_length,
        not_before=_ALNUM + b".,-/#$+",
        not_after=_ALNUM,
    ),
    Pattern(
        "phone",
        "0",
        [
            Shape(
                [
                    Part("0"),
                    run("[1-9]", 1, 1),
                    run("[0-9]", 0, 4),
                    Part(rf"{_GAP}[0-9]{{2,8}}", 1, 5, pieces=rf"{_GAP}[0-9]?"),
                ],
                before=r"\b",
            )
        ],
        checks.national_length,
        not_before=_ALNUM + b".,-/#$+",
        not_after=_ALNUM + b":",
    ),
    Pattern(
        "phone",
        r"\(",
        [
            Shape(
                [
                    Part(r"\("),
                    run("[0-9]", 2, 5),
                    Part(r"\)"),
                    run("[ ]", 0, 1),
                    run("[0-9]", 2, 5),
                    Part(rf"{_GAP}[0-9]{{2,5}}", 1, 4, pieces=rf"{_GAP}[0-9]?"),
                ]
            )
        ],
        checks.in_parentheses_length,
        not_before=_ALNUM,
        not_after=_ALNUM,
    ),
    Pattern(
        "phone",
        "[1-9]",
        [
            Shape(_AMERICAN, before=r"\b"),
            Shape([Part("1"), run(r"[ .\-]", 1, 1), *_AMERICAN], before=r"\b"),
        ],
        checks.american_length,
        not_before=_ALNUM + b".,-/#$+",
        not_after=_ALNUM,
    ),
)

# ---------------------------------------------------------------- secrets

# Text of JSON has its line ends as two characters.
_BREAK = r"(?:\s|\\[nr])"
_BASE64 = "[A-Za-z0-9+/=]"
_PEM_FIELD = Part(
    rf"{_BREAK}{{1,8}}(?:Proc-Type|DEK-Info|Version|Comment): [^\n\\]{{1,80}}",
    0,
    3,
    pieces=rf"{_BREAK}{{0,8}}\\|{_BREAK}{{1,8}}(?:[A-Z][A-Za-z\-]{{0,9}}(?::(?: [^\n\\]{{0,80}})?)?)?",
)
_PEM = Pattern(
    "secret",
    "-",
    [
        Shape([*word("-----BEGIN "), run("[A-Z0-9 ]", 0, 48), *word("-----"), _PEM_FIELD]),
    ],
    checks.private_key_length,
    # A key goes on with its base64, and with long words of it behind a break: prose does not look so.
    more=rf"(?:{_BASE64}|{_BREAK}{{1,8}}{_BASE64}{{16}})*",
    more_opening=(
        rf"{_BREAK}{{0,8}}(?:\\|{_BASE64}{{0,15}}{_BREAK}{{0,8}}"
        r"(?:\\|-{1,5}|-----E(?:N(?:D(?: [A-Z0-9 ]{0,48}-{0,5})?)?)?)?)"
    ),
    rest=rf"{_BREAK}{{0,8}}(?:{_BASE64}{{1,15}}{_BREAK}{{0,8}})?-----END [A-Z0-9 ]{{0,48}}-----",
)
_JWT = Pattern(
    "secret",
    "e",
    [
        Shape(
            [*word("eyJ"), run(_URL64, 8, 512), Part(r"\."), *word("eyJ"), run(_URL64, 8, 8)], before=r"\b"
        ),
        # A header that long is no other thing either: it is not waited for any longer.
        Shape([*word("eyJ"), run(_URL64, 512, 512)], before=r"\b"),
    ],
    more=rf"(?:{_URL64}|\.{_URL64})*",
    more_opening=r"\.",
)
_SK = Pattern("secret", "s", [token("sk-", _URL64, 20, 48)], checks.secret_length, more=rf"{_URL64}*")
_AWS = Pattern(
    "secret",
    "A",
    [token(prefix, "[A-Z0-9]", 16, 16) for prefix in ("AKIA", "ASIA", "ABIA", "ACCA")],
    not_after=_ALNUM,
)
_TOKENS = Pattern(
    "secret",
    "[a-zA-Z]",
    [
        *(token(f"gh{kind}_", "[A-Za-z0-9]", 36, 36) for kind in "pousr"),
        token("github_pat_", "[A-Za-z0-9_]", 22, 22),
        token("glpat-", _URL64, 20, 20),
        *(token(f"xox{kind}-", r"[A-Za-z0-9\-]", 10, 10) for kind in "abceoprs"),
        token("xapp-", r"[A-Za-z0-9\-]", 10, 10),
        token("AIza", _URL64, 35, 35),
        *(
            token(f"{kind}_{mode}_", "[A-Za-z0-9]", 16, 16)
            for kind in ("sk", "rk")
            for mode in ("live", "test")
        ),
        token("hf_", "[A-Za-z0-9]", 30, 30),
        token("gsk_", "[A-Za-z0-9]", 40, 40),
        token("xai-", "[A-Za-z0-9]", 40, 40),
        token("npm_", "[A-Za-z0-9]", 36, 36),
    ],
    more=rf"{_URL64}*",
)

# In the order in which they are tried where several begin at the same place.
PATTERNS = (_PEM, _JWT, _SK, _AWS, _TOKENS, _EMAIL, _IBAN, _CARD, *_PHONES)


class Ruler:
    """A pattern, compiled, as the scanner uses it."""

    __slots__ = ("_found", "_pattern", "label", "more", "more_opening", "rest", "starts")

    def __init__(self, pattern: Pattern) -> None:
        """Compile it."""
        self._pattern = pattern
        self._found = compiled("|".join(f"(?:{shape.found})" for shape in pattern.shapes))
        starts = re.compile(pattern.starts.encode("latin-1"))
        self.starts = frozenset(byte for byte in range(256) if starts.match(bytes([byte])))
        self.label = f"[{pattern.kind.upper()}]"
        opening = pattern.more_opening
        self.more: Any = compiled(pattern.more) if pattern.more else None
        self.more_opening: Any = compiled(rf"(?:{opening})\z") if opening else None
        self.rest: Any = compiled(pattern.rest) if pattern.rest else None

    def end_at(self, text: bytes, start: int, *, limit: int) -> int:
        """Return where what begins at `start` ends, which is before `limit`; -1 if nothing does."""
        pattern = self._pattern
        if start and text[start - 1] in pattern.not_before:
            return -1
        candidate = self._found.match(text, start, limit)
        if candidate is None:
            return -1
        said = candidate.group().decode()
        length = pattern.length_in(said)
        end = start + len(said[:length].encode())
        if not length or (end < len(text) and text[end] in pattern.not_after):
            return -1
        return end


class Kinds:
    """The patterns of some kinds, compiled into one search each for what is there and what may come."""

    __slots__ = ("by_start", "found", "opening")

    def __init__(self, kinds: Sequence[str]) -> None:
        """Compile those of `kinds`."""
        chosen = [pattern for pattern in PATTERNS if pattern.kind in kinds]
        shapes = [shape for pattern in chosen for shape in pattern.shapes]
        rulers = [Ruler(pattern) for pattern in chosen]
        self.by_start = [[ruler for ruler in rulers if byte in ruler.starts] for byte in range(256)]
        self.found = compiled("|".join(f"(?:{shape.found})" for shape in shapes))
        self.opening = compiled(rf"(?:{'|'.join(shape.opening for shape in shapes)})\z")
