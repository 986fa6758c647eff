"""What a client calls a parameter that the canonical form has under another name, or in another place.

A dialect refuses, or drops, by the canonical name. Who asked in another format has never said that one: a
system prompt is a message there, a tool's result one of its own, and so the places differ, too.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from providers.call import Call
from providers.wires import COMPLETIONS, COUNT_TOKENS, MESSAGES, RESPONSES
from proxy.endpoints.messages_turns import places_in_turns
from proxy.endpoints.responses_input import places_in_input

_MESSAGE = re.compile(r"messages\[(\d+)\](\.content)?")
_NAMES: Mapping[str, Mapping[str, str]] = {
    MESSAGES: {
        "max_completion_tokens": "max_tokens",
        "parallel_tool_calls": "tool_choice.disable_parallel_tool_use",
        "reasoning_effort": "output_config.effort",
        "response_format": "output_config.format",
        "stop": "stop_sequences",
        "user": "metadata.user_id",
    },
    RESPONSES: {
        "max_completion_tokens": "max_output_tokens",
        "messages": "input",
        "reasoning_effort": "reasoning.effort",
        "response_format": "text.format",
        "verbosity": "text.verbosity",
    },
}
_PLACES: Mapping[str, Callable[[Mapping[str, Any]], Sequence[str]]] = {
    MESSAGES: places_in_turns,
    RESPONSES: places_in_input,
}


def client_name(call: Call, param: str) -> str:
    """Return the name of a parameter of `call.body` in the request that the client sent."""
    wire = MESSAGES if call.wire == COUNT_TOKENS else call.wire
    if wire == COMPLETIONS:
        return "prompt" if param.startswith("messages") else param
    if wire not in _NAMES or call.only_native is not None:  # what that names, the client has said
        return param
    message = _MESSAGE.match(param)
    if message is None:
        return _name_of_field(wire, param)
    places, index = _PLACES[wire](call.sent), int(message[1])
    if index >= len(places):
        return param
    # Which part of the content it is need not be the same, either.
    in_content = wire == MESSAGES and message[2] is not None and places[index] != "system"
    return places[index] + (".content" if in_content else "")


def _name_of_field(wire: str, param: str) -> str:
    if param.startswith("tools["):
        param = param.replace(".function", "", 1)
        return param.replace(".parameters", ".input_schema", 1) if wire == MESSAGES else param
    name = re.split(r"[.\[]", param, maxsplit=1)[0]
    return _NAMES[wire].get(name, param)
