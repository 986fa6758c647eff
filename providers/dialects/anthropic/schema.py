"""JSON schemas as Anthropic's structured outputs and strict tools take them: closed, and without bounds.

https://platform.claude.com/docs/en/build-with-claude/structured-outputs#json-schema-limitations: every object
says `additionalProperties: false`, nothing refers to itself, and numbers, strings and arrays have no bounds.
A bound is told to the model in the description instead, as Anthropic's own SDKs do.
"""

from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any

import orjson

_KEPT = frozenset({"$ref", "type", "enum", "const", "description", "title", "default", "required"})
_MAPS = frozenset({"$defs", "definitions", "properties"})
_LISTS = frozenset({"anyOf", "oneOf", "allOf"})
_NESTED = _MAPS | _LISTS | {"items"}
_SAID_ANYWAY = frozenset({"additionalProperties", "$schema", "strict"})
_FORMATS = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"}
)


class _Open(Exception):
    """The schema allows what a closed one cannot."""


def closed(schema: Any) -> dict[str, Any] | None:
    """Return the schema in Anthropic's form; None when it says what that form cannot."""
    try:
        if not isinstance(schema, dict) or _is_recursive(schema):
            return None
        return _closed(schema)
    except _Open:
        return None


def _closed(schema: Any) -> dict[str, Any]:
    if not isinstance(schema, dict):
        raise _Open
    fitted: dict[str, Any] = {}
    hints: dict[str, Any] = {}
    for name, value in schema.items():
        if name in _KEPT or _is_known_bound(name, value):
            fitted[name] = value
        elif name in _NESTED:
            fitted["anyOf" if name == "oneOf" else name] = _nested(name, value)
        elif name not in _SAID_ANYWAY:
            hints[name] = value
    if _is_object(schema):
        _close(schema, fitted)
    if hints:
        said = f"{{{', '.join(f'{name}: {_written(value)}' for name, value in hints.items())}}}"
        fitted["description"] = "\n\n".join(filter(None, (str(schema.get("description") or ""), said)))
    return fitted


def _nested(name: str, value: Any) -> Any:
    if name == "items":
        return _closed(value)
    if name in _MAPS and isinstance(value, dict):
        return {key: _closed(each) for key, each in value.items()}
    if name in _LISTS and isinstance(value, list):
        return [_closed(each) for each in value]
    raise _Open


def _is_known_bound(name: str, value: Any) -> bool:
    if name == "format":
        return isinstance(value, str) and value in _FORMATS
    return name == "minItems" and value in (0, 1)


def _is_object(schema: Mapping[str, Any]) -> bool:
    kind = schema.get("type")
    return kind == "object" or (isinstance(kind, list) and "object" in kind) or "properties" in schema


def _close(schema: Mapping[str, Any], fitted: dict[str, Any]) -> None:
    """Close an object; one that is there to be open (a map, anything at all) cannot be."""
    if schema.get("additionalProperties") or ("properties" not in schema and not _says_closed(schema)):
        raise _Open
    fitted["additionalProperties"] = False


def _says_closed(schema: Mapping[str, Any]) -> bool:
    return schema.get("additionalProperties") is False


def _written(value: Any) -> str:
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError:  # nested too deeply
        raise _Open from None


def _is_recursive(schema: Mapping[str, Any]) -> bool:
    """Does a definition lead back to itself, or to the whole?"""
    if "#" in _references(schema):
        return True
    definitions = {
        f"#/{place}/{name}": _references(definition)
        for place in ("$defs", "definitions")
        for name, definition in _mapping(schema.get(place)).items()
    }
    try:
        TopologicalSorter(definitions).prepare()
    except CycleError:
        return True
    return False


def _references(schema: Any) -> frozenset[str]:
    found: set[str] = set()
    nodes = [schema]
    while nodes:
        node = nodes.pop()
        if isinstance(node, dict):
            if isinstance(node.get("$ref"), str):
                found.add(node["$ref"])
            nodes.extend(node.values())
        elif isinstance(node, list):
            nodes.extend(node)
    return frozenset(found)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
