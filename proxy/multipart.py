r"""Watches a multipart form go by, and finds the one field that the gateway must know: `model`.

Bytes in, no bytes out: the form is sent on as it came, and only what a piece leaves undecided is kept.
A part begins behind a delimiter, "\r\n--boundary" (RFC 2046, 5.1.1); headers end at an empty line. The
result is the same for every split of the input. What another reader might take for something else (a
second model, a bare line end among the headers) is refused: the vendor must not read another model than
the one that was judged here.
"""

import re
from typing import NamedTuple

from django.utils.http import parse_header_parameters

from proxy.endpoints.reading import MAX_MODEL_LENGTH, model_of
from proxy.errors import BadRequest

MAX_PART_HEADERS = 16 * 1024
MAX_BLANKS = 64  # RFC 2046 lets blanks stand behind a delimiter
_MAX_VALUE = 4 * MAX_MODEL_LENGTH
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{1,200}")
_LINE_END = re.compile(rb"[\r\n\0]")
_NAME = re.compile(rb';\s*name\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;"]+))', re.IGNORECASE)
_ENCODED_NAME = re.compile(rb";\s*name\s*\*", re.IGNORECASE)


def boundary_of(content_type: str) -> bytes:
    """Return the boundary that a multipart content type names. Raises BadRequest."""
    _, parameters = parse_header_parameters(content_type)
    boundary = parameters.get("boundary", "")
    if not _BOUNDARY.fullmatch(boundary):
        raise _malformed("its content-type has no usable boundary")
    return str(boundary).encode()


class ModelField(NamedTuple):
    """The field `model`: its text, and where in the body it stands."""

    name: str
    start: int
    end: int


class FormScanner:
    """`model` is set once the field is complete, `over` once the form has ended."""

    __slots__ = ("_at", "_delimiter", "_inside", "_tail", "model", "over")

    def __init__(self, boundary: bytes) -> None:
        """Start before the first delimiter, which may stand at the very beginning."""
        self.model: ModelField | None = None
        self.over = False
        self._delimiter = b"\r\n--" + boundary
        self._tail = b"\r\n"
        self._at = -2  # where in the body the tail begins
        self._inside = self._passed

    def feed(self, piece: bytes) -> None:
        """Look at the next piece. Raises BadRequest."""
        if self.over:
            return
        self._tail += piece
        while self._inside():
            pass

    # Each of these looks at the tail, takes what it has understood, and says whether to go on.

    def _passed(self) -> bool:
        """Inside a part that is none of our business, or before the first one."""
        found = self._tail.find(self._delimiter)
        if found < 0:
            self._take(max(len(self._tail) - len(self._delimiter) + 1, 0))
            return False
        self._take(found + len(self._delimiter))
        self._inside = self._delimited
        return True

    def _delimited(self) -> bool:
        """Behind a delimiter: two dashes end the form, a line end begins a part."""
        rest = self._tail.lstrip(b" \t")
        blanks = len(self._tail) - len(rest)
        if blanks > MAX_BLANKS:
            raise _malformed("a delimiter's line is too long")
        if len(rest) < 2:
            return False
        if rest[:2] == b"--" and not blanks:
            self.over = True
            self._tail = b""
            return False
        if rest[:2] != b"\r\n":
            raise _malformed("something stands behind a delimiter")
        self._take(blanks)
        self._inside = self._headers
        return True

    def _headers(self) -> bool:
        end = self._tail.find(b"\r\n\r\n")
        if end > MAX_PART_HEADERS or (end < 0 and len(self._tail) > MAX_PART_HEADERS + 3):
            raise _malformed("a part's headers are too large")
        if end < 0:
            return False
        is_model = _field_of(self._tail[:end]) == b"model"
        if is_model and self.model is not None:
            raise BadRequest("The field 'model' stands in the form twice.", param="model")
        self._take(end + 2)  # the line end stays: it may be the beginning of a delimiter
        self._inside = self._value if is_model else self._passed
        return True

    def _value(self) -> bool:
        found = self._tail.find(self._delimiter)
        if found > _MAX_VALUE or (found < 0 and len(self._tail) > _MAX_VALUE + len(self._delimiter)):
            raise BadRequest(f"'model' must have at most {MAX_MODEL_LENGTH} characters.", param="model")
        if found < 0:
            return False
        start = min(2, found)
        try:
            text = self._tail[start:found].decode() if found else ""
        except UnicodeDecodeError:
            raise BadRequest("'model' is not UTF-8.", param="model") from None
        self.model = ModelField(model_of({"model": text}), self._at + start, self._at + found)
        self._inside = self._passed
        return True

    def _take(self, count: int) -> None:
        self._tail = self._tail[count:]
        self._at += count


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
