"""The dialects by name, and by the formats that clients speak; the only tables of them."""

from collections.abc import Mapping

from providers.dialects.anthropic.dialect import Anthropic
from providers.dialects.base import Dialect
from providers.dialects.gemini.dialect import Gemini
from providers.dialects.mistral.dialect import Mistral
from providers.dialects.ollama.dialect import Ollama
from providers.dialects.openai.dialect import OpenAI
from providers.wires import CHAT, COMPLETIONS, EMBEDDINGS, MESSAGES, RESPONSES

_OPENAI = OpenAI()
_ANTHROPIC = Anthropic()
_ALL: tuple[Dialect, ...] = (_OPENAI, _ANTHROPIC, Gemini(), Mistral(), Ollama())

DIALECTS: Mapping[str, Dialect] = {dialect.name: dialect for dialect in _ALL}

# Who reads a format again that was kept as it came.
READERS: Mapping[str, Dialect] = {
    CHAT: _OPENAI,
    COMPLETIONS: _OPENAI,
    EMBEDDINGS: _OPENAI,
    MESSAGES: _ANTHROPIC,
    RESPONSES: _OPENAI,
}
