"""The body of a request that is passed on: whole in memory, or still arriving.

A form (multipart) is sent on while it arrives. Only its beginning is kept: as far as the model's name, by
which the request is routed, and which the vendor must read under its own name. What is kept can be sent to
another upstream: all of a small form.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Protocol

import orjson

from proxy.endpoints.reading import is_verbatim, model_of, object_in
from proxy.errors import BadRequest, GatewayError
from proxy.incoming import Incoming
from proxy.multipart import FormScanner

# An upload takes as long as its client takes for it, but holds a connection to the vendor meanwhile.
STALL_S = 60.0
# So much of a form is read in search of the model's name; with SDKs it stands before the file.
PEEK_BYTES = 64 * 1024
# The most pictures that OpenAI draws for one request: https://platform.openai.com/docs/api-reference/images
MAX_IMAGES = 10


class ForwardedBody(Protocol):
    """`model` is what the body names, or empty; `choices`: how many pictures it may ask for."""

    model: str
    choices: int
    content_type: str

    @property
    def repeatable(self) -> bool:
        """May it be sent to another upstream?"""

    def length(self, model: str) -> int | None:
        """Return how many bytes it has with that model's name in it; None when nobody knows yet."""

    def content(self, model: str) -> bytes | AsyncIterator[bytes] | None:
        """Return it with that model's name in it; None for a request without a body."""


class WholeBody:
    """A body in memory: JSON where its model matters, anything where it does not."""

    repeatable = True

    def __init__(self, raw: bytes, content_type: str, *, names_model: bool) -> None:
        """Read the model's name. Raises BadRequest."""
        self.content_type = content_type or ("application/json" if raw else "")
        self.model = ""
        self.choices = 1
        self._raw = raw
        self._parsed: dict[str, Any] = {}
        self._written: tuple[str, bytes] | None = None  # the last name, and the body with it
        if names_model:
            self._parsed = object_in(raw)
            if self._parsed.get("model") is not None:
                self.model = model_of(self._parsed)
            asked = self._parsed.get("n")
            self.choices = asked if type(asked) is int and asked > 0 else 1
            self._verbatim = is_verbatim(raw, self._parsed)

    def length(self, model: str) -> int | None:
        """Return its size."""
        return len(self._content(model))

    def content(self, model: str) -> bytes | AsyncIterator[bytes] | None:
        """Return the body, written anew where the name changes or where it could be read in two ways."""
        return self._content(model) or None

    def _content(self, model: str) -> bytes:
        if not self._parsed or (self._verbatim and model == self.model):
            return self._raw
        if self._written is None or self._written[0] != model:
            body = {**self._parsed, "model": model} if self.model else self._parsed
            self._written = (model, orjson.dumps(body))
        return self._written[1]


class ArrivingForm:
    """A form that is sent on as it arrives, of at most `limit` bytes (0: of any size)."""

    def __init__(
        self,
        incoming: Incoming,
        content_type: str,
        *,
        scanner: FormScanner | None,
        declared: int | None,
        limit: int,
        pictures: bool = False,
    ) -> None:
        """Without a scanner its fields do not matter; `pictures`: it may ask for some.

        Raises GatewayError (413).
        """
        self.content_type = content_type
        self.model = ""
        self.choices = MAX_IMAGES if pictures else 1  # its fields are not read
        self._incoming = incoming
        self._scanner = scanner
        self._declared = declared
        self._limit = limit
        self._beginning = b""
        self._taken = 0
        self._gone = False  # is there something of it that we no longer have?
        self._count(declared or 0)

    async def peek(self) -> bool:
        """Read as far as the model's name; return whether that settles which model is meant, if any.

        A form that is small anyway is read to its end. Raises BadRequest.
        """
        scanner = self._scanner
        small = self._declared is not None and self._declared <= PEEK_BYTES
        while small or (
            scanner and not (scanner.model or scanner.over or len(self._beginning) >= PEEK_BYTES)
        ):
            piece = await self._next()
            if not piece:
                break
            self._beginning += piece
        if scanner is None:
            return True
        if scanner.model is not None:
            self.model = scanner.model.name
        return scanner.model is not None or scanner.over or self._incoming.over

    @property
    def repeatable(self) -> bool:
        """Only while all that has been read of it is kept."""
        return not self._gone

    def length(self, model: str) -> int | None:
        """Return its size: as the client declared it, or as it is when all has been read."""
        read = self._taken if self._incoming.over else self._declared
        return None if read is None else read + len(self._start(model)) - len(self._beginning)

    def content(self, model: str) -> bytes | AsyncIterator[bytes] | None:
        """Return all of it, if it is here, or its pieces."""
        start = self._start(model)
        return start if self._incoming.over and not self._gone else _Pieces(self, start)

    async def rest(self) -> bytes:
        """Return the next piece behind the beginning; b"" at the end. Raises GatewayError."""
        piece = await self._next()
        if not self._gone and len(self._beginning) + len(piece) <= PEEK_BYTES:
            self._beginning += piece
        else:
            self._gone = self._gone or bool(piece)
        return piece

    def _start(self, model: str) -> bytes:
        field = None if self._scanner is None else self._scanner.model
        if field is None or model == self.model or not self.model:
            return self._beginning
        return self._beginning[: field.start] + model.encode() + self._beginning[field.end :]

    async def _next(self) -> bytes:
        try:
            async with asyncio.timeout(STALL_S):
                piece = await self._incoming.piece()
        except TimeoutError:
            self._incoming.give_up()
            raise stalled() from None
        self._taken += len(piece)
        self._count(self._taken)
        if self._scanner is not None:
            self._scanner.feed(piece)
        return piece

    def _count(self, size: int) -> None:
        if self._limit and size > self._limit:
            self._incoming.give_up()
            raise GatewayError(
                f"The form is larger than MAX_UPLOAD_BYTES ({self._limit}).",
                status=413,
                type="invalid_request_error",
                code="body_too_large",
            )


class _Pieces:
    """The pieces of a form: its beginning, then what arrives."""

    def __init__(self, form: ArrivingForm, start: bytes) -> None:
        self._form = form
        self._start = start

    def __aiter__(self) -> "_Pieces":
        return self

    async def __anext__(self) -> bytes:
        piece, self._start = self._start, b""
        piece = piece or await self._form.rest()
        if not piece:
            raise StopAsyncIteration
        return piece


def stalled() -> GatewayError:
    """Return the error of a client that has stopped sending."""
    return GatewayError(
        f"The client has sent nothing of the form for {STALL_S:g} seconds.",
        status=408,
        type="timeout_error",
        code="request_timeout",
    )


def model_not_found() -> BadRequest:
    """Return the error of a form whose model stands too late to be routed by."""
    return BadRequest(
        f"The field 'model' was not found in the first {PEEK_BYTES // 1024} KiB of the form. Send it before "
        "the file, or name the provider in the header x-gateway-provider or in ?provider=.",
        param="model",
        code="model_not_found_in_form",
    )
