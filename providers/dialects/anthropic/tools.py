"""Tools, the choice among them, and answers in JSON, as Anthropic takes them.

https://platform.claude.com/docs/en/agents-and-tools/tool-use/overview
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from providers.dialects.anthropic.content import cached
from providers.dialects.anthropic.models import Traits
from providers.dialects.anthropic.schema import closed
from providers.dialects.params import invalid
from providers.errors import UnsupportedParameter

# The tool whose input is the answer, where a model has no structured outputs.
JSON_TOOL = "json_answer"
_JSON_ONLY = (
    "Answer with one valid JSON object and nothing else: no text around it and no Markdown code fence."
)
_SERVER_TOOL = re.compile(r"[a-z_]+_\d{8}")  # web_search_20250305: run by Anthropic, known by its type
_CHOICES = {"auto": "auto", "none": "none", "required": "any"}

# Takes a parameter that cannot be said, and why: raises, or notes that it is left out.
Refuse = Callable[[str, str], None]


class Tools(NamedTuple):
    """What the request says of tools and of the answer's form. Empty parts are left out.

    `schema`: of the answer, natively. `instruction`: a sentence for the system prompt. `lost`: what of the
    tools could not be said.
    """

    tools: Sequence[Mapping[str, Any]]
    choice: Mapping[str, Any] | None
    schema: Mapping[str, Any] | None
    instruction: str
    lost: Sequence[str]


def answers_by_tool(body: Mapping[str, Any]) -> bool:
    """May JSON_TOOL's input be the answer to this canonical request?"""
    form = body.get("response_format")
    return isinstance(form, dict) and form.get("type") == "json_schema" and not _has_json_tool(body)


def tools_of(body: Mapping[str, Any], traits: Traits, *, forcible: bool, refuse: Refuse) -> Tools:
    """Read tools, tool_choice, parallel_tool_calls and response_format. Raises UnsupportedParameter.

    `forcible`: the model may be made to call a tool.
    """
    listed = body.get("tools")
    if listed is not None and not isinstance(listed, list):
        raise invalid("tools", "must be a list")
    tools = [_tool(tool, f"tools[{i}]", traits) for i, tool in enumerate(listed or ())]
    choice = _choice(body.get("tool_choice"), has_tools=bool(tools))
    lost = ("tools.function.strict",) if _strict_in(listed) > _strict_in(tools) else ()
    form, schema = _form(body)
    native: dict[str, Any] | None = None
    if schema is not None:
        native = closed(schema) if traits.schemas else None
        if native is None and choice.get("type") not in ("any", "tool"):  # else the tool's call is the answer
            tools, choice = _with_json_tool(body, tools, choice, schema)
    if choice.get("type") in ("any", "tool") and not forcible:
        if schema is None or native is not None:
            refuse("tool_choice", "A model that thinks with a budget cannot be made to call a tool.")
        choice = {"type": "auto"}
    if body.get("parallel_tool_calls") is False and tools and choice.get("type") != "none":
        choice = {"type": "auto", **choice, "disable_parallel_tool_use": True}
    return Tools(tools, choice or None, native, _JSON_ONLY if form == "json_object" else "", lost)


def _tool(tool: Any, where: str, traits: Traits) -> dict[str, Any]:
    if not isinstance(tool, dict):
        raise invalid(where, "must be an object")
    kind, function = tool.get("type"), tool.get("function")
    if isinstance(kind, str) and _SERVER_TOOL.fullmatch(kind):
        return dict(tool)
    if kind != "function":
        raise UnsupportedParameter(where, f"'{where}' is not a function; Anthropic has no other such tools.")
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise invalid(f"{where}.function", "must be an object with a 'name'")
    parameters = function.get("parameters")
    if parameters is None:
        parameters = {"properties": {}}
    if not isinstance(parameters, dict):
        raise invalid(f"{where}.function.parameters", "must be a JSON schema")
    translated = {"name": function["name"], "input_schema": {"type": "object", **parameters}}
    if isinstance(function.get("description"), str):
        translated["description"] = function["description"]
    if function.get("strict") is True:
        strict = closed(translated["input_schema"]) if traits.schemas else None
        if strict is not None:
            translated.update(strict=True, input_schema=strict)
    return cached(cached(translated, function, where), tool, where)


def _strict_in(tools: Sequence[Mapping[str, Any]] | None) -> int:
    """Return how many tools are to be called by their schema exactly, OpenAI's or Anthropic's."""
    return sum(tool.get("strict", (tool.get("function") or {}).get("strict")) is True for tool in tools or ())


def _choice(value: Any, *, has_tools: bool) -> dict[str, Any]:
    if value is None:
        return {}
    if isinstance(value, str) and value in _CHOICES:
        if not has_tools and value == "required":
            raise invalid("tool_choice", "is only allowed when 'tools' are given")
        return {"type": _CHOICES[value]} if has_tools else {}
    function = value.get("function") if isinstance(value, dict) else None
    if isinstance(value, dict) and value.get("type") == "allowed_tools":
        raise UnsupportedParameter("tool_choice", "Anthropic has no 'allowed_tools'; send these tools only.")
    if not isinstance(function, dict) or not isinstance(function.get("name"), str) or not has_tools:
        raise invalid("tool_choice", "must be auto, none, required or the function of a tool that is given")
    return {"type": "tool", "name": function["name"]}


def _form(body: Mapping[str, Any]) -> tuple[str, dict[str, Any] | None]:
    """Return the type of `response_format`, and the schema of one that has a schema."""
    form = body.get("response_format")
    if form is None:
        return "text", None
    kind = form.get("type") if isinstance(form, dict) else None
    if kind in ("text", "json_object"):
        return kind, None
    if kind != "json_schema":
        raise invalid("response_format", "must be of type text, json_object or json_schema")
    described = form.get("json_schema")
    schema = described.get("schema") if isinstance(described, dict) else None
    if schema is None and isinstance(described, dict):
        return "json_object", None  # OpenAI's schema is optional
    if not isinstance(schema, dict):
        raise invalid("response_format.json_schema", "must have a JSON schema as its 'schema'")
    return kind, schema


def _with_json_tool(
    body: Mapping[str, Any], tools: list[dict[str, Any]], choice: Mapping[str, Any], schema: dict[str, Any]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Add the tool whose input is the answer, and make the model call it, or another one first."""
    if _has_json_tool(body):
        raise UnsupportedParameter("tools", f"A tool may not have the name {JSON_TOOL!r} here.")
    described = body["response_format"]["json_schema"].get("description")
    purpose = "Give the answer with this tool, and only with it: its input is the answer."
    json_tool = {
        "name": JSON_TOOL,
        "description": f"{purpose} {described}" if isinstance(described, str) and described else purpose,
        "input_schema": {"type": "object", **schema},
    }
    alone = not tools or choice.get("type") == "none"
    return [*tools, json_tool], {"type": "tool", "name": JSON_TOOL} if alone else {"type": "any"}


def _has_json_tool(body: Mapping[str, Any]) -> bool:
    tools = body.get("tools")
    functions = [tool.get("function") for tool in tools or () if isinstance(tool, dict)] if tools else []
    return any(isinstance(each, dict) and each.get("name") == JSON_TOOL for each in functions)
