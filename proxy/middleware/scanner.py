"""Redacts text that comes in pieces: what goes out is what redacting the whole text would have given.

A piece ends anywhere, so the end of what has come is held back from where something could still begin or
grow (`Kinds.opening`). What can be found has a longest form, which bounds what is held: MAX_HELD
characters. Where a thing has none (a token, a private key), it is replaced when it is known for what it is,
and its rest is swallowed as it comes: neither shown nor held.

Words without spaces are held while they could be an address: of prose that is the word being written.
"""

from typing import Any

from proxy.middleware.patterns import Kinds, Ruler

# The longest shape is the beginning of a JSON Web Token (proxy.middleware.patterns).
MAX_HELD = 600
# A search for what is there looks at so many bytes at a time: RE2 reads on to the end of what it is given
# where candidates overlap, and each candidate that turns out to be nothing is a search of its own.
_WINDOW = 4096
_BEHIND_WINDOW = 4 * MAX_HELD  # a character has up to four bytes


class Scanner:
    """One text. `feed` gives what is decided; `finish` the rest, after which nothing may come."""

    __slots__ = ("_before", "_kinds", "_swallowing", "_text", "found")

    def __init__(self, kinds: Kinds) -> None:
        """Begin before the first character."""
        self._kinds = kinds
        self._text = b""
        self._before = 0  # bytes of `_text` that have gone out and are kept as what stands before the rest
        self._swallowing: Ruler | None = None
        self.found = 0  # how many things have been replaced

    def feed(self, piece: str) -> str:
        """Return what may go out now."""
        self._text += piece.encode("utf-8", "surrogatepass")
        return self._taken(final=False)

    def finish(self) -> str:
        """Return the rest."""
        return self._taken(final=True)

    @property
    def held(self) -> int:
        """How many bytes wait for what comes next?"""
        return len(self._text) - self._before

    def _taken(self, *, final: bool) -> str:
        pieces: list[bytes] = []
        position = self._before
        if self._swallowing is not None:
            position = self._swallowed(position, final=final)
        while self._swallowing is None:
            until = self._decided_until(position, final=final)
            start, ruler, end = self._next(position, until)
            pieces.append(self._text[position:start])
            position = start
            if ruler is None:
                break
            pieces.append(ruler.label.encode())
            self.found += 1
            position = end
            if ruler.more is not None:
                self._swallowing = ruler
                position = self._swallowed(position, final=final)
        self._before = min(position, 1)
        self._text = self._text[position - self._before :]
        return b"".join(pieces).decode("utf-8", "surrogatepass")

    def _decided_until(self, position: int, *, final: bool) -> int:
        """Return from where on more text could change what is found."""
        if final:
            return len(self._text)
        opening = self._kinds.opening.search(self._text, position)
        return len(self._text) if opening is None else int(opening.start())

    def _next(self, position: int, until: int) -> tuple[int, Ruler | None, int]:
        """Return start, ruler and end of the first thing that begins before `until`; else `until`."""
        text = self._text
        while position < until:
            window = position + _WINDOW
            candidate = self._kinds.found.search(text, position, window + _BEHIND_WINDOW)
            start: int = until if candidate is None else candidate.start()
            if start >= window:
                position = window
                continue
            if start >= until:
                break
            for ruler in self._kinds.by_start[text[start]]:
                end = ruler.end_at(text, start, limit=start + _BEHIND_WINDOW)
                if end > 0:
                    return start, ruler, end
            position = start + 1
        return until, None, until

    def _swallowed(self, position: int, *, final: bool) -> int:
        """Return where what is being swallowed ends as far as it is known; then nothing is any longer."""
        ruler: Any = self._swallowing
        text = self._text
        position = ruler.more.match(text, position).end()
        if not final:
            if position == len(text):
                return position
            if ruler.more_opening is not None and ruler.more_opening.match(text, position) is not None:
                return position
        rest = None if ruler.rest is None else ruler.rest.match(text, position)
        self._swallowing = None
        return position if rest is None else int(rest.end())


def redacted(text: str, kinds: Kinds) -> str:
    """Return the whole text, redacted; the same object if there is nothing to redact."""
    return redacted_and_counted(text, kinds)[0]


def redacted_and_counted(text: str, kinds: Kinds) -> tuple[str, int]:
    """Return the whole text, redacted, and how many things were replaced in it."""
    scanner = Scanner(kinds)
    scanner._text = text.encode("utf-8", "surrogatepass")  # noqa: SLF001 - whole: nothing is held
    result = scanner.finish()
    return (result, scanner.found) if scanner.found else (text, 0)
