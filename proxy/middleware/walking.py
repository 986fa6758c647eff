"""Redacts the text in a whole JSON body, of a request or an answer, in any format that clients speak.

Everything a string says is text unless its field's name tells otherwise. Nothing is changed in place, and
what needs no change is the same object afterwards.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from proxy.errors import BadRequest
from proxy.middleware.arguments import redacted_arguments
from proxy.middleware.patterns import Kinds
from proxy.middleware.scanner import redacted

MAX_DEPTH = 200
# Words for machines: names, ids, types, addresses of images, what is signed or encrypted or base64.
_MACHINES = frozenset(
    {
        "cache_control",
        "call_id",
        "conversation",
        "detail",
        "encoding_format",
        "encrypted_content",
        "file_data",
        "file_id",
        "file_url",
        "finish_reason",
        "format",
        "id",
        "image_url",
        "item_id",
        "media_type",
        "mime_type",
        "model",
        "name",
        "object",
        "previous_response_id",
        "prompt_cache_key",
        "redacted_thinking",
        "role",
        "service_tier",
        "signature",
        "status",
        "stop_reason",
        "system_fingerprint",
        "thought_signature",
        "tool_call_id",
        "tool_choice",
        "tool_use_id",
        "type",
        "voice",
    }
)
# Declarations, whose names, values and regexes are a contract: only what describes them is text.
_DECLARATIONS = frozenset(
    {"functions", "json_schema", "output_config", "response_format", "text_format", "tools"}
)
_DESCRIPTIONS = frozenset({"description", "title"})
# The arguments of a tool call as an object: every name in it is the tool's own, none is a machine's.
_INPUTS = frozenset({"tool_use", "server_tool_use", "mcp_tool_use"})
_MAY_SAY = frozenset({str, dict, list})
_LEAST_DIGITS = 10**11  # of a number that could be a card's


class Walk:
    """Redaction of bodies by some kinds of patterns."""

    def __init__(self, kinds: Kinds, *, keep_signed: bool) -> None:
        """Redact those. `keep_signed`: leave alone what a vendor has signed and wants back unchanged."""
        self._kinds = kinds
        self._keep_signed = keep_signed

    def body(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the body, redacted. Raises BadRequest if it is nested deeper than any real one."""
        walked: Mapping[str, Any] = self._object(body, 0)
        return walked

    def texts(self, value: Any) -> Any:
        """Return any JSON value, redacted, machines' words left alone."""
        return self._value(value, 0)

    def thought(self, block: Any) -> Any:
        """Return one thinking block, redacted whoever signed it."""
        if not isinstance(block, dict) or not isinstance(block.get("thinking"), str):
            return block
        said = redacted(block["thinking"], self._kinds)
        return block if said is block["thinking"] else {**block, "thinking": said}

    def _value(self, value: Any, depth: int) -> Any:
        if isinstance(value, str):
            return redacted(value, self._kinds)
        if isinstance(value, dict):
            return self._object(value, depth)
        if isinstance(value, list) and any(type(each) in _MAY_SAY for each in value):  # else: tokens
            return _changed_list(value, [self._value(each, _deeper(depth)) for each in value])
        return value

    def _object(self, value: Mapping[str, Any], depth: int) -> Mapping[str, Any]:
        if value.get("type") == "thinking" and value.get("signature"):
            said = value if self._keep_signed else self.thought(value)
            return value if said is value else {**said, "signature": ""}  # it signed something else
        changed = {name: self._field(name, each, value, _deeper(depth)) for name, each in value.items()}
        return _changed(value, changed)

    def _field(self, name: str, value: Any, holder: Mapping[str, Any], depth: int) -> Any:
        if name in _DECLARATIONS:
            return self._declared(value, depth)
        if name == "arguments" and isinstance(value, str):
            return redacted_arguments(value, self._kinds)
        if name == "metadata" or (name == "input" and holder.get("type") in _INPUTS):
            return self._input(value, depth)
        if isinstance(value, str) and (name in _MACHINES or _is_encoded(name, value, holder)):
            return value
        return self._value(value, depth)

    def _declared(self, value: Any, depth: int) -> Any:
        if isinstance(value, list):
            return _changed_list(value, [self._declared(each, _deeper(depth)) for each in value])
        if not isinstance(value, dict):
            return value
        changed = {
            name: redacted(each, self._kinds)
            if name in _DESCRIPTIONS and isinstance(each, str)
            else self._declared(each, _deeper(depth))
            for name, each in value.items()
        }
        return _changed(value, changed)

    def _input(self, value: Any, depth: int) -> Any:
        if isinstance(value, str):
            return redacted(value, self._kinds)
        if isinstance(value, list):
            return _changed_list(value, [self._input(each, _deeper(depth)) for each in value])
        if isinstance(value, dict):
            return _changed(value, {name: self._input(each, _deeper(depth)) for name, each in value.items()})
        if type(value) is int and value >= _LEAST_DIGITS:
            digits = str(value)
            said = redacted(digits, self._kinds)
            return value if said is digits else said
        return value


def _is_encoded(name: str, value: str, holder: Mapping[str, Any]) -> bool:
    """Is this a file, or the address of one? Anthropic's documents of plain text have it in `data`."""
    return (
        (name == "data" and holder.get("type") != "text")
        or (name == "url" and ("://" in value[:8] or value.startswith("data:")))
        or value.startswith("data:image/")
    )


def _deeper(depth: int) -> int:
    if depth >= MAX_DEPTH:
        raise BadRequest("The body is nested too deeply to be looked through.", code="nested_too_deeply")
    return depth + 1


def _changed(before: Mapping[str, Any], after: dict[str, Any]) -> Mapping[str, Any]:
    return after if any(after[name] is not value for name, value in before.items()) else before


def _changed_list(before: Sequence[Any], after: list[Any]) -> Sequence[Any]:
    return after if any(new is not old for new, old in zip(after, before, strict=True)) else before
