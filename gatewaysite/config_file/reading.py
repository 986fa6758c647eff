"""From the file's text to a `Document`: the story of a file from top to bottom."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from gatewaysite.config_file import fields
from gatewaysite.config_file.document import Document, Entry, Row
from gatewaysite.config_file.problems import Problems, did_you_mean
from gatewaysite.config_file.sections import Sections
from gatewaysite.config_file.yamltext import read_yaml

FORMAT_VERSION = 1
# A price without a date is in force for ever: the same file means the same row on every day.
ALWAYS = datetime(1970, 1, 1, tzinfo=UTC)
FIELDS = (
    "version",
    *(field.name for field in fields.SETTINGS),
    "providers",
    "routes",
    "cache",
    "rate_limits",
    "budgets",
    "tenants",
    "keys",
    "prices",
)


def read_document(text: str, problems: Problems) -> Document:
    """Return what `text` says. Problems are collected; ConfigFileError only for unreadable YAML."""
    return document_of(read_yaml(text, problems), problems)


def document_of(file: Any, problems: Problems) -> Document:
    """Return what plain values say: a file that was read, or JSON of the same form, decimals as Decimal.

    Problems are collected; ConfigFileError only for what is no mapping.
    """
    if not isinstance(file, dict):
        problems.add("", "must be a mapping that begins with `version: 1`")
        problems.raise_if_any()
    _check_top(file, problems)
    sections = Sections(problems)
    own = {name: file[name] for name in file if name in _SETTINGS}
    cache, exclusions = sections.cache(file.get("cache", {}))
    return Document(
        settings={**fields.read_fields(own, "", fields.SETTINGS, problems), **cache},
        providers=_objects(file, "providers", sections.provider, problems),
        routes=_objects(file, "routes", sections.route, problems, identity=route_identity),
        exclusions=exclusions,
        tenants=_objects(file, "tenants", sections.tenant, problems),
        keys=_distinct_secrets(_objects(file, "keys", sections.key, problems), problems),
        prices=_objects(file, "prices", _dated(sections.price), problems, identity=price_identity),
        rate_limits=sections.rate_limits(file, ""),
        budgets=sections.budgets(file, ""),
    )


def route_identity(row: Row) -> tuple[Any, ...]:
    """Return what makes a route one."""
    return row["kind"], row["match"]


def price_identity(row: Row) -> tuple[Any, ...]:
    """Return what makes a price row one."""
    return row["provider"], row["model"], row["effective_from"]


_SETTINGS = frozenset(field.name for field in fields.SETTINGS)


def _check_top(file: dict[Any, Any], problems: Problems) -> None:
    for name in file:
        if name not in FIELDS:
            problems.add(str(name), f"unknown field{did_you_mean(str(name), FIELDS)}")
    version = file.get("version")
    if isinstance(version, bool) or version != FORMAT_VERSION:
        problems.add("version", "required: `version: 1`" if version is None else "must be 1")


def _objects(
    file: dict[str, Any],
    section: str,
    read: Callable[[Any, str], Entry | None],
    problems: Problems,
    *,
    identity: Callable[[Row], Hashable] = lambda row: str(row["name"]),
) -> list[Entry]:
    listed = file.get(section)
    if listed is None:  # absent, or a heading whose entries are all commented out
        return []
    if not isinstance(listed, list):
        problems.add(section, "must be a list")
        return []
    entries = [read(item, f"{section}[{index}]") for index, item in enumerate(listed)]
    seen: dict[Hashable, str] = {}
    for entry in entries:
        if entry is not None:
            first = seen.setdefault(identity(entry.row), entry.path)
            if first != entry.path:
                problems.add(entry.path, f"the same as {first}: each may be listed once")
    return [entry for entry in entries if entry is not None]


def _dated(read: Callable[[Any, str], Entry | None]) -> Callable[[Any, str], Entry | None]:
    def read_dated(item: Any, path: str) -> Entry | None:
        entry = read(item, path)
        return entry and replace(entry, row={"effective_from": ALWAYS, **entry.row})

    return read_dated


def _distinct_secrets(keys: Sequence[Entry], problems: Problems) -> Sequence[Entry]:
    seen: dict[str, str] = {}
    for key in keys:
        for digest in (key.row.get("digest"), key.row.get("previous_digest")):
            first = key.path if digest is None else seen.setdefault(digest, key.path)
            if first != key.path:
                problems.add(key.path, f"has the same secret as {first}")
    return keys
