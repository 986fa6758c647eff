r"""Watches a multipart form go by, and finds the one field that the gateway must know: `model`.

Bytes in, no bytes out: the form is sent on as it came, and only what a piece leaves undecided is kept.
A part begins behind a delimiter, "\r\n--boundary" (RFC 2046, 5.1.1); headers end at an empty line. The
result is the same for every split of the input. What another reader might take for something else (a
second model, a bare line end among the headers, a boundary within a line or behind the end, two boundaries)
is refused: the vendor must not read another model than the one that was judged here.
"""

import re
from typing import NamedTuple

from proxy.endpoints.reading import MAX_MODEL_LENGTH, model_of
from proxy.errors import BadRequest

MAX_PARTS = 1000
MAX_PART_HEADERS = 16 * 1024
MAX_BLANKS = 64  # RFC 2046 lets blanks stand behind a delimiter
_MAX_VALUE = 4 * MAX_MODEL_LENGTH
# Quoted where it has blanks, and none at its end (RFC 2046, 5.1.1).
_BOUNDARY = re.compile(
    r""";\s*boundary=(?:"([\w'()+,./:=? -]{0,199}[\w'()+,./:=?-])"|([\w'()+./:=?-]{1,200}))\s*(?=;|$)""",
    re.IGNORECASE | re.ASCII,
)
_BOUNDARIES = re.compile(r";\s*boundary", re.IGNORECASE)
_BLANKS = re.compile(rb"[ \t]*")
_LINE_END = re.compile(rb"[\r\n\0]")
_NAME = re.compile(rb';\s*name\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;"]+))', re.IGNORECASE)
_ENCODED_NAME = re.compile(rb";\s*name\s*\*", re.IGNORECASE)


def boundary_of(content_type: str) -> bytes:
    """Return the boundary that a multipart content type names. Raises BadRequest."""
    found = _BOUNDARY.search(content_type)
    if found is None or len(_BOUNDARIES.findall(content_type)) != 1:
        raise _malformed("its content-type has no usable boundary")
    return (found[1] or found[2]).encode()


class ModelField(NamedTuple):
    """The field `model`: its text, and where in the body it stands."""

    name: str
    start: int
    end: int


class FormScanner:
    """`model` is set once the field is complete, `over` once the form has ended."""

    __slots__ = ("_at", "_delimiter", "_inside", "_parts", "_read", "_tail", "model", "over")

    def __init__(self, boundary: bytes) -> None:
        """Start before the first delimiter, which may stand at the very beginning."""
        self.model: ModelField | None = None
        self.over = False
        self._delimiter = b"--" + boundary
        self._parts = 0
        self._tail = b"\r\n"
        self._at = -2  # where in the body the tail begins
        self._read = 0  # how much of the tail is understood
        self._inside = self._passed

    def feed(self, piece: bytes) -> None:
        """Look at the next piece. Raises BadRequest."""
        self._tail += piece
        while self._inside():
            pass
        self._tail = self._tail[self._read :]
        self._at += self._read
        self._read = 0

    # Each of these reads on in the tail, and says whether there is more to understand in it.

    def _passed(self) -> bool:
        """Inside a part that is none of our business, or before the first one."""
        found = self._tail.find(self._delimiter, self._read)
        if found < 0:  # a line end and most of a delimiter may be here
            self._read = max(len(self._tail) - len(self._delimiter) - 1, self._read)
            return False
        self._check_line(found)
        self._read = found + len(self._delimiter)
        self._inside = self._delimited
        return True

    def _delimited(self) -> bool:
        """Behind a delimiter: two dashes end the form, a line end begins a part."""
        blanks = _BLANKS.match(self._tail, self._read)
        assert blanks is not None
        behind = blanks.end()
        if behind - self._read > MAX_BLANKS:
            raise _malformed("a delimiter's line is too long")
        sign = self._tail[behind : behind + 2]
        if len(sign) < 2:
            return False
        if sign == b"--" and behind == self._read:
            self.over = True
            self._inside = self._behind
        elif sign == b"\r\n":
            self._parts += 1
            if self._parts > MAX_PARTS:
                raise _malformed(f"it has more than {MAX_PARTS} parts")
            self._inside = self._headers
        else:
            raise _malformed("something stands behind a delimiter")
        self._read = behind
        return True

    def _headers(self) -> bool:
        end = self._tail.find(b"\r\n\r\n", self._read)
        size = (len(self._tail) - 3 if end < 0 else end) - self._read
        if size > MAX_PART_HEADERS:
            raise _malformed("a part's headers are too large")
        if end < 0:
            return False
        is_model = _field_of(self._tail[self._read : end]) == b"model"
        if is_model and self.model is not None:
            raise BadRequest("The field 'model' stands in the form twice.", param="model")
        self._read = end + 2  # the line end stays: it may be the beginning of a delimiter
        self._inside = self._value if is_model else self._passed
        return True

    def _value(self) -> bool:
        found = self._tail.find(self._delimiter, self._read)
        size = (len(self._tail) - len(self._delimiter) if found < 0 else found) - 2 - self._read
        if size > _MAX_VALUE:
            raise BadRequest(f"'model' must have at most {MAX_MODEL_LENGTH} characters.", param="model")
        if found < 0:
            return False
        self._check_line(found)
        start, end = self._read + 2, found - 2
        try:
            text = self._tail[start:end].decode()
        except UnicodeDecodeError:
            raise BadRequest("'model' is not UTF-8.", param="model") from None
        self.model = ModelField(model_of({"model": text}), self._at + start, self._at + end)
        self._read = end  # the delimiter's own line end, or what stands in its place
        self._inside = self._passed
        return True

    def _check_line(self, found: int) -> None:
        if self._tail[found - 2 : found] != b"\r\n":
            raise _malformed("its boundary stands within a line")

    def _behind(self) -> bool:
        """Behind the end, where some would go on reading parts."""
        if self._tail.find(self._delimiter, self._read) >= 0:
            raise _malformed("its boundary stands behind its end")
        self._read = max(len(self._tail) - len(self._delimiter) + 1, self._read)
        return False


def _field_of(headers: bytes) -> bytes:
    """Return the name of the form's field that a part is. Raises BadRequest."""
    fields = []
    for line in headers.split(b"\r\n"):
        if _LINE_END.search(line):
            raise _malformed("a part's header has a bare line end")
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-disposition":
            fields.append(value)
        elif line[:1] in (b" ", b"\t"):
            raise _malformed("a part's header is folded")
    if len(fields) != 1 or _ENCODED_NAME.search(fields[0]):
        raise _malformed("a part's content-disposition does not name its field plainly")
    names = _NAME.findall(fields[0])
    if len(names) != 1:
        raise _malformed("a part's content-disposition does not name its field plainly")
    quoted, plain = names[0]
    return re.sub(rb"\\(.)", rb"\1", quoted) or bytes(plain)


def _malformed(why: str) -> BadRequest:
    return BadRequest(f"The multipart form cannot be read: {why}.", code="malformed_form")
