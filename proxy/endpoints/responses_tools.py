"""The tools of a Responses request as chat's: functions; those that OpenAI runs itself are its own."""

from collections.abc import Mapping
from typing import Any

from proxy.endpoints.native_only import NativeOnly, wrong

_CHOICES = ("auto", "none", "required")
_FIELDS: Mapping[str, type] = {"description": str, "parameters": dict, "strict": bool}
_WORDS = {str: "a string", dict: "an object", bool: "true or false"}


def tools_of(sent: Mapping[str, Any], native: NativeOnly) -> dict[str, Any]:
    """Return `tools`, `tool_choice` and `parallel_tool_calls`, as far as asked for. Raises BadRequest."""
    listed = sent.get("tools")
    if listed is not None and not isinstance(listed, list):
        raise wrong("tools", "must be a list")
    read = [_tool(tool, f"tools[{index}]", native) for index, tool in enumerate(listed or ())]
    made = [tool for tool in read if tool is not None]
    asked: dict[str, Any] = {}
    if made:
        asked["tools"] = made
    choice = _choice(sent.get("tool_choice"), native)
    # Chat takes neither without tools; what happens without them is what these two ask for.
    if choice is not None and (made or choice not in ("auto", "none")):
        asked["tool_choice"] = choice
    if made and sent.get("parallel_tool_calls") is not None:
        asked["parallel_tool_calls"] = sent["parallel_tool_calls"]
    return asked


def _tool(tool: Any, where: str, native: NativeOnly) -> dict[str, Any] | None:
    if not isinstance(tool, dict):
        raise wrong(where, "must be an object")
    kind = tool.get("type")
    if not isinstance(kind, str):
        raise wrong(f"{where}.type", "must be a string")
    if kind != "function":
        native.note_extra(f"{where}.type", f"Tools of type {kind!r} are OpenAI's own.")
        return None
    if not isinstance(tool.get("name"), str):
        raise wrong(f"{where}.name", "must be a string")
    function = {"name": tool["name"]}
    for name, expected in _FIELDS.items():
        value = tool.get(name)
        if value is None:
            continue
        if not isinstance(value, expected):
            raise wrong(f"{where}.{name}", f"must be {_WORDS[expected]}")
        function[name] = value
    return {"type": "function", "function": function}


def _choice(choice: Any, native: NativeOnly) -> Any:
    if choice is None or choice in _CHOICES:
        return choice
    if not isinstance(choice, dict):
        raise wrong("tool_choice", f"must be one of {', '.join(_CHOICES)}, or an object")
    if choice.get("type") != "function":
        native.note_extra("tool_choice", f"A choice of type {choice.get('type')!r} is known to OpenAI alone.")
        return None
    if not isinstance(choice.get("name"), str):
        raise wrong("tool_choice.name", "must be a string")
    return {"type": "function", "function": {"name": choice["name"]}}
