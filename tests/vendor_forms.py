"""What a vendor was asked, read in that vendor's own format."""

from collections.abc import Mapping
from typing import Any

Body = Mapping[str, Any]
# A dot, as base64.
IMAGE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="


def tool_results(dialect: str, body: Body) -> list[tuple[str, str]]:
    """Return of each tool's result which call it answers, by id or name, and what it says."""
    if dialect == "anthropic":
        return [
            (block["tool_use_id"], _text(block["content"]))
            for block in _blocks(body)
            if block["type"] == "tool_result"
        ]
    if dialect == "gemini":
        results = [part["functionResponse"] for part in _parts(body) if "functionResponse" in part]
        return [(each["name"], next(iter(each["response"].values()))) for each in results]
    named = "tool_name" if dialect == "ollama" else "tool_call_id"
    return [(each[named], _text(each["content"])) for each in body["messages"] if each["role"] == "tool"]


def tool_calls(dialect: str, body: Body) -> list[tuple[str, Any]]:
    """Return of each call that the assistant made its name, by which results answer it, and its arguments."""
    if dialect == "anthropic":
        return [(each["id"], each["input"]) for each in _blocks(body) if each["type"] == "tool_use"]
    if dialect == "gemini":
        calls = [part["functionCall"] for part in _parts(body) if "functionCall" in part]
        return [(each["name"], each["args"]) for each in calls]
    made = [call for each in body["messages"] for call in each.get("tool_calls") or ()]
    named = (lambda call: call["function"]["name"]) if dialect == "ollama" else (lambda call: call["id"])
    return [(named(call), call["function"]["arguments"]) for call in made]


def tool_schemas(dialect: str, body: Body) -> list[tuple[str, Any]]:
    """Return the name and the schema of each tool."""
    if dialect == "anthropic":
        return [(tool["name"], tool["input_schema"]) for tool in body["tools"]]
    if dialect == "gemini":
        declared = [each for tool in body["tools"] for each in tool["functionDeclarations"]]
        return [(each["name"], each["parametersJsonSchema"]) for each in declared]
    return [(tool["function"]["name"], tool["function"]["parameters"]) for tool in body["tools"]]


def system_of(dialect: str, body: Body) -> str:
    """Return the system prompt."""
    if dialect == "anthropic":
        return _text(body["system"])
    if dialect == "gemini":
        return _text(body["systemInstruction"]["parts"])
    return "".join(_text(each["content"]) for each in body["messages"] if each["role"] == "system")


def images_in(dialect: str, body: Body) -> list[str]:
    """Return the base64 of each image."""
    if dialect == "anthropic":
        return [each["source"]["data"] for each in _blocks(body) if each["type"] == "image"]
    if dialect == "gemini":
        return [part["inlineData"]["data"] for part in _parts(body) if "inlineData" in part]
    if dialect == "ollama":
        return [image for each in body["messages"] for image in each.get("images") or ()]
    shown = [part for part in _blocks(body) if part["type"] == "image_url"]
    return [part["image_url"]["url"].removeprefix("data:image/png;base64,") for part in shown]


def signatures_in(dialect: str, body: Body) -> list[str]:
    """Return the signatures of what the model thought, of a vendor that has them."""
    if dialect == "anthropic":
        return [each["signature"] for each in _blocks(body) if each["type"] == "thinking"]
    return [part["thoughtSignature"] for part in _parts(body) if "thoughtSignature" in part]


def own_only(signatures: list[str]) -> list[str]:
    """Return them without what tells Gemini that a call is another vendor's."""
    return [each for each in signatures if each != "skip_thought_signature_validator"]


def thoughts_in(dialect: str, body: Body) -> str:
    """Return what the model thought before, of a vendor that wants it back without a signature."""
    if dialect == "ollama":
        return "".join(each.get("thinking") or "" for each in body["messages"])
    chunks = [part["thinking"] for part in _blocks(body) if part["type"] == "thinking"]
    return "".join(_text(chunk) for chunk in chunks)


def _blocks(body: Body) -> list[Any]:
    turns = [each["content"] for each in body["messages"]]
    return [block for turn in turns if isinstance(turn, list) for block in turn]


def _parts(body: Body) -> list[Any]:
    return [part for content in body["contents"] for part in content["parts"]]


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content)
