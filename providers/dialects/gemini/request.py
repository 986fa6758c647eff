"""A canonical chat request as the body of Gemini's generateContent.

https://ai.google.dev/api/generate-content. Besides what OpenAI has, a request may hold Google's own
`safety_settings`, `cached_content` (in this or in Google's spelling) and tools without a `type`
({"google_search": {}}): they are sent as they are.
"""

from collections.abc import Mapping
from typing import Any

from providers.dialects.gemini.contents import Conversation
from providers.dialects.gemini.schema import cleaned
from providers.dialects.gemini.thinking import is_gemini_3, thinking_config
from providers.dialects.params import IS_ERROR, invalid
from providers.errors import UnsupportedParameter

_NUMBERS = {
    "temperature": "temperature",
    "top_p": "topP",
    "top_k": "topK",
    "presence_penalty": "presencePenalty",
    "frequency_penalty": "frequencyPenalty",
    "seed": "seed",
    "n": "candidateCount",
    "max_tokens": "maxOutputTokens",
    "max_completion_tokens": "maxOutputTokens",  # the newer name, so it wins
}
_OWN = {
    "safety_settings": "safetySettings",
    "safetySettings": "safetySettings",
    "cached_content": "cachedContent",
    "cachedContent": "cachedContent",
}
_OTHERS = (
    *("stop", "logprobs", "top_logprobs", "response_format", "modalities"),
    *("reasoning_effort", "thinking", "tools", "tool_choice"),
    "parallel_tool_calls",  # kept to by who reads the answer
)
KNOWN = frozenset((*_NUMBERS, *_OWN, *_OTHERS, IS_ERROR))
_MODES = {"auto": "AUTO", "none": "NONE", "required": "ANY"}
_MODALITIES = ("text", "image")


def generate_body(body: Mapping[str, Any], model: str, *, ids: bool) -> dict[str, Any]:
    """Return the body; `ids`: the endpoint knows ids of calls. Raises UnsupportedParameter."""
    conversation = Conversation(gemini_3=is_gemini_3(model), ids=ids)
    messages = body.get("messages")
    if not isinstance(messages, list):
        raise invalid("messages", "must be a list")
    for place, message in enumerate(messages):
        conversation.take(message, f"messages[{place}]")
    fields = {
        "systemInstruction": conversation.system_instruction(),
        "contents": conversation.contents(),
        "tools": _tools(body.get("tools")),
        "toolConfig": _tool_config(body.get("tool_choice")),
        "generationConfig": _generation_config(body, model),
        **{theirs: body[ours] for ours, theirs in _OWN.items() if ours in body},
    }
    return {name: value for name, value in fields.items() if value is not None}


def _generation_config(body: Mapping[str, Any], model: str) -> dict[str, Any] | None:
    config = {theirs: _number(body, ours) for ours, theirs in _NUMBERS.items() if body.get(ours) is not None}
    if config.get("candidateCount") == 1:
        del config["candidateCount"]
    config["stopSequences"] = _stops(body.get("stop"))
    if body.get("logprobs"):
        config["responseLogprobs"] = True
        if body.get("top_logprobs") is not None:
            config["logprobs"] = _number(body, "top_logprobs")
    elif body.get("top_logprobs"):
        raise invalid("top_logprobs", "is only allowed when 'logprobs' is true")
    config["responseModalities"] = _modalities(body.get("modalities"))
    config["thinkingConfig"] = thinking_config(body, model)
    config.update(_response_format(body.get("response_format")))
    return {name: value for name, value in config.items() if value is not None} or None


def _number(body: Mapping[str, Any], name: str) -> Any:
    value = body[name]
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise invalid(name, "must be a number")
    return value


def _stops(stop: Any) -> list[str] | None:
    stops = [stop] if isinstance(stop, str) else stop
    if stops is None or stops == []:
        return None
    if not isinstance(stops, list) or not all(isinstance(each, str) for each in stops):
        raise invalid("stop", "must be a string or a list of strings")
    return stops


def _modalities(modalities: Any) -> list[str] | None:
    if modalities is None or modalities == ["text"]:
        return None
    if not isinstance(modalities, list) or any(each not in _MODALITIES for each in modalities):
        raise UnsupportedParameter(
            "modalities", f"'modalities' of Gemini's chat are {' and '.join(_MODALITIES)}."
        )
    return [each.upper() for each in modalities]


def _response_format(wanted: Any) -> dict[str, Any]:
    if wanted is None:
        return {}
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    if kind == "text":
        return {}
    if kind == "json_object":
        return {"responseMimeType": "application/json"}
    if kind != "json_schema":
        raise invalid("response_format", "must be of type text, json_object or json_schema")
    held = wanted.get("json_schema")
    schema = held.get("schema") if isinstance(held, dict) else None
    if schema is not None and not isinstance(schema, dict):
        raise invalid("response_format.json_schema.schema", "must be an object")
    as_json = {"responseMimeType": "application/json"}
    return {**as_json, "responseJsonSchema": cleaned(schema)} if schema else as_json


def _tools(tools: Any) -> list[dict[str, Any]] | None:
    if tools is None:
        return None
    if not isinstance(tools, list):
        raise invalid("tools", "must be a list")
    functions, own = [], []
    for place, tool in enumerate(tools):
        where = f"tools[{place}]"
        if not isinstance(tool, dict):
            raise invalid(where, "must be an object")
        if "type" not in tool and len(tool) == 1:
            own.append(tool)
        elif tool.get("type") == "function":
            functions.append(_declaration(tool.get("function"), f"{where}.function"))
        else:
            raise UnsupportedParameter(where, f"'{where}' is not a function: Gemini has no such tool.")
    return [*([{"functionDeclarations": functions}] if functions else []), *own] or None


def _declaration(function: Any, where: str) -> dict[str, Any]:
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str) or not name:
        raise invalid(f"{where}.name", "must be the name of a function")
    declaration: dict[str, Any] = {"name": name}
    if function.get("description") is not None:
        declaration["description"] = str(function["description"])
    parameters = function.get("parameters")
    if parameters is not None and not isinstance(parameters, dict):
        raise invalid(f"{where}.parameters", "must be an object, a JSON schema")
    # "For function with no parameters, this can be left unset"; an empty object was refused by older models.
    if parameters and not _is_empty_object(parameters):
        declaration["parametersJsonSchema"] = cleaned(parameters)
    return declaration


def _is_empty_object(schema: Mapping[str, Any]) -> bool:
    rest = {name for name, value in schema.items() if value not in ({}, [], False)}
    return schema.get("type") == "object" and rest <= {"type", "$schema", "title"}


def _tool_config(choice: Any) -> dict[str, Any] | None:
    if choice is None:
        return None
    if isinstance(choice, str) and choice in _MODES:
        return {"functionCallingConfig": {"mode": _MODES[choice]}}
    kind = choice.get("type") if isinstance(choice, dict) else None
    if kind == "function":
        return _calling("ANY", [_name_of(choice, "tool_choice")])
    allowed = choice.get("allowed_tools") if kind == "allowed_tools" else None
    if isinstance(allowed, dict) and isinstance(allowed.get("tools"), list):
        names = [
            _name_of(tool, f"tool_choice.allowed_tools.tools[{place}]")
            for place, tool in enumerate(allowed["tools"])
        ]
        # ANY and VALIDATED are the modes that take names; the latter lets the model answer with text, too.
        return _calling("ANY" if allowed.get("mode") == "required" else "VALIDATED", names)
    raise invalid("tool_choice", "must be auto, none, required, a function or allowed_tools")


def _calling(mode: str, names: list[str]) -> dict[str, Any]:
    return {"functionCallingConfig": {"mode": mode, "allowedFunctionNames": names}}


def _name_of(tool: Any, where: str) -> str:
    function = tool.get("function") if isinstance(tool, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str) or not name:
        raise invalid(f"{where}.function.name", "must be the name of a function")
    return name
