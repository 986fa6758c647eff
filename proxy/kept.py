"""The last good configuration on disk, encrypted: served when the database is down at start.

A file of Fernet tokens, one a line: a header, then rows by part in small pieces, then an end mark.
Small pieces keep the writing thread from holding the interpreter for long; a file without its end
mark is no snapshot. Credentials in it are sealed twice.
"""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from config.vault import SecretUnreadable, Vault

FORMAT = 1
PIECE = 500
PAUSE_S = 0.002
Rows = Mapping[str, Sequence[Mapping[str, Any]]]


def keep(path: Path, vault: Vault, *, version: int, parts: Rows, keys: Iterator[Mapping[str, Any]]) -> None:
    """Write the configuration to `path`, replacing the old one in one step."""
    scratch = path.with_suffix(f".{os.getpid()}.tmp")
    with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        for record in _records(version, parts, keys):
            file.write(vault.seal_bytes(orjson.dumps(record)) + b"\n")
            time.sleep(PAUSE_S)
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)


def recall(path: Path, vault: Vault) -> tuple[int, dict[str, list[Mapping[str, Any]]]] | None:
    """Return (version, rows by part, with "keys" among them), or None when nothing whole is kept."""
    try:
        lines = path.read_bytes().split(b"\n")
        records = [orjson.loads(vault.open_bytes(line)) for line in lines if line]
    except (OSError, SecretUnreadable, orjson.JSONDecodeError):
        return None
    if len(records) < 2 or records[0].get("format") != FORMAT or not records[-1].get("end"):
        return None
    parts: dict[str, list[Mapping[str, Any]]] = {part: [] for part in records[0]["parts"]}
    for record in records[1:-1]:
        parts[record["part"]].extend(record["rows"])
    return records[0]["version"], parts


def _records(version: int, parts: Rows, keys: Iterator[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    yield {"format": FORMAT, "version": version, "parts": [*parts, "keys"]}
    for part, rows in parts.items():
        for start in range(0, len(rows), PIECE):
            yield {"part": part, "rows": rows[start : start + PIECE]}
    while piece := list(islice(keys, PIECE)):
        yield {"part": "keys", "rows": piece}
    yield {"end": True}
