"""YAML text to plain values, with every trap of YAML 1.1 taken out.

Only `true`/`false` are booleans (a model named `on` stays text), dates stay text, decimals stay
exact, and a field given twice is a problem instead of a silent loss.
"""

import re
from collections.abc import Hashable, Iterator
from decimal import Decimal
from typing import Any

import yaml

from gatewaysite.config_file.problems import ConfigFileError, Problems

try:  # libyaml is ten times as fast; a PyYAML that was built without it will do
    from yaml import CSafeLoader as SafeLoader
except ImportError:
    from yaml import SafeLoader  # type: ignore[assignment]


class _Loader(SafeLoader):
    """SafeLoader that reads the core types of YAML 1.2 only."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}

    def construct_decimal(self, node: yaml.ScalarNode) -> Decimal:
        """Keep `0.15` exactly as written."""
        return Decimal(self.construct_scalar(node))


_PLAIN_TYPES = (
    ("tag:yaml.org,2002:bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("tag:yaml.org,2002:null", r"~|null|Null|NULL|", "~nN"),
    ("tag:yaml.org,2002:int", r"[-+]?(?:0|[1-9][0-9]*)", "-+0123456789"),
    ("tag:yaml.org,2002:float", r"[-+]?(?:0|[1-9][0-9]*)\.[0-9]+", "-+0123456789"),
    ("tag:yaml.org,2002:merge", r"<<", "<"),
)
for _tag, _pattern, _first in _PLAIN_TYPES:
    _starts = [*_first, ""] if _tag.endswith(":null") else list(_first)
    _Loader.add_implicit_resolver(_tag, re.compile(f"^(?:{_pattern})$"), _starts)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_decimal)


def read_yaml(text: str, problems: Problems) -> Any:
    """Return the text's one document. Raises ConfigFileError with line and column for bad YAML.

    Fields that are given twice are added to `problems`.
    """
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            for path, first, second in _given_twice(node, "", set()):
                where = f"line {first}" if first == second else f"lines {first} and {second}"
                problems.add(path, f"given twice, in {where}")
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.YAMLError as problem:
        raise ConfigFileError([_where(problem)]) from None


def _given_twice(node: yaml.Node, path: str, seen: set[int]) -> Iterator[tuple[str, int, int]]:
    if id(node) in seen:  # an alias: its anchor was looked at already
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _given_twice(item, f"{path}[{index}]", seen)
    elif isinstance(node, yaml.MappingNode):
        lines: dict[Hashable, int] = {}
        for key, value in node.value:
            below = f"{path}.{key.value}" if path else str(key.value)
            line = key.start_mark.line + 1
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in lines:
                    yield below, lines[key.value], line
                lines.setdefault(key.value, line)
            yield from _given_twice(value, below, seen)


def _where(problem: yaml.YAMLError) -> str:
    mark = getattr(problem, "problem_mark", None)
    what = getattr(problem, "problem", None) or getattr(problem, "reason", None) or str(problem)
    context = getattr(problem, "context", None)
    what = f"{context}, {what}" if context else what
    if mark is None:
        return f"not YAML: {what}"
    return f"not YAML: line {mark.line + 1}, column {mark.column + 1}: {what}"
