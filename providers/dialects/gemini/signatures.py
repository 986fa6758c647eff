"""Thought signatures: what Gemini wants back unchanged in the next turn, on the way through a client.

A signature travels twice, because clients differ in what they return:

- on a tool call as `extra_content.google.thought_signature`, Google's own name for OpenAI clients
  (https://ai.google.dev/gemini-api/docs/openai);
- in `thinking_blocks`, which Anthropic's clients return: "gemini:SIGNATURE" of a text or thought,
  "gemini:CALL_ID:SIGNATURE" of a call. The id says whose it is, so that no signature is applied twice or
  to another part; a call's own `extra_content` wins.

A signature is base64: it has no colon.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

PREFIX = "gemini:"
# For calls that another model made, or whose signature the client has lost. Google documents it as a last
# resort, and only for the first call of a step:
# https://ai.google.dev/gemini-api/docs/generate-content/thought-signatures
PLACEHOLDER = "skip_thought_signature_validator"


class Signatures(NamedTuple):
    """What the thinking blocks of one message hold: signatures by call id, and the text's."""

    of_calls: Mapping[str, str]
    of_text: str


def thinking_block(thinking: str, signature: str, *, call_id: str = "") -> dict[str, Any]:
    """Return the canonical block that carries a signature."""
    owner = f"{call_id}:" if call_id else ""
    return {"type": "thinking", "thinking": thinking, "signature": f"{PREFIX}{owner}{signature}"}


def extra_content(signature: str) -> dict[str, Any]:
    """Return the same for a tool call."""
    return {"google": {"thought_signature": signature}}


def signature_of(call: Mapping[str, Any]) -> str:
    """Return the signature that a canonical tool call carries itself, or ""."""
    extra = call.get("extra_content")
    google = extra.get("google") if isinstance(extra, dict) else None
    signature = google.get("thought_signature") if isinstance(google, dict) else None
    return signature if isinstance(signature, str) else ""


def signatures_in(message: Mapping[str, Any]) -> Signatures:
    """Return what a message's thinking blocks carry; other vendors' signatures are not for Gemini."""
    of_calls: dict[str, str] = {}
    of_text = ""
    blocks = message.get("thinking_blocks")
    for block in blocks if isinstance(blocks, list) else ():
        signed = block.get("signature") if isinstance(block, dict) else None
        if not isinstance(signed, str) or not signed.startswith(PREFIX):
            continue
        call_id, _, signature = signed.removeprefix(PREFIX).rpartition(":")
        if call_id:
            of_calls[call_id] = signature
        else:
            of_text = signature
    return Signatures(of_calls, of_text)
