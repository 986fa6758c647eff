"""The paths that are passed on to a vendor as they are, and what the gateway must know of each."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

# A vendor's id as a path segment: nothing that would have to be quoted, and no way up.
_ID = re.compile(r"(?!\.+$)[0-9A-Za-z._~:@=+-]{1,256}")
_FAMILIES = ("files", "batches", "responses")


@dataclass(frozen=True, slots=True)
class Forwarded:
    """An endpoint by its name in records. `names_model`: its requests do, and are routed by it.

    `metered`: its answers may tell the tokens that they cost (those that only repeat an earlier answer are
    not counted again). `download`: its answer is somebody's file, of any type and size. `lists`: a GET
    lists what is stored in the vendor's account, whoever stored it.
    """

    name: str
    methods: tuple[str, ...] = ("POST",)
    names_model: bool = False
    metered: bool = False
    download: bool = False
    lists: bool = False


def _routed(name: str) -> Forwarded:
    return Forwarded(name, names_model=True, metered=True)


FORWARDED: Mapping[str, Forwarded] = {
    "/moderations": _routed("moderations"),
    "/images/generations": _routed("images"),
    "/images/edits": _routed("images"),
    "/images/variations": _routed("images"),
    "/audio/speech": _routed("audio.speech"),
    "/audio/transcriptions": _routed("audio.transcriptions"),
    "/audio/translations": _routed("audio.translations"),
    "/rerank": _routed("rerank"),
    "/files": Forwarded("files", ("GET", "POST"), lists=True),
    "/files/*": Forwarded("files", ("GET", "DELETE")),
    "/files/*/content": Forwarded("files", ("GET",), download=True),
    "/batches": Forwarded("batches", ("GET", "POST"), lists=True),
    "/batches/*": Forwarded("batches", ("GET",)),
    "/batches/*/cancel": Forwarded("batches"),
    "/responses/*": Forwarded("responses", ("GET", "DELETE")),
    "/responses/*/cancel": Forwarded("responses"),
    "/responses/*/input_items": Forwarded("responses", ("GET",)),
}


def forwarded_at(path: str) -> tuple[Forwarded, str] | None:
    """Return the endpoint at a path under /v1, and the vendor's path; None where there is none."""
    path = path.removeprefix("/v1").rstrip("/")
    parts = path.split("/")
    pattern = path
    if len(parts) > 2 and parts[1] in _FAMILIES:
        if not _ID.fullmatch(parts[2]):
            return None
        pattern = "/".join((*parts[:2], "*", *parts[3:]))
    found = FORWARDED.get(pattern)
    return None if found is None else (found, path)
