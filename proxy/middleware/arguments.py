r"""Redacts the arguments of a tool call, which are JSON in pieces: what goes out is JSON still.

Strings are redacted as what they say, not as they are written: `\n` before an address is no letter of it.
What stands outside of strings is looked at one word at a time; one with something in it, the number of a
card for example, becomes a string. Arguments that are no JSON (custom tools) are plain text.

Escapes may be written in another way than they came (`\u00e9` as the letter itself); what the JSON says is
the same.
"""

import re

import orjson

from proxy.middleware.patterns import Kinds
from proxy.middleware.scanner import Scanner, redacted

# No number, and no true, false or null, is that long. It is no JSON, then.
MAX_WORD = 512
_NOT_BLANK = re.compile(r"\S")
_DELIMITER = re.compile(r'["\s{}\[\],:]')
_SPECIAL = re.compile(r'["\\]')
_ESCAPE = re.compile(r"\\(?:u[0-9a-fA-F]{4}|[^u])", re.DOTALL)
_HALF_ESCAPE = re.compile(r"\\(?:u[0-9a-fA-F]{0,3})?")
_LETTERS = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "/": "/"}


class ArgumentsScanner:
    """One call's arguments; used as a Scanner is."""

    __slots__ = ("_kinds", "_pending", "_plain", "_started", "_string", "_word", "found")

    def __init__(self, kinds: Kinds) -> None:
        """Begin before the first character."""
        self._kinds = kinds
        self._started = False
        self._plain: Scanner | None = None
        self._string: Scanner | None = None  # of the string that is open
        self._pending = ""  # what may be half an escape
        self._word = ""
        self.found = 0

    def feed(self, piece: str) -> str:
        """Return what may go out now."""
        if not self._started:
            self._start(piece)
        out: list[str] = []
        while piece or self._pending:
            if self._plain is not None:
                out.append(self._of(self._plain, self._plain.feed(piece)))
                break
            if self._string is None:
                piece = self._outside(piece, out)
            else:
                text, self._pending = self._pending + piece, ""
                piece = self._inside(text, self._string, out)
                if self._pending:
                    break
        return "".join(out)

    def finish(self) -> str:
        """Return the rest."""
        if self._plain is not None:
            return self._of(self._plain, self._plain.finish())
        if self._string is not None:
            return _escaped(self._of(self._string, self._string.finish())) + self._pending
        return self._word_out()

    def _start(self, piece: str) -> None:
        first = _NOT_BLANK.search(piece)
        if first is not None:
            self._started = True
            if first.group() not in '{["':
                self._plain = Scanner(self._kinds)

    def _outside(self, piece: str, out: list[str]) -> str:
        """Take text from outside of strings; return what has not been taken."""
        delimiter = _DELIMITER.search(piece)
        end = len(piece) if delimiter is None else delimiter.start()
        self._word += piece[:end]
        if len(self._word) > MAX_WORD:
            self._plain = Scanner(self._kinds)
            word, self._word = self._word, ""
            return word + piece[end:]
        if delimiter is None:
            return ""
        out.append(self._word_out() + delimiter.group())
        if delimiter.group() == '"':
            self._string = Scanner(self._kinds)
        return piece[end + 1 :]

    def _inside(self, text: str, string: Scanner, out: list[str]) -> str:
        """Take text from inside a string; return what has not been taken."""
        special = _SPECIAL.search(text)
        end = len(text) if special is None else special.start()
        said = string.feed(text[:end])
        if special is None:
            rest = ""
        elif special.group() == '"':
            said += self._of(string, string.finish())
            self._string, rest = None, text[end + 1 :]
        else:
            letter, length = _unescaped(text, end)
            if length:
                said += string.feed(letter)
                rest = text[end + length :]
            else:
                self._pending, rest = text[end:], ""
        out.append(_escaped(said) + ('"' if self._string is None else ""))
        return rest

    def _word_out(self) -> str:
        word, self._word = self._word, ""
        said = redacted(word, self._kinds) if word else word
        if said is word:
            return word
        self.found += 1
        return orjson.dumps(said).decode()

    def _of(self, scanner: Scanner, said: str) -> str:
        self.found += scanner.found
        scanner.found = 0
        return said


def redacted_arguments(text: str, kinds: Kinds) -> str:
    """Return whole arguments, redacted; the same object if there is nothing to redact."""
    scanner = ArgumentsScanner(kinds)
    result = scanner.feed(text) + scanner.finish()
    return result if scanner.found else text


def _unescaped(text: str, start: int) -> tuple[str, int]:
    """Return what the escape at `start` says and its length; length 0 if its end is yet to come."""
    found = _ESCAPE.match(text, start)
    if found is None:
        half = _HALF_ESCAPE.match(text, start)
        whole = half is not None and half.end() < len(text)  # no escape at all: said as it is written
        return ("\\", 1) if whole else ("", 0)
    escape = found.group()
    if escape[1] != "u":
        return _LETTERS.get(escape[1], escape), 2
    first = _code(escape)
    if not 0xD800 <= first < 0xDC00:
        return chr(first), 6
    # The first half of a character: the second must come next.
    other = _ESCAPE.match(text, start + 6)
    if other is None:
        coming = _HALF_ESCAPE.fullmatch(text, start + 6) is not None or len(text) == start + 6
        return ("", 0) if coming else (chr(first), 6)
    second = _code(other.group()) if other.group()[1] == "u" else 0
    if not 0xDC00 <= second < 0xE000:
        return chr(first), 6
    return chr(0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00)), 12


def _code(escape: str) -> int:
    return int(escape.removeprefix("\\u"), base=16)


def _escaped(text: str) -> str:
    """Return text as it stands inside a string of JSON."""
    try:
        return orjson.dumps(text)[1:-1].decode()
    except orjson.JSONEncodeError:  # half a character
        return "".join(
            f"\\u{ord(letter):04x}" if 0xD800 <= ord(letter) < 0xE000 else _escaped(letter) for letter in text
        )
