"""What may be kept of a body: its beginning, with secrets and what is personal blacked out.

Only as much of a body is looked at as is kept, and a margin, so that a thing at the cut is known for what it
is: the work has a bound, however large the body. Long base64 (images, files) is passed over before that, and
counts for nothing but its marker. Text of JSON is looked at without its escapes, which could hide or split
what is looked for, and is JSON again afterwards, up to the cut.
"""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import re2

from proxy.middleware.patterns import KINDS, Kinds
from proxy.middleware.scanner import redacted_and_counted
from proxy.patterns import compile_regex

MARGIN = 4096  # bytes; longer than anything that is looked for, but for what has no longest form
LEAST_BASE64 = 256
SECRET, REDACTED = b"[SECRET]", b"[REDACTED]"
_STEP = 4096
_CLOSE_LOOK = 1 << 16  # base64 is followed character by character so far, and from there to the next quote

# In JSON a "/" and a line end may be escaped, and some writers escape "+" too.
_CHARACTER = rb"(?:[A-Za-z0-9+/_=\-]|\\[/nr]|\\u00[0-9A-Fa-f]{2})"
_BASE64 = re2.compile(_CHARACTER + b"{%d}" % LEAST_BASE64)
_MORE_BASE64 = re2.compile(_CHARACTER + b"*")

_ESCAPE = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|(.))", re.DOTALL)
# What stands for an escape while the text is looked at: no letter, and a line end is still a space.
_OPENED = {"n": "\x0c", "r": "\x0b", "t": "\ue000", '"': "\ue001", "\\": "\ue002", "/": "/"}
_ENDS = frozenset('"\\')
_CLOSED = str.maketrans(
    {"\x0c": "\\n", "\x0b": "\\r", "\ue000": "\\t", "\ue001": '\\"', "\ue002": "\\\\"},
)
_NAMES = (
    r"(?:password|passwd|passphrase|pwd|secret|api[_-]?key|access[_-]?key|private[_-]?key|"
    r"(?:access|refresh|auth|session|id|bearer)[_-]?token|authorization|credentials?)"
)
_QUOTE = "\ue001"
_NAMED = re2.compile(
    rf"(?i)({_NAMES}[\"'{_QUOTE}]?\s{{0,8}}[:=]\s{{0,8}})"
    rf"(?:(\")[^\"]+\"|(')[^']+'|({_QUOTE})[^{_QUOTE}]+{_QUOTE}|"
    rf"(?:Bearer |Basic )?[^\s\"'{_QUOTE},;&{{}}\[\]]+)".encode()
)
_BEARER = re2.compile(rb"(?i)(\b(?:Bearer|Basic)[ ]{1,4})[A-Za-z0-9._~+/=\-]{12,}")
_IN_URL = re2.compile(rb"(://[^\s/:@\"']{0,80}:)[^\s/@\"']{1,200}@")


class Kept(NamedTuple):
    """What is kept of a body: text, of how many bytes, and how many places were blacked out."""

    text: str
    size: int
    redactions: int


class Censor:
    """Blacks out. `patterns` are an operator's own (RE2)."""

    __slots__ = ("_kinds", "_limit", "_own")

    def __init__(self, *, limit: int, patterns: Sequence[str] = ()) -> None:
        """Keep at most `limit` bytes of a body, before the mark that says what was left out."""
        self._limit = limit
        self._kinds = Kinds(KINDS)
        self._own: list[Any] = [compile_regex(pattern) for pattern in patterns]

    def kept(self, body: bytes, *, secrets: Sequence[str] = ()) -> Kept:
        """Return what is kept of `body`. `secrets` are known ones, to be found wherever they stand."""
        head, looked_at, elided = _without_base64(body, self._limit + MARGIN)
        text = _ESCAPE.sub(_opened, head.decode("utf-8", "replace")).encode("utf-8", "replace")
        redactions = elided
        for secret in filter(None, secrets):
            redactions += text.count(secret.encode())
            text = text.replace(secret.encode(), SECRET)
        for pattern, said in ((_NAMED, rb"\1\2\3\4%b\2\3\4"), (_BEARER, rb"\1%b"), (_IN_URL, rb"\1%b@")):
            text, found = _replaced(pattern, said % SECRET, text)
            redactions += found
        for pattern in self._own:
            text, found = _replaced(pattern, REDACTED, text)
            redactions += found
        clean, found = redacted_and_counted(text.decode("utf-8", "replace"), self._kinds)
        unseen = len(body) - looked_at
        return self._cut(clean.translate(_CLOSED), body, unseen=unseen, redactions=redactions + found)

    def _cut(self, text: str, body: bytes, *, unseen: int, redactions: int) -> Kept:
        written = text.encode("utf-8", "replace")
        left_out = max(len(written) - self._limit, 0) + unseen
        if left_out:
            text = written[: self._limit].decode("utf-8", "ignore")
            text += f"…[cut: {left_out} bytes more]"
        return Kept(text.replace("\0", ""), len(body), redactions)


def _without_base64(body: bytes, room: int) -> tuple[bytes, int, int]:
    """Return the beginning of a body with markers for long base64: that, up to where, and how many."""
    pieces = list[bytes]()
    at, found = 0, 0
    while at < len(body) and room > 0:
        step = min(_STEP, room)
        run = _BASE64.search(body, at, min(at + step + LEAST_BASE64, len(body)))
        until = min(at + step, len(body)) if run is None else run.start()
        pieces.append(body[at:until])
        room -= until - at
        at = until
        if run is not None:
            at = _end_of_base64(body, at)
            pieces.append(b"[BASE64 %d bytes]" % (at - until))
            room -= len(pieces[-1])
            found += 1
    return b"".join(pieces), at, found


def _end_of_base64(body: bytes, start: int) -> int:
    end: int = _MORE_BASE64.match(body, start, min(start + _CLOSE_LOOK, len(body))).end()
    if end - start < _CLOSE_LOOK - 8:
        return end
    quote = body.find(b'"', end)
    return len(body) if quote < 0 else quote


def _opened(escape: "re.Match[str]") -> str:
    code, plain = escape.groups()
    if code is None:
        return _OPENED.get(plain, escape.group())
    character = chr(int(code, 16))
    if character in _ENDS:
        return _OPENED[character]
    # Halves of a pair, and what must stay escaped, stay as they are.
    return character if character.isprintable() and not 0xD800 <= ord(character) < 0xE003 else escape.group()


def _replaced(pattern: Any, said: bytes, text: bytes) -> tuple[bytes, int]:
    """Return the text with `said` for all that a pattern finds; what it finds of no length is nothing."""
    pieces, at = list[bytes](), 0
    for match in pattern.finditer(text):
        start, end = match.span()
        if end > start:
            pieces += (text[at:start], match.expand(said) if match.re.groups else said)
            at = end
    return (b"".join((*pieces, text[at:])), len(pieces) // 2) if pieces else (text, 0)
