"""What each endpoint takes: body bytes to a Call, or a 400 that names the field and the rule."""

from proxy.endpoints.base import Endpoint
from proxy.endpoints.chat import CHAT_COMPLETIONS, parse_chat
from proxy.endpoints.completions import COMPLETION, parse_completions
from proxy.endpoints.embeddings import EMBEDDING, parse_embeddings
from proxy.endpoints.messages import ANTHROPIC_MESSAGES, TOKEN_COUNT, parse_count_tokens, parse_messages
from proxy.endpoints.responses import RESPONSE, parse_responses
from proxy.endpoints.simple import read_message, simple_chat

__all__ = [
    "ANTHROPIC_MESSAGES",
    "CHAT_COMPLETIONS",
    "COMPLETION",
    "EMBEDDING",
    "RESPONSE",
    "TOKEN_COUNT",
    "Endpoint",
    "parse_chat",
    "parse_completions",
    "parse_count_tokens",
    "parse_embeddings",
    "parse_messages",
    "parse_responses",
    "read_message",
    "simple_chat",
]
