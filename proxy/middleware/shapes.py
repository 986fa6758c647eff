"""The shape of something to be found: described once, compiled to two regexes of RE2.

`found` matches the shape. `opening`, put before the end of a text, matches whatever of the shape could
still go on behind it: that is how a reader of a stream knows what it must hold back. A shape is a
sequence of bounded parts, so both have a bound, and a text is never held back longer than that.
Regexes run on UTF-8 bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import re2


@dataclass(frozen=True, slots=True)
class Part:
    """From `least` to `most` of what `one` matches.

    `pieces` matches what a beginning of one could look like, where one is more than a character. It may
    match more than that: then more is held back than need be, and decided later.
    """

    one: str
    least: int = 1
    most: int = 1
    pieces: str = ""

    @property
    def found(self) -> str:
        """Return the regex of the whole part."""
        return f"(?:{self.one}){{{self.least},{self.most}}}"

    @property
    def opening(self) -> str:
        """Return the regex of a beginning of the part, the empty one and the whole among them."""
        return f"(?:{self.one}){{0,{self.most}}}" + (f"(?:{self.pieces})?" if self.pieces else "")


@dataclass(frozen=True, slots=True)
class Shape:
    """Parts in a row. `before` matches what stands before the first one and takes no room: a boundary."""

    parts: Sequence[Part]
    before: str = ""

    @property
    def found(self) -> str:
        """Return the regex of the shape."""
        return self.before + "".join(part.found for part in self.parts)

    @property
    def opening(self) -> str:
        """Return the regex of a beginning of the shape, of at least one character, or of all of it."""
        first, *rest = self.parts
        nested = ""
        for part in reversed(rest):
            nested = part.opening + (f"|{part.found}(?:{nested})" if nested else "")
        begun = f"(?:{first.one}){{1,{first.most}}}"
        return f"{self.before}(?:{begun}|{first.found}(?:{nested}))"


def word(text: str) -> list[Part]:
    """Return the parts of a literal."""
    return [Part(re2.escape(letter)) for letter in text]


def run(letters: str, least: int, most: int) -> Part:
    """Return a run of a class of characters, written as in a regex: `[a-z]`."""
    return Part(letters, least, most)


def token(prefix: str, letters: str, least: int, most: int) -> Shape:
    """Return the shape of a literal prefix, at the beginning of a word, and a run behind it."""
    return Shape([*word(prefix), run(letters, least, most)], before=r"\b")


def compiled(regex: str) -> Any:
    """Compile for matching UTF-8 bytes. RE2 has no types."""
    options = re2.Options()
    options.log_errors = False
    options.never_capture = True
    options.max_mem = 64 << 20
    return re2.compile(regex, options)
