"""The conformance kit's recorded exchanges, as each dialect meets them."""

from typing import Any, NamedTuple

import orjson
import pytest

from providers.call import Call
from providers.dialects import DIALECTS
from providers.dialects.base import Dialect
from providers.tests.samples import cassettes, make_call
from providers.wires import CHAT, COMPLETIONS, EMBEDDINGS, MESSAGES, RESPONSES

# What was recorded at which endpoint: the dialect that speaks it, and the formats it may be asked in.
_KINDS = {
    "chat": ("openai", (CHAT,)),
    "compat_chat": ("openai", (CHAT,)),
    "completions": ("openai", (COMPLETIONS,)),
    "compat_completions": ("openai", (COMPLETIONS,)),
    "responses": ("openai", (RESPONSES,)),
    "messages": ("anthropic", (CHAT, MESSAGES)),
    "generate": ("gemini", (CHAT,)),
    "chat_native": ("ollama", (CHAT,)),
    "generate_native": ("ollama", (COMPLETIONS,)),
    "embeddings": ("openai", (EMBEDDINGS,)),
    "embed_native": ("ollama", (EMBEDDINGS,)),
}


class Recording(NamedTuple):
    """One recorded answer: who reads it, for which call, and what came."""

    dialect: Dialect
    call: Call
    status: int
    headers: dict[str, str]
    body: bytes


def recordings(*, streams: bool) -> list[Any]:
    """Return the recorded streams, or everything else, as parameters."""
    found = []
    for param in cassettes("openai", "compat", "anthropic", "gemini", "mistral", "ollama"):
        if param.marks:
            return [param]
        cassette = param.values[0]
        name, wires = _KINDS.get(cassette["kind"], ("", ()))
        if cassette["provider"] in ("mistral", "gemini") and name == "openai":
            name = cassette["provider"]
        for wire in wires:
            recording = _recording(cassette, name, wire)
            if recording is not None and recording.call.stream == streams:
                found.append(pytest.param(recording, id=f"{param.id}-{wire}"))
    return found


def _recording(cassette: dict[str, Any], name: str, wire: str) -> Recording | None:
    response = cassette["response"]
    body = (response["body"] or "").encode()
    if name not in DIALECTS:
        return None
    stream = response["status"] < 300 and "stream" in cassette["features"]
    if stream and body.lstrip()[:1] == b"[":
        # Gemini without alt=sse: the same objects in a JSON array.
        body = b"".join(b"data: " + orjson.dumps(each) + b"\r\n\r\n" for each in orjson.loads(body))
    asked = cassette["request"]["body"]
    fields = asked if isinstance(asked, dict) and wire in (CHAT, COMPLETIONS) else {}
    call = make_call(wire=wire, stream=stream, n=fields.get("n"))
    headers = {key.lower(): value for key, value in response["headers"].items()}
    return Recording(DIALECTS[name], call, response["status"], headers, body)
