"""The dialects by name, and by the formats that clients speak; the only tables of them."""

from collections.abc import Mapping

from providers.dialects.base import Dialect
from providers.dialects.openai import OpenAI
from providers.wires import CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES

_OPENAI = OpenAI()

DIALECTS: Mapping[str, Dialect] = {"openai": _OPENAI}

# Who reads a format again that was kept as it came.
READERS: Mapping[str, Dialect] = {
    CHAT: _OPENAI,
    COMPLETIONS: _OPENAI,
    EMBEDDINGS: _OPENAI,
    RESPONSES: _OPENAI,
}
