"""JSON schemas as Gemini reads them: `parametersJsonSchema` and `responseJsonSchema`.

Both take JSON Schema with $defs, $ref, anyOf, additionalProperties and lists of types, and ignore what
they do not know: https://ai.google.dev/api/generate-content#FIELDS.response_json_schema. Three things are
said in other words here, because ignoring or refusing them would lose the meaning: `const`, `allOf`, and a
$ref with other keywords beside it ("no other properties may be set").
"""

from collections.abc import Mapping, Sequence
from typing import Any

# Places where schemas stand in a schema.
_MAPS = ("properties", "$defs", "definitions", "patternProperties")
_LISTS = ("anyOf", "oneOf", "prefixItems")
_SINGLES = ("items", "additionalProperties", "not")
# Of references with keywords beside them; what refers to itself, or too much, stays a bare $ref.
MAX_NESTED, MAX_INLINED = 16, 500


def cleaned(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema in the words that Gemini knows; a new object."""
    return _Cleaner(schema).clean(schema, ())


class _Cleaner:
    """One schema's cleaning: `root` is where references point into."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._inlined = 0

    def clean(self, schema: Mapping[str, Any], within: tuple[str, ...]) -> dict[str, Any]:
        """Return one schema cleaned; `within` are the references that are being inlined."""
        schema, within = self._flat(schema, within)
        kept: dict[str, Any] = {}
        for name, value in schema.items():
            if name in _MAPS and isinstance(value, dict):
                kept[name] = {key: self._each(inner, within) for key, inner in value.items()}
            elif name in _LISTS and isinstance(value, list):
                kept[name] = [self._each(inner, within) for inner in value]
            elif name in _SINGLES:
                kept[name] = self._each(value, within)
            elif name == "const":
                kept.setdefault("enum", [value])
            elif name != "$schema":
                kept[name] = value
        return kept

    def _each(self, value: Any, within: tuple[str, ...]) -> Any:
        return self.clean(value, within) if isinstance(value, dict) else value

    def _flat(
        self, schema: Mapping[str, Any], within: tuple[str, ...], *, inline: bool = False
    ) -> tuple[Mapping[str, Any], tuple[str, ...]]:
        """Return the schema without allOf, and without a $ref that has keywords beside it."""
        parts = schema.get("allOf")
        if isinstance(parts, list) and all(isinstance(part, dict) for part in parts):
            beside = {name: value for name, value in schema.items() if name != "allOf"}
            alone = len(parts) == 1 and not beside
            flat = []
            for part in [*parts, beside]:
                one, within = self._flat(part, within, inline=inline or not alone)
                flat.append(one)
            return _union(flat), within
        reference = schema.get("$ref")
        if not isinstance(reference, str) or not (inline or any(not name.startswith("$") for name in schema)):
            return schema, within
        target = _at(self._root, reference)
        too_much = len(within) >= MAX_NESTED or self._inlined >= MAX_INLINED
        if target is None or reference in within or too_much:
            return {name: value for name, value in schema.items() if name.startswith("$")}, within
        self._inlined += 1
        beside = {name: value for name, value in schema.items() if name != "$ref"}
        return self._flat({**target, **beside}, (*within, reference), inline=inline)


def _at(root: Mapping[str, Any], reference: str) -> Mapping[str, Any] | None:
    """Return the schema that a local reference ("#/$defs/Name") names."""
    if not reference.startswith("#/"):
        return None
    found: Any = root
    for step in reference[2:].split("/"):
        key = step.replace("~1", "/").replace("~0", "~")
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else None


def _union(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    whole: dict[str, Any] = {}
    for part in parts:
        for name, value in part.items():
            before = whole.get(name)
            if name == "properties" and isinstance(before, dict) and isinstance(value, dict):
                whole[name] = {**before, **value}
            elif name == "required" and isinstance(before, list) and isinstance(value, list):
                whole[name] = [*before, *(each for each in value if each not in before)]
            else:
                whole[name] = value
    return whole
