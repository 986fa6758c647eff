"""Bodies of requests: JSON whose numbers are exact, whose names come once, and whose texts can be stored."""

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import IO, Any

from django.conf import settings
from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser, JSONParser
from rest_framework.request import Request

from proxy.errors import BadRequest, GatewayError

MAX_DEPTH = 50


class ExactJSONParser(JSONParser):
    """Keeps decimals as written, refuses a name that is given twice, NUL and halves of characters."""

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,  # noqa: ARG002 - REST framework's contract
        parser_context: Mapping[str, Any] | None = None,  # noqa: ARG002 - REST framework's contract
    ) -> Any:
        """Return plain values. Raises ParseError, GatewayError (413)."""
        raw = _read(stream)
        try:
            read = json.loads(
                raw.decode("utf-8-sig"),
                parse_float=Decimal,
                parse_constant=_no_number,
                object_pairs_hook=_object,
            )
            _check(read, 0)
        except (ValueError, RecursionError) as problem:
            what = "it is nested too deeply" if isinstance(problem, RecursionError) else str(problem)
            raise ParseError(f"The body is not JSON that can be read: {what}.") from None
        return read


class YAMLParser(BaseParser):
    """YAML, handed on as text: the configuration file's own code reads it."""

    media_type = "application/yaml"

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,  # noqa: ARG002 - REST framework's contract
        parser_context: Mapping[str, Any] | None = None,  # noqa: ARG002 - REST framework's contract
    ) -> Any:
        """Return the text. Raises ParseError, GatewayError (413)."""
        try:
            return _read(stream).decode("utf-8-sig")
        except UnicodeDecodeError as problem:
            raise ParseError(f"The body is not UTF-8: byte {problem.start + 1} is part of no text.") from None


def mapping(request: Request, *, optional: bool = False) -> dict[str, Any]:
    """Return the body, which must be a JSON object. Raises BadRequest.

    `optional`: none at all is an empty one. Elsewhere a body that was forgotten, or lost on its way, would
    put all fields back to what a new row has.
    """
    if request.stream is None and not request._request.body:  # noqa: SLF001 - REST framework's only way to Django's
        if optional:
            return {}
        raise BadRequest("The body is missing: it must be a JSON object.", code="missing_body")
    body: Any = request.data
    if not isinstance(body, dict):
        raise BadRequest("The body must be a JSON object.", code="not_an_object")
    return dict(body)


def _read(stream: IO[Any]) -> bytes:
    most: int = settings.GATEWAY.max_body_bytes
    raw: bytes = stream.read(most + 1)
    if len(raw) > most:
        raise GatewayError(
            "The body is too large.", status=413, type="invalid_request_error", code="body_too_large"
        )
    return raw


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    read = dict(pairs)
    if len(read) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r} is given twice")
    return read


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no number")


def _check(value: Any, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise RecursionError
    if isinstance(value, str):
        if "\0" in value:
            raise ValueError("a text holds NUL")
        value.encode()  # half of a character: UnicodeEncodeError is a ValueError
    elif isinstance(value, dict):
        for name, each in value.items():
            _check(name, depth + 1)
            _check(each, depth + 1)
    elif isinstance(value, list):
        for each in value:
            _check(each, depth + 1)
