"""The canonical form: OpenAI's chat request and answer, and what other vendors say beyond it.

Everything in here is optional, passes between dialects and renderers, and is taken out of a request
that goes to a vendor of plain OpenAI (providers.dialects.openai.plain).

request    `thinking`    {"type": "enabled", "budget_tokens": n} | {"type": "disabled" | "adaptive"}: more
                         exact than `reasoning_effort`, which stands beside it
           `top_k`       as Anthropic, Gemini and Ollama have it
message    `reasoning_content`  what the model thought, as text (DeepSeek's name)
           `thinking_blocks`    the same with what the vendor wants back unchanged in the next turn:
                         {"type": "thinking", "thinking", "signature"} | {"type": "redacted_thinking", "data"}
           `annotations` [{"type": "url_citation", "url_citation": {"url", "title", ...}}], as OpenAI has it
           `is_error`    true on a tool's message: the tool failed
part, message, tool
           `cache_control`  {"type": "ephemeral", ...}: what stands before it is to be cached
file part  {"type": "file", "file": {"file_data": data URL | "file_url" | "file_id", "filename"}}
tool call  `extra_content`  {"google": {"thought_signature": ...}}: Google's own name for what Gemini
                         wants back (https://ai.google.dev/gemini-api/docs/openai)
delta      the same names; a piece of `thinking_blocks` is a whole block, given when the block ends, and
           the `reasoning_content` before it its text as it comes. A tool call's pieces all have `index`; the
           first has `id`, `type` and `function.name`, each has a piece of `function.arguments`.
usage      `prompt_tokens_details.cache_write_tokens`, OpenRouter's name
"""

from collections.abc import Iterator, Mapping
from typing import Any

# OpenAI's finish reasons.
STOP, LENGTH, TOOL_CALLS, CONTENT_FILTER = "stop", "length", "tool_calls", "content_filter"
# What a tool says whose whole result is an image, where tools say texts alone.
SHOWN_BELOW = "(The result is shown in the next message.)"


def text_in(content: Any) -> str:
    """Return the text of a message's `content`, a string or a list of parts; other parts are left out."""
    if isinstance(content, str):
        return content
    return "".join(part["text"] for part in parts_in(content) if isinstance(part.get("text"), str))


def parts_in(content: Any) -> Iterator[Mapping[str, Any]]:
    """Yield the parts of a message's `content`; a string is one text part."""
    if isinstance(content, str):
        yield {"type": "text", "text": content}
    elif isinstance(content, list):
        for part in content:
            if isinstance(part, dict):
                yield part
            elif isinstance(part, str):
                yield {"type": "text", "text": part}


def begins_another(piece: Mapping[str, Any], known: Any) -> bool:
    """Does a piece of a tool call begin another one than that of the id `known`?

    Some servers give all calls the same index: then a name and an id of its own tell it.
    """
    named = piece.get("id")
    return bool(named and known and str(named) != str(known) and (piece.get("function") or {}).get("name"))


def reasoning_in(message: Mapping[str, Any]) -> str:
    """Return what a message or delta says of thinking, under whichever of its two names a server uses."""
    # OpenRouter, Groq and Ollama say `reasoning`; DeepSeek, vLLM and xAI `reasoning_content`.
    text = message.get("reasoning_content") or message.get("reasoning")
    return text if isinstance(text, str) else ""
