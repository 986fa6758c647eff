"""Which state of a row a client has seen: strong entity tags, If-Match and If-None-Match."""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from django.utils.http import quote_etag
from rest_framework.request import Request

from proxy.errors import GatewayError

_TAG = re.compile(r'(?:W/)?"[^"]*"|\*')


def tag_of(shown: Mapping[str, Any], *hidden: str) -> str:
    """Return the tag of what is shown, and of what is not but makes a difference: stored secrets."""
    text = json.dumps([shown, *hidden], sort_keys=True, default=str, ensure_ascii=False)
    return quote_etag(hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32])


def check(request: Request, tag: str | None) -> None:
    """Hold the request's conditions against the row's tag; None: there is no row.

    Raises GatewayError (412).
    """
    wanted = request.headers.get("if-match")
    if wanted is not None and not _matches(wanted, tag):
        raise _failed("If-Match", "it is not as you have seen it" if tag else "it does not exist")
    unwanted = request.headers.get("if-none-match")
    if unwanted is not None and _matches(unwanted, tag):
        raise _failed("If-None-Match", "it exists already")


def unchanged(request: Request, tag: str) -> bool:
    """Has whoever reads this state already?"""
    known = request.headers.get("if-none-match")
    return known is not None and _matches(known.replace("W/", ""), tag)


def _matches(header: str, tag: str | None) -> bool:
    tags = _TAG.findall(header)
    return tag is not None and ("*" in tags or tag in tags)


def _failed(header: str, why: str) -> GatewayError:
    return GatewayError(
        f"{header}: {why}. Read it again, and change that.",
        status=412,
        type="invalid_request_error",
        code="precondition_failed",
    )
