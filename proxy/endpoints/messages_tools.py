"""Anthropic's tools, and which of them the model has to use, in the canonical form."""

from collections.abc import Mapping
from typing import Any

from proxy.endpoints.messages_reading import object_at, string_at
from proxy.endpoints.native_only import NativeOnly, wrong

_CHOICES = {"auto": "auto", "any": "required", "none": "none"}


def tool_fields(body: Mapping[str, Any], native: NativeOnly) -> dict[str, Any]:
    """Return `tools`, `tool_choice` and `parallel_tool_calls`, as far as asked for. Raises BadRequest."""
    listed = body.get("tools")
    if listed is not None and not isinstance(listed, list):
        raise wrong("tools", "must be a list")
    fields: dict[str, Any] = {}
    read = [_tool(tool, f"tools[{index}]", native) for index, tool in enumerate(listed or ())]
    tools = [tool for tool in read if tool is not None]
    if tools:
        fields["tools"] = tools
    choice = object_at(body, "tool_choice")
    if choice is not None:
        fields["tool_choice"] = _choice(choice)
        if tools and choice.get("disable_parallel_tool_use") is True:
            fields["parallel_tool_calls"] = False
    return fields


def _tool(tool: Any, where: str, native: NativeOnly) -> dict[str, Any] | None:
    if not isinstance(tool, dict):
        raise wrong(where, "must be an object")
    kind = tool.get("type")
    if kind not in (None, "custom"):
        # Run by Anthropic (web search, code execution), or known to its models without a schema (bash).
        native.note_extra(where, f"'{where}': tools of the type {kind!r} are known to Anthropic's API alone.")
        return None
    schema = tool.get("input_schema")
    if not isinstance(schema, dict):
        raise wrong(f"{where}.input_schema", "must be an object")
    function: dict[str, Any] = {"name": string_at(tool, "name", where)}
    if isinstance(tool.get("description"), str):
        function["description"] = tool["description"]
    function["parameters"] = schema
    if isinstance(tool.get("strict"), bool):
        function["strict"] = tool["strict"]
    made: dict[str, Any] = {"type": "function", "function": function}
    if tool.get("cache_control"):
        made["cache_control"] = tool["cache_control"]
    return made


def _choice(choice: Mapping[str, Any]) -> Any:
    kind = string_at(choice, "type", "tool_choice")
    if kind == "tool":
        name = string_at(choice, "name", "tool_choice")
        return {"type": "function", "function": {"name": name}}
    if kind not in _CHOICES:
        raise wrong("tool_choice.type", "must be 'auto', 'any', 'tool' or 'none'")
    return _CHOICES[kind]
